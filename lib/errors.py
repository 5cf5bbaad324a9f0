"""Every error that the product raises on purpose.

AppError                      what a caller is told: status, code, message
├── InvalidRequest       422  the body does not fit the contract (fields in `errors`)
├── BadRequest           400  the body is not JSON
├── Unauthorized         401  no identity, or one that does not hold
│   └── UserRemoved      401  a token that holds, of a user who is gone
├── Forbidden            403  known, but may not
├── NotFound             404
├── MethodNotAllowed     405
├── Conflict             409  it is so already, or somebody else's
├── PayloadTooLarge      413
├── UnsupportedMediaType 415
├── LimitReached         429  too many requests, or too much money; when to come back
├── Interrupted          502  the answer broke off after its first token
├── InvalidObject        502  the answer is not the JSON that was asked for
├── RenderFailed         500  a video could not be made: at which stage, of which frame, and why
├── NoProvider           503  no provider could answer
├── NotConfigured        503  the part is off; the message names the variables
└── Unavailable          503  a service that this takes gives no answer now
    └── DataFailed       503  of rows and files: `reason` says why, to us alone

ProviderError                 what an adapter saw; the router decides what follows from it
├── ConnectionFailed          no connection, or lost before the answer began
├── TimedOut                  the provider kept silent longer than it may
├── Overloaded                5xx, and whatever has no name here
├── RateLimited               429
├── CredentialsRejected       401, 403
├── QuotaExhausted            402, or 429 with a code that says so
├── ModelUnavailable          404, 410
├── RequestRejected           400, 413, 422: the request itself
│   ├── ContextTooLong
│   └── ContentRefused
└── BrokenStream              the answer's bytes make no sense, or end too early
    └── Unconfirmed           nobody knows whether the vendor took the request: to repeat it may be to pay twice

ServiceFailed                 a service behind us, such as the config store, gave no answer to work with

The text of a ProviderError is ours. What the provider wrote never enters it: it may hold a prompt or a key.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that was wrong: its path in the body (`messages[0].content`) and what is expected of it."""

    path: str
    message: str


class AppError(Exception):
    """An error with a status and a stable code; its message may be shown to the caller."""

    status = 500
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class InvalidRequest(AppError):
    """The body does not fit the contract."""

    status, code = 422, "invalid_request"


class BadRequest(AppError):
    """The body cannot be read at all."""

    status, code = 400, "invalid_json"


class Unauthorized(AppError):
    """No identity, or one that does not hold."""

    status, code = 401, "unauthorized"


class UserRemoved(Unauthorized):
    """The token still holds, but its user was removed."""

    code = "user_removed"


class Forbidden(AppError):
    """The caller is known but may not do this."""

    status, code = 403, "forbidden"


class NotFound(AppError):
    """There is nothing at this path."""

    status, code = 404, "not_found"


class MethodNotAllowed(AppError):
    """The path exists, the method does not."""

    status, code = 405, "method_not_allowed"


class Conflict(AppError):
    """What is asked for is so already, or belongs to somebody else."""

    status, code = 409, "conflict"


class PayloadTooLarge(AppError):
    """The body is larger than the edge takes."""

    status, code = 413, "payload_too_large"


class UnsupportedMediaType(AppError):
    """The body is not sent as JSON."""

    status, code = 415, "unsupported_media_type"


class LimitReached(AppError):
    """The caller, or all of them, have used what a minute or a day allows; `code` says which."""

    status, code = 429, "rate_limited"


class Interrupted(AppError):
    """The answer broke off after its first token and could not be continued."""

    status, code = 502, "stream_interrupted"


class InvalidObject(AppError):
    """The answer is not the JSON that was asked for."""

    status, code = 502, "invalid_object"


class RenderFailed(AppError):
    """A video could not be made.

    `stage` is narration, captions, render or upload; `frame` counts from 0, None where no single one is to blame.
    `reason` is a stable word: unreadable, empty, deadline, killed, disk_full, out_of_memory, ffmpeg_missing, failed.
    `log` is the end of what ffmpeg wrote, for us alone: it may name files, and never enters the message.
    """

    code = "render_failed"

    def __init__(self, message: str, *, stage: str, reason: str, frame: int | None = None, log: str = "") -> None:
        at = stage if frame is None else f"{stage}, frame {frame}"
        super().__init__(f"{message} ({at})")
        self.stage = stage
        self.frame = frame
        self.reason = reason
        self.log = log


class NoProvider(AppError):
    """No provider could answer."""

    status, code = 503, "no_provider_available"


class NotConfigured(AppError):
    """The part that this takes is off; the message names the variables that turn it on."""

    status, code = 503, "not_configured"


class Unavailable(AppError):
    """A service that this takes gives no answer now."""

    status, code = 503, "unavailable"


class DataFailed(Unavailable):
    """The database or the file store did not do what it was asked.

    `reason` is for decisions and logs, never for callers: the SQLSTATE, PostgREST's or Storage's code, or `timeout`,
    `connection_failed`. What they wrote is not kept: it may repeat a row.
    """

    code = "data_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__("The database gives no answer now.")
        self.reason = reason


class ProviderError(Exception):
    """What went wrong at a provider; `code` is ours and stable, `status` is the provider's HTTP status if any."""

    code = "provider_error"

    def __init__(self, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(self.code)
        self.status = status
        self.retry_after_s = retry_after_s


class ConnectionFailed(ProviderError):
    """No connection to the provider, or lost before the answer began."""

    code = "connection_failed"


class TimedOut(ProviderError):
    """The provider kept silent longer than it may."""

    code = "timeout"


class Overloaded(ProviderError):
    """The provider failed on its side, or with a status that says nothing of the request (5xx, 408, 451)."""

    code = "provider_unavailable"


class RateLimited(ProviderError):
    """The provider throttles us; `retry_after_s` says for how long, if it told."""

    code = "rate_limited"


class CredentialsRejected(ProviderError):
    """The provider does not accept our key."""

    code = "credentials_rejected"


class QuotaExhausted(ProviderError):
    """Our account with the provider is out of money or quota."""

    code = "quota_exhausted"


class ModelUnavailable(ProviderError):
    """The provider does not offer this model to us."""

    code = "model_unavailable"


class RequestRejected(ProviderError):
    """The provider says that the request itself is wrong: another provider would say so too."""

    code = "request_rejected"


class ContextTooLong(RequestRejected):
    """The conversation is longer than the model's context."""

    code = "context_length_exceeded"


class ContentRefused(RequestRejected):
    """The provider's content filter refused the prompt."""

    code = "content_refused"


class BrokenStream(ProviderError):
    """The answer's bytes make no sense, or it ended before it was complete."""

    code = "broken_stream"


class Unconfirmed(BrokenStream):
    """The answer to a submission was lost. The vendor may be at work on it: to submit again may be to pay twice."""

    code = "submission_unconfirmed"


class ServiceFailed(Exception):
    """A service behind us gave no answer to work with. No caller gets to see it: work goes on without that service.

    `code` says why in a word that may be shown: it never holds a URL, a key or what was answered.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

"""What the caller is told of an answer that it does not get, in our words."""

from __future__ import annotations

from lib.errors import (
    AppError,
    ContentRefused,
    ContextTooLong,
    Interrupted,
    InvalidObject,
    InvalidRequest,
    ProviderError,
    RequestRejected,
    TimedOut,
)


def interrupted(error: ProviderError | None) -> AppError:
    """The answer broke off and can't be continued."""
    code = "stream_timeout" if isinstance(error, TimedOut) else Interrupted.code
    return Interrupted("The provider broke off in the middle of its answer.", code=code)


def truncated_call() -> AppError:
    """The model may write no more, and has not written the call to its end."""
    message = "The answer reached its end in the middle of a tool call; a larger max_tokens may help."
    return Interrupted(message, code="tool_call_truncated")


def invalid_object() -> AppError:
    """The answer, and what came of asking again, is not the JSON that was asked for. Nothing of it is repeated here."""
    return InvalidObject("The answer is not the JSON that response_format asks for.")


def rejection(error: RequestRejected) -> InvalidRequest:
    """The caller's own doing."""
    if isinstance(error, ContextTooLong):
        return InvalidRequest("The input is longer than the model can read.", code=error.code)
    if isinstance(error, ContentRefused):
        return InvalidRequest("The provider's content filter refused the prompt.", code=error.code)
    return InvalidRequest("The provider rejected the request as malformed.", code=error.code)

"""What a caller is told when there is no answer, or half of one: in our words, whatever a provider said."""

from __future__ import annotations

from collections.abc import Sequence

from lib.errors import (
    AppError,
    ContentRefused,
    ContextTooLong,
    Interrupted,
    InvalidObject,
    InvalidRequest,
    NoProvider,
    ProviderError,
    RequestRejected,
    TimedOut,
)
from lib.router.attempt import Attempt

LONGEST_TOLD_S = 3600.0
"""What a caller is told at most of when to come back."""


def exhausted(attempts: Sequence[Attempt], waits_s: Sequence[float]) -> NoProvider:
    """Nobody is left to ask; `waits_s` are the seconds after which one of them might be."""
    tried = ", ".join(
        f"{attempt.candidate.provider} ({attempt.error_code})" for attempt in attempts if attempt.error_code is not None
    )
    wait = int(min(*waits_s, LONGEST_TOLD_S)) + 1 if waits_s else None
    detail = f"tried {tried}" if tried else "all rest after failures"
    return NoProvider(f"No provider could answer; {detail}.", retry_after_s=wait)


def interrupted(error: ProviderError | None) -> AppError:
    """The answer broke off and can't be mended."""
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
    """The caller's own doing, in our words."""
    if isinstance(error, ContextTooLong):
        return InvalidRequest("The input is longer than the model can read.", code=error.code)
    if isinstance(error, ContentRefused):
        return InvalidRequest("The provider's content filter refused the prompt.", code=error.code)
    return InvalidRequest("The provider rejected the request as malformed.", code=error.code)

"""One request's way through its plan, sans-IO: events go in, actions come out, time is passed in.

The driver (router.py) does what the actions say and reports what happened; nothing here waits, sends or reads a
clock, so every order of events can be tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lib.errors import (
    AppError,
    ContentRefused,
    ContextTooLong,
    Interrupted,
    InvalidRequest,
    NoProvider,
    ProviderError,
    RequestRejected,
    TimedOut,
)
from lib.providers.base import Delta, FinishReason, Usage
from lib.router.plan import Candidate

LONGEST_WAIT_S = 3600.0
"""What a caller is told at most, whatever a provider says."""

Outcome = Literal["ok", "error", "cancelled", "timeout", "interrupted"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait, in seconds.

    `first_token_s` holds only while another candidate is left: the last one may take until `total_s`.
    """

    first_token_s: float = 4.0
    idle_s: float = 15.0
    total_s: float = 280.0


@dataclass(slots=True)
class Attempt:
    """One call to one provider and what came of it; times are the driver's clock, in seconds."""

    number: int
    candidate: Candidate
    started_at: float
    fallback_from: str | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    error_code: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    characters: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """The provider sent these deltas."""

    deltas: Sequence[Delta]


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider failed."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Ended:
    """The provider said that its answer is complete."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The provider has been silent until `Completion.deadline`."""


Event = Received | Failed | Ended | Expired


@dataclass(frozen=True, slots=True)
class Open:
    """Call this attempt's candidate, leaving the one before."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand these deltas to the caller."""

    deltas: Sequence[Delta]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing for the caller yet."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There will be no (more) answer; tell the caller why."""

    error: AppError


Action = Open | Deliver | Wait | Finish | GiveUp


class Completion:
    """The state of one request: which candidate is asked, what it has said, until when it may be silent."""

    def __init__(self, plan: Sequence[Candidate], deadlines: Deadlines, now: float) -> None:
        """`plan` holds at least one candidate, best first."""
        self.attempts: list[Attempt] = []
        self._plan = plan
        self._deadlines = deadlines
        self._ends_at = now + deadlines.total_s
        self._retry_after_s: list[float] = []

    def start(self, now: float) -> Attempt:
        """Begin with the first candidate."""
        return self._open(now)

    def handle(self, event: Event, now: float) -> Action:
        """Take in what happened; say what to do."""
        match event:
            case Received(deltas):
                return self._received(deltas, now)
            case Ended():
                self._close("ok", None, now)
                return Finish()
            case Failed(error):
                return self._failed(error, now)
            case Expired():
                return self._failed(TimedOut(), now)

    def deadline(self, now: float) -> float:
        """Until when the provider may be silent, where the driver begins to wait for it now.

        From now, not from what it said last: a caller who reads slowly does not use up the provider's time.
        """
        if self._attempt.first_token_at is not None:
            return min(now + self._deadlines.idle_s, self._ends_at)
        is_last = len(self.attempts) == len(self._plan)
        return (
            self._ends_at if is_last else min(self._attempt.started_at + self._deadlines.first_token_s, self._ends_at)
        )

    def abandon(self, now: float) -> None:
        """The caller is gone. Does nothing once the request has ended."""
        if self.attempts and self.attempts[-1].outcome is None:
            self._close("cancelled", None, now)

    @property
    def _attempt(self) -> Attempt:
        return self.attempts[-1]

    def _open(self, now: float) -> Attempt:
        tried = len(self.attempts)
        fallback_from = self._attempt.candidate.provider if tried else None
        attempt = Attempt(tried + 1, self._plan[tried], now, fallback_from)
        self.attempts.append(attempt)
        return attempt

    def _received(self, deltas: Sequence[Delta], now: float) -> Deliver | Wait:
        attempt = self._attempt
        characters = 0
        for delta in deltas:
            characters += len(delta.text) + len(delta.reasoning)
            attempt.finish_reason = delta.finish_reason or attempt.finish_reason
            attempt.usage = delta.usage or attempt.usage
        if not characters:
            return Wait()
        attempt.characters += characters
        if attempt.first_token_at is None:
            attempt.first_token_at = now
        return Deliver(deltas)

    def _failed(self, error: ProviderError, now: float) -> Action:
        begun = self._attempt.first_token_at is not None
        self._close("timeout" if isinstance(error, TimedOut) else "interrupted" if begun else "error", error, now)
        if error.retry_after_s is not None:
            self._retry_after_s.append(error.retry_after_s)
        if begun:
            return GiveUp(Interrupted("The provider broke off in the middle of its answer.", code=_interruption(error)))
        if isinstance(error, RequestRejected):
            return GiveUp(_rejection(error))
        if len(self.attempts) < len(self._plan) and now < self._ends_at:
            return Open(self._open(now))
        return GiveUp(self._exhausted())

    def _close(self, outcome: Outcome, error: ProviderError | None, now: float) -> None:
        attempt = self._attempt
        attempt.ended_at = now
        attempt.outcome = outcome
        attempt.error_code = error.code if error is not None else None

    def _exhausted(self) -> NoProvider:
        tried = ", ".join(f"{attempt.candidate.provider} ({attempt.error_code})" for attempt in self.attempts)
        wait = int(min(*self._retry_after_s, LONGEST_WAIT_S)) + 1 if self._retry_after_s else None
        return NoProvider(f"No provider could answer; tried {tried}.", retry_after_s=wait)


def _interruption(error: ProviderError) -> str:
    return "stream_timeout" if isinstance(error, TimedOut) else Interrupted.code


def _rejection(error: RequestRejected) -> InvalidRequest:
    """The caller's own doing, in our words."""
    if isinstance(error, ContextTooLong):
        return InvalidRequest("The conversation is longer than the model can read.", code=error.code)
    if isinstance(error, ContentRefused):
        return InvalidRequest("The provider's content filter refused the prompt.", code=error.code)
    return InvalidRequest("The provider rejected the request as malformed.", code=error.code)

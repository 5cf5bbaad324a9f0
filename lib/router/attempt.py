"""What the router's core (completion.py) and its driver (router.py) say to one another, and what an attempt was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lib.errors import AppError, ProviderError
from lib.providers.base import Delta, FinishReason, Units, Usage
from lib.router.plan import Candidate
from lib.router.recovery import Habit

Outcome = Literal["ok", "error", "cancelled", "timeout", "interrupted"]
Kind = Literal["first", "fallback", "hedge", "retry", "continuation", "restart", "repair", "skipped"]
"""Why a provider was called; `skipped`: it was not, since it and all others rested."""
OnInterrupt = Literal["continue", "restart", "error"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom to ask, how long to wait and what to do about failures; times in seconds.

    The operator's part: `first_token_s` holds while another candidate is left, `patience_s` for the last. `hedge_s`:
    when a second provider is started beside a silent first; None is never. `hedge_adapts`: rather when the first is
    silent for longer than it usually is, as soon as enough is known of it (hedge.py). `honour_retry_after`: the
    provider itself is tried again, when it says or after a moment, before the next one is; for callers to whom the
    provider matters more than time. `fallback_order`: providers by name, see make_plan. `fast_model`, `strong_model`:
    see renamed.
    The request's part: `can_reset`: the caller can take back what was delivered. `can_splice`: the answer is text, not
    JSON or a tool call. `checks`: a complete text is checked before it is finished; `repairs`: how often one that is
    not as it should be is asked for again, for which the caller must be able to take it back.
    """

    first_token_s: float = 4.0
    idle_s: float = 10.0
    patience_s: float = 60.0
    total_s: float = 280.0
    hedge_s: float | None = None
    hedge_adapts: bool = False
    on_interrupt: OnInterrupt = "continue"
    can_reset: bool = False
    can_splice: bool = True
    honour_retry_after: bool = False
    fallback_order: tuple[str, ...] = ()
    checks: bool = False
    repairs: int = 0
    fast_model: str | None = None
    strong_model: str | None = None


@dataclass(slots=True, eq=False)
class Attempt:
    """One call to one provider and what came of it; times are the driver's clock, in seconds.

    Its number counts the request's calls, from 1; 0 is a call that was not made.
    """

    number: int
    candidate: Candidate
    started_at: float
    fallback_from: str | None = None
    kind: Kind = "first"
    probe: int | None = None
    """Its number, where it decides whether the candidate's breaker closes."""
    first_token_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    error_code: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    characters: int = 0
    added_characters: int = 0
    """How much its prompt is longer than the request's, to go on from what was delivered."""
    units: Units | None = None
    """What a picture or speech is billed by; None there means that nothing is."""


@dataclass(frozen=True, slots=True)
class Received:
    """The provider sent these deltas."""

    attempt: Attempt
    deltas: Sequence[Delta]


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider failed."""

    attempt: Attempt
    error: ProviderError


@dataclass(frozen=True, slots=True)
class Ended:
    """The provider said that its answer is complete."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Checked:
    """The attempt's text is as it should be, or has this fault, in our words."""

    attempt: Attempt
    fault: str | None


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that `Completion.waiting` named has come."""


Event = Received | Failed | Ended | Checked | Tick


@dataclass(frozen=True, slots=True)
class Open:
    """Call this attempt's candidate: with the request as it is, or to go on after `delivered` where a habit says how.

    Or to write `delivered` again, without this fault.
    """

    attempt: Attempt
    delivered: str = ""
    habit: Habit | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Leave this attempt."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand these deltas to the caller."""

    deltas: Sequence[Delta]


@dataclass(frozen=True, slots=True)
class Reset:
    """Take back everything that was delivered: the answer begins anew."""


@dataclass(frozen=True, slots=True)
class Check:
    """Check this attempt's whole text, and report it as Checked; nothing else is under way meanwhile."""

    attempt: Attempt
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There will be no (more) answer; tell the caller why."""

    error: AppError


Action = Open | Close | Deliver | Reset | Check | Finish | GiveUp

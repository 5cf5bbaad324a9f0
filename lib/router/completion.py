"""One request's way through its plan, sans-IO: events go in, actions come out, the time is passed in.

The driver (router.py) does what the actions say and reports what happened. Nothing here waits, sends or reads a clock,
so every order of events can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from lib.errors import (
    BrokenStream,
    ContextTooLong,
    CredentialsRejected,
    InvalidObject,
    ModelUnavailable,
    NoProvider,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TimedOut,
    Unconfirmed,
)
from lib.providers.base import Delta
from lib.router.attempt import (
    Action,
    Attempt,
    Check,
    Checked,
    Close,
    Deliver,
    Ended,
    Event,
    Failed,
    Finish,
    GiveUp,
    Kind,
    Open,
    Outcome,
    Policy,
    Received,
    Reset,
    Tick,
)
from lib.router.health import Health
from lib.router.plan import Candidate
from lib.router.recovery import Seam, Unproven, joined
from lib.router.roster import Roster, blame
from lib.router.told import exhausted, interrupted, invalid_object, rejection, truncated_call
from lib.router.tool_calls import ToolCalls

RECOVERIES = 3
"""How often one answer is taken up again after it broke off."""
RETRY_S = 0.5
"""Before the same provider is asked again; half of it to all of it, by chance."""
LONGEST_WAIT_S = 10.0
"""Of a Retry-After, where it is honoured; beyond, the next provider answers sooner."""
CUT_SHORT = ("length", "content_filter")
"""Reasons to end before the answer did: the same question would be cut short again."""


class Completion:
    """The state of one request: who is asked, who speaks, what was delivered, until when who may be silent."""

    def __init__(
        self,
        plan: Sequence[Candidate],
        policy: Policy,
        health: Health,
        chance: Callable[[], float],
        now: float,
        ends_at: float = inf,
    ) -> None:
        """`plan` is best first; `chance` gives a number from 0 to 1; `ends_at` may leave less time than the policy."""
        self.attempts: list[Attempt] = []
        self.serving: Attempt | None = None
        self._roster = Roster(plan, health)
        self._policy = policy
        self._health = health
        self._chance = chance
        self._began_at = now
        self._ends_at = min(now + policy.total_s, ends_at)
        self._waiting_since = now
        self._live: list[Attempt] = []
        self.checked = False
        self._delivered: list[str] = []
        self._calls = ToolCalls()
        self._has_spoken = False
        self._seam: Seam | None = None
        self._recoveries = 0
        self._retry: tuple[float, Candidate] | None = None
        self._retry_after_s: list[float] = []
        health.request()

    def start(self, now: float) -> list[Action]:
        """Begin with the first candidate that does not rest; where all do, that is on record too."""
        candidate = self._untried(now)
        if candidate is not None:
            return [self._open(candidate, "first", now)]
        error = self._exhausted(now)
        skipped = Attempt(
            0, self._roster.best, now, kind="skipped", ended_at=now, outcome="error", error_code="resting"
        )
        self.attempts.append(skipped)
        return [GiveUp(error)]

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened; say what to do, in order."""
        match event:
            case Tick():
                return self._tick(now)
            case Received(attempt, deltas) if attempt in self._live:
                actions = self._received(attempt, deltas, now)
                return actions if now < self._ends_at else [*actions, *self._late(now)]
            case Ended(attempt) if attempt in self._live:
                return self._ended(attempt, now)
            case Failed(attempt, error) if attempt in self._live:
                return self._failed(attempt, error, now)
            case Checked(attempt, fault):
                return self._checked(attempt, fault, now)
            case _:
                return []

    def waiting(self, now: float) -> float:
        """The driver has nothing to do but to wait, from now: until when. Then it sends a Tick.

        Silence counts from here, not from the last word: a caller who reads slowly uses up nobody's time.
        """
        self._waiting_since = now
        times = [self._ends_at, *(self._silent_until(attempt, now) for attempt in self._live)]
        if self._retry is not None:
            times.append(self._retry[0])
        if (hedge_at := self._hedge_at()) is not None and hedge_at > now:
            times.append(hedge_at)
        return min(times)

    @property
    def may_hedge(self) -> bool:
        """Whether a Tick may mean something else than the end of the one attempt that is under way."""
        return self._hedge_at() is not None

    def abandon(self, now: float) -> None:
        """The caller is gone. Does nothing once the request has ended."""
        for attempt in list(self._live):
            self._leave(attempt, now)

    # Time

    def _silent_until(self, attempt: Attempt, now: float) -> float:
        if attempt.first_token_at is not None:
            return self._waiting_since + self._policy.idle_s
        has_other = self._roster.untried(self.attempts, now) is not None or len(self._live) > 1
        has_other = has_other and attempt.kind != "repair"
        return attempt.started_at + (self._policy.first_token_s if has_other else self._policy.patience_s)

    def _hedge_at(self) -> float | None:
        """When a second provider is to start beside a silent first."""
        if self._has_spoken or len(self.attempts) != 1 or len(self._live) != 1:
            return None
        (first,) = self._live
        learnt_s = self._health.first_tokens(first.candidate).delay_s if self._policy.hedge_adapts else None
        hedge_s = learnt_s if learnt_s is not None else self._policy.hedge_s
        return None if hedge_s is None else first.started_at + hedge_s

    def _tick(self, now: float) -> list[Action]:
        if now >= self._ends_at:
            return self._out_of_time(now)
        if self._retry is not None and now >= self._retry[0]:
            return self._try_again(now)
        for attempt in list(self._live):
            if now >= self._silent_until(attempt, now):
                return [Close(attempt), *self._failed(attempt, TimedOut(), now)]
        hedge_at = self._hedge_at()
        if hedge_at is not None and now >= hedge_at:
            return self._hedge(now)
        return []

    def _late(self, now: float) -> list[Action]:
        """The request's time may end while words still come: a reader who takes long for each leaves no silence."""
        return self._out_of_time(now) if self._live and self._complete() is None else []

    def _complete(self) -> Attempt | None:
        """Whose answer is all there, though it may have more to tell, such as what it counted."""
        serving = self.serving
        is_whole = serving is not None and serving.outcome is None and serving.finish_reason is not None
        return serving if is_whole else None

    def _out_of_time(self, now: float) -> list[Action]:
        if (complete := self._complete()) is not None:
            return self._ended(complete, now)
        closing: list[Action] = []
        for attempt in list(self._live):
            self._run_out(attempt, now)
            closing.append(Close(attempt))
        if any(attempt.kind == "repair" for attempt in self.attempts):
            return [*closing, GiveUp(invalid_object())]
        return [*closing, GiveUp(interrupted(TimedOut()) if self._has_spoken else self._exhausted(now))]

    def _run_out(self, attempt: Attempt, now: float) -> None:
        """The request's time is over, which says nothing against who still writes or was hardly waited for."""
        self._close(attempt, "timeout", TimedOut(), now)
        breaker = self._health.of(attempt.candidate)
        if attempt.first_token_at is None and now - attempt.started_at >= self._policy.first_token_s:
            breaker.failed(now, probe=attempt.probe)
        else:
            breaker.abandoned(attempt.probe)

    def _hedge(self, now: float) -> list[Action]:
        candidate = self._roster.untried(self.attempts, now)
        if candidate is None or not self._health.hedges.spend():
            return []
        self._health.of(candidate).admit(now)
        return [self._open(candidate, "hedge", now)]

    # What providers send

    def _received(self, attempt: Attempt, deltas: Sequence[Delta], now: float) -> list[Action]:
        characters = 0
        for delta in deltas:
            characters += delta.characters
            attempt.finish_reason = delta.finish_reason or attempt.finish_reason
            attempt.usage = delta.usage or attempt.usage
        if not characters:
            return []
        attempt.characters += characters
        if attempt.first_token_at is None:
            attempt.first_token_at = now
            if self._policy.hedge_adapts:
                self._health.first_tokens(attempt.candidate).took(now - attempt.started_at)
        if self._seam is not None:
            try:
                deltas = joined(self._seam, deltas)
            except Unproven:
                return [Close(attempt), *self._unproven(attempt, now)]
            if not deltas:
                return []
        return [*self._speaks(attempt, now), self._deliver(deltas)]

    def _speaks(self, attempt: Attempt, now: float) -> list[Action]:
        """The first to speak serves; the others are left."""
        if attempt is self.serving:
            return []
        self.serving = attempt
        self._health.of(attempt.candidate).succeeded(now, attempt.probe)
        losers = [other for other in self._live if other is not attempt]
        for loser in losers:
            self._learn_silence(loser, now)
            self._leave(loser, now)
        return [Close(loser) for loser in losers]

    def _deliver(self, deltas: Sequence[Delta]) -> Deliver:
        self._has_spoken = True
        self._delivered.extend(delta.text for delta in deltas if delta.text)
        for delta in deltas:
            self._calls.add(delta.tool_calls)
        return Deliver(deltas)

    def _ended(self, attempt: Attempt, now: float) -> list[Action]:
        if self._seam is not None and attempt is not self.serving and not self._seam.may_be_empty:
            return self._unproven(attempt, now)
        if not self._calls.are_whole:
            return self._ended_in_a_call(attempt, now)
        closing = self._speaks(attempt, now)
        self._close(attempt, "ok", None, now)
        if self._calls:
            attempt.finish_reason = attempt.finish_reason if attempt.finish_reason in CUT_SHORT else "tool_calls"
        elif self._policy.checks:
            return [*closing, Check(attempt, "".join(self._delivered))]
        return [*closing, Finish()]

    def _ended_in_a_call(self, attempt: Attempt, now: float) -> list[Action]:
        """Whatever the provider says, this is not a whole answer: a call whose arguments are cut must not be made."""
        if attempt.finish_reason not in CUT_SHORT:
            attempt.finish_reason = None
            return self._failed(attempt, BrokenStream(), now)
        error = truncated_call()
        self._close(attempt, "interrupted", None, now)
        attempt.error_code = error.code
        return [GiveUp(error)]

    def _failed(self, attempt: Attempt, error: ProviderError, now: float) -> list[Action]:
        if attempt.finish_reason is not None and attempt.first_token_at is not None:
            return self._ended(attempt, now)
        if isinstance(error, TimedOut) and now >= self._ends_at:
            self._run_out(attempt, now)
            return self._out_of_time(now)
        begun = attempt is self.serving
        if isinstance(error, TimedOut):
            self._learn_silence(attempt, now)
        self._close(
            attempt, "timeout" if isinstance(error, TimedOut) else "interrupted" if begun else "error", error, now
        )
        blame(self._health.of(attempt.candidate), error, attempt.probe, now)
        if isinstance(error, ContextTooLong):
            self._roster.was_too_short(attempt.candidate)
        if error.retry_after_s is not None:
            self._retry_after_s.append(error.retry_after_s)
        return self._after_failure(attempt, error, now)

    def _after_failure(self, attempt: Attempt, error: ProviderError, now: float) -> list[Action]:
        if attempt.kind == "repair":
            return [GiveUp(invalid_object())]
        if now >= self._ends_at:
            return self._out_of_time(now)
        if self._has_spoken:
            return self._take_up(error, now)
        if isinstance(error, RequestRejected) and not isinstance(error, ContextTooLong):
            return [GiveUp(rejection(error))]
        return [] if self._live else self._go_on(attempt, error, now)

    # Before the first word: the next provider

    def _go_on(self, attempt: Attempt, error: ProviderError, now: float) -> list[Action]:
        if isinstance(error, ContextTooLong):
            larger = self._untried(now)
            return [self._open(larger, "fallback", now)] if larger is not None else [GiveUp(rejection(error))]
        honoured = self._policy.honour_retry_after
        if honoured and self._may_retry(attempt, error, LONGEST_WAIT_S) and self._health.retries.spend():
            return self._retry_later(attempt, error, now)
        candidate = self._untried(now)
        if candidate is not None:
            return [self._open(candidate, "fallback", now)]
        # Nobody else is left: the reader waits for this one's Retry-After no longer than it would have for its silence.
        longest_s = self._began_at + self._policy.first_token_s - now
        may_retry = not isinstance(error, RateLimited) and self._may_retry(attempt, error, longest_s)
        if may_retry and not honoured and self._health.retries.spend():
            return self._retry_later(attempt, error, now)
        return [GiveUp(self._exhausted(now))]

    def _may_retry(self, attempt: Attempt, error: ProviderError, longest_s: float) -> bool:
        """Whether the same provider may be asked once more: not after a silence, nor where it said no for good.

        Nor where it said to come back later than `longest_s` from now.
        """
        tries = sum(other.candidate == attempt.candidate for other in self.attempts)
        hopeless = isinstance(error, TimedOut | Unconfirmed | CredentialsRejected | QuotaExhausted | ModelUnavailable)
        too_late = error.retry_after_s is not None and error.retry_after_s > longest_s
        return tries == 1 and not hopeless and not too_late

    def _retry_later(self, attempt: Attempt, error: ProviderError, now: float) -> list[Action]:
        wait_s = error.retry_after_s if error.retry_after_s is not None else RETRY_S * (1 + self._chance()) / 2
        self._retry = (now + wait_s, attempt.candidate)
        return []

    def _try_again(self, now: float) -> list[Action]:
        assert self._retry is not None  # noqa: S101 - for the type checker
        candidate = self._retry[1]
        self._retry = None
        if self._health.of(candidate).admit(now):
            return [self._open(candidate, "retry", now)]
        other = self._untried(now)
        return [self._open(other, "fallback", now) if other is not None else GiveUp(self._exhausted(now))]

    def _untried(self, now: float) -> Candidate | None:
        return self._roster.admit_untried(self.attempts, now)

    # After it: continue, restart, or say so

    def _take_up(self, error: ProviderError, now: float) -> list[Action]:
        policy = self._policy
        self.serving = None
        if policy.on_interrupt == "error" or self._recoveries == RECOVERIES:
            return [GiveUp(interrupted(error))]
        self._recoveries += 1
        if policy.on_interrupt == "continue" and policy.can_splice and not self._calls:
            candidate = self._untried(now) or self._roster.admit_any(now)
            return [self._continue(candidate, now)] if candidate is not None else [GiveUp(interrupted(error))]
        return self._restart(error, now)

    def _continue(self, candidate: Candidate, now: float) -> Action:
        delivered = "".join(self._delivered)
        if not delivered:
            return self._open(candidate, "continuation", now)
        habit = "prefix" if candidate.model.continues_prefix else "anchor"
        self._seam = Seam(delivered, habit)
        attempt = self._open(candidate, "continuation", now).attempt
        return Open(attempt, delivered, habit)

    def _unproven(self, attempt: Attempt, now: float) -> list[Action]:
        """This continuation can't be joined: another model's may, or the answer begins anew, or the caller is told."""
        self._close(attempt, "error", None, now)
        attempt.error_code = "seam_unproven"
        self._health.of(attempt.candidate).succeeded(now, attempt.probe)
        if now >= self._ends_at:
            return self._out_of_time(now)
        if self._recoveries == RECOVERIES:
            return [GiveUp(interrupted(None))]
        self._recoveries += 1
        candidate = self._untried(now)
        return [self._continue(candidate, now)] if candidate is not None else self._restart(None, now)

    def _restart(self, error: ProviderError | None, now: float) -> list[Action]:
        candidate = (self._untried(now) or self._roster.admit_any(now)) if self._policy.can_reset else None
        if candidate is None:
            return [GiveUp(interrupted(error))]
        self._forget()
        return [Reset(), self._open(candidate, "restart", now)]

    def _forget(self) -> None:
        """What was delivered is taken back."""
        self._seam = None
        self._delivered.clear()
        self._calls.clear()
        self._has_spoken = False

    # After the last: as it should be, or asked for again

    def _checked(self, attempt: Attempt, fault: str | None, now: float) -> list[Action]:
        if fault is None:
            self.checked = True
            return [Finish()]
        attempt.outcome, attempt.error_code = "error", InvalidObject.code
        repairs = sum(other.kind == "repair" for other in self.attempts)
        candidate = self._repairer(attempt, now) if repairs < self._policy.repairs and now < self._ends_at else None
        if candidate is None:
            return [GiveUp(invalid_object())]
        text = "".join(self._delivered)
        self._forget()
        again = self._open(candidate, "repair", now).attempt
        return [Reset(), Open(again, text, fault=fault)]

    def _repairer(self, attempt: Attempt, now: float) -> Candidate | None:
        """Who wrote it, as it is there and knows best what it meant; where it rests by now, the next."""
        if self._health.of(attempt.candidate).admit(now):
            return attempt.candidate
        return self._untried(now)

    # Bookkeeping

    def _open(self, candidate: Candidate, kind: Kind, now: float) -> Open:
        before = self.attempts[-1].candidate.provider if self.attempts else None
        probe = self._health.of(candidate).probe
        attempt = Attempt(len(self.attempts) + 1, candidate, now, before, kind, probe)
        self.attempts.append(attempt)
        self._live.append(attempt)
        return Open(attempt)

    def _close(self, attempt: Attempt, outcome: Outcome, error: ProviderError | None, now: float) -> None:
        self._live.remove(attempt)
        attempt.ended_at = now
        attempt.outcome = outcome
        attempt.error_code = error.code if error is not None else None

    def _leave(self, attempt: Attempt, now: float) -> None:
        """Nothing is known against it; its answer is wanted no more."""
        self._close(attempt, "cancelled", None, now)
        self._health.of(attempt.candidate).abandoned(attempt.probe)

    def _learn_silence(self, attempt: Attempt, now: float) -> None:
        if self._policy.hedge_adapts and attempt.first_token_at is None:
            self._health.first_tokens(attempt.candidate).silent_for(now - attempt.started_at)

    def _exhausted(self, now: float) -> NoProvider:
        return exhausted(self.attempts, [*self._retry_after_s, *self._roster.rests_s(now)])

"""Calls that failed, as failures that make incidents: a sink of events that counts, and is emptied after the answer.

A storm of failures must not become a storm of rows: the first of its kind is told at once, what follows once a minute.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lib.incidents.incidents import Failure, Recovers
from lib.telemetry.events import Event, InferenceEvent

EVERY_S = 60.0
MAX_KNOWN = 256
"""Causes that a process remembers; there are a handful, unless somebody makes them up."""
QUIET_S = 1800
SUCCESSES = 20
LASTING_S = 60
"""Nobody could answer for that long: one request alone may have had bad luck."""
CALLERS_FAULT = {"request_rejected", "context_length_exceeded", "content_refused"}
GOOD = {"ok", "cancelled"}
_VENDORS = {
    "credentials_rejected": ("rejects our key", "Its key in the environment is wrong, was revoked or may not do this."),
    "quota_exhausted": ("has no money or quota left", "Its account has to be topped up, or its limit raised."),
    "model_unavailable": ("does not offer a model", "The model is gone or not ours to use: name another one."),
}

Open: TypeAlias = Callable[[Failure, int], Awaitable[object]]


@dataclass(slots=True)
class _Counted:
    failure: Failure
    count: int = 0
    told_at: float = float("-inf")


class Failures:
    """What went wrong in this process and has not been told yet. A sink of telemetry (lib/telemetry/sinks.py)."""

    def __init__(self, known_models: Collection[tuple[str, str]], clock: Callable[[], float]) -> None:
        """`known_models` are the catalogue's, by provider: one that a caller made up is nobody's failure."""
        self._known_models = known_models
        self._clock = clock
        self._counted: dict[str, _Counted] = {}

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink. Takes one request's events."""
        for failure in failures_of([each for each in events if isinstance(each, InferenceEvent)], self._known_models):
            self.note(failure)

    def note(self, failure: Failure) -> None:
        """Count one."""
        print_ = failure.fingerprint
        if print_ not in self._counted and len(self._counted) >= MAX_KNOWN:
            del self._counted[min(self._counted, key=lambda known: self._counted[known].told_at)]
        counted = self._counted.setdefault(print_, _Counted(failure))
        counted.failure, counted.count = failure, counted.count + 1

    async def tell(self, open_: Open) -> None:
        """Hand over what is due: what is new, and what has been counted for a minute."""
        now = self._clock()
        for counted in list(self._counted.values()):
            if counted.count and now - counted.told_at >= EVERY_S:
                count, counted.count, counted.told_at = counted.count, 0, now
                await open_(counted.failure, count)


def failures_of(events: Sequence[InferenceEvent], known_models: Collection[tuple[str, str]]) -> Iterator[Failure]:
    """What one request's calls say is wrong: of a vendor, and that nobody could answer."""
    for event in events:
        if event.error_code in _VENDORS and _is_ours(event, known_models):
            yield vendor_failure(event.provider, event.error_code, event.model)
    if not events or any(event.outcome in GOOD for event in events) or events[-1].error_code in CALLERS_FAULT:
        return
    last = events[-1]
    yield Failure(
        kind="inference",
        subject=f"inference:{last.route}",
        title=f"{last.route}: no provider could answer ({last.modality})",
        cause=(last.modality, "no_provider_available"),
        facts={
            "last provider": last.provider,
            "last model": last.model,
            "last error": last.error_code or last.outcome,
            "calls": str(sum(event.attempt > 0 for event in events)),
            "request": last.request_id,
        },
        lasting_s=LASTING_S,
        recovers=Recovers(QUIET_S, SUCCESSES),
    )


def vendor_failure(provider: str, code: str, model: str = "") -> Failure:
    """A vendor that refuses us; where it is about a model, that one model."""
    what, hint = _VENDORS[code]
    concerned = model if code == "model_unavailable" else ""
    return Failure(
        kind="vendor",
        subject=f"vendor:{provider}:{code}{f':{concerned}' if concerned else ''}",
        title=f"{provider} {what}{f': {concerned}' if concerned else ''}",
        cause=(provider, code),
        facts={"provider": provider, "model": model, "error": code},
        hint=hint,
        recovers=Recovers(QUIET_S, SUCCESSES, provider, concerned or None),
    )


def breaker_failure(provider: str, model: str) -> Failure:
    """A provider that is left alone again and again."""
    return Failure(
        kind="inference",
        subject=f"breaker:{provider}/{model}",
        title=f"{provider} keeps failing and is left alone: {model}",
        cause=("breaker_open",),
        facts={"provider": provider, "model": model},
        hint="Requests go to the other providers meanwhile.",
        lasting_s=300,
        recovers=Recovers(QUIET_S, SUCCESSES, provider, model),
    )


def switch_failure(provider: str) -> Failure:
    """A kill switch that nobody has taken back."""
    return Failure(
        kind="switch",
        subject=f"switch:{provider}",
        title=f"The kill switch of {provider} is still on",
        cause=("kill_switch",),
        facts={"provider": provider},
        hint="It is over as soon as the switch is off.",
        lasting_s=3600,
    )


def budget_failure() -> Failure:
    """The money of all callers together is used up."""
    return Failure(
        kind="budget",
        subject="budget",
        title="The budget of the day is used up: callers are refused",
        cause=("budget_exceeded",),
        hint="It ends with the UTC day, or when the limit is raised (table `limits`).",
        recovers=Recovers(QUIET_S),
    )


def telemetry_failure(sink: str) -> Failure:
    """Events that a sink does not take."""
    return Failure(
        kind="telemetry",
        subject=f"telemetry:{sink}",
        title=f"Events are lost: {sink} does not take them",
        cause=(sink,),
        facts={"sink": sink},
        hint="Their log lines remain; `make replay-events FILE=…` makes rows of those that the database did not take.",
        lasting_s=300,
        recovers=Recovers(QUIET_S),
    )


def drift_failure(missing: Sequence[str]) -> Failure:
    """Migrations that this code needs and the database has not."""
    return Failure(
        kind="database",
        subject="migrations",
        title="The database lacks migrations of this deployment",
        cause=("migration_drift",),
        facts={"missing": " ".join(missing)},
        hint="`supabase db push` applies them.",
    )


def price_failure(provider: str, model: str, prices: Mapping[str, tuple[str, str]]) -> Failure:
    """Prices that are no longer what we count with: theirs and ours per million tokens, by side."""
    return Failure(
        kind="vendor",
        subject=f"price:{provider}:{model}",
        title=f"{provider} has another price than ours: {model}",
        cause=("price",),
        facts={
            "provider": provider,
            "model": model,
            **{f"{side} per million": f"{theirs}, ours {ours}" for side, (theirs, ours) in prices.items()},
        },
        hint="Budgets and costs are counted by `lib/telemetry/prices.json` and genai-prices.",
    )


def _is_ours(event: InferenceEvent, known_models: Collection[tuple[str, str]]) -> bool:
    if event.error_code != "model_unavailable":
        return True
    return event.experiment_arm is not None or (event.provider, event.model) in known_models

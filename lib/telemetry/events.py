"""`ai_inference`: one structured log line per call to a provider, priced. Names follow OpenTelemetry's GenAI terms."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, TypeAlias

import orjson

from lib.ids import uuid7
from lib.providers.base import Usage
from lib.router.attempt import Attempt
from lib.router.plan import Exposure, ProviderFlag
from lib.telemetry.cost import Costs, units_price
from lib.telemetry.sinks import Sinks

CHARACTERS_PER_TOKEN = 4
"""For estimates alone, where a provider never told what it counted: the usual rule of thumb for English."""

log = logging.getLogger("ai_inference")
Modality = Literal["text", "embedding", "image", "speech"]
MEDIA: frozenset[Modality] = frozenset({"image", "speech"})
MEDIA_NUMBERS_FROM = 100
"""Calls for pictures and speech are numbered from here: those for text keep the numbers that they have without them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What all events of one request have in common."""

    request_id: str
    caller_id: str
    caller_kind: str
    route: str
    flag: ProviderFlag
    prompt_characters: int
    metadata: Mapping[str, str]
    modality: Modality = "text"


@dataclass(frozen=True, slots=True)
class InferenceEvent:
    """One call to a provider. Times in milliseconds, cost in millionths of a US dollar, null where unknown.

    Number 0 is a request for which nobody was called, since all rested. `units` and `unit` are what pictures and speech
    are billed by. `cache_saved_micro_usd`: how much more the
    input would have cost, had the provider not had the beginning of it in its cache.
    `rollout_id` is filled in by the store, which knows the gate's rollout.
    """

    event: str
    id: str
    created_at: str
    request_id: str
    attempt: int
    kind: str
    caller_id: str
    caller_kind: str
    route: str
    modality: str
    provider: str
    model: str
    outcome: str
    error_code: str | None
    finish_reason: str | None
    ttft_ms: float | None
    latency_ms: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int | None
    reasoning_tokens: int
    units: float | None
    unit: str | None
    estimated: bool
    cost_micro_usd: int | None
    cost_unknown: bool
    cache_saved_micro_usd: int | None
    fallback_from: str | None
    experiment: str
    experiment_arm: str | None
    gate: str | None
    gate_arm: str | None
    rollout_id: str | None
    rollout_share: float | None
    config_version: str | None
    cold_start: bool
    region: str | None
    deployment: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ExposureEvent:
    """That a flag decided something for a caller; see Exposure."""

    event: str
    id: str
    created_at: str
    request_id: str
    caller_id: str
    caller_kind: str
    exposure: Exposure
    config_version: str | None


Event: TypeAlias = InferenceEvent | ExposureEvent


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call used, whether that is our estimate, and what it cost in US dollars (None: unknown).

    `saved_usd` is what it would have cost more without the vendor's cache.
    """

    attempt: Attempt
    usage: Usage
    estimated: bool
    cost_usd: Decimal | None
    saved_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Bill:
    """What all calls of a request used together, and cost in US dollars (None: unknown)."""

    usage: Usage
    estimated: bool
    cost_usd: Decimal | None
    charges: Sequence[Charge] = field(default=(), compare=False, repr=False)

    @property
    def cost_microusd(self) -> int | None:
        """The cost in whole millionths of a dollar."""
        return _micro(self.cost_usd)


class Recorder:
    """Turns the attempts of a request into events, and logs them."""

    def __init__(self, costs: Costs, *, region: str | None, deployment: str | None, sinks: Sinks | None = None) -> None:
        """`sinks` get what a request leaves behind, once it has been answered."""
        self._costs = costs
        self._sinks = sinks or Sinks()
        self._waiting: dict[str, list[Event]] = {}
        self._media_calls: Counter[str] = Counter()
        self._region = region
        self._deployment = deployment
        self._cold_start = True

    def prepare(self, provider: str) -> None:
        """A call to this provider is on its way and will have to be priced."""
        self._costs.warm(provider)

    async def record(self, subject: Subject, attempts: Sequence[Attempt]) -> Bill:
        """Settle and log: for whoever answers in one piece."""
        bill = await self.settle(subject, attempts)
        self.log(subject, bill)
        return bill

    async def settle(self, subject: Subject, attempts: Sequence[Attempt]) -> Bill:
        """The bill of these attempts (at least one, all ended)."""
        charges: list[Charge] = []
        total: Decimal | None = Decimal(0)
        used, any_estimated = Usage(0, 0), False
        for attempt in attempts:
            candidate = attempt.candidate
            if subject.modality in MEDIA:
                charge = _media_charge(attempt)
                total = None if total is None or charge.cost_usd is None else total + charge.cost_usd
                any_estimated = any_estimated or charge.estimated
                charges.append(charge)
                continue
            usage, estimated = _usage(attempt, subject.prompt_characters)
            used, any_estimated = used + usage, any_estimated or estimated
            cost = await self._costs.usd(candidate.provider, candidate.model.id, usage)
            saved = None if estimated else await self._costs.saved_usd(candidate.provider, candidate.model.id, usage)
            total = None if total is None or cost is None else total + cost
            charges.append(Charge(attempt, usage, estimated, cost, saved))
        return Bill(used, any_estimated, total, charges)

    def log(self, subject: Subject, bill: Bill) -> None:
        """Log one event per attempt. It takes as long as all the rest of us: call it when the caller has the answer."""
        cold_start, self._cold_start = self._cold_start, False
        events: list[Event] = list(_exposures(subject))
        for charge in bill.charges:
            event = self._event(subject, charge, cold_start=cold_start)
            log.info(orjson.dumps(event).decode())
            events.append(event)
        if self._sinks and events:
            self._waiting.setdefault(subject.request_id, []).extend(events)

    @property
    def sinks(self) -> Sinks:
        """Where its events go."""
        return self._sinks

    async def deliver(self, request_id: str) -> None:
        """Hand what this request has left behind to the sinks, as one batch. Never raises."""
        events = self._waiting.pop(request_id, None)
        self._media_calls.pop(request_id, None)
        if self._sinks and events:
            await self._sinks.deliver(events)

    def _event(self, subject: Subject, charge: Charge, *, cold_start: bool) -> InferenceEvent:
        attempt, usage, cost = charge.attempt, charge.usage, charge.cost_usd
        ended_at = attempt.ended_at if attempt.ended_at is not None else attempt.started_at
        units = attempt.units
        first_token_at = attempt.first_token_at
        return InferenceEvent(
            event="ai_inference",
            id=uuid7(),
            created_at=_now(),
            request_id=subject.request_id,
            attempt=self._number(subject, attempt),
            kind=attempt.kind,
            caller_id=subject.caller_id,
            caller_kind=subject.caller_kind,
            route=subject.route,
            modality=subject.modality,
            provider=attempt.candidate.provider,
            model=attempt.candidate.model.id,
            outcome=attempt.outcome or "cancelled",
            error_code=attempt.error_code,
            finish_reason=attempt.finish_reason,
            ttft_ms=None if first_token_at is None else milliseconds(first_token_at - attempt.started_at),
            latency_ms=milliseconds(ended_at - attempt.started_at),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=None if charge.estimated else usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            units=None if units is None else units.amount,
            unit=None if units is None else units.unit,
            estimated=charge.estimated,
            cost_micro_usd=_micro(cost),
            cost_unknown=cost is None,
            cache_saved_micro_usd=_micro(charge.saved_usd),
            fallback_from=attempt.fallback_from,
            experiment=subject.flag.name,
            experiment_arm=subject.flag.arm,
            gate=subject.flag.gate,
            gate_arm=subject.flag.gate_arm,
            rollout_id=None,
            rollout_share=subject.flag.gate_share,
            config_version=subject.flag.config_version,
            cold_start=cold_start,
            region=self._region,
            deployment=self._deployment,
            metadata=subject.metadata,
        )

    def _number(self, subject: Subject, attempt: Attempt) -> int:
        """Of all that a request asks of its vendors, no two calls have the same: a row is known by it."""
        if subject.modality not in MEDIA or attempt.number == 0:
            return attempt.number
        self._media_calls[subject.request_id] += 1
        return MEDIA_NUMBERS_FROM + self._media_calls[subject.request_id]


def _media_charge(attempt: Attempt) -> Charge:
    units, candidate = attempt.units, attempt.candidate
    cost = Decimal(0) if units is None else units_price(candidate.provider, candidate.model.id, units)
    return Charge(attempt, Usage(0, 0), units is not None and units.estimated, cost, Decimal(0))


def _micro(usd: Decimal | None) -> int | None:
    return None if usd is None else round(usd * 1_000_000)


def _exposures(subject: Subject) -> Iterator[ExposureEvent]:
    for exposure in subject.flag.exposures:
        yield ExposureEvent(
            event="exposure",
            id=uuid7(),
            created_at=_now(),
            request_id=subject.request_id,
            caller_id=subject.caller_id,
            caller_kind=subject.caller_kind,
            exposure=exposure,
            config_version=subject.flag.config_version,
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def milliseconds(seconds: float) -> float:
    """Seconds as milliseconds, to the tenth."""
    return round(seconds * 1000, 1)


def _usage(attempt: Attempt, prompt_characters: int) -> tuple[Usage, bool]:
    """What an attempt used, and whether that is our estimate.

    A provider that answered with an error has counted nothing. One that was left, or broke off, has read the prompt
    and written what we saw, and will bill it though it never told the numbers.
    """
    if attempt.usage is not None:
        return attempt.usage, False
    if attempt.first_token_at is None and attempt.outcome == "error":
        return Usage(0, 0), False
    read = prompt_characters + attempt.added_characters
    return Usage(-(-read // CHARACTERS_PER_TOKEN), -(-attempt.characters // CHARACTERS_PER_TOKEN)), True

"""Whether a rollout's candidate is worse, by what its users met first: errors, slowness, cost. Pure.

What it needs is counted by SQL, and nothing else is kept, so that every tick computes all of it anew:

- An event belongs to a rollout by its `rollout_id`, and to the share that was in force when its caller was assigned by
  its `rollout_share`; treated are those with the gate's arm `treatment`, control those who were asked and not let in.
  Only requests after the baseline count. A caller the gate was not asked for has no `rollout_id` and counts nowhere.
- `first_bad`, by user and guardrail: the *first* bad request of each user since the rollout began, in whatever stage,
  grouped by share and arm: one `Split` for each share. A second one of the same user never counts.
  - errors: the request failed with 5xx, failed after fallback, timed out, or was interrupted.
  - ttft, latency, cost: above the frozen threshold if control, above threshold * allowance if treated (see
    `Frozen.threshold` and `Allowances`; without the allowance a candidate exactly at it would always be rolled back).
- `first_ranks`, for ttft and latency: the value of each user's *first answered* request since the rollout began, bad or
  not, treated ones divided by the allowance, as `width_bucket(value, cuts)` with the frozen 15 cuts (0 to 15), grouped
  by share and arm: one `RankSplit` for each share.
- `exposed`: the users seen while each share was in force, by arm; one user may be in several shares, once in each.

Budgets are chances to be ever wrong over the whole rollout: they add up to 1 %. Slowness has four tests, of first token
and of total time, by rank and by the frozen threshold, at a thousandth each: the test by rank needs a third of the
users, the other sees what befalls a user's later requests. They share a budget by adding up rather than by averaging,
because each is an e-process in its own order of events alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Literal, TypeAlias, get_args

from lib.control.anytime import RankSplit, Split, log_e_safe, log_e_share, on_harm, on_ranks, restarting

Guardrail: TypeAlias = Literal["errors", "ttft", "latency", "cost"]
Timing: TypeAlias = Literal["ttft", "latency"]
Test: TypeAlias = Literal["errors", "ttft", "latency", "cost", "ttft_rank", "latency_rank"]
GUARDRAILS: tuple[Guardrail, ...] = get_args(Guardrail)
TIMINGS: tuple[Timing, ...] = get_args(Timing)

BUDGETS: Mapping[Test, float] = {
    "errors": 0.004,
    "ttft": 0.001,
    "latency": 0.001,
    "ttft_rank": 0.001,
    "latency_rank": 0.001,
    "cost": 0.002,
}
"""The chance that each ever calls a healthy candidate worse."""
SAMPLE_RATIO_BUDGET = 0.001
"""The chance that a sound assignment is ever called broken, shared by all stages."""
SAFE_BUDGET = 0.05
"""The chance that harm of the tolerated size is ever ruled out though it is there, for each guardrail."""
SUSPICION = log(10)
"""No promotion while any test's e-value is above: nothing is proven, and nothing is well."""

WORDS: Mapping[Test, str] = {
    "errors": "errors",
    "ttft": "slow first tokens",
    "latency": "slow answers",
    "cost": "cost",
    "ttft_rank": "time to first token",
    "latency_rank": "time to the whole answer",
}


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is known of the control before anyone is treated, and never changes again.

    threshold: above it is bad; of times the 95th percentile of the baseline's requests (milliseconds), of cost the
    90th (micro-USD). cuts: the 15 rising values that cut the baseline into 16 equal parts.
    """

    threshold: float
    cuts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The control's requests before the first stage. error_rate: of users in it, those whom one of them failed."""

    requests: int
    error_rate: float
    ttft: Frozen
    latency: Frozen
    cost: Frozen


@dataclass(frozen=True, slots=True)
class Allowances:
    """How many times as slow or dear the candidate may be: declared, from the two models' prices and a baseline."""

    ttft: float = 1.0
    latency: float = 1.0
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Counters:
    """All that SQL counted since the rollout began; see the module."""

    first_bad: Mapping[Guardrail, Sequence[Split]] = field(default_factory=dict[Guardrail, Sequence[Split]])
    first_ranks: Mapping[Timing, Sequence[RankSplit]] = field(default_factory=dict[Timing, Sequence[RankSplit]])
    exposed: Sequence[Split] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One test's e-value beside the threshold it is held against, both as natural logarithms."""

    test: Test
    log_e: float
    threshold: float

    @property
    def breached(self) -> bool:
        """Whether it proves harm."""
        return self.log_e >= self.threshold


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the counters say of the candidate.

    safe: of each guardrail, the logarithm of the evidence against harm of the tolerated size, held against
    `SAFE_THRESHOLD`. ratio_broken: whether users come to the arms other than by the share.
    """

    readings: tuple[Reading, ...]
    safe: Mapping[Guardrail, float]
    ratio_broken: bool

    @property
    def breaches(self) -> tuple[Reading, ...]:
        """The tests that prove harm."""
        return tuple(reading for reading in self.readings if reading.breached)

    @property
    def suspicious(self) -> tuple[Reading, ...]:
        """The tests that do not look well."""
        return tuple(reading for reading in self.readings if reading.log_e > SUSPICION)

    @property
    def unproven(self) -> tuple[Guardrail, ...]:
        """The guardrails whose harm is not ruled out."""
        return tuple(guardrail for guardrail, reached in self.safe.items() if reached < SAFE_THRESHOLD)


SAFE_THRESHOLD = log(1 / SAFE_BUDGET)


def assess(counters: Counters, shares: Sequence[float], *, tolerated: float) -> Assessment:
    """All tests over all that was counted; `shares` are the rollout's stages, `tolerated` the odds ratio to rule out.

    What happened at a share of 0 or 1 proves nothing and is left out.
    """
    starts = [share for share in shares if share < 1]
    readings = [_reading(guardrail, counters.first_bad.get(guardrail, ()), starts) for guardrail in GUARDRAILS]
    for timing in TIMINGS:
        ranks = [split for split in counters.first_ranks.get(timing, ()) if 0 < split.share < 1]
        test: Test = "ttft_rank" if timing == "ttft" else "latency_rank"
        readings.append(Reading(test, restarting(on_ranks, ranks, starts), log(1 / BUDGETS[test])))
    broken = log(len(shares) / SAMPLE_RATIO_BUDGET)
    return Assessment(
        tuple(readings),
        {name: log_e_safe(_compared(counters.first_bad.get(name, ())), tolerated=tolerated) for name in GUARDRAILS},
        any(log_e_share(split) >= broken for split in counters.exposed),
    )


def _reading(test: Guardrail, splits: Sequence[Split], starts: Sequence[float]) -> Reading:
    return Reading(test, restarting(on_harm, _compared(splits), starts), log(1 / BUDGETS[test]))


def _compared(splits: Sequence[Split]) -> list[Split]:
    return [split for split in splits if 0 < split.share < 1]

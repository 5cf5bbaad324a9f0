"""How long a rollout takes at a site's traffic, before one starts it: until it is done, or until harm is found. Pure.

It is the rollout's own machine, fed with the counters that are to be expected instead of those that were counted. That
gives about the median; chance is generous or mean: nineteen of twenty rollouts find the same harm within 2.6 times as
long (docs/rollout-benchmark.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Any

from lib.control.anytime import RANKS, RankSplit, Split
from lib.control.guardrails import GUARDRAILS, TIMINGS, Baseline, Counters, Frozen, Guardrail, Timing
from lib.control.rollout import Evidence, Params, State, tick

DAY_S = 86_400.0
HORIZON_DAYS = 365.0
LATE = 2.6
"""How many times the median the 95th percentile of the time to detection is, at most, in the benchmark."""
STEPS_PER_STAGE = 100

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Harm:
    """What a candidate may do beyond its allowances: add to the error rate, multiply times or cost."""

    words: str
    errors: float = 0.0
    times: float = 1.0
    cost: float = 1.0


HARMS = (
    Harm("+2 points of errors", errors=0.02),
    Harm("+30 % latency", times=1.3),
    Harm("+20 % cost", cost=1.2),
)
NONE = Harm("no harm")


def plan(baseline: Baseline, params: Params, users_per_day: float) -> dict[str, Any]:
    """As JSON: `days_to_done` of a healthy candidate, and `harms` with `harm, days, days_late, treated, share`.

    users_per_day: those the gate is asked for, each counted on its first day alone; one request of each is reckoned
    with. days: to detection, half of the time sooner; days_late: with a chance of 95 %. treated: users who met the harm
    by then; share: the stage it had come to. All null where it takes more than a year, or is done before it is found.
    """
    done = _played(baseline, params, users_per_day, NONE)
    found = [(harm, _played(baseline, params, users_per_day, harm)) for harm in HARMS]
    return {
        "days_to_done": done.days if done and done.status == "done" else None,
        "harms": [
            {
                "harm": harm.words,
                "days": end.days,
                "days_late": end.days * LATE,
                "treated": end.treated,
                "share": end.share,
            }
            if end and end.status == "rolled_back"
            else {"harm": harm.words, "days": None, "days_late": None, "treated": None, "share": None}
            for harm, end in found
        ],
    }


@dataclass(frozen=True, slots=True)
class _End:
    status: str
    days: float
    treated: int
    share: float


@dataclass(slots=True)
class _Users:
    """The users that are to be expected, by share: treated and control."""

    seen: dict[float, list[float]]

    def counters(self, baseline: Baseline, harm: Harm) -> Counters:
        """What they would have brought."""
        bad = _chances(baseline, harm)
        usual = _chances(baseline, NONE)
        shifts: Mapping[Timing, float] = {
            "ttft": _shift(baseline.ttft, harm.times),
            "latency": _shift(baseline.latency, harm.times),
        }
        return Counters(
            {
                name: [
                    Split(share, round(one * bad[name]), round(other * usual[name]))
                    for share, (one, other) in self.seen.items()
                ]
                for name in GUARDRAILS
            },
            {
                name: [
                    RankSplit(share, _ranks(one, shifts[name]), _ranks(other, 0.0))
                    for share, (one, other) in self.seen.items()
                ]
                for name in TIMINGS
            },
            [Split(share, round(one), round(other)) for share, (one, other) in self.seen.items()],
        )


def _played(baseline: Baseline, params: Params, users_per_day: float, harm: Harm) -> _End | None:
    """The machine, ticked a hundred times or more per stage; None where it does not end within a year."""
    now = baseline.requests / users_per_day * DAY_S
    users = _Users({})
    state = State(
        "", status="stage", stage=0, share=params.stages[0], in_store=params.stages[0], since=now, baseline=baseline
    )
    while now < HORIZON_DAYS * DAY_S:
        # Small against what a stage takes, whichever of dwell time and users decides.
        step = max(params.dwell_s, params.cap / users_per_day / state.share * DAY_S / 10) / STEPS_PER_STAGE
        now += step
        reached = users.seen.setdefault(state.share, [0.0, 0.0])
        reached[0] += users_per_day * step / DAY_S * state.share
        reached[1] += users_per_day * step / DAY_S * (1 - state.share)
        counted = users.counters(baseline, harm)
        share = state.share
        state, _ = tick(state, Evidence(state.share, last_event_at=now, counters=counted), params, now)
        if state.status in {"rolled_back", "done"}:
            return _End(state.status, now / DAY_S, sum(split.treated for split in counted.exposed), share)
        state, _ = tick(state, Evidence(state.share, last_event_at=now, counters=counted), params, now)
    return None


def _chances(baseline: Baseline, harm: Harm) -> Mapping[Guardrail, float]:
    """How likely a user's request is bad."""
    return {
        "errors": min(1.0, baseline.error_rate + harm.errors),
        "ttft": _above(0.95, _shift(baseline.ttft, harm.times)),
        "latency": _above(0.95, _shift(baseline.latency, harm.times)),
        "cost": _above(0.90, _shift(baseline.cost, harm.cost)),
    }


def _shift(frozen: Frozen, times: float) -> float:
    """By how many standard deviations of its logarithm a figure moves: between the 2nd and the 14th of 16 parts."""
    low, high = frozen.cuts[1], frozen.cuts[13]
    if not 0 < low < high:
        return 0.0
    spread = log(high / low) / (_NORMAL.inv_cdf(14 / RANKS) - _NORMAL.inv_cdf(2 / RANKS))
    return log(times) / spread


def _above(probability: float, shift: float) -> float:
    return 1 - _NORMAL.cdf(_NORMAL.inv_cdf(probability) - shift)


def _ranks(users: float, shift: float) -> tuple[int, ...]:
    """How many of them have each rank; rounded so that they add up."""
    borders: Sequence[float] = [_NORMAL.cdf(_NORMAL.inv_cdf(cut / RANKS) - shift) for cut in range(1, RANKS)]
    upto = [round(users * border) for border in (*borders, 1.0)]
    return tuple(after - before for before, after in zip([0, *upto], upto, strict=False))

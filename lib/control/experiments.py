"""What an experiment shows: its arms side by side, how far they are apart, and whether one may stop looking. Pure.

Users count for the arm that they were *assigned* to, whoever answered in the end: a fallback that stands in for a
failing provider would else hide it. Who served them stands beside it, and so does how often calls failed.

Three kinds of statements, not to be confused: intervals hold at 95 % each, for who looks once; the sample ratio says
whether any of it may be trusted; the verdict may be looked at as often as one likes (lib/control/anytime.py), provided
that the users are all those since the experiment began. A period that moves along with the clock has no such verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isinf, log
from typing import Any, Literal

from lib.control.anytime import BENEFIT, Split, log_e
from lib.control.statistics import (
    Chance,
    Estimate,
    Sums,
    bucket,
    histogram_quantile,
    merged,
    proportion,
    proportion_difference,
    quantile_differences,
    ratio,
    ratio_difference,
    sample_ratio_p,
    sums,
)

ALPHA = 0.05
"""The chance that any verdict of an experiment is ever wrong, however often one looks; all that there are share it."""
BROKEN_RATIO = 0.001
PROBABILITIES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Unit:
    """What one user brought to the arm that it was assigned to first: a row of SQL's `experiment_units`.

    requests: answers asked for; failed: those that failed the user, whoever was asked to help; failed_calls: calls to
    providers that failed, fallback or not. latency_ms: the sum over answers that went well. latency, ttft: their
    milliseconds as [[bucket, count], …], 16 buckets per octave (`statistics.bucket`). cost_microusd: of all calls,
    retries and losers included; unpriced: calls of unknown cost. served: answers by the provider that gave them.
    """

    user_id: str
    arm: str
    requests: int
    failed: int = 0
    failed_calls: int = 0
    latency_ms: float = 0.0
    latency: Sequence[Sequence[int]] = ()
    ttft: Sequence[Sequence[int]] = ()
    cost_microusd: int = 0
    unpriced: int = 0
    output_tokens: int = 0
    thumbs_up: int = 0
    thumbs_down: int = 0
    served: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Design:
    """What was decided before anyone was assigned.

    control: the arm that the others are compared with. shares: each arm's part of the users, above 0, in any unit.
    slow_ms: from where on an answer counts as slow in the verdict; it has to be fixed beforehand, None leaves it out.
    """

    control: str
    shares: Mapping[str, float]
    slow_ms: float | None = None


Pick = Callable[[Unit], tuple[float, float]]
Signal = Callable[[Unit], bool]
Direction = Literal["worse", "better"]

# Each measure: of which two of a user's figures it is the ratio, and times what.
PROPORTIONS: Mapping[str, Pick] = {
    "error_rate": lambda unit: (unit.failed, unit.requests),
    "approval": lambda unit: (unit.thumbs_up, unit.thumbs_up + unit.thumbs_down),
}
RATIOS: Mapping[str, tuple[Pick, float]] = {
    "failed_calls_per_request": (lambda unit: (unit.failed_calls, unit.requests), 1.0),
    "latency_mean_ms": (lambda unit: (unit.latency_ms, _count(unit.latency)), 1.0),
    "cost_per_1k_requests_usd": (lambda unit: (unit.cost_microusd, unit.requests), 1e-3),
    "cost_per_1k_output_tokens_usd": (lambda unit: (unit.cost_microusd, unit.output_tokens), 1e-3),
}
HISTOGRAMS: Mapping[str, Callable[[Unit], Sequence[Sequence[int]]]] = {
    "latency": lambda unit: unit.latency,
    "ttft": lambda unit: unit.ttft,
}
HIGHER_IS_BETTER = {"approval"}


def report(units: Sequence[Unit], design: Design, chance: Chance) -> dict[str, Any]:
    """The whole experiment as JSON: `control`, `arms`, `differences`, `sample_ratio`, `verdicts`.

    An arm: `arm, users, requests, failed, failed_calls, unpriced, thumbs_up, thumbs_down, served {provider: answers}`;
    `error_rate, approval`, the four ratios: `{value, low, high}` or null; `latency_ms, ttft_ms`: `{p50, p95}`.
    A difference: `arm, measure, value, low, high, clear` (whether its interval leaves zero out, as `better` or
    `worse`), treated less control. Bounds that are infinite are null. A verdict: see `verdict`.
    Units of arms that the design does not name are left out, and counted in `strangers`. `chance` draws the bootstrap:
    a seeded `random.Random` gives the same intervals again. It takes seconds: for a cron, not for a page.
    """
    arms = {arm: [unit for unit in units if unit.arm == arm and unit.requests] for arm in design.shares}
    control = arms[design.control]
    others = {arm: of for arm, of in arms.items() if arm != design.control}
    ratio_p = sample_ratio_p([len(of) for of in arms.values()], list(design.shares.values()))
    return {
        "control": design.control,
        "arms": [_arm(arm, of) for arm, of in arms.items()],
        "differences": [each for arm, of in others.items() for each in _differences(arm, of, control, chance)],
        "sample_ratio": {"p_value": ratio_p, "ok": ratio_p >= BROKEN_RATIO},
        "verdicts": [verdict(arm, of, control, design, trusted=ratio_p >= BROKEN_RATIO) for arm, of in others.items()],
        "strangers": sum(unit.arm not in design.shares for unit in units),
    }


def verdict(
    arm: str, treated: Sequence[Unit], control: Sequence[Unit], design: Design, *, trusted: bool
) -> dict[str, Any]:
    """Whether one may stop looking at an arm: `arm, status, words, evidence`.

    status: `keep looking`, `better`, `worse`, `mixed` (better on one thing, worse on another) or `broken`, where the
    sample ratio says that the assignment can't be trusted. evidence: for each signal the users it befell, by arm, and
    the natural logarithms of both e-values with the threshold they are held against. A signal is a user's first event.
    """
    signals = _signals(design)
    found: dict[Direction, list[str]] = {"worse": [], "better": []}
    threshold = log((len(design.shares) - 1) * len(signals) * len(found) / ALPHA)
    share = design.shares[arm] / (design.shares[arm] + design.shares[design.control])
    evidence: list[dict[str, Any]] = []
    for name, befell in signals.items():
        split = Split(share, sum(map(befell, treated)), sum(map(befell, control)))
        logs: dict[Direction, float] = {"worse": log_e([split]), "better": log_e([split], bets=BENEFIT)}
        for direction, reached in logs.items():
            if reached >= threshold:
                found[direction].append(name)
        evidence.append(
            {"signal": name, "treated": split.treated, "control": split.control, "threshold": threshold}
            | {f"log_e_{direction}": reached for direction, reached in logs.items()}
        )
    status, words = _words(arm, design.control, found) if trusted else ("broken", _BROKEN)
    return {"arm": arm, "status": status, "words": words, "evidence": evidence}


_BROKEN = (
    "Users are spread over the arms as they should not be: find out why the assignment or its record is broken before"
    " reading anything into the figures."
)


def _signals(design: Design) -> dict[str, Signal]:
    signals: dict[str, Signal] = {
        "errors": lambda unit: unit.failed > 0,
        "failed calls": lambda unit: unit.failed_calls > 0,
        "dislikes": lambda unit: unit.thumbs_down > 0,
    }
    if design.slow_ms is not None:
        slow = bucket(design.slow_ms)
        signals["slowness"] = lambda unit: any(number >= slow and count for number, count in unit.latency)
    return signals


def _words(arm: str, control: str, found: Mapping[Direction, Sequence[str]]) -> tuple[str, str]:
    said = [f"{direction} on {' and '.join(found[direction])}" for direction in ("worse", "better") if found[direction]]
    if not said:
        return (
            "keep looking",
            f"Keep looking: nothing yet tells {arm} from {control}, which is no proof that they are alike.",
        )
    status = "mixed" if len(said) > 1 else next(direction for direction in found if found[direction])
    return status, f"{arm} is {', but '.join(said)} than {control}; you may stop looking."


def _arm(arm: str, units: Sequence[Unit]) -> dict[str, Any]:
    served: dict[str, int] = {}
    for unit in units:
        for provider, answers in unit.served.items():
            served[provider] = served.get(provider, 0) + answers
    counted = ("requests", "failed", "failed_calls", "unpriced", "thumbs_up", "thumbs_down")
    told: dict[str, Any] = {"arm": arm, "users": len(units), "served": served}
    told |= {name: sum(getattr(unit, name) for unit in units) for name in counted}
    told |= {name: _told(proportion(sums(map(pick, units)))) for name, pick in PROPORTIONS.items()}
    told |= {name: _told(_scaled(ratio(sums(map(pick, units))), by)) for name, (pick, by) in RATIOS.items()}
    for name, pick in HISTOGRAMS.items():
        whole = merged(_histogram(pick(unit)) for unit in units)
        told[f"{name}_ms"] = {_p(part): histogram_quantile(whole, part) for part in PROBABILITIES}
    return told


def _differences(arm: str, treated: Sequence[Unit], control: Sequence[Unit], chance: Chance) -> list[dict[str, Any]]:
    def both(pick: Pick) -> tuple[Sums, Sums]:
        return sums(map(pick, treated)), sums(map(pick, control))

    found: dict[str, Estimate | None] = {name: proportion_difference(*both(pick)) for name, pick in PROPORTIONS.items()}
    found |= {name: _scaled(ratio_difference(*both(pick)), by) for name, (pick, by) in RATIOS.items()}
    for name, pick in HISTOGRAMS.items():
        one, other = ([_histogram(pick(unit)) for unit in units] for units in (treated, control))
        apart = quantile_differences(one, other, PROBABILITIES, chance) or [None] * len(PROBABILITIES)
        found |= {f"{name}_{_p(part)}_ms": each for part, each in zip(PROBABILITIES, apart, strict=True)}
    return [
        {"arm": arm, "measure": name, "clear": _clear(name, each), **(_told(each) or {})}
        for name, each in found.items()
        if each is not None
    ]


def _clear(measure: str, apart: Estimate) -> Direction | None:
    if apart.low <= 0 <= apart.high:
        return None
    return "better" if (apart.value > 0) is (measure in HIGHER_IS_BETTER) else "worse"


def _scaled(estimate: Estimate | None, by: float) -> Estimate | None:
    return estimate and Estimate(estimate.value * by, estimate.low * by, estimate.high * by)


def _told(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    return {name: None if isinf(value) else value for name, value in asdict(estimate).items()}


def _histogram(pairs: Sequence[Sequence[int]]) -> dict[int, int]:
    return {pair[0]: pair[1] for pair in pairs}


def _count(pairs: Sequence[Sequence[int]]) -> int:
    return sum(count for _, count in pairs)


def _p(probability: float) -> str:
    return f"p{probability * 100:.0f}"

"""Counters of candidates whose truth is known, for the tests of rollouts."""

from __future__ import annotations

from lib.control.anytime import RANKS, RankSplit, Split
from lib.control.guardrails import GUARDRAILS, Baseline, Counters, Frozen, Guardrail
from lib.control.rollout import Evidence, Params

NOW = 1_000_000.0
PARAMS = Params(dwell_s=600, fewest=50, cap=2000, baseline_requests=500)
CUTS = tuple(float(cut) for cut in range(100, 1600, 100))
BASELINE = Baseline(500, 0.01, Frozen(900, CUTS), Frozen(4000, CUTS), Frozen(120, CUTS))


def counters(
    share: float,
    *,
    treated: int = 100,
    bad: dict[Guardrail, tuple[int, int]] | None = None,
    safe: bool = True,
    ranks: tuple[int, int] = (0, 0),
) -> Counters:
    """So many treated users at this share, none of them worse off, except where `bad` says (treated, control).

    safe: whether there were enough bad events of the control to rule harm out. ranks: treated users whose first values
    were of the highest rank, and control's of the lowest.
    """
    control = round(treated * (1 - share) / share)
    usual = (round(1000 * share / (1 - share)), 2000) if safe and share < 1 else (0, 0)
    first_bad: dict[Guardrail, list[Split]] = {
        name: [Split(share, *(bad or {}).get(name, usual))] for name in GUARDRAILS
    }
    highest, lowest = [0] * RANKS, [0] * RANKS
    highest[-1], lowest[0] = ranks
    return Counters(
        first_bad,
        {"ttft": [RankSplit(share, tuple(highest), tuple(lowest))]},
        [Split(share, treated, control)],
    )


def seen(in_store: float | None, counted: Counters | None = None, *, now: float = NOW) -> Evidence:
    """What a tick is told while events come in."""
    return Evidence(in_store, last_event_at=now, baseline=BASELINE, counters=counted or Counters())

"""What counters say of a candidate."""

from __future__ import annotations

from math import log

import pytest

from lib.control.anytime import RANKS, RankSplit, Split, log_e, log_e_share, on_harm, restarting
from lib.control.guardrails import BUDGETS, GUARDRAILS, Counters, assess
from lib.control.rollout import STAGES
from tests.lib.control.evidence import counters


def test_budgets_add_up_to_one_percent() -> None:
    """The chance of a false alarm over the whole rollout is their sum at most."""
    assert sum(BUDGETS.values()) == pytest.approx(0.01)
    assert BUDGETS["errors"] == 0.004
    assert sum(budget for test, budget in BUDGETS.items() if "ttft" in test or "latency" in test) == pytest.approx(
        0.004
    )
    assert BUDGETS["cost"] == 0.002


def test_nothing_counted_says_nothing() -> None:
    """No breach, no suspicion, and no harm ruled out."""
    found = assess(Counters(), STAGES, tolerated=2)
    assert [reading.log_e for reading in found.readings] == [pytest.approx(0)] * 6
    assert (found.breaches, found.suspicious, found.ratio_broken) == ((), (), False)
    assert found.unproven == GUARDRAILS


def test_healthy_candidate_is_safe() -> None:
    """Half as many bad events as its share: all harm is ruled out."""
    found = assess(counters(0.1), STAGES, tolerated=2)
    assert (found.unproven, found.suspicious) == ((), ())


@pytest.mark.parametrize("guardrail", GUARDRAILS)
def test_each_guardrail_breaches_alone(guardrail: str) -> None:
    """Twenty treated users against twenty of the control, at a share of 10 %: that guardrail, and no other."""
    found = assess(counters(0.1, bad={guardrail: (20, 20)}), STAGES, tolerated=2)  # type: ignore[dict-item]
    assert [reading.test for reading in found.breaches] == [guardrail]
    assert found.unproven == (guardrail,)


def test_thresholds_are_the_budgets() -> None:
    """Evidence just under one over the budget is none; suspicion begins long before."""
    found = assess(counters(0.01, bad={"errors": (3, 30)}), STAGES, tolerated=2)
    reading = found.readings[0]
    assert reading.threshold == pytest.approx(log(250))
    assert log(10) < reading.log_e < log(250)
    assert (found.breaches, found.suspicious) == ((), (reading,))


def test_total_outage_takes_few() -> None:
    """At every stage five treated users are enough, while the control fails as rarely as ever."""
    for share in STAGES[:3]:
        found = assess(counters(share, bad={"errors": (5, 0)}), STAGES, tolerated=2)
        assert [reading.test for reading in found.breaches] == ["errors"], share


def test_outage_of_both_arms_proves_nothing() -> None:
    """Everybody fails: in the proportion of the share."""
    assert assess(counters(0.1, bad={"errors": (1000, 9000)}), STAGES, tolerated=2).suspicious == ()


def test_ranks_breach() -> None:
    """First tokens of the highest rank, at treated users alone."""
    found = assess(counters(0.1, ranks=(8, 0)), STAGES, tolerated=2)
    assert [reading.test for reading in found.breaches] == ["ttft_rank"]
    assert "latency_rank" not in {reading.test for reading in found.suspicious}


def test_harm_that_begins_late_is_seen() -> None:
    """After a long healthy beginning: the plain e-process would still be below one."""
    splits = [Split(0.1, 60, 540), Split(0.25, 25, 6)]
    found = assess(Counters(first_bad={"errors": splits}), STAGES, tolerated=2)
    assert log_e(splits) < log(250)
    assert [reading.test for reading in found.breaches] == ["errors"]
    assert found.readings[0].log_e == restarting(on_harm, splits, STAGES[:-1])


def test_everybody_treated_proves_nothing() -> None:
    """At 100 % there is nobody to compare with, before the first stage nobody to judge."""
    ranks = RankSplit(1.0, (5,) * RANKS, (3,) * RANKS)
    bad = [Split(1.0, 500, 30), Split(0.0, 0, 500)]
    found = assess(Counters({"errors": bad}, {"ttft": [ranks]}, bad), STAGES, tolerated=2)
    assert [reading.log_e for reading in found.readings] == [pytest.approx(0)] * 6
    assert not found.ratio_broken


def test_broken_ratio() -> None:
    """12 % of many users where 10 % should be treated, in any stage."""
    sound, broken = Split(0.05, 500, 9500), Split(0.1, 2400, 17600)
    unlikely = Split(0.1, 1140, 8860)
    assert log(1000) < log_e_share(unlikely) < log(6000)
    assert not assess(Counters(exposed=[unlikely]), STAGES, tolerated=2).ratio_broken
    assert not assess(Counters(exposed=[sound]), STAGES, tolerated=2).ratio_broken
    assert assess(Counters(exposed=[sound, broken]), STAGES, tolerated=2).ratio_broken

"""How long a rollout is said to take."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from statistics import NormalDist

import pytest

from lib.control.anytime import RANKS
from lib.control.forecast import plan
from lib.control.guardrails import Baseline, Frozen
from lib.control.rollout import Params

NORMAL = NormalDist()


def frozen(centre: float, spread: float, upto: float) -> Frozen:
    """The quantiles of lognormal values."""
    cuts = tuple(exp(centre + spread * NORMAL.inv_cdf(cut / RANKS)) for cut in range(1, RANKS))
    return Frozen(exp(centre + spread * NORMAL.inv_cdf(upto)), cuts)


BASELINE = Baseline(500, 0.01, frozen(6, 0.5, 0.95), frozen(8, 0.5, 0.95), frozen(4, 0.6, 0.9))


def test_plan_says_how_long_it_takes() -> None:
    """Near the medians that the benchmark measures: some 500 treated users for errors 1 to 3 %, 60 to 70 for +30 %."""
    told = plan(BASELINE, Params(), 20_000)
    errors, times, cost = told["harms"]
    assert [harm["harm"] for harm in told["harms"]] == ["+2 points of errors", "+30 % latency", "+20 % cost"]
    assert 400 <= errors["treated"] <= 600
    assert 50 <= times["treated"] <= 80
    assert 350 <= cost["treated"] <= 650
    assert all(harm["share"] == 0.01 for harm in told["harms"])
    # At 1 % of 20,000 users a day, 200 are treated; the baseline comes before.
    assert errors["days"] == pytest.approx(errors["treated"] / 200 + 500 / 20_000, rel=0.02)
    assert errors["days_late"] > 2 * errors["days"]
    assert told["days_to_done"] > errors["days"]


def test_ten_times_the_traffic_takes_a_tenth() -> None:
    """Where users decide, and not the dwell time."""
    params = Params(dwell_s=1)
    slow, fast = plan(BASELINE, params, 2_000), plan(BASELINE, params, 20_000)
    assert slow["days_to_done"] == pytest.approx(10 * fast["days_to_done"], rel=0.05)
    assert slow["harms"][0]["days"] == pytest.approx(10 * fast["harms"][0]["days"], rel=0.05)


def test_dwell_time_is_waited_for() -> None:
    """A site with any number of users still takes the time of six stages."""
    told = plan(BASELINE, Params(dwell_s=3600), 50_000_000)
    assert 6 <= told["days_to_done"] * 24 < 7


def test_small_site_is_told_the_truth() -> None:
    """Thirty users a day, a treated one every three days: more than a year, for all of it."""
    told = plan(BASELINE, Params(), 30)
    assert told["days_to_done"] is None
    assert [harm["days"] for harm in told["harms"][::2]] == [None, None]


def test_higher_first_stage_helps_a_small_site() -> None:
    """Which is what such a site will want to change."""
    usual, bold = plan(BASELINE, Params(), 300), plan(BASELINE, Params(stages=(0.1, 0.25, 0.5, 1.0)), 300)
    assert bold["harms"][0]["days"] < usual["harms"][0]["days"] / 5


def test_figures_without_spread_have_no_shift() -> None:
    """Where all costs are alike, or nothing costs anything, no rise can be foreseen, and nothing breaks."""
    told = plan(replace(BASELINE, cost=Frozen(0.0, (0.0,) * 15)), Params(), 20_000)
    assert told["harms"][2]["days"] is None

"""Estimates and their intervals: against closed forms, and against made-up users whose truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import erfc, exp, inf, log2, sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.control.statistics import (
    Estimate,
    Sums,
    bucket,
    chi_square_tail,
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

RUNS = 2000


def seeded(seed: int) -> Random:
    """Chance that can be had again."""
    return Random(seed)  # noqa: S311 - a simulation


def holds(interval: Estimate | None, truth: float) -> bool:
    """Whether the truth lies inside."""
    assert interval is not None
    return interval.low <= truth <= interval.high


def added(x: NDArray[np.float64], y: NDArray[np.float64]) -> Sums:
    """As `sums`, of arrays."""
    return Sums(len(x), *(float(each.sum()) for each in (x, y, x * x, x * y, y * y)))


def test_ratio_of_one_request_each_is_the_textbook_mean() -> None:
    """With one request per user the delta method is the mean with its standard error."""
    values = [3.0, 5.0, 7.0, 13.0]
    interval = ratio(sums((value, 1.0) for value in values))
    error = sqrt(sum((value - 7) ** 2 for value in values) / 3 / 4)
    assert interval is not None
    assert interval.value == 7
    assert interval.high - 7 == pytest.approx(1.959963984540054 * error)
    assert 7 - interval.low == pytest.approx(1.959963984540054 * error)


def test_difference_of_ratios_adds_the_variances() -> None:
    """Arms are independent."""
    one, other = sums([(4, 1), (6, 2), (9, 2)]), sums([(1, 1), (2, 1), (2, 3), (5, 2)])
    first, second, apart = ratio(one), ratio(other), ratio_difference(one, other)
    assert first is not None
    assert second is not None
    assert apart is not None
    assert apart.value == pytest.approx(first.value - second.value)
    assert (apart.high - apart.value) ** 2 == pytest.approx(
        (first.high - first.value) ** 2 + (second.high - second.value) ** 2
    )


def test_ratio_counts_users_not_requests() -> None:
    """A user who asks ten times as often the same is no more evidence."""
    once, often = sums([(0, 1), (1, 1), (0, 1), (1, 1)]), sums([(0, 10), (10, 10), (0, 10), (10, 10)])
    assert ratio(once) == ratio(often)


def test_nothing_is_known_of_nobody() -> None:
    """No users, or none that used anything: no figure. One user: a figure without bounds."""
    empty = sums([])
    assert (ratio(empty), proportion(empty), ratio_difference(empty, empty)) == (None, None, None)
    assert proportion_difference(sums([(1, 2)]), empty) is None
    assert ratio(sums([(0.0, 0.0)])) is None
    assert ratio(sums([(6.0, 2.0)])) == Estimate(3.0, -inf, inf)
    assert quantile_differences([{}], [{1: 1}], [0.5], seeded(0)) is None


def test_proportion_of_independent_requests_is_wilsons() -> None:
    """Wilson's published example shape: 10 of 20 gives 0.299 to 0.701."""
    interval = proportion(Sums(20, 10, 20, 10, 10, 20))
    assert interval is not None
    # The variance between users is estimated with n - 1, so that 19 requests are left of 20.
    z2 = 1.959963984540054**2
    half = 1.959963984540054 / (1 + z2 / 19) * sqrt(0.25 / 19 + z2 / (4 * 19**2))
    assert (interval.low, interval.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert interval.low == pytest.approx(0.299, abs=0.01)


def test_no_failure_yet_is_no_certainty() -> None:
    """No failure of 100 users may be 3.7 %; and it counts users, however much each asks."""
    interval = proportion(sums((0.0, 50.0) for _ in range(100)))
    apart = proportion_difference(sums((0.0, 1.0) for _ in range(100)), sums((0.0, 1.0) for _ in range(100)))
    assert interval is not None
    assert apart is not None
    assert (interval.value, interval.low, interval.high) == (0, 0, pytest.approx(0.03699, abs=1e-5))
    assert (apart.value, apart.low, apart.high) == (0, -interval.high, interval.high)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_proportion_stays_between_0_and_1(counts: Sequence[tuple[int, int]]) -> None:
    """The interval lies in [0, 1] and holds the value, whatever users did."""
    of = sums((float(min(pair)), float(max(pair))) for pair in counts)
    interval = proportion(of)
    assert (interval is None) is (of.y == 0)
    if interval is not None:
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1e3)), min_size=2, max_size=30))
def test_ratio_has_a_sane_interval(pairs: Sequence[tuple[float, float]]) -> None:
    """It holds its own value and swaps its sign with the arms."""
    one, other = sums(pairs), sums((x + 1, y) for x, y in pairs)
    there, back = ratio_difference(one, other), ratio_difference(other, one)
    assert there is not None
    assert back is not None
    assert there.low <= there.value <= there.high
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))


@pytest.mark.parametrize(
    ("statistic", "freedom"), [(3.8414588, 1), (5.9914645, 2), (7.8147279, 3), (9.4877290, 4), (11.0704977, 5)]
)
def test_chi_square_has_its_tabled_tails(statistic: float, freedom: int) -> None:
    """The 5 % points of every table."""
    assert chi_square_tail(statistic, freedom) == pytest.approx(0.05, rel=1e-6)


@given(st.floats(0, 500))
def test_chi_square_has_its_closed_forms(statistic: float) -> None:
    """One degree is a squared normal, two an exponential, none a certainty."""
    assert chi_square_tail(statistic, 1) == pytest.approx(erfc(sqrt(statistic / 2)))
    assert chi_square_tail(statistic, 2) == pytest.approx(exp(-statistic / 2))
    assert chi_square_tail(statistic, 0) == 1


def test_sample_ratio() -> None:
    """As told it is likely, far from it is not; shares are relative, and no users are no evidence."""
    assert sample_ratio_p([500, 500], [1, 1]) == 1
    assert sample_ratio_p([400, 300, 300], [0.4, 0.3, 0.3]) == 1
    # Pearson by hand: 60² / 5000 + 60² / 5000.
    assert sample_ratio_p([5060, 4940], [0.5, 0.5]) == pytest.approx(erfc(sqrt(1.44 / 2)))
    assert sample_ratio_p([5300, 4700], [0.5, 0.5]) < 0.001
    assert sample_ratio_p([0, 0, 0], [0.4, 0.3, 0.3]) == 1


@given(st.floats(1e-6, 1e9))
def test_bucket_is_a_sixteenth_of_an_octave(value: float) -> None:
    """A value lies between its bucket's borders, which are 4.4 % apart."""
    number = bucket(value)
    assert 2 ** (number / 16) <= value * (1 + 1e-12)
    assert value <= 2 ** ((number + 1) / 16) * (1 + 1e-12)


def test_bucket_of_next_to_nothing_is_the_lowest() -> None:
    """As SQL's log_bucket has it."""
    assert bucket(0) == bucket(1e-9) == bucket(1e-6)


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_histogram_quantile_is_within_a_bucket(values: list[float], probability: float) -> None:
    """The value that it tells is off by a bucket's width at most from one that has this part at or below it."""
    values.sort()
    exact = values[max(0, -int(-probability * len(values) // 1) - 1)]
    told = histogram_quantile(Counter(map(bucket, values)), probability)
    assert told is not None
    assert abs(log2(told / exact)) <= 1 / 16 + 1e-9


def test_histograms_merge() -> None:
    """Counts add up; an empty one has no quantile."""
    assert merged([{1: 2, 5: 1}, {}, {5: 4}]) == {1: 2, 5: 5}
    assert histogram_quantile({}, 0.5) is None
    assert histogram_quantile({3: 0}, 0.5) is None


def heavy_users(rng: np.random.Generator, users: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each user asked, and how bad its line is: some ask much, and the same ones fail again and again."""
    requests = rng.poisson(rng.gamma(2, 1.5, users)) + 1
    return requests.astype(np.float64), rng.beta(2, 18, users)


def test_intervals_cover_as_often_as_they_say() -> None:
    """Of 2,000 seeded experiments with several correlated requests per user, 94 to 96 % hold the truth."""
    rng = np.random.default_rng(20261122)
    covered: Counter[str] = Counter()
    for _ in range(RUNS):
        arms: list[tuple[Sums, Sums]] = []
        for lift in (1.2, 1.0):
            requests, line = heavy_users(rng, 600)
            failed = rng.binomial(requests.astype(int), line).astype(float)
            # A user's requests cost alike: the sum of `requests` gamma values of a user's own scale.
            cost = rng.gamma(requests * 2, 0.5 * lift * rng.gamma(8, 1 / 8, 600))
            arms.append((added(failed, requests), added(cost, requests)))
        (failures, costs), (other_failures, other_costs) = arms
        covered["error rate"] += holds(proportion(failures), 0.1)
        covered["errors apart"] += holds(proportion_difference(failures, other_failures), 0.0)
        covered["cost"] += holds(ratio(costs), 1.2)
        covered["cost apart"] += holds(ratio_difference(costs, other_costs), 0.2)
    assert {name: 0.94 <= times / RUNS <= 0.96 for name, times in covered.items()} == dict.fromkeys(covered, True), (
        covered
    )


def test_requests_for_users_would_not_cover() -> None:
    """The same figures with requests taken for users: the intervals are too narrow, which is what the unit is for."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        requests, line = heavy_users(rng, 600)
        line = line**2 * 10
        failed = float(rng.binomial(requests.astype(int), np.minimum(line, 1)).sum())
        asked = float(requests.sum())
        covered += holds(proportion(Sums(int(asked), failed, asked, failed, failed, asked)), 10 * (2 * 3) / (20 * 21))
    assert covered / 300 < 0.9


def bootstrapped(runs: int, users: int) -> Counter[str]:
    """How often the difference of quantiles between a slow arm and another is held, in so many experiments."""
    rng = np.random.default_rng(77)
    covered: Counter[str] = Counter()
    for run in range(runs):
        arms: list[list[Counter[int]]] = []
        for lift in (0.2, 0.0):
            own = rng.normal(6 + lift, 0.3, users)
            arms.append(
                [Counter(map(bucket, np.exp(mean + rng.normal(0, 0.4, 1 + rng.poisson(2))).tolist())) for mean in own]
            )
        found = quantile_differences(arms[0], arms[1], (0.5, 0.95), seeded(run))
        assert found is not None
        # Lognormal with variance 0.3² + 0.4² = 0.5² in logarithms.
        for estimate, name, score in zip(found, ("p50", "p95"), (0.0, 1.6448536269514722), strict=True):
            covered[name] += holds(estimate, exp(6.2 + 0.5 * score) - exp(6 + 0.5 * score))
    return covered


def test_bootstrap_holds_the_difference_of_quantiles() -> None:
    """Nearly always in a few seeded experiments: 95 % would have 38 of 40, 34 is three deviations below."""
    assert min(bootstrapped(40, 80).values()) >= 34


@pytest.mark.slow
def test_bootstrap_covers_as_often_as_it_says() -> None:
    """Of 200 seeded experiments with several requests per user, 91 to 99 %: 95 % and three deviations of chance."""
    covered = bootstrapped(200, 250)
    assert all(0.91 <= times / 200 <= 0.99 for times in covered.values()), covered


def test_bootstrap_follows_its_seed() -> None:
    """The same chance gives the same interval, another one another."""
    rng = seeded(3)
    arms = [[Counter([rng.randrange(90, 130) for _ in range(4)]) for _ in range(300)] for _ in range(2)]
    one, same, other = (quantile_differences(arms[0], arms[1], (0.5,), seeded(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other

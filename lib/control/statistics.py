"""Estimates with 95 % intervals, for figures that users bring several of: the unit is always the user. Pure, no numpy.

Requests of one user are alike, so their number is not the number of observations: all variances here are between users.
For intervals that hold at a time fixed beforehand; to look whenever one likes there is lib/control/anytime.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import erfc, exp, floor, inf, log2, pi, sqrt
from operator import mul
from typing import Protocol

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
PER_OCTAVE = 16
"""Buckets of a histogram per doubling: a value is known to 4.4 %."""
LOWEST = 1e-6
"""Values below share the lowest bucket, as in SQL's `log_bucket`."""
BLOCKS = 200
RESAMPLES = 500

Histogram = Mapping[int, int]
"""How many values lie in each bucket: see `bucket`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sums:
    """What a ratio of sums over users needs to be known, with its variance: n, Σx, Σy, Σx², Σxy, Σy²."""

    users: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0


class Chance(Protocol):
    """Where chance comes from: `random.Random` is one."""

    def choices(self, population: Sequence[int], *, k: int) -> list[int]:
        """K of them, each as likely, with replacement."""
        ...

    def sample(self, population: Sequence[int], k: int) -> list[int]:
        """K of them in random order, without replacement."""
        ...


def sums(pairs: Iterable[tuple[float, float]]) -> Sums:
    """From each user's x (its cost, its failures) and y (its requests, its tokens)."""
    users, x, y, xx, xy, yy = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for one, other in pairs:
        users += 1
        x, y = x + one, y + other
        xx, xy, yy = xx + one * one, xy + one * other, yy + other * other
    return Sums(users, x, y, xx, xy, yy)


def ratio(of: Sums) -> Estimate | None:
    """Σx / Σy, such as the mean cost of a request; None without any y.

    The interval is the delta method's: with residuals x_i - R y_i of n users, Var R = n/(n-1) Σ residuals² / (Σy)²
    (Deng, Knoblich, Lu, "Applying the delta method in metric analytics", 2018). One user has no variance: then it is
    as wide as the figure is unknown, that is without bounds.
    """
    if of.y <= 0:
        return None
    return _around(of.x / of.y, _variance(of))


def ratio_difference(treated: Sums, control: Sums) -> Estimate | None:
    """How much higher the treated arm's ratio is."""
    if treated.y <= 0 or control.y <= 0:
        return None
    return _around(treated.x / treated.y - control.x / control.y, _variance(treated) + _variance(control))


def proportion(of: Sums) -> Estimate | None:
    """Σx / Σy where x counts some of y, such as failed requests: between 0 and 1; None without any y.

    Wilson's interval (1927) for as many independent requests as would vary like these do between users (Kish's
    effective sample size). Unlike the delta method's it is none of width 0 where nothing failed yet: there every
    user counts as one request.
    """
    if of.y <= 0:
        return None
    value = min(of.x / of.y, 1.0)
    variance = _variance(of)
    size = min(value * (1 - value) / variance, of.y) if 0 < variance < inf and 0 < value < 1 else of.users
    centre = (value + Z95**2 / (2 * size)) / (1 + Z95**2 / size)
    half = Z95 / (1 + Z95**2 / size) * sqrt(value * (1 - value) / size + (Z95 / (2 * size)) ** 2)
    return Estimate(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def proportion_difference(treated: Sums, control: Sums) -> Estimate | None:
    """How much higher the treated arm's proportion is: from both intervals, by Newcombe's method 10 (1998)."""
    one, other = proportion(treated), proportion(control)
    if one is None or other is None:
        return None
    value = one.value - other.value
    low = value - sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    return Estimate(value, low, value + sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2))


def sample_ratio_p(users: Sequence[int], shares: Sequence[float]) -> float:
    """How likely users spread over the arms at least as unlike the shares as they did: Pearson's chi-square test.

    `shares` are above 0 and need not add up to 1. A p-value below 0.001 says that the assignment, or the record of
    it, is broken, and that no figure of the experiment is to be trusted. 1 without any users.
    """
    total, whole = sum(users), sum(shares)
    if not total:
        return 1.0
    expected = [total * share / whole for share in shares]
    statistic = sum((seen - told) ** 2 / told for seen, told in zip(users, expected, strict=True))
    return chi_square_tail(statistic, len(users) - 1)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(chi-square >= statistic), exact: a finite sum for whole degrees of freedom (Abramowitz, Stegun, 26.4)."""
    if freedom == 0:
        return 1.0
    half = statistic / 2
    tail, term, degrees = (exp(-half), exp(-half), 2) if freedom % 2 == 0 else (erfc(sqrt(half)), 0.0, 1)
    while degrees < freedom:
        # From one degree the first term is half^(1/2) e^-half / gamma(3/2).
        term = term * half / (degrees / 2) if degrees > 1 else 2 * sqrt(half / pi) * exp(-half)
        tail, degrees = tail + term, degrees + 2
    return min(1.0, tail)


def bucket(value: float) -> int:
    """The bucket of a value: floor(16 log2 value)."""
    return floor(PER_OCTAVE * log2(max(value, LOWEST)))


def histogram_quantile(histogram: Histogram, probability: float) -> float | None:
    """The value that this part (above 0) of all lies below; None without values.

    Off by a sixteenth of an octave (4.4 %) at worst: within its bucket it is interpolated along logarithms.
    """
    present = sorted(number for number, count in histogram.items() if count)
    if not present:
        return None
    upto = list(accumulate(histogram[number] for number in present))
    return _quantile(present, upto.__getitem__, probability)


def merged(histograms: Iterable[Histogram]) -> dict[int, int]:
    """All values in one histogram."""
    whole: dict[int, int] = {}
    for histogram in histograms:
        for number, count in histogram.items():
            whole[number] = whole.get(number, 0) + count
    return whole


def quantile_differences(
    treated: Sequence[Histogram],
    control: Sequence[Histogram],
    probabilities: Sequence[float],
    chance: Chance,
    *,
    resamples: int = RESAMPLES,
) -> list[Estimate] | None:
    """How much higher each quantile of the treated arm is; None where an arm has no values.

    One histogram per user. The interval holds the middle 95 % of the differences of resampled arms (percentile
    bootstrap), in which users are drawn with all their values. More than 200 users are first put into 200 blocks at
    random, which are drawn instead: blocks are as independent as users are, and the work does not grow with traffic.
    """
    arms = [_blocks([user for user in users if any(user.values())], chance) for users in (treated, control)]
    if not all(arms):
        return None
    whole = [_resampled(arm, [[1] * len(arm)], probabilities)[0] for arm in arms]
    one, other = (_resampled(arm, (_drawn(len(arm), chance) for _ in range(resamples)), probabilities) for arm in arms)
    found: list[Estimate] = []
    for index in range(len(probabilities)):
        apart = sorted(more[index] - less[index] for more, less in zip(one, other, strict=True))
        value = whole[0][index] - whole[1][index]
        found.append(Estimate(value, _middle(apart, 0.025), _middle(apart, 0.975)))
    return found


def _around(value: float, variance: float) -> Estimate:
    half = Z95 * sqrt(variance)
    return Estimate(value, value - half, value + half)


def _variance(of: Sums) -> float:
    if of.users < 2:  # noqa: PLR2004 - no variance of one
        return inf
    value = of.x / of.y
    residuals = max(0.0, of.xx - 2 * value * of.xy + value * value * of.yy)
    return of.users / (of.users - 1) * residuals / of.y**2


def _blocks(users: Sequence[Histogram], chance: Chance) -> list[Histogram]:
    if len(users) <= BLOCKS:
        return list(users)
    order = chance.sample(range(len(users)), len(users))
    return [merged(users[index] for index in order[block::BLOCKS]) for block in range(BLOCKS)]


def _drawn(blocks: int, chance: Chance) -> list[int]:
    times = [0] * blocks
    for block in chance.choices(range(blocks), k=blocks):
        times[block] += 1
    return times


def _resampled(
    blocks: Sequence[Histogram], draws: Iterable[Sequence[int]], probabilities: Sequence[float]
) -> list[list[float]]:
    """The quantiles of each draw; how often each block is in it is a draw."""
    present = sorted(merged(blocks))
    # How many values of each block lie in a bucket or below: a quantile's bucket is then found by bisection.
    counted = [list(accumulate(block.get(number, 0) for number in present)) for block in blocks]
    upto = list(zip(*counted, strict=True))
    found: list[list[float]] = []
    for times in draws:
        reached = partial(_added, upto, times)
        found.append([_quantile(present, reached, probability) for probability in probabilities])
    return found


def _added(upto: Sequence[Sequence[int]], times: Sequence[int], index: int) -> int:
    return sum(map(mul, times, upto[index]))


def _quantile(present: Sequence[int], reached: Callable[[int], int], probability: float) -> float:
    """By how many values lie in the bucket of an index or below; probability is above 0."""
    wanted = probability * reached(len(present) - 1)
    index = bisect_left(range(len(present)), wanted, key=reached)
    below = reached(index - 1) if index else 0
    return 2 ** ((present[index] + (wanted - below) / (reached(index) - below)) / PER_OCTAVE)


def _middle(values: Sequence[float], probability: float) -> float:
    """Of sorted values, between the two that are nearest."""
    place = probability * (len(values) - 1)
    below = floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)

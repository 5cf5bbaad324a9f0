"""Tests that one may look at as often as one likes: e-processes over who was hit first. Pure.

An e-process is a running product that a true null hypothesis expects to stay at 1 or fall. By Ville's inequality it
ever reaches 1/alpha with a chance of alpha at most, however often it is looked at and whenever one stops (Ramdas,
Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023). No normal approximation:
that fails where events are few and skewed.

The unit is a user's *first* event. Arms are drawn by a hash of the user, so if the arm makes no difference, whoever is
hit is a treated one with a chance of exactly the share then in force, whatever the base rate and whatever befalls both
arms together. A second event of the same user would come from the same arm again, and prove nothing.

All figures are natural logarithms: evidence of e^800 is common and no float.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, fsum, inf, lgamma, log, log1p
from operator import mul
from statistics import NormalDist
from typing import Protocol, TypeVar

HARM = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)
"""By how much the odds may have grown: one bet on each, all with the same stake."""
SAFE = (1.0, 0.75, 0.5, 0.25)
"""What is bet on, when harm of a given size is to be ruled out."""
BENEFIT = tuple(1 / ratio for ratio in HARM)
RANKS = 16
SHIFTS = (0.2, 0.4, 0.7, 1.0, 1.5)
"""By how many standard deviations of the control the treated ones may lie higher, in a normal scale of ranks."""
PRIOR_USERS = 1000
"""How firmly the sample ratio's bet believes in the share it was told: as firmly as if so many users had shown it."""
FROM_THE_BEGINNING = 0.8
"""The stake on a difference that is there from the beginning; the rest is on one that begins with a later share."""

_NORMAL = NormalDist()
_SCORES = tuple(_NORMAL.inv_cdf((rank + 0.5) / RANKS) for rank in range(RANKS))
_WEIGHTS = tuple(tuple(exp(shift * score - shift**2 / 2) for score in _SCORES) for shift in SHIFTS)


@dataclass(frozen=True, slots=True)
class Split:
    """Users whose first event came while this share was in force (above 0, up to 1), by arm."""

    share: float
    treated: int = 0
    control: int = 0


@dataclass(frozen=True, slots=True)
class RankSplit:
    """Users whose first value came while this share was in force, by arm, counted by rank (see `rank`): 16 and 16."""

    share: float
    treated: tuple[int, ...]
    control: tuple[int, ...]


class Shared(Protocol):
    """Counts that were made while a share was in force."""

    @property
    def share(self) -> float:
        """From above 0 to 1."""
        ...


Counts = TypeVar("Counts", bound=Shared)


def log_e(splits: Sequence[Split], *, tolerated: float = 1.0, bets: Sequence[float] = HARM) -> float:
    """The evidence against "a treated user's odds of an event are at most `tolerated` times a control user's".

    With `bets` below `tolerated` it is the reversed martingale: the evidence against "at least `tolerated` times".
    Each bet r is the likelihood ratio of odds ratio r to odds ratio `tolerated`; the bets are averaged.
    """
    return _averaged([_odds_bets(split, tuple(bets), tolerated) for split in splits])


def log_e_safe(splits: Sequence[Split], *, tolerated: float) -> float:
    """The evidence against "the odds have grown `tolerated`-fold, or more": for going on."""
    return log_e(splits, tolerated=tolerated, bets=SAFE)


def log_e_rank(splits: Sequence[RankSplit]) -> float:
    """The evidence against "treated values are no higher than those of the control", from each user's first value.

    A value is its rank in a frozen sample of the control, on a normal scale; the bet on a shift by t weighs rank k with
    exp(t z_k - t²/2). Any weights would be fair, since arms are drawn without regard to values; these are the strongest
    where logarithms of values are normal, as those of latencies nearly are.
    """
    return _averaged([on_ranks(split) for split in splits])


def on_harm(split: Split) -> list[float]:
    """What each bet of `log_e` on HARM has won with these users; logarithms."""
    return _odds_bets(split, HARM, 1.0)


def on_ranks(split: RankSplit) -> list[float]:
    """What each bet of `log_e_rank` has won with these users; logarithms."""
    return [
        fsum(map(mul, split.treated, treated)) + fsum(map(mul, split.control, control))
        for treated, control in _rank_factors(split.share)
    ]


def log_e_share(split: Split) -> float:
    """The evidence against "users come to the treated arm with the chance that the share says"; 0 where it is 0 or 1.

    Counts each user once. The bet is on any other share, by a beta distribution around the one that was told.
    """
    share, treated, control = split.share, split.treated, split.control
    if not 0 < share < 1:
        return 0.0
    a, b = PRIOR_USERS * share, PRIOR_USERS * (1 - share)
    told = treated * log(share) + control * log1p(-share)
    return _log_beta(a + treated, b + control) - _log_beta(a, b) - told


def restarting(bets: Callable[[Counts], Sequence[float]], splits: Sequence[Counts], starts: Sequence[float]) -> float:
    """The evidence that also notices what begins later: the mean of e-processes begun at each of these shares.

    `bets` is `on_harm` or `on_ranks`: what the bets have won with the users of one share.

    An e-process that has seen a healthy beginning is deep below 1, and would take as long to come back. So a part of
    the stake waits for each share in `starts` but the lowest, and bets from then on alone. The stakes are fixed
    beforehand, so the mean is an e-process as well; for what was there from the beginning it costs log(1/0.8) = 0.22.
    """
    later = sorted(starts)[1:]
    won = [(split.share, bets(split)) for split in splits]
    whole = _averaged([each for _, each in won])
    if not later:
        return whole
    stake = log((1 - FROM_THE_BEGINNING) / len(later))
    since = [stake + _averaged([each for share, each in won if share >= start]) for start in later]
    return _log_sum_exp([log(FROM_THE_BEGINNING) + whole, *since])


def rank(value: float, cuts: Sequence[float]) -> int:
    """Which of the 16 ranks a value has, by the 15 rising values that cut a frozen sample into equal parts.

    As PostgreSQL's `width_bucket(value, cuts)`: the number of cuts at or below it.
    """
    return bisect_right(cuts, value)


def log_mean_exp(logs: Sequence[float]) -> float:
    """The logarithm of the mean of what these are the logarithms of."""
    return _log_sum_exp(logs) - log(len(logs))


def _log_sum_exp(logs: Sequence[float]) -> float:
    highest = max(logs)
    return highest if highest == -inf else highest + log(fsum(exp(each - highest) for each in logs))


def _averaged(won: Sequence[Sequence[float]]) -> float:
    """The mean of the bets, each over all shares: a row for each share, a column for each bet."""
    return log_mean_exp([fsum(bet) for bet in zip(*won, strict=True)]) if won else 0.0


def _odds_bets(split: Split, bets: tuple[float, ...], tolerated: float) -> list[float]:
    users, treated = split.treated + split.control, split.treated
    return [users * norm + treated * ratio for norm, ratio in _odds_factors(split.share, bets, tolerated)]


@lru_cache(maxsize=512)
def _odds_factors(share: float, bets: tuple[float, ...], tolerated: float) -> tuple[tuple[float, float], ...]:
    """What any user, and what a treated one on top, multiply each bet by; logarithms."""
    # The first is what the arms' chances are divided by, written so that a share of 1 is no special case.
    return tuple(
        (log((share * tolerated + 1 - share) / (share * ratio + 1 - share)), log(ratio / tolerated)) for ratio in bets
    )


@lru_cache(maxsize=512)
def _rank_factors(share: float) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    """What a treated and what a control user of each rank multiply each bet by; logarithms."""
    norms = [[log(share * weight + 1 - share) for weight in weights] for weights in _WEIGHTS]
    return tuple(
        (
            tuple(log(weight) - norm for weight, norm in zip(weights, norms_of, strict=True)),
            tuple(-norm for norm in norms_of),
        )
        for weights, norms_of in zip(_WEIGHTS, norms, strict=True)
    )


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)

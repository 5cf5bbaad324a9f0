"""Made-up users, by whom rollouts are tried: single requests by the thousand, or people who come back and differ."""

# numpy's stubs leave the overloads of its functions half unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lib.control.anytime import RANKS, RankSplit, Split
from lib.control.guardrails import Baseline, Counters, Frozen

Array: TypeAlias = NDArray[Any]

NORMAL = NormalDist()
TTFT, TOTAL, COST = 0, 1, 2
CENTRES = np.array([6.0, 8.0, 4.0])
SPREADS = np.array([0.5, 0.5, 0.6])
"""Of the logarithms of time to first token, total time and cost."""
QUANTILES = (0.95, 0.95, 0.90)
BAD = ("errors", "ttft", "latency", "cost")


@dataclass(frozen=True)
class Candidate:
    """What the treated arm does otherwise: its error rate is multiplied, times and cost too."""

    errors: float = 1.0
    ttft: float = 1.0
    latency: float = 1.0
    cost: float = 1.0

    @property
    def shifts(self) -> Array:
        """In logarithms, by figure."""
        return np.log(np.array([self.ttft, self.latency, self.cost]))


HEALTHY = Candidate()


class Tally:
    """What SQL would have counted: users with a first bad event, first values by rank, users seen; by share and arm."""

    def __init__(self) -> None:
        self.bad: dict[float, Array] = {}
        self.ranks: dict[float, Array] = {}
        self.seen: dict[float, Array] = {}
        self.treated = 0
        self.treated_bad = 0

    def add(self, share: float, bad: Array, ranks: Array, seen: Sequence[int]) -> None:
        """Of one look: bad as [guardrail, arm], ranks as [timing, arm, rank], seen by arm; arm 0 is treated."""
        for kept, new in ((self.bad, bad), (self.ranks, ranks), (self.seen, np.asarray(seen))):
            kept[share] = kept[share] + new if share in kept else new

    def counters(self) -> Counters:
        """As the machine wants them."""
        first_bad: Mapping[Any, list[Split]] = {
            name: [Split(share, *counts[index].tolist()) for share, counts in self.bad.items()]
            for index, name in enumerate(BAD)
        }
        ranks: Mapping[Any, list[RankSplit]] = {
            name: [RankSplit(share, *map(tuple, counts[index].tolist())) for share, counts in self.ranks.items()]
            for index, name in enumerate(("ttft", "latency"))
        }
        return Counters(first_bad, ranks, [Split(share, *counts.tolist()) for share, counts in self.seen.items()])


def frozen(rng: np.random.Generator, requests: int = 500) -> Baseline:
    """A baseline as a site has it: quantiles of so many requests, with their error."""
    values = np.exp(CENTRES[:, None] + SPREADS[:, None] * rng.standard_normal((3, requests)))
    figures = [
        Frozen(float(np.quantile(each, upto)), tuple(np.quantile(each, np.arange(1, RANKS) / RANKS).tolist()))
        for each, upto in zip(values, QUANTILES, strict=True)
    ]
    return Baseline(requests, 0.01, *figures)


class Singles:
    """Users with one request each, drawn by the number: for tests whose truth is a rate per user."""

    def __init__(self, rng: np.random.Generator, candidate: Candidate, error_rate: float) -> None:
        self.rng, self.tally, self.baseline = rng, Tally(), frozen(rng)
        self.becomes(candidate, error_rate)

    def becomes(self, candidate: Candidate, error_rate: float) -> None:
        """From now on the candidate is so."""
        kept = (self.baseline.ttft, self.baseline.latency, self.baseline.cost)
        self.bad = np.empty((4, 2))
        self.ranks = np.empty((2, 2, RANKS))
        for arm, each in enumerate((candidate, HEALTHY)):
            odds = error_rate / (1 - error_rate) * each.errors
            self.bad[0, arm] = odds / (1 + odds)
            for figure, of in enumerate(kept):
                centre, spread = CENTRES[figure] + each.shifts[figure], SPREADS[figure]
                self.bad[1 + figure, arm] = 1 - NORMAL.cdf((log(of.threshold) - centre) / spread)
                if figure < COST:
                    upto = [NORMAL.cdf((log(cut) - centre) / spread) for cut in of.cuts]
                    self.ranks[figure, arm] = np.diff([0.0, *upto, 1.0])

    def look(self, share: float, users: int) -> Tally:
        """So many more users came."""
        treated = int(self.rng.binomial(users, share))
        seen = np.array([treated, users - treated])
        bad = self.rng.binomial(seen, self.bad)
        ranks = self.rng.multinomial(np.broadcast_to(seen, (2, 2)), self.ranks)
        self.tally.add(share, bad, ranks, seen.tolist())
        self.tally.treated += treated
        self.tally.treated_bad += int(bad[0, 0])
        return self.tally


class People:
    """Users who differ and come back: some fail often, some are slow, each asks several times, and all share a drift.

    Who is treated stays treated (the arm is a hash of the user, below the share). The drift, slower days and an outage,
    is common to both arms. Latency and cost of a user's requests are alike: half of their variance is the user's.
    `requests` and `failed` count requests by arm, for rules that go by them; `by_request` bad ones by share.
    """

    BACK = 0.3
    MOST = 400_000

    def __init__(self, rng: np.random.Generator, candidate: Candidate, error_rate: float) -> None:
        self.rng, self.candidate, self.error_rate = rng, candidate, error_rate
        self.tally, self.baseline = Tally(), frozen(rng)
        self.known = 0
        self.hash = rng.random(self.MOST, dtype=np.float32)
        self.frail = rng.gamma(0.3, 1 / 0.3, self.MOST).astype(np.float32)
        self.own = rng.standard_normal((2, self.MOST), dtype=np.float32)
        self.was_bad = np.zeros((4, self.MOST), dtype=bool)
        self.was_ranked = np.zeros(self.MOST, dtype=bool)
        self.was_treated = np.zeros(self.MOST, dtype=bool)
        self.requests, self.failed = [0, 0], [0, 0]
        self.latest = (0, 0)
        self.by_request: dict[float, list[int]] = {}
        self.looks = 0
        self.phase, self.outage = rng.uniform(0, 6.28), int(rng.integers(5, 120))
        self.cuts = [np.log(np.array(of.cuts)) for of in (self.baseline.ttft, self.baseline.latency)]
        kept = (self.baseline.ttft, self.baseline.latency, self.baseline.cost)
        self.thresholds = np.log(np.array([of.threshold for of in kept]))

    def look(self, share: float, users: int) -> Tally:
        """So many users came, some of them again."""
        self.looks += 1
        who = self._visitors(users)
        treated = self.hash[who] < share
        self.was_treated[who[treated]] = True
        self.tally.treated = int(np.count_nonzero(self.was_treated[: self.known]))
        times = 1 + self.rng.poisson(1.5, len(who))
        owner = np.repeat(np.arange(len(who)), times)
        failed, values = self._requests(who, treated, owner)
        above = values > self.thresholds[:, None]
        bad = np.zeros((4, len(who)), dtype=bool)
        bad[0, owner[failed]] = True
        for figure in range(3):
            bad[1 + figure, owner[above[figure]]] = True
        fresh = bad & ~self.was_bad[:, who]
        self.was_bad[:, who] |= bad
        counts = np.stack([np.count_nonzero(fresh & treated, 1), np.count_nonzero(fresh & ~treated, 1)], 1)
        self.tally.add(share, counts, self._ranked(who, treated, times, values), _by_arm(treated))
        self._count_requests(share, treated[owner], failed)
        return self.tally

    def _visitors(self, users: int) -> Array:
        back = int(self.rng.binomial(users, self.BACK)) if self.known else 0
        new = np.arange(self.known, min(self.known + users - back, self.MOST))
        again = np.unique(self.rng.integers(0, self.known, back)) if back else np.empty(0, dtype=int)
        self.known = min(self.known + users - back, self.MOST)
        return np.concatenate([new, again])

    def _requests(self, who: Array, treated: Array, owner: Array) -> tuple[Array, Array]:
        """Which requests failed, and the logarithms of their three figures, a treated one's less the candidate's."""
        day = np.sin(self.phase + self.looks / 25)
        rate = self.error_rate * self.frail[who] * (2 + day) / 2
        rate[treated] *= self.candidate.errors
        if self.outage <= self.looks < self.outage + 3:
            rate[:] = 0.4
        failed = self.rng.random(len(owner), dtype=np.float32) < rate[owner]
        noise = self.rng.standard_normal((3, len(owner)), dtype=np.float32)
        own = self.own[:, who][:, owner]
        mixed = 0.7071 * (np.stack([own[0], own[0], own[1]]) + noise)
        shifts = self.candidate.shifts[:, None] * treated[owner]
        drift = np.array([[0.2], [0.2], [0.0]]) * day
        return failed, CENTRES[:, None] + SPREADS[:, None] * mixed + shifts + drift

    def _ranked(self, who: Array, treated: Array, times: Array, values: Array) -> Array:
        new = ~self.was_ranked[who]
        self.was_ranked[who] = True
        first = (np.cumsum(times) - times)[new]
        arms = treated[new]
        ranks = np.empty((2, 2, RANKS), dtype=int)
        for figure, cuts in enumerate(self.cuts):
            rank = np.searchsorted(cuts, values[figure, first], side="right")
            ranks[figure, 0] = np.bincount(rank[arms], minlength=RANKS)
            ranks[figure, 1] = np.bincount(rank[~arms], minlength=RANKS)
        return ranks

    def _count_requests(self, share: float, treated: Array, failed: Array) -> None:
        kept = self.by_request.setdefault(share, [0, 0])
        for arm, here in enumerate((treated, ~treated)):
            asked, wrong = int(np.count_nonzero(here)), int(np.count_nonzero(failed & here))
            self.requests[arm] += asked
            self.failed[arm] += wrong
            kept[arm] += wrong
            if not arm:
                self.latest = (asked, wrong)


def _by_arm(treated: Array) -> tuple[int, int]:
    inside = int(np.count_nonzero(treated))
    return inside, len(treated) - inside

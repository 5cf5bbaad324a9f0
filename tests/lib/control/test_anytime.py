"""E-processes: the published vectors, closed forms, and that chance is fooled as rarely as promised."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb, exp, inf, log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.anytime import (
    BENEFIT,
    HARM,
    RANKS,
    SHIFTS,
    RankSplit,
    Split,
    log_e,
    log_e_rank,
    log_e_safe,
    log_e_share,
    log_mean_exp,
    on_harm,
    rank,
    restarting,
)

shares = st.floats(0.01, 0.99)


def by_the_event(events: Sequence[tuple[float, bool]], bets: Sequence[float], tolerated: float) -> float:
    """The definition, factor by factor."""
    whole = 0.0
    for ratio in bets:
        product_of = 1.0
        for share, treated in events:
            told, null = (share * r / (share * r + 1 - share) for r in (ratio, tolerated))
            product_of *= told / null if treated else (1 - told) / (1 - null)
        whole += product_of
    return whole / len(bets)


@pytest.mark.parametrize(
    ("events", "expected"), [("T", 1.430848), ("TCTT", 3.858983), ("TTTTT", 8.999219), ("C" * 10, -1.854303)]
)
def test_published_vectors(events: str, expected: float) -> None:
    """The four of the specification, at a share of 10 %."""
    split = Split(0.1, treated=events.count("T"), control=events.count("C"))
    assert log_e([split]) == pytest.approx(expected, abs=5e-7)


@given(st.lists(st.tuples(shares, st.booleans()), max_size=12), st.sampled_from([1.0, 2.0]))
def test_counts_say_what_the_events_say(events: list[tuple[float, bool]], tolerated: float) -> None:
    """Counted by share it is the product over the events, each with the share in force at its time."""
    splits = [Split(share, int(treated), int(not treated)) for share, treated in events]
    assert log_e(splits, tolerated=tolerated) == pytest.approx(log(by_the_event(events, HARM, tolerated)))
    assert log_e_safe(splits, tolerated=2) == pytest.approx(log(by_the_event(events, (1, 0.75, 0.5, 0.25), 2)))


@given(shares, st.integers(0, 8), st.sampled_from([HARM, BENEFIT]))
def test_true_null_expects_one(share: float, events: int, bets: Sequence[float]) -> None:
    """Over all ways that so many events can fall, the mean of E is exactly 1: no approximation, at no sample size."""
    mean = sum(
        comb(events, treated)
        * share**treated
        * (1 - share) ** (events - treated)
        * exp(log_e([Split(share, treated, events - treated)], bets=bets))
        for treated in range(events + 1)
    )
    assert mean == pytest.approx(1)


@given(shares, st.floats(0.1, 1.0), st.floats(2.0, 10.0))
def test_within_the_null_it_falls(share: float, better: float, worse: float) -> None:
    """A candidate better than tolerated expects less than 1, and so does the reversed one with one that is worse."""

    def mean(odds: float, log_of_treated: float, log_of_control: float) -> float:
        chance = share * odds / (share * odds + 1 - share)
        return chance * exp(log_of_treated) + (1 - chance) * exp(log_of_control)

    one, other = [Split(share, treated=1)], [Split(share, control=1)]
    assert mean(better, log_e(one), log_e(other)) <= 1 + 1e-12
    assert mean(worse, log_e_safe(one, tolerated=2), log_e_safe(other, tolerated=2)) <= 1 + 1e-12


def test_share_of_one_proves_nothing_against_the_candidate() -> None:
    """With all users treated there is nobody to compare with."""
    assert log_e([Split(1.0, treated=40)]) == pytest.approx(0)
    assert log_e_safe([Split(1.0, treated=40)], tolerated=2) == pytest.approx(0)
    assert log_e([]) == 0


def test_floods_of_evidence_are_no_overflow() -> None:
    """A million failures are a large number, not an error; nothing at all is no number."""
    assert log_e([Split(0.5, treated=1_000_000)]) > 600_000
    assert log_e([Split(0.5, control=1_000_000)]) < -100_000
    assert log_mean_exp([-inf, -inf]) == -inf


@given(shares, st.lists(st.integers(0, RANKS - 1), min_size=1, max_size=2))
def test_rank_test_expects_one_whatever_the_values(share: float, ranks: list[int]) -> None:
    """Over both arms of each user the mean is exactly 1, for any values: it is about who got them."""
    mean = 0.0
    for arms in product((True, False), repeat=len(ranks)):
        treated, control = [0] * RANKS, [0] * RANKS
        chance = 1.0
        for in_treated, place in zip(arms, ranks, strict=True):
            (treated if in_treated else control)[place] += 1
            chance *= share if in_treated else 1 - share
        mean += chance * exp(log_e_rank([RankSplit(share, tuple(treated), tuple(control))]))
    assert mean == pytest.approx(1)


def test_rank_test_is_the_issues_formula() -> None:
    """Per user w / (s w + 1 - s) if treated, 1 / (s w + 1 - s) if control; the mean over shifts of the products."""
    z = {3: -0.776421761, 15: 1.862731867}
    expected = 0.0
    for shift in SHIFTS:
        high, low = (exp(shift * z[place] - shift**2 / 2) for place in (15, 3))
        expected += high / (0.1 * high + 0.9) / (0.1 * low + 0.9) / len(SHIFTS)
    treated, control = [0] * RANKS, [0] * RANKS
    treated[15], control[3] = 1, 1
    assert log_e_rank([RankSplit(0.1, tuple(treated), tuple(control))]) == pytest.approx(log(expected))


def test_rank_is_postgres_width_bucket() -> None:
    """The number of cuts at or below the value: 0 to 15."""
    cuts = [float(cut) for cut in range(10, 160, 10)]
    assert [rank(value, cuts) for value in (0, 9.9, 10, 15, 149, 150, 1e9)] == [0, 0, 1, 1, 14, 15, 15]


@given(st.floats(0.05, 0.95), st.integers(0, 7))
def test_sample_ratio_expects_one(share: float, users: int) -> None:
    """With the share as told the mean is exactly 1, after any number of users."""
    mean = sum(
        comb(users, treated)
        * share**treated
        * (1 - share) ** (users - treated)
        * exp(log_e_share(Split(share, treated, users - treated)))
        for treated in range(users + 1)
    )
    assert mean == pytest.approx(1)


def test_sample_ratio_finds_a_broken_assignment() -> None:
    """12 % instead of 10 % is found before 10,000 users; nobody or everybody treated is no ratio."""
    assert log_e_share(Split(0.1, 1200, 8800)) > log(1000)
    assert log_e_share(Split(0.1, 1000, 9000)) < 0
    assert log_e_share(Split(0.0, 0, 50)) == log_e_share(Split(1.0, 50, 0)) == 0


def test_restarts_notice_what_begins_later() -> None:
    """After a long healthy beginning the plain process is deep in debt; the restarted one is not."""
    healthy, broken = Split(0.1, treated=60, control=540), Split(0.25, treated=16, control=6)
    plain = log_e([healthy, broken])
    restarted = restarting(on_harm, [healthy, broken], (0.01, 0.1, 0.25, 0.5))
    assert plain < log(10)
    assert restarted > log(250)


def test_restarts_cost_little_from_the_beginning() -> None:
    """What is there from the beginning needs 0.22 more, never more; with one share there is nothing to restart."""
    splits = [Split(0.1, treated=20, control=10)]
    assert restarting(on_harm, splits, (0.1, 0.25, 0.5)) >= log_e(splits) + log(0.8)
    assert restarting(on_harm, splits, (0.1,)) == log_e(splits)
    assert restarting(on_harm, [], (0.1, 0.25, 0.5)) == pytest.approx(0)


@given(st.lists(shares, min_size=2, max_size=3, unique=True), st.lists(st.integers(0, 2), max_size=6))
def test_restarts_expect_one(starts: list[float], order: list[int]) -> None:
    """The mean stays 1, in whatever order the shares were in force."""
    in_force = [starts[index % len(starts)] for index in order]
    mean = 0.0
    for arms in product((True, False), repeat=len(in_force)):
        chance = 1.0
        for share, treated in zip(in_force, arms, strict=True):
            chance *= share if treated else 1 - share
        splits = [Split(share, int(treated), int(not treated)) for share, treated in zip(in_force, arms, strict=True)]
        mean += chance * exp(restarting(on_harm, splits, starts))
    assert mean == pytest.approx(1)


def ever(rng: Random, *, odds: float, threshold: float, events: int, reverse: bool) -> bool:
    """Whether evidence is ever enough, looked at after every event, at a share that rises on the way."""
    chance = {share: share * odds / (share * odds + 1 - share) for share in (0.1, 0.5)}
    counts = {0.1: [0, 0], 0.5: [0, 0]}
    for event in range(events):
        share = 0.1 if event < events / 2 else 0.5
        counts[share][rng.random() >= chance[share]] += 1
        splits = [Split(each, *pair) for each, pair in counts.items()]
        if (log_e_safe(splits, tolerated=2) if reverse else log_e(splits)) >= threshold:
            return True
    return False


def test_peeking_fools_it_as_rarely_as_promised() -> None:
    """Looked at after every event: under no harm 5 % of runs find some at most; with harm, all do."""
    rng = Random(11)  # noqa: S311 - a simulation
    fooled = sum(ever(rng, odds=1, threshold=log(20), events=200, reverse=False) for _ in range(200))
    missed = sum(not ever(rng, odds=4, threshold=log(20), events=200, reverse=False) for _ in range(50))
    wrongly_safe = sum(ever(rng, odds=2, threshold=log(20), events=200, reverse=True) for _ in range(200))
    assert (fooled <= 18, missed, wrongly_safe <= 18) == (True, 0, True), (fooled, missed, wrongly_safe)
    assert wrongly_safe > 0

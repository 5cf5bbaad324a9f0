"""A few dozen whole rollouts in made-up worlds, seeds fixed; `make bench-rollout` plays ten thousand."""

from __future__ import annotations

from collections import Counter
from statistics import median

import numpy as np

from benchmarks.rollout.measures import odds, upper_bound
from benchmarks.rollout.play import play
from benchmarks.rollout.worlds import HEALTHY, Candidate, People, Singles


def treated_until_found(candidate: Candidate, runs: int, *, per_look: int = 4) -> list[int]:
    """How many users met the candidate until it was rolled back, in each of these rollouts."""
    ends = [
        play(Singles(np.random.default_rng([21, seed]), candidate, 0.01), per_look=per_look) for seed in range(runs)
    ]
    assert {end.status for end in ends} == {"rolled_back"}
    return sorted(end.treated for end in ends)


def test_healthy_candidates_come_to_100_percent() -> None:
    """People who come back and differ, a drift and an outage common to both arms: none of 25 is rolled back."""
    ends = [play(People(np.random.default_rng([20, seed]), HEALTHY, 0.005), per_look=40) for seed in range(25)]
    assert Counter(end.status for end in ends) == {"stage": 25}
    assert all([share for share, _ in end.left] == [0.01, 0.05, 0.1, 0.25, 0.5] for end in ends)


def test_outage_takes_five_users() -> None:
    """A candidate that always fails, looked at after each user."""
    found = treated_until_found(Candidate(errors=1e12), 20, per_look=1)
    assert found[-2] <= 5


def test_slow_first_tokens_take_few_users() -> None:
    """Thirty percent slower: 130 users at the 95th percentile, most of them by the test of ranks."""
    found = treated_until_found(Candidate(ttft=1.3), 20)
    assert median(found) < 90
    assert found[-2] <= 140


def test_errors_and_cost_are_found() -> None:
    """Three times the errors and half as dear again."""
    assert median(treated_until_found(Candidate(errors=odds(0.01, 0.05)), 15)) < 300
    assert median(treated_until_found(Candidate(cost=1.5), 15)) < 150


def test_upper_bound_is_the_exact_one() -> None:
    """Of none in n it is 1 - 0.01^(1/n); of all, one."""
    assert abs(upper_bound(0, 100) - (1 - 0.01 ** (1 / 100))) < 1e-9
    assert abs(upper_bound(50, 10_000) - 0.00693) < 2e-4
    assert upper_bound(3, 3) > 0.999

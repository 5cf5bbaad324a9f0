"""Extra calls stay a share of the requests, whatever the order of requests and wishes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.router.budget import Budget
from lib.router.health import HEDGE_SHARE, HEDGES, RETRIES, RETRY_SHARE, Health


def test_begins_full() -> None:
    """A process begins with its most, and then has none."""
    budget = Budget(0.5, 2)
    assert [budget.spend() for _ in range(4)] == [True, True, False, False]


def test_begins_with_less() -> None:
    """It may begin with less than it can save."""
    budget = Budget(1, 2, 1)
    assert [budget.spend() for _ in range(2)] == [True, False]
    for _ in range(4):
        budget.request()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_earns() -> None:
    """Every request earns a share of a call; a refusal costs nothing."""
    budget = Budget(0.5, 1)
    assert budget.spend()
    seen: list[bool] = []
    for _ in range(4):
        budget.request()
        seen.append(budget.spend())
    assert seen == [False, True, False, True]


def test_saves_no_more_than_its_most() -> None:
    """Quiet hours save nothing up for an outage."""
    budget = Budget(0.5, 3)
    for _ in range(1000):
        budget.request()
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]


@given(st.floats(0, 1), st.floats(0, 10), st.lists(st.booleans(), max_size=200))
def test_any_order(share: float, most: float, wishes: list[bool]) -> None:
    """Never more than its share of the requests so far, beside what it began with."""
    budget = Budget(share, most)
    requests = calls = 0
    for wish in wishes:
        if wish:
            calls += budget.spend()
        else:
            budget.request()
            requests += 1
        assert calls <= most + share * requests + 1e-6


@pytest.mark.parametrize(
    ("name", "share", "most"), [("retries", RETRY_SHARE, RETRIES), ("hedges", HEDGE_SHARE, HEDGES)]
)
def test_budgets_of_a_process(name: str, share: float, most: float) -> None:
    """Retries are a fifth of the requests and hedges three in a hundred, and all of that is used where it is wanted."""
    health, calls = Health(), 0
    budget = health.retries if name == "retries" else health.hedges
    for _ in range(10_000):
        health.request()
        calls += budget.spend()
    assert 0.98 * share * 10_000 <= calls <= most + share * 10_000

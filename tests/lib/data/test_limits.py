"""Limits without a database, or with one that fails: nothing is allowed beyond the cap, and nothing stays held."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.data.limits import Account, Cap, InstanceLimits, Limits, Subject
from lib.errors import DataFailed, LimitReached, Unavailable

DAY_S = 86_400


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 50), st.integers(0, 60)), max_size=60))
def test_never_beyond_the_cap(steps: list[tuple[float, int, int]]) -> None:
    """Whatever comes when: in no span are there more than the bucket and what flowed into it, nor more money held."""
    cap = Cap(requests_per_minute=6, microusd_per_day=200)
    limits = InstanceLimits(cap)
    now, began, taken = 1000.0, 1000.0, 0
    spent: dict[int, int] = {}
    waits: list[int] = []
    for wait_s, held, actual in steps:
        now += wait_s
        try:
            limits.take(held, now)
        except LimitReached as error:
            waits.append(error.retry_after_s or 0)
            continue
        taken += 1
        assert taken <= 6 + (now - began) / 10 + 1e-6
        day = int(now // DAY_S)
        assert spent.get(day, 0) + held <= 200
        limits.settle(held, min(actual, held), now)
        spent[day] = spent.get(day, 0) + min(actual, held)
    assert all(wait_s >= 1 for wait_s in waits)


def test_a_new_day_has_a_new_budget() -> None:
    """What was held yesterday and is settled today takes nothing from today."""
    limits = InstanceLimits(Cap(100, 10))
    limits.take(10, DAY_S - 1)
    with pytest.raises(LimitReached) as refused:
        limits.take(1, DAY_S - 0.5)
    assert (refused.value.code, refused.value.retry_after_s) == ("budget_exceeded", 1)
    limits.take(9, DAY_S)
    limits.settle(10, 0, DAY_S - 1)
    with pytest.raises(LimitReached):
        limits.take(2, DAY_S)


class Database:
    """Fails for the reason that is set; remembers what it was asked."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        self.asked: list[tuple[str, Mapping[str, object]]] = []

    async def __call__(self, function: str, arguments: Mapping[str, object], /, *, timeout_s: float = 2.0) -> Any:
        """See Rpc."""
        del timeout_s
        self.asked.append((function, arguments))
        if self.reason is not None:
            raise DataFailed(self.reason)
        return {"allowed": True, "requests": {"limit": 5, "remaining": 4, "reset_s": 7}, "settled": True}


def account(limits: Limits, kind: Literal["user", "guest", "key"] = "key") -> Account:
    """Of a request."""
    return Account(limits, str(uuid4()), Subject(kind, str(uuid4())))


@pytest.mark.parametrize("reason", ["timeout", "connection_failed", "resting", "PGRST202"])
def test_without_an_answer_of_the_database(reason: str) -> None:
    """Holders of a key go on under the cap of the instance, others are told to come back."""
    limits = Limits(Database(reason), Cap(2, 100))

    async def play() -> None:
        for kind in ("user", "guest"):
            asked = account(limits, kind)
            asked.begin(1)
            with pytest.raises(Unavailable):
                await asked.reserved()
            await asked.settle()
        for remaining in (1, 0):
            asked = account(limits)
            asked.begin(1)
            assert (await asked.reserved()).remaining == remaining
            await asked.settle()
        asked = account(limits)
        asked.begin(1)
        with pytest.raises(LimitReached):
            await asked.reserved()
        await asked.settle()

    asyncio.run(play())


def test_what_may_have_been_held_is_settled_later() -> None:
    """A reservation whose answer was lost is settled as soon as the database is back, with another request's."""
    database = Database("timeout")
    limits = Limits(database, Cap())

    async def play() -> None:
        lost = account(limits)
        lost.begin(50)
        await lost.reserved()
        lost.spent_microusd = 30
        await lost.settle()
        database.reason = None
        database.asked.clear()
        other = account(limits)
        other.begin(20)
        assert (await other.reserved()).headers() == {
            "x-ratelimit-limit": "5",
            "x-ratelimit-remaining": "4",
            "x-ratelimit-reset": "7",
        }
        await other.settle()

    asyncio.run(play())
    settled = [arguments["p_actual_microusd"] for function, arguments in database.asked if function == "settle"]
    assert sorted(map(str, settled)) == ["0", "30"]


def test_more_is_held_where_the_flag_names_a_dearer_model() -> None:
    """The rest is a reservation of its own, counts as no request, and both together book what was spent."""
    database = Database(None)

    async def play() -> None:
        asked = account(Limits(database))
        asked.begin(10)
        await asked.reserved()
        await asked.raise_to(10)
        await asked.raise_to(25)
        asked.spent_microusd = 22
        await asked.settle()

    asyncio.run(play())
    reserved = [(told["p_microusd"], told["p_requests"]) for name, told in database.asked if name == "reserve"]
    settled = [told["p_actual_microusd"] for name, told in database.asked if name == "settle"]
    assert (reserved, settled) == ([(10, 1), (15, 0)], [10, 12])

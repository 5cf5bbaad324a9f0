"""A database that is down is asked again by one at a time, and more and more seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from lib.data.circuit import Circuit
from lib.errors import DataFailed


class Scripted:
    """Answers, or fails for the reason that is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reason: str | None = None
        self.asked = 0
        self.hold: asyncio.Event | None = None

    async def __call__(self, function: str, arguments: Mapping[str, object], /, *, timeout_s: float = 2.0) -> Any:
        """See Rpc."""
        del function, arguments, timeout_s
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.reason is not None:
            raise DataFailed(self.reason)
        return "answer"


async def reason_of(circuit: Circuit) -> str | None:
    """Why a call failed."""
    try:
        await circuit("f", {})
    except DataFailed as error:
        return error.reason
    return None


@pytest.mark.parametrize("reason", ["timeout", "connection_failed", "http_503", "PGRST003", "57014", "55P03", "53300"])
def test_rests_longer_each_time(reason: str) -> None:
    """After 1, 2, 4 … 15 seconds one call finds out; in between none is made. Once it answers all is as before."""
    database = Scripted()
    circuit = Circuit(database, lambda: database.now)

    async def play() -> None:
        database.reason = reason
        for rest_s in (1, 2, 4, 8, 15, 15):
            before = database.asked
            assert await reason_of(circuit) == reason
            database.now += rest_s - 0.01
            assert await reason_of(circuit) == "resting"
            assert database.asked == before + 1
            database.now += 0.02
        database.reason = None
        assert circuit.trouble == reason
        assert [await reason_of(circuit) for _ in range(2)] == [None, None]
        assert circuit.trouble is None
        database.reason = reason
        await reason_of(circuit)
        database.now += 1.01
        assert await reason_of(circuit) == reason

    asyncio.run(play())


@pytest.mark.parametrize("reason", ["22023", "42501", "PGRST202", "23505", "http_401"])
def test_a_refusal_is_an_answer(reason: str) -> None:
    """What speaks of the call and not of the database does not keep others from asking."""
    database = Scripted()
    database.reason = reason
    circuit = Circuit(database, lambda: database.now)

    async def play() -> None:
        assert [await reason_of(circuit) for _ in range(3)] == [reason] * 3

    asyncio.run(play())
    assert (database.asked, circuit.trouble) == (3, None)


def test_one_at_a_time_finds_out() -> None:
    """While one asks, the others fail at once; one that is cancelled makes room for the next."""
    database = Scripted()
    circuit = Circuit(database, lambda: database.now)

    async def play() -> None:
        database.reason = "timeout"
        await reason_of(circuit)
        database.now, database.hold = 2.0, asyncio.Event()
        probe = asyncio.create_task(reason_of(circuit))
        await asyncio.sleep(0)
        assert await reason_of(circuit) == "resting"
        probe.cancel()
        await asyncio.wait([probe])
        database.hold, database.reason = None, None
        assert await reason_of(circuit) is None

    asyncio.run(play())
    assert database.asked == 3

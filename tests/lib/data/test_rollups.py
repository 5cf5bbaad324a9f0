"""When rollups are brought up to date: beside the traffic, and before they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from lib.data.rollups import EVERY_S, READ_EVERY_S, Rollups
from lib.errors import DataFailed


class Database:
    """Counts what it is asked, and takes a moment."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[Mapping[str, object]] = []
        self.now = 0.0
        self._fails = fails

    async def __call__(self, function: str, arguments: Mapping[str, object], /, *, timeout_s: float = 2.0) -> Any:
        """See Rpc."""
        assert (function, timeout_s) == ("rollup_inference", 2.0)
        self.asked.append(arguments)
        await asyncio.sleep(0.001)
        if self._fails:
            raise DataFailed("timeout")
        return {"rolled": 1, "left": 0}

    def clock(self) -> float:
        """Seconds, as they are set."""
        return self.now


@pytest.mark.parametrize("fails", [False, True])
def test_all_panels_of_a_page_wait_for_one(*, fails: bool) -> None:
    """Whether it succeeds or not; the next page asks again only when that is due."""
    database = Database(fails=fails)
    rollups = Rollups(database, database.clock)

    async def page() -> None:
        await asyncio.gather(*(rollups.before_reading() for _ in range(12)))

    async def go() -> None:
        await page()
        database.now = READ_EVERY_S / 2
        await page()
        assert len(database.asked) == 1
        database.now = READ_EVERY_S
        await page()

    asyncio.run(go())
    assert len(database.asked) == 2


def test_a_reader_who_leaves_does_not_end_it() -> None:
    """Others wait for the same."""
    database = Database()
    rollups = Rollups(database, database.clock)

    async def go() -> None:
        first, second = (asyncio.create_task(rollups.before_reading()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert first.cancelled()

    asyncio.run(go())
    assert len(database.asked) == 1


def test_traffic_brings_them_up_once_a_minute() -> None:
    """And says how fresh is fresh enough, since other instances do it too."""
    database = Database()
    rollups = Rollups(database, database.clock)

    async def go() -> None:
        for now in (0.0, EVERY_S - 1, EVERY_S):
            database.now = now
            await rollups.keep_up()

    asyncio.run(go())
    assert [asked["p_unless_within"] for asked in database.asked] == ["54 seconds"] * 2


def test_nothing_without_a_database() -> None:
    """Nobody is asked."""
    rollups = Rollups(None)
    asyncio.run(rollups.before_reading())
    asyncio.run(rollups.keep_up())

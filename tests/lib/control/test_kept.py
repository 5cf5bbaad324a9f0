"""A value read from afar: how old it may be, who waits for it, and what holds when it can't be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from lib.control.kept import AHEAD, RETRY_S, TIMEOUT_S, Kept
from lib.errors import ServiceFailed
from tests.lib.virtual_time import run

FRESHNESS_S = 10.0
Read = Callable[[str | None], Awaitable[str]]


class Wall:
    """The time of day, which goes on while a process is frozen."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Source:
    """Something far away: answers with what it holds after `delay_s`, or fails. Counts how often it is read."""

    def __init__(self, wall: Wall) -> None:
        self.wall = wall
        self.text = "one"
        self.failure: Exception | None = None
        self.delay_s = 0.0
        self.reads = 0

    async def __call__(self, held: str | None) -> str:
        """A read; `held` is what the reader has."""
        del held
        self.reads += 1
        await asyncio.sleep(self.delay_s)
        self.wall.now += self.delay_s
        if self.failure is not None:
            raise self.failure
        return self.text


@pytest.fixture
def wall() -> Wall:
    """The clock on the wall."""
    return Wall()


@pytest.fixture
def source(wall: Wall) -> Source:
    """What is read."""
    return Source(wall)


def kept(source: Source) -> Kept[str]:
    """A value that is never to be older than ten seconds."""
    return Kept("it", source, freshness_s=FRESHNESS_S, clock=source.wall)


def test_read_once_while_fresh(source: Source) -> None:
    """Within its freshness a value is read once, however often it is asked for."""

    async def ask() -> None:
        it = kept(source)
        assert it.age_s is None
        assert [await it.current() for _ in range(100)] == ["one"] * 100
        source.wall.now += FRESHNESS_S - 0.01
        source.text = "two"
        assert await it.current() == "one"
        assert (source.reads, it.age_s) == (1, pytest.approx(FRESHNESS_S - 0.01))
        source.wall.now += 0.02
        assert await it.current() == "two"
        assert (source.reads, it.age_s, it.error) == (2, 0.0, None)

    run(ask())


def test_read_ahead_after_an_answer(source: Source) -> None:
    """What will soon be too old is read after an answer, so that the next request finds it fresh."""

    async def ask() -> None:
        it = kept(source)
        await it.current()
        await it.renew()
        assert source.reads == 1
        source.text = "two"
        source.wall.now += FRESHNESS_S * AHEAD + 0.01
        assert await it.current() == "one"
        await it.renew()
        assert source.reads == 2
        source.wall.now += FRESHNESS_S / 2
        assert (await it.current(), source.reads) == ("two", 2)

    run(ask())


def test_callers_share_a_read(source: Source) -> None:
    """Requests that come at the same time wait for one read."""

    async def ask() -> None:
        it = kept(source)
        source.delay_s = 0.05
        assert await asyncio.gather(*(it.current() for _ in range(50))) == ["one"] * 50
        assert source.reads == 1

    run(ask())


def test_slow_read_holds_nobody_up(source: Source) -> None:
    """A read that takes longer than a request may wait serves the next one; nobody waits for it twice."""

    async def ask() -> None:
        it, clock = kept(source), asyncio.get_running_loop().time
        await it.current()
        source.text, source.delay_s = "two", 1.0
        source.wall.now += 60
        began = clock()
        assert await it.current() == "one"
        assert clock() - began == pytest.approx(0.1)
        source.wall.now += 0.1
        assert await it.current() == "one"
        assert clock() - began == pytest.approx(0.1)
        await asyncio.sleep(1)
        assert (await it.current(), source.reads) == ("two", 2)

    run(ask())


def test_last_good_value_holds(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be read again stays as it was, is read again at the usual pace, and is told of in one line."""

    async def ask() -> None:
        it = kept(source)
        await it.current()
        source.failure = ServiceFailed("http_503")
        for _ in range(5):
            source.wall.now += FRESHNESS_S + 1
            assert [await it.current() for _ in range(10)] == ["one"] * 10
        assert (it.error, it.age_s, source.reads) == ("http_503", 55, 6)
        source.failure = RuntimeError("secret")
        source.wall.now += FRESHNESS_S + 1
        await it.current()
        assert it.error == "RuntimeError"
        source.failure = None
        source.wall.now += FRESHNESS_S + 1
        assert (await it.current(), it.error, it.age_s) == ("one", None, 0)

    caplog.set_level(logging.INFO, "control")
    run(ask())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "it can't be read (http_503): the last good value holds"),
        ("INFO", "it is read again"),
    ]


def test_nothing_held_is_tried_again_sooner(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """A first read that fails is repeated after a second, not by every request."""

    async def ask() -> None:
        it = kept(source)
        source.failure = ServiceFailed("timeout")
        assert [await it.current() for _ in range(10)] == [None] * 10
        assert source.reads == 1
        source.failure = None
        source.wall.now += RETRY_S
        assert (await it.current(), source.reads) == ("one", 2)

    run(ask())
    assert "defaults hold" in caplog.text


def test_first_read_may_take_longer(source: Source) -> None:
    """Where there is nothing to fall back on, requests may be told to wait longer for the first value."""

    async def ask() -> None:
        it = Kept("it", source, freshness_s=FRESHNESS_S, first_wait_s=1.0, clock=source.wall)
        source.delay_s = 0.5
        assert await it.current() == "one"
        source.text = "two"
        source.wall.now += FRESHNESS_S
        assert await it.current() == "one"
        await asyncio.sleep(1)
        assert await it.current() == "two"

    run(ask())


def test_nothing_is_read_ahead_that_nobody_wants(source: Source) -> None:
    """What no request has asked for is not read after an answer either."""

    async def ask() -> None:
        await kept(source).renew()
        assert source.reads == 0

    run(ask())


def test_read_without_end(source: Source) -> None:
    """A read that never ends is given up, and counts as failed."""

    async def ask() -> None:
        it = kept(source)
        source.delay_s = 3600
        assert await it.current() is None
        await asyncio.sleep(TIMEOUT_S)
        assert (it.error, it.value) == ("timeout", None)

    run(ask())


def test_read_that_was_frozen(source: Source) -> None:
    """A read that was under way when the process froze is not waited for after the thaw: a new one begins."""

    async def ask() -> None:
        it = kept(source)
        source.delay_s = 1.0
        await it.current()
        source.wall.now += 3600  # frozen: the loop's clock has not moved
        source.delay_s, source.text = 0.0, "two"
        assert (await it.current(), source.reads) == ("two", 2)
        await asyncio.sleep(5)
        assert (it.value, it.error) == ("two", None)

    run(ask())


@pytest.mark.parametrize("failure", [None, ServiceFailed("timeout")])
def test_answer_to_a_question_from_before_a_freeze(source: Source, failure: Exception | None) -> None:
    """What was asked before a freeze and comes after it, answer or failure, does not pass for fresh."""

    async def ask() -> None:
        it = kept(source)
        await it.current()
        source.wall.now += FRESHNESS_S
        source.delay_s, source.failure = 1.0, failure
        await it.current()
        source.wall.now += 3600  # frozen
        await asyncio.sleep(2)  # the loop gets to the old read before anybody asks
        source.delay_s, source.failure, source.text = 0.0, None, "two"
        assert (await it.current(), source.reads) == ("two", 3)

    run(ask())


def test_clock_set_back(source: Source) -> None:
    """With the wall clock set back, the age is unknown: the value is read again."""

    async def ask() -> None:
        it = kept(source)
        await it.current()
        source.wall.now -= 3600
        await it.current()
        assert (source.reads, it.age_s) == (2, 0)

    run(ask())


def test_caller_who_leaves(source: Source) -> None:
    """A request that is cancelled while it waits does not end the read for the others."""

    async def ask() -> None:
        it = kept(source)
        source.delay_s = 0.05
        first = asyncio.create_task(it.current())
        await asyncio.sleep(0.01)
        second = asyncio.create_task(it.current())
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second, source.reads) == ("one", 1)

    run(ask())

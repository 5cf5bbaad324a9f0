"""Waiting with a limit: `asyncio.timeout`'s behaviour, at one timer for many waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lib.router.alarm import Alarm
from tests.lib.virtual_time import run


def clock() -> float:
    """The event loop's time."""
    return asyncio.get_running_loop().time()


def tried(test: Callable[[Alarm], Awaitable[None]]) -> None:
    """Run this with an alarm, under virtual time; afterwards nothing may wait for a timer."""

    async def whole() -> None:
        alarm = Alarm()
        try:
            await test(alarm)
        finally:
            alarm.close()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(whole())


def test_in_time() -> None:
    """What is ready before its limit is the result, whatever the limits before it were."""

    async def test(alarm: Alarm) -> None:
        for limit_s in (2, 1, 5, 1, 3):
            begin = clock()
            assert await alarm.wait(asyncio.sleep(0.9, "done"), begin + limit_s) == "done"
            assert clock() == pytest.approx(begin + 0.9)

    tried(test)


@pytest.mark.parametrize("before_s", [None, 1.0, 50.0], ids=["first", "after a shorter one", "after a longer one"])
def test_too_late(before_s: float | None) -> None:
    """What is not ready is cancelled at its limit, neither sooner nor later; and the next wait is a fresh one."""

    async def test(alarm: Alarm) -> None:
        if before_s is not None:
            await alarm.wait(asyncio.sleep(0.5), clock() + before_s)
        begin = clock()
        work = asyncio.ensure_future(asyncio.sleep(100))
        with pytest.raises(TimeoutError):
            await alarm.wait(work, begin + 10)
        assert clock() == pytest.approx(begin + 10)
        assert work.cancelled()
        assert await alarm.wait(asyncio.sleep(1, "done"), clock() + 2) == "done"

    tried(test)


def test_limit_that_is_over() -> None:
    """A limit in the past ends the wait at once."""

    async def test(alarm: Alarm) -> None:
        begin = clock()
        with pytest.raises(TimeoutError):
            await alarm.wait(asyncio.sleep(100), begin - 1)
        assert clock() == pytest.approx(begin)

    tried(test)


def test_errors_pass() -> None:
    """What the work raises is raised, be it a timeout of its own."""

    async def fail(error: Exception) -> None:
        await asyncio.sleep(1)
        raise error

    async def test(alarm: Alarm) -> None:
        for error in (ZeroDivisionError(), TimeoutError("its own")):
            with pytest.raises(type(error)) as caught:
                await alarm.wait(fail(error), clock() + 5)
            assert caught.value is error

    tried(test)


@pytest.mark.parametrize("at_s", [3, 10])
def test_cancelled_by_another(at_s: float) -> None:
    """Who wants the task to end is obeyed, also in the very moment in which the time is up."""

    async def wait(alarm: Alarm) -> None:
        await alarm.wait(asyncio.sleep(100), clock() + 10)

    async def test(alarm: Alarm) -> None:
        waiting = asyncio.ensure_future(wait(alarm))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(clock() + at_s, waiting.cancel)
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    tried(test)


def test_one_timer_for_many_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand short waits with limits of ten seconds each need a timer every ten seconds."""

    async def test(alarm: Alarm) -> None:
        loop: Any = asyncio.get_running_loop()
        real, timers = loop.call_at, 0

        def counting(when: float, callback: Any, *args: Any, **known: Any) -> Any:
            nonlocal timers
            timers += getattr(callback, "__self__", None) is alarm
            return real(when, callback, *args, **known)

        monkeypatch.setattr(loop, "call_at", counting)
        for _ in range(1000):
            await alarm.wait(asyncio.sleep(0.1), clock() + 10)
        assert 0 < timers <= 11

    tried(test)

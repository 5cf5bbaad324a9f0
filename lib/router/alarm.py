"""Waiting, but not for ever: one timer per request, where `asyncio.timeout` sets one for every wait.

Between two words of a provider nearly every wait is short. Setting and cancelling a timer for each is a tenth of what a
word costs; a timer that may ring too early, and is then set anew, costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Alarm:
    """Ends waits that take too long, one at a time. Close it when there are no more."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._waiting: asyncio.Task[Any] | None = None
        self._until = 0.0
        self._rang = False

    async def wait(self, work: Awaitable[Result], until: float) -> Result:
        """The result of `work`. Cancels it at `until`, on the event loop's clock, and raises TimeoutError."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in one
        cancelled_before = task.cancelling()
        self._waiting, self._until, self._rang = task, until, False
        if self._timer is None or self._rings_at > until:
            self._set()
        try:
            return await work
        except asyncio.CancelledError:
            # Who else wants the task to end is obeyed first, as asyncio.timeout does.
            if self._rang and task.cancelling() == cancelled_before + 1:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None
            if self._rang:
                task.uncancel()

    def close(self) -> None:
        """Set no timer any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        self.close()
        self._rings_at = self._until
        self._timer = self._loop.call_at(self._until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._loop.time() < self._until:
            self._set()
            return
        self._rang = True
        self._waiting.cancel()

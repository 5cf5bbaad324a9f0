"""A value read from afar, kept by the process, and read again by its age."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from lib.errors import ServiceFailed

BUDGET_S = 0.1
"""How long a request waits for a read, unless said otherwise."""
TIMEOUT_S = 2.0
"""How long a read may take; it goes on while requests are answered from what is held."""
AHEAD = 0.8
"""After an answer, a value that has reached this share of its freshness is read again, so that no request has to."""
RETRY_S = 1.0
"""While nothing is held, a failed read is repeated sooner."""

Value = TypeVar("Value")
log = logging.getLogger("control")


class Kept(Generic[Value]):
    """Holds the last good value, however old, and never raises.

    Age is judged by the wall clock: while a process is frozen its timers do not run, and its monotonic clock may not
    either. A value older than `freshness_s` is read again before it is used, for as long as a request may wait; what
    comes later serves the next one.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Value | None], Awaitable[Value]],
        *,
        freshness_s: float,
        budget_s: float = BUDGET_S,
        first_wait_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`read` gets what is held, and may return it where nothing has changed; it raises ServiceFailed.

        `budget_s` is how long a request waits, `first_wait_s` how long while there is nothing to fall back on, where
        that is to be longer.
        """
        self.value: Value | None = None
        self.error: str | None = None
        self._name = name
        self._read = read
        self._freshness_s = freshness_s
        self._budget_s = budget_s
        self._first_wait_s = budget_s if first_wait_s is None else first_wait_s
        self._clock = clock
        self._good_at: float | None = None
        self._tried_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._began_at = 0.0

    @property
    def age_s(self) -> float | None:
        """Seconds since the value was last known to be current."""
        return None if self._good_at is None else max(self._clock() - self._good_at, 0.0)

    @property
    def is_stale(self) -> bool:
        """Whether the value has to be read again before it is used."""
        return self._is_due(1.0)

    async def current(self) -> Value | None:
        """The value to answer a request with: as fresh as it should be where that takes no longer than a moment."""
        if self.is_stale:
            task = self._begin()
            waited = self._clock() - self._began_at
            # Where another request has waited in vain for the same read, this one need not.
            budget_s = self._first_wait_s if self.value is None else self._budget_s
            await asyncio.wait([task], timeout=max(budget_s - waited, 0.0))
        return self.value

    async def renew(self) -> None:
        """After an answer: read again what will soon be too old, if anybody has ever wanted it."""
        if self._tried_at is not None and self._is_due(AHEAD):
            await asyncio.wait([self._begin()], timeout=TIMEOUT_S)

    def _is_due(self, share: float) -> bool:
        if self._tried_at is None:
            return True
        limit = self._freshness_s * share if self.value is not None else min(self._freshness_s, RETRY_S)
        # Below zero: the wall clock was set back, so the age is unknown.
        return not 0 <= self._clock() - self._tried_at < limit

    def _begin(self) -> asyncio.Task[None]:
        """The read under way, or a new one; one that a freeze has outlasted is given up."""
        now = self._clock()
        if self._reading is not None and not self._reading.done():
            if 0 <= now - self._began_at <= TIMEOUT_S:
                return self._reading
            self._reading.cancel()
        self._began_at = now
        self._reading = asyncio.create_task(self._attempt())
        return self._reading

    async def _attempt(self) -> None:
        began_at = self._began_at
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self.value = await self._read(self.value)
        except ServiceFailed as error:
            self._note(error.code)
        except TimeoutError:
            self._note("timeout")
        except Exception as error:  # noqa: BLE001 - whatever a store answers, requests go on with what is held
            self._note(type(error).__name__)
        else:
            self._note(None)
            # As old as the question: a freeze may lie between it and the answer.
            self._good_at = self._tried_at = began_at
            return
        # Nor did one that failed go on for longer than it may, whatever the clock says after a thaw.
        self._tried_at = min(self._clock(), began_at + TIMEOUT_S)

    def _note(self, error: str | None) -> None:
        """One line when it begins to fail, one when it has recovered."""
        if error is not None and self.error is None:
            held = "the last good value holds" if self.value is not None else "defaults hold"
            log.warning("%s can't be read (%s): %s", self._name, error, held)
        elif error is None and self.error is not None:
            log.info("%s is read again", self._name)
        self.error = error

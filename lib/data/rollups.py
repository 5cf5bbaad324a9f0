"""The dashboard's rollups, brought up to date beside the traffic, and before they are looked at."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from lib.data.circuit import Rpc
from lib.errors import DataFailed

EVERY_S = 60.0
READ_EVERY_S = 10.0
WINDOWS_AT_ONCE = 12
"""An hour of five-minute windows: what is left after an outage follows with the next requests."""
BATCH = 100
BATCH_TIMEOUT_S = 20.0

log = logging.getLogger("rollups")


class Rollups:
    """Asks the database, at most once a minute in this process; the database does it once a minute for all of them."""

    def __init__(self, rpc: Rpc | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rpc = rpc
        self._clock = clock
        self._next_at = float("-inf") if rpc is not None else float("inf")
        self._read_at = self._next_at
        self._reading: asyncio.Task[None] | None = None

    async def keep_up(self) -> None:
        """Do what is due; never raises. What fails is done by whoever asks next."""
        now = self._clock()
        if self._rpc is None or now < self._next_at:
            return
        self._next_at = now + EVERY_S
        arguments = {"p_windows": WINDOWS_AT_ONCE, "p_unless_within": f"{EVERY_S * 0.9:.0f} seconds"}
        try:
            answer: Any = await self._rpc("rollup_inference", arguments)
        except DataFailed as error:
            log.info("rollups wait: %s", error.reason)
        else:
            if answer.get("scheduled"):
                self._next_at = float("inf")

    async def before_reading(self) -> None:
        """Bring them up to date for who is about to read them; others who come meanwhile wait for it too. Never raises.

        Nothing is rolled up while nobody calls, and so the last calls of a quiet site would never be seen.
        """
        if self._rpc is None:
            return
        if self._reading is None and self._clock() >= self._read_at:
            self._read_at = self._clock() + READ_EVERY_S
            self._reading = asyncio.create_task(self._roll_up(self._rpc))
        if self._reading is not None:
            await asyncio.shield(self._reading)

    async def _roll_up(self, rpc: Rpc) -> None:
        try:
            await rpc("rollup_inference", {"p_windows": WINDOWS_AT_ONCE})
        except DataFailed as error:
            log.info("what is read is not the latest: %s", error.reason)
        finally:
            self._reading = None


async def catch_up(rpc: Rpc, box_s: float, clock: Callable[[], float] = time.monotonic) -> dict[str, int]:
    """Bring everything up to date, as far as the time allows: `{rolled, left}`, in windows. Raises DataFailed."""
    ends_at = clock() + box_s - BATCH_TIMEOUT_S
    rolled = 0
    while True:
        answer: Any = await rpc("rollup_inference", {"p_windows": BATCH}, timeout_s=BATCH_TIMEOUT_S)
        rolled += answer["rolled"]
        if not answer["left"] or not answer["rolled"] or clock() >= ends_at:
            return {"rolled": rolled, "left": answer["left"]}

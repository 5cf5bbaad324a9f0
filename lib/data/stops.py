"""Stopping a generation that may run on any instance: by a row that the one which streams looks at every second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from lib.data.circuit import Rpc
from lib.errors import DataFailed

INTERVAL_S = 1.0
TIMEOUT_S = 1.0
Stopping = Literal["stopping", "ended"]


@dataclass(frozen=True, slots=True)
class _Running:
    caller_id: str
    stop: Callable[[], None]


class Stops:
    """What this process generates now. One look at the rows serves all of it; where nothing runs, nobody looks."""

    def __init__(self, rpc: Rpc | None) -> None:
        """`rpc` is None where no database is configured: then only what runs in this process can be stopped."""
        self._rpc = rpc
        self._running: dict[str, _Running] = {}
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, request_id: str, caller_id: str, stop: Callable[[], None]) -> Generator[None]:
        """Call `stop`, perhaps more than once, when this caller wants this request to end."""
        self._running[request_id] = _Running(caller_id, stop)
        if self._looking is None and self._rpc is not None:
            self._looking = asyncio.create_task(self._look(self._rpc))
        try:
            yield
        finally:
            del self._running[request_id]
            if not self._running and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def stop_here(self, request_id: str, caller_id: str) -> bool:
        """Stop it at once, if it runs in this process and is this caller's."""
        running = self._running.get(request_id)
        if running is None or running.caller_id != caller_id:
            return False
        running.stop()
        return True

    async def stop_elsewhere(self, request_id: str, caller_id: str) -> Stopping | None:
        """Ask the instance that runs it; None: no request of this caller has this id. Raises DataFailed."""
        if self._rpc is None:
            return None
        return await self._rpc("request_stop", {"p_request_id": request_id, "p_caller_id": caller_id})

    async def _look(self, rpc: Rpc) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                rows: Any = await rpc("stops_among", {"p_request_ids": list(self._running)}, timeout_s=TIMEOUT_S)
            except DataFailed:
                continue
            for row in rows:
                self.stop_here(row["request_id"], row["caller_id"])

"""Where a request's events go once it has been answered."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from lib.errors import ServiceFailed

if TYPE_CHECKING:
    from lib.telemetry.events import Event

TIMEOUT_S = 2.0
"""For each sink: the invocation lasts that much longer at most."""

log = logging.getLogger("telemetry")


class Sink(Protocol):
    """Takes events somewhere. What it has no use for it leaves out."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Take one request's events, all or none; may raise anything where that fails."""
        ...


class Sinks:
    """All sinks, in the order in which they get a batch. One that fails keeps none of the others from it."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = {type(sink).__name__: sink for sink in sinks}
        self._failing: set[str] = set()
        self.lost: Counter[str] = Counter()
        """Events that were not delivered, by the sink's class."""

    def __bool__(self) -> bool:
        return bool(self._sinks)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Hand a batch to each sink. Never raises; what is lost is counted, and told of once per outage."""
        for name, sink in self._sinks.items():
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await sink.deliver(events)
            except Exception as error:  # noqa: BLE001 - the answer is out: nobody is left who could be told
                self._lose(name, len(events), error)
            else:
                self._recover(name)

    def _lose(self, name: str, count: int, error: Exception) -> None:
        self.lost[name] += count
        if name not in self._failing:
            self._failing.add(name)
            why = error.code if isinstance(error, ServiceFailed) else type(error).__name__
            log.warning("%s takes no events (%s): they are lost, except for their log lines", name, why)

    def _recover(self, name: str) -> None:
        if name in self._failing:
            self._failing.remove(name)
            log.info("%s takes events again; %d were lost in all", name, self.lost[name])

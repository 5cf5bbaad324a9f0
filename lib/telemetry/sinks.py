"""Where a request's events go once it has been answered."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from lib.errors import DataFailed, ServiceFailed

if TYPE_CHECKING:
    from lib.telemetry.events import Event

TIMEOUT_S = 2.0
"""For each sink: the invocation lasts that much longer at most."""

ROOM = 2048
"""Events, of about a kilobyte each, for every process."""

log = logging.getLogger("telemetry")


class Sink(Protocol):
    """Takes events somewhere. What it has no use for it leaves out."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Take one request's events, all or none; may raise anything where that fails."""
        ...


class Outbox:
    """A sink before a sink: what that one does not take is kept, in bounded memory, and sent with the next batch.

    So the other has to be one that may get an event twice. What there is no room for is dropped, the oldest that tell
    of no error first; their log lines remain (`make replay-events`).
    """

    def __init__(self, sink: Sink, room: int = ROOM) -> None:
        self._sink = sink
        self._room = room
        self._kept: list[Event] = []
        self.dropped = 0

    @property
    def inner(self) -> str:
        """The class of the sink behind it."""
        return type(self._sink).__name__

    @property
    def waiting(self) -> int:
        """How many events are kept."""
        return len(self._kept)

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink; raises what the sink raises."""
        batch, self._kept = [*self._kept, *events], []
        delivered = False
        try:
            await self._sink.deliver(batch)
            delivered = True
        finally:
            if not delivered:
                self._keep(batch)

    def _keep(self, batch: list[Event]) -> None:
        kept = [*batch, *self._kept]  # what came in meanwhile is newer
        surplus = len(kept) - self._room
        if surplus > 0:
            self.dropped += surplus
            # Sorting keeps the order of equals: first go those that tell of no error, from the oldest on.
            going = set(sorted(range(len(kept)), key=lambda place: _is_error(kept[place]))[:surplus])
            kept = [event for place, event in enumerate(kept) if place not in going]
        self._kept = kept


def _is_error(event: Event) -> bool:
    return getattr(event, "outcome", "ok") not in {"ok", "cancelled"}


class Sinks:
    """All sinks, in the order in which they get a batch. One that fails keeps none of the others from it."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = {sink.inner if isinstance(sink, Outbox) else type(sink).__name__: sink for sink in sinks}
        self._failing: set[str] = set()
        self.lost: Counter[str] = Counter()
        """Events that were not delivered, by the sink's class. What an Outbox keeps or drops it counts itself."""

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def report(self) -> dict[str, object]:
        """How many events wait to be delivered, were dropped for want of room, and were lost, by sink."""
        boxes = [sink for sink in self._sinks.values() if isinstance(sink, Outbox)]
        return {
            "waiting": sum(box.waiting for box in boxes),
            "dropped": sum(box.dropped for box in boxes),
            "lost": dict(self.lost),
        }

    @property
    def losses(self) -> dict[str, int]:
        """How many events will never be delivered, by sink."""
        dropped = {box.inner: box.dropped for box in self._sinks.values() if isinstance(box, Outbox) and box.dropped}
        return {**dropped, **self.lost}

    async def flush(self) -> dict[str, object]:
        """Try again what waits; then as `report`. Never raises."""
        for name, sink in self._sinks.items():
            if isinstance(sink, Outbox) and sink.waiting:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        await sink.deliver(())
                except Exception as error:  # noqa: BLE001 - as below
                    self._lose(name, 0, error)
                else:
                    self._recover(name)
        return self.report()

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
        if not isinstance(self._sinks[name], Outbox):
            self.lost[name] += count
        if name not in self._failing:
            self._failing.add(name)
            why = type(error).__name__
            if isinstance(error, ServiceFailed):
                why = error.code
            elif isinstance(error, DataFailed):
                why = error.reason
            log.warning("%s takes no events (%s): see their log lines", name, why)

    def _recover(self, name: str) -> None:
        if name in self._failing:
            self._failing.remove(name)
            log.info("%s takes events again; %d were lost in all", name, self.lost[name])

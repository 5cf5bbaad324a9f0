"""Where events go: every sink gets every batch, and what is lost is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from lib.errors import ServiceFailed
from lib.router.plan import Exposure
from lib.telemetry.events import Event, ExposureEvent
from lib.telemetry.sinks import TIMEOUT_S, Sinks
from tests.lib.virtual_time import run

EXPOSURE = Exposure("gate", "g", "rule", passed=True)
EVENT = ExposureEvent("exposure", "id", "2026-11-22T00:00:00.000+00:00", "request", "caller", "key", EXPOSURE, "v1")


class Good:
    """Takes everything."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink."""
        self.batches.append(list(events))


class Bad:
    """Fails as it is told to."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink."""
        del events
        if self.failure is not None:
            raise self.failure


class Slow:
    """Never comes to an end."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink."""
        del events
        await asyncio.sleep(3600)


def test_each_gets_the_batch() -> None:
    """Batches go to each sink, in order."""
    good = Good()
    sinks = Sinks(good)
    run(sinks.deliver([EVENT, EVENT]))
    assert (good.batches, sinks.lost, bool(sinks), bool(Sinks())) == ([[EVENT, EVENT]], {}, True, False)


@pytest.mark.parametrize("failure", [ServiceFailed("http_500"), RuntimeError("secret"), TimeoutError()])
def test_failing_sink(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A sink that fails keeps no other from the events; what it lost is counted, and told of once per outage."""
    caplog.set_level(logging.INFO, "telemetry")
    good, bad = Good(), Bad(failure)
    sinks = Sinks(bad, good)
    for _ in range(3):
        run(sinks.deliver([EVENT, EVENT]))
    assert (sinks.lost, len(good.batches)) == ({"Bad": 6}, 3)
    bad.failure = None
    run(sinks.deliver([EVENT]))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "6 were lost" in caplog.records[1].getMessage()
    assert "secret" not in caplog.text


def test_endless_sink() -> None:
    """A sink that does not come to an end is left after its time."""
    good = Good()
    sinks = Sinks(Slow(), good)

    async def deliver() -> float:
        began = asyncio.get_running_loop().time()
        await sinks.deliver([EVENT])
        return asyncio.get_running_loop().time() - began

    assert run(deliver()) == pytest.approx(TIMEOUT_S)
    assert (sinks.lost, len(good.batches)) == ({"Slow": 1}, 1)

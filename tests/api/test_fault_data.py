"""Rows of our matrix about the database: answers do not wait for it, and no event is lost uncounted."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lib.app import App
from lib.errors import DataFailed
from lib.settings import from_environ
from lib.telemetry.events import Event, InferenceEvent
from lib.telemetry.sinks import Outbox, Sinks
from lib.telemetry.supabase import SupabaseSink
from scripts.replay_events import events_in, replay
from tests.api.conftest import StartInstance, over
from tests.conftest import KEY_HEADER, Serve, hosted_over
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate, Vendor
from tests.fakes.web import Told, Web
from tests.local.supabase.conftest import Project

ASK: dict[str, object] = {"prompt": "Hi", "stream": False}
KILLS = int(os.environ.get("KILLS", "20"))
PAUSE = threading.Event()
NOWHERE = "http://127.0.0.1:9"
NONE: dict[str, Any] = dict.fromkeys(field.name for field in fields(InferenceEvent))
EVENT = replace(
    InferenceEvent(**NONE),
    event="ai_inference",
    created_at="2026-11-22T12:00:00.000+00:00",
    attempt=1,
    kind="first",
    caller_kind="key",
    route="/api/generate",
    modality="text",
    provider="groq",
    model="m",
    outcome="ok",
    latency_ms=1.0,
    input_tokens=1,
    output_tokens=1,
    reasoning_tokens=0,
    estimated=False,
    cost_micro_usd=1,
    cold_start=False,
    metadata={"note": "with \0 in it"},
)
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"


def event(outcome: str = "ok") -> InferenceEvent:
    """Another event."""
    return replace(EVENT, id=str(uuid4()), request_id=str(uuid4()), outcome=outcome)


def ask(url: str, **headers: str) -> httpx.Response:
    """One whole answer."""
    return httpx.post(f"{url}/api/generate", json=ASK, headers=headers, timeout=60)


class Flaky:
    """The database, down for three batches of four."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc
        self.asked = 0

    async def __call__(self, function: str, arguments: Any, **options: Any) -> Any:
        """See Rpc; what fails may have been done all the same."""
        self.asked += 1
        if self.asked % 4 == 1:
            return await self.rpc(function, arguments, **options)
        if self.asked % 4 == 2:
            await self.rpc(function, arguments, **options)
        raise DataFailed("timeout")


def test_fault_26_database_takes_no_events(supabase: Project, loop: LoopThread) -> None:
    """Ten thousand events while it comes and goes, some answers lost: each is one row, and none is lost."""
    app = App(from_environ(over(supabase)))

    async def deliver() -> tuple[dict[str, object], int]:
        assert app.supabase is not None
        outbox = Outbox(SupabaseSink(Flaky(app.supabase.rpc)))
        sinks = Sinks(outbox)
        for _ in range(100):
            await sinks.deliver([event() for _ in range(100)])
        while outbox.waiting:
            await sinks.deliver([])
        await app.aclose()
        return sinks.report(), outbox.dropped

    report, dropped = loop.run(deliver(), 120)
    assert (report, dropped) == ({"waiting": 0, "dropped": 0, "lost": {}}, 0)
    assert supabase.sql("select count(*), count(distinct request_id) from public.inference_events") == [
        (10_000, 10_000)
    ]
    assert supabase.sql("select distinct metadata ->> 'note' from public.inference_events") == [("with  in it",)]


def test_fault_27_killed_before_the_flush(
    start_instance: StartInstance,
    supabase: Project,
    vendor: Vendor,
    loop: LoopThread,
    tmp_path: Path,
) -> None:
    """An instance that is killed when the answer is out and the events are not: their log lines make the rows."""
    gate = Gate()
    silent = Web(loop, lambda asked: Told(503, gate=gate) if asked.path.endswith("record_events") else Told(503))
    environ = {**hosted_over(groq=vendor), **over(supabase), "SUPABASE_URL": silent.url}
    for _ in range(KILLS):
        instance = start_instance(environ)
        assert ask(instance.url, **KEY_HEADER).status_code == 200
        # Held back by the database's silence: the line is all that there is.
        assert any("ai_inference" in instance.log.read_text() or PAUSE.wait(0.005) for _ in range(5000))
        instance.kill()
    gate.open()
    silent.close()
    lines = [line for file in tmp_path.glob("instance-*.log") for line in file.read_text().splitlines()]
    app = App(from_environ(over(supabase)))

    async def again() -> list[dict[str, int]]:
        told = [await replay(app, events_in(lines)) for _ in range(2)]
        await app.aclose()
        return told

    first, second = loop.run(again(), 60)
    assert first == {"inserted": KILLS, "duplicates": 0, "rejected": 0}
    assert second == {"inserted": 0, "duplicates": KILLS, "rejected": 0}


class Down:
    """A sink that is down, until it is not."""

    def __init__(self) -> None:
        self.is_down = True
        self.taken: list[Event] = []

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink."""
        if self.is_down:
            raise DataFailed("timeout")
        self.taken += events


def test_fault_28_outbox_is_full() -> None:
    """The oldest that tell of no error go first, and every one of them is counted."""
    sink = Down()
    outbox = Outbox(sink, room=4)
    batch = [event(outcome) for outcome in ("ok", "error", "ok", "timeout", "ok", "cancelled")]

    async def fill() -> None:
        for each in batch:
            with pytest.raises(DataFailed):
                await outbox.deliver([each])

        assert (outbox.waiting, outbox.dropped) == (4, 2)
        sink.is_down = False
        await outbox.deliver([])

    asyncio.run(fill())
    assert (outbox.waiting, outbox.dropped) == (0, 2)
    assert sink.taken == [batch[1], batch[3], batch[4], batch[5]]


def test_fault_31_database_is_down(serve: Serve, supabase: Project, vendor: Vendor) -> None:
    """Holders of a key are answered, guests are told to come back, health says so; no event is forgotten."""
    url = serve({**hosted_over(groq=vendor), **over(supabase), "SUPABASE_URL": NOWHERE})
    assert [ask(url, **KEY_HEADER).status_code for _ in range(3)] == [200] * 3
    guest = ask(url)
    assert (guest.status_code, guest.json()["code"], guest.headers["retry-after"]) == (503, "data_unavailable", "5")
    health = httpx.get(f"{url}/api/health").json()
    assert health["status"] == "degraded"
    assert [part["trouble"] for part in health["parts"] if part["name"] == "supabase"] != []
    assert health["events"] == {"waiting": 3, "dropped": 0, "lost": {}}
    assert httpx.get(f"{url}/api/usage", headers=KEY_HEADER).status_code == 503


def test_fault_32_database_is_locked(serve: Serve, supabase: Project, vendor: Vendor) -> None:
    """Behind a lock nobody waits longer than two seconds, and those who come later do not wait at all."""
    url = serve({**hosted_over(groq=vendor), **over(supabase)})
    with supabase.database.connect() as connection, connection.transaction():
        connection.execute("lock table public.usage_counters in access exclusive mode")
        with ThreadPoolExecutor(8) as pool:
            guests = [each.result() for each in [pool.submit(ask, url) for _ in range(8)]]
        assert [(each.status_code, each.json()["code"]) for each in guests] == [(503, "data_unavailable")] * 8
        assert ask(url, **KEY_HEADER).status_code == 200
        # Those who gave up are ended by the database a moment later; nobody new has come to wait.
        deadline = time.monotonic() + 10
        while (waiting := supabase.sql(WAITING)[0][0]) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert waiting <= 1  # a probe at most
    health = httpx.get(f"{url}/api/health").json()
    assert health["status"] == "degraded"
    assert len(vendor.requests) == 1

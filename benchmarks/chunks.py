"""CPU per streamed event: our byte path, up to the frames that a caller gets, beside iterating the SDK's objects."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.tools import Table, running_upstream
from lib.app import App
from lib.http.ui_message import UIMessageWriter
from lib.providers.base import ChatRequest, Model
from lib.providers.catalog import ROWS
from lib.settings import from_environ

EVENTS = 2_000
CALLS = 10
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


def measure() -> Table:
    """Read the same answers both ways, in turns."""
    with running_upstream() as upstream:
        return asyncio.run(_measure(upstream))


async def _measure(upstream: str) -> Table:
    from openai import AsyncOpenAI  # noqa: PLC0415 - what is measured

    app = App(from_environ({"LOCAL_TEXT_BASE_URL": f"{upstream}/v1"}), ROWS)
    http: Any = app.http()  # typed for httpx2, takes httpx as well
    client = AsyncOpenAI(api_key="none", base_url=f"{upstream}/v1", http_client=http, max_retries=0)
    table = Table(f"CPU per event, {CALLS} answers of {EVENTS} events, microseconds")
    for kind in ("burst", "paced"):
        model = f"{kind}-{EVENTS}"
        sdk = ours = 0.0
        for _ in range(CALLS):
            sdk += await _cpu(_iterate(client, model))
            ours += await _cpu(_stream(app, model))
        table.add(
            f"{kind} (one {'write' if kind == 'burst' else 'event a write'})",
            "SDK's objects",
            sdk / CALLS / EVENTS * 1e6,
            "ours",
            ours / CALLS / EVENTS * 1e6,
        )
    await app.aclose()
    return table


async def _iterate(client: Any, model: str) -> int:
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    return len([chunk async for chunk in stream])


async def _stream(app: App, model: str) -> int:
    provider, writer = app.text_provider("local"), UIMessageWriter()
    request = ChatRequest(tuple(MESSAGES), max_tokens=100)
    return sum([len(writer.write(deltas)) async for deltas in provider.stream(request, Model(model, 8192, 100))])


async def _cpu(work: Any) -> float:
    begin = time.process_time()
    await work
    return time.process_time() - begin

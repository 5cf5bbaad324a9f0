"""CPU per streamed chunk: the whole handler beside a pass-through, and our byte path beside the SDK's objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from benchmarks.client import load
from benchmarks.report import Goal, Section
from benchmarks.servers import Server, handler, pass_through
from benchmarks.tools import cpu_s, running_upstream
from lib.app import App
from lib.http.ui_message import UIMessageWriter
from lib.providers.base import ChatRequest, Model
from lib.settings import from_environ

KINDS = {"burst-2000": 2_000, "paced-200": 200}
"""Models of the vendor, and how many chunks an answer of theirs has."""
AT_ONCE = {"burst-2000": 1, "paced-200": 4}
SECONDS = 3.0
CALLS = 10
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]

Contender = tuple[str, Callable[[str, str], AbstractContextManager[Server]]]
"""A name, and what serves it over an upstream, asked for a model."""


def measure(more: Sequence[Contender] = ()) -> Section:
    """The CPU of each server's process over some seconds of answers, by their chunks."""
    section = Section(
        "CPU per streamed chunk of the whole handler",
        f"CPU of the server's process, its requests included, over {SECONDS:.0f} s of answers. In one write: 2,000 "
        "chunks at once. One per write: 200 chunks a millisecond apart, 4 answers at once.",
        ("microseconds per chunk", "in one write", "one per write"),
    )
    contenders: list[Contender] = [("pass-through, aiohttp", pass_through), ("/api/generate", handler), *more]
    with running_upstream() as upstream:
        figures = {name: [_per_chunk(serve, upstream, kind) for kind in KINDS] for name, serve in contenders}
    section.rows += [(name, *values) for name, values in figures.items()]
    for kind, value in zip(("in one write", "one per write"), figures["/api/generate"], strict=True):
        section.goals.append(Goal(f"/api/generate, {kind}", value, 15, " µs"))
    least, ours = (figures[name][1] for name in ("pass-through, aiohttp", "/api/generate"))
    section.notes.append(
        f"One per write, {least:.0f} µs are the pass-through's: reading a socket, waking up and writing to another. "
        f"What is ours is the difference, {ours - least:.0f} µs."
    )
    return section


def beside_the_sdk() -> Section:
    """Read the same answers both ways in this process, in turns."""
    with running_upstream() as upstream:
        return asyncio.run(_beside_the_sdk(upstream))


def _per_chunk(serve: Callable[[str, str], AbstractContextManager[Server]], upstream: str, model: str) -> float:
    with serve(upstream, model) as server:
        load(server.target, AT_ONCE[model], 0.5)
        before = cpu_s(server.pid)
        done = load(server.target, AT_ONCE[model], SECONDS)
        used = cpu_s(server.pid) - before
    if done.failed or not done.answered:
        raise RuntimeError(f"{server.target.name} left {done.failed} of {done.answered} answers undone.")
    return used / (done.answered * KINDS[model]) * 1e6


async def _beside_the_sdk(upstream: str) -> Section:
    from openai import AsyncOpenAI  # noqa: PLC0415 - what is measured

    app = App(from_environ({"LOCAL_TEXT_BASE_URL": f"{upstream}/v1"}))
    http: Any = app.http()  # typed for httpx2, takes httpx as well
    client = AsyncOpenAI(api_key="none", base_url=f"{upstream}/v1", http_client=http, max_retries=0)
    section = Section(
        "CPU per event in this process",
        f"{CALLS} answers each way, in turns: iterating the SDK's objects, and our bytes up to the frames of a caller.",
        ("microseconds per event", "SDK's objects", "ours", "ratio"),
    )
    for kind, count in KINDS.items():
        ways = (partial(_iterate, client, kind), partial(_stream, app, kind))
        used = [0.0, 0.0]
        for _ in range(CALLS):
            for index, way in enumerate(ways):
                begin = time.process_time()
                await way()
                used[index] += time.process_time() - begin
        sdk, ours = (each / CALLS / count * 1e6 for each in used)
        section.rows.append(("in one write" if kind.startswith("burst") else "one per write", sdk, ours, ours / sdk))
    await app.aclose()
    return section


async def _iterate(client: Any, model: str) -> int:
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    return len([chunk async for chunk in stream])


async def _stream(app: App, model: str) -> int:
    provider, writer = app.text_provider("local"), UIMessageWriter()
    request = ChatRequest(tuple(MESSAGES), max_tokens=100)
    return sum([len(writer.write(deltas)) async for deltas in provider.stream(request, Model(model, 8192, 100))])

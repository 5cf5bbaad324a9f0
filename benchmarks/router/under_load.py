"""How much one core bears: requests per second, and many streams at once."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from benchmarks.client import hold, load
from benchmarks.report import Goal, Section
from benchmarks.router import peers
from benchmarks.servers import Server, handler, pass_through
from benchmarks.tools import cpu_s, rss_mib, running_upstream

CONNECTIONS = 32
SECONDS = 4.0
STREAMS = 200
WARM_STREAMS = 50
STREAM_S = 100 * 0.05
"""How long the vendor takes for an answer of 100 chunks."""
SAMPLE_S = 0.25

CONTENDERS: dict[str, Callable[[str, str], AbstractContextManager[Server]]] = {
    "pass-through, aiohttp": pass_through,
    "pass-through, httpx": partial(pass_through, engine="httpx"),
    "/api/generate": handler,
    "LiteLLM proxy": peers.litellm,
}


def measure() -> tuple[Section, Section]:
    """Both, one server after another."""
    rates = Section(
        "Requests per second on one core",
        f"{CONNECTIONS} connections that call again and again for {SECONDS:.0f} s; answers of 20 chunks in one write.",
        ("", "requests/s", "per s of CPU", "CPU µs each", "p50 ms", "p99 ms", "failed"),
    )
    streams = Section(
        f"{STREAMS} streams at once on one core",
        f"{STREAMS} answers of 100 chunks, 50 ms apart, so {STREAM_S:.0f} s long. Memory: what the process holds more "
        f"at its most than after {WARM_STREAMS} such streams.",
        ("", "failed", "late p50 ms", "late p99 ms", "core %", "MiB per stream", "MiB in all"),
    )
    with running_upstream() as upstream:
        for name, serve in CONTENDERS.items():
            with serve(upstream, "burst-20") as server:
                rates.rows.append((name, *_rate(server)))
        for name, serve in CONTENDERS.items():
            with serve(upstream, "slow-100") as server:
                streams.rows.append((name, *_streams(server)))
    ours = dict(zip(rates.header, rates.rows[2], strict=True))
    rates.goals.append(
        Goal("/api/generate, requests per second of CPU", float(ours["per s of CPU"] or 0), 900, at_least=True)
    )
    rates.notes.append(
        "Where requests/s is less than requests per second of CPU, the server had not all of the core, or waited."
    )
    ours = dict(zip(streams.header, streams.rows[2], strict=True))
    streams.goals.append(Goal("/api/generate, MiB per stream", float(ours["MiB per stream"] or 0), 2))
    streams.goals.append(Goal("/api/generate, failed", float(ours["failed"] or 0), 0))
    return rates, streams


def _rate(server: Server) -> tuple[float, ...]:
    load(server.target, CONNECTIONS, 1.0)
    before = cpu_s(server.pid)
    done = load(server.target, CONNECTIONS, SECONDS)
    used = cpu_s(server.pid) - before
    taken = [seconds * 1000 for seconds in done.taken_s]
    return (
        done.answered / done.seconds,
        done.answered / used,
        used / done.answered * 1e6,
        statistics.median(taken),
        statistics.quantiles(taken, n=100)[98],
        done.failed,
    )


def _streams(server: Server) -> tuple[float, ...]:
    hold(server.target, WARM_STREAMS)
    before_mib, before_s = rss_mib(server.pid), cpu_s(server.pid)
    most_mib = before_mib
    over = threading.Event()

    def watch() -> None:
        nonlocal most_mib
        while not over.wait(SAMPLE_S):
            most_mib = max(most_mib, rss_mib(server.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = hold(server.target, STREAMS)
    finally:
        over.set()
        watcher.join()
    used = cpu_s(server.pid) - before_s
    late = [(seconds - STREAM_S) * 1000 for seconds in done.taken_s]
    return (
        done.failed,
        statistics.median(late),
        statistics.quantiles(late, n=100)[98],
        used / done.seconds * 100,
        (most_mib - before_mib) / STREAMS,
        most_mib,
    )

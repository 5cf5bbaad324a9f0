"""What a result costs that was paid for before: a call that finds it, beside one that only says who is calling."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.report import Goal, Section
from benchmarks.tools import on_one_core, rss_mib
from tests.conftest import ACCESS, KEY_HEADER
from tests.database import copied, served
from tests.fakes.fal import FakeFal
from tests.fakes.loop import LoopThread
from tests.instances import instance
from tests.local.supabase.conftest import Clock, Project, supabase
from tests.local.supabase.conftest import served as gateway

ROUNDS = 500
WARM_UP = 100
PICTURE = {"outputs": ["image"], "image": {"prompt": "A lighthouse"}, "stream": False}
MEMORY_MIB = 4.0
"""What may come and go with the allocator."""


@dataclass(frozen=True)
class _Product:
    """The product in a process of its own, over a gateway and a vendor in this one."""

    pid: int
    client: httpx.Client
    vendor: FakeFal
    project: Project


def measure() -> Section:
    """The same picture again and again, in turns with the caller's identity and with one call of the database."""
    with _running() as product:
        asks: Mapping[str, Callable[[], httpx.Response]] = {
            "identity alone (GET /api/session)": lambda: product.client.get("/api/session"),
            "one call of the database, direct": lambda: product.project.send(
                "POST", "/rest/v1/rpc/stops_among", json={"p_request_ids": []}
            ),
            "the list of assets (GET /api/assets)": lambda: product.client.get("/api/assets"),
            "a picture that is there (POST /api/generate)": lambda: product.client.post("/api/generate", json=PICTURE),
        }
        for _ in range(WARM_UP):
            for ask in asks.values():
                assert ask().status_code == 200, ask().text  # noqa: PLR2004, S101 - or it measures something else
        calls, memory = len(product.vendor.steps), rss_mib(product.pid)
        times: dict[str, list[float]] = {name: [] for name in asks}
        for _ in range(ROUNDS):
            for name, ask in asks.items():
                begun = time.perf_counter()
                ask()
                times[name].append((time.perf_counter() - begun) * 1000)
        grown = rss_mib(product.pid) - memory
        more_calls = len(product.vendor.steps) - calls
    rows = {name: _percentiles(found) for name, found in times.items()}
    identity, found = rows["identity alone (GET /api/session)"], rows["a picture that is there (POST /api/generate)"]
    return Section(
        "What was paid for before",
        f"{ROUNDS} calls of each in turns, over one connection, after {WARM_UP}; the product in a process of its own, "
        "the embedded Postgres and its gateway beside it. Beyond identity: p50 less p50, p95 less p95.",
        ("milliseconds", "p50", "p95"),
        [
            *((name, *values) for name, values in rows.items()),
            ("a picture, beyond identity", *(mine - least for mine, least in zip(found, identity, strict=True))),
        ],
        [
            Goal("a repeat beyond identity, p95", found[1] - identity[1], 8.0, " ms"),
            Goal(f"calls of the vendor in {ROUNDS} repeats", more_calls, 0),
            Goal(f"memory more after {ROUNDS} of each", grown, MEMORY_MIB, " MiB"),
        ],
    )


@contextmanager
def _running() -> Generator[_Product]:
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(LoopThread()) as loop,
        served() as postgres,
        copied(postgres, "benchmark") as database,
        gateway(database, Path(folder), loop, Clock()) as project,
        closing(FakeFal(loop)) as vendor,
    ):
        database.connect().execute("update public.limits set requests_per_minute = null, microusd_per_day = null")
        environ = {**ACCESS, **supabase(project.url), "FAL_KEY": "key-of-fal-0123456789", "FAL_BASE_URL": vendor.url}
        with (
            on_one_core(),
            instance(environ, Path(folder) / "log") as product,
            httpx.Client(base_url=product.url, headers=KEY_HEADER, timeout=30) as client,
        ):
            pid = product.process.pid
            assert pid is not None  # noqa: S101 - it has been started
            yield _Product(pid, client, vendor, project)


def _percentiles(found: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return cuts[49], cuts[94]


if __name__ == "__main__":
    print(measure())

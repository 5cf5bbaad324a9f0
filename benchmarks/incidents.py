"""`make bench-incidents`: the webhook under load, GitHub's calls per duplicate, the cron with silent vendors.

Two processes of the product over an embedded Postgres and its gateway, against a GitHub that takes five seconds for
every write. Everything runs on this machine, the fakes and the gateway included, so they share its processors.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import quantiles

import aiohttp
import httpx

from tests.api.conftest import over
from tests.conftest import ACCESS
from tests.database import copied, served
from tests.fakes.github import GitHub
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.incidents import SIGNING, delivery, rows, send, signature
from tests.instances import Instance, instance
from tests.local.supabase.conftest import Clock, Project
from tests.local.supabase.conftest import served as gateway_served

AT_ONCE = 50
ROUNDS = 20
SLOW_S = 5.0
CRON = {"authorization": "Bearer cron-secret-0123456789"}


class Slow(Gate):
    """A gate that opens by itself, for each who waits, after five seconds."""

    async def passed(self) -> None:
        """Wait for it."""
        await asyncio.sleep(SLOW_S)


def main() -> None:
    """Measure and print."""
    with ExitStack() as running:
        loop = running.enter_context(closing(LoopThread()))
        database = running.enter_context(copied(running.enter_context(served()), "bench"))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        project = running.enter_context(gateway_served(database, folder, loop, Clock()))
        github = running.enter_context(closing(GitHub(loop)))
        environ = {**ACCESS, **over(project), **SIGNING, **github.environ}
        instances = [running.enter_context(instance(environ, folder / f"{number}.log")) for number in range(2)]
        for each in instances:
            send(each.url, delivery("evt_warm", "deployment.created"))
        _duplicates(instances, github, project)
        _deliveries(instances, github, project)
        github.gate = None
        _cron(running, folder, environ)


def _deliveries(instances: list[Instance], github: GitHub, project: Project) -> None:
    github.gate = Slow()
    times: list[float] = []
    urls = [each.url for each in instances] * (AT_ONCE // 2)
    # The callers are a process of their own: in this one are the gateway to the database and GitHub.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as callers:
        for round_ in range(ROUNDS + 1):
            bodies = [delivery(f"evt_{round_}_{number}", project=f"prj_{round_}") for number in range(AT_ONCE)]
            while project.sql("select from public.webhook_deliveries where done_at is null"):
                time.sleep(0.05)  # what follows the last ones' answers is done
            took = callers.submit(_call, urls, bodies).result()
            if round_ == 0:
                print(f"the first {AT_ONCE}, for which both processes import what they need: {_told(took)}")
            else:
                times += took
    print(
        f"{len(times)} more, {AT_ONCE} at once, two processes, GitHub taking {SLOW_S:.0f} s for a write: {_told(times)}"
    )


def _told(times: list[float]) -> str:
    cuts = quantiles(times, n=100)
    return f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms, at most {max(times) * 1000:.0f} ms"


def _call(urls: list[str], bodies: list[bytes]) -> list[float]:
    """Deliver all at once; seconds from connecting to the whole answer of each, which must be 202."""

    async def one(session: aiohttp.ClientSession, url: str, body: bytes) -> float:
        begin = time.perf_counter()
        headers = {"x-vercel-signature": signature(body)}
        async with session.post(f"{url}/api/deploy_webhook", data=body, headers=headers) as answer:
            await answer.read()
            assert answer.status == 202, answer.status  # noqa: PLR2004, S101
        return time.perf_counter() - begin

    async def all_() -> list[float]:
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(one(session, url, body) for url, body in zip(urls, bodies, strict=True)))

    return asyncio.run(all_())


def _duplicates(instances: list[Instance], github: GitHub, project: Project) -> None:
    before = len(github.calls())
    body = delivery("evt_copies", project="prj_copies")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(send, [each.url for each in instances] * (AT_ONCE // 2), [body] * AT_ONCE))
    accepted = sum(answer.status_code == 202 for answer in answers)  # noqa: PLR2004
    deadline = time.monotonic() + 10
    while rows(project)[-1]["told"] is None and time.monotonic() < deadline:
        time.sleep(0.05)
    made = [call for call in github.calls()[before:] if call == "POST /issues"]
    print(
        f"{AT_ONCE} copies of one delivery: {accepted} accepted, {len(made)} issue, "
        f"{len(github.calls()) - before} calls of GitHub"
    )


def _cron(running: ExitStack, folder: Path, environ: dict[str, str]) -> None:
    """Vendors that take connections and never say a word."""
    silent = running.enter_context(socket.create_server(("127.0.0.1", 0)))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    names = ("GROQ", "XAI", "DEEPINFRA")
    vendors = {**{f"{name}_API_KEY": "key-0123456789" for name in names}, **{f"{name}_BASE_URL": url for name in names}}
    at = running.enter_context(instance({**environ, **vendors}, folder / "cron.log")).url
    begin = time.perf_counter()
    report = httpx.get(f"{at}/api/health?run=1", headers=CRON, timeout=300).json()
    took = time.perf_counter() - begin
    failed = [name for name, task in report["tasks"].items() if not task["ok"]]
    print(f"the whole cron run with all vendors silent: {took:.1f} s, {report['outcome']}, failed tasks: {failed}")


if __name__ == "__main__":
    main()

"""`make traffic`: some hundred simulated users, so that the dashboard has something to tell.

Their requests are real ones, through the functions, the flags, the router and the embedded model; only the users are
made up. The experiment's three arms are three rows of the catalogue over the same model, and before the third stands a
proxy that makes it slower and flakier. What the dashboard then shows is what happened.

Meanwhile a rollout drives itself: its candidate is as good as the control until half of the users get it, and then
begins to fail. Nobody tells the rollout; it finds out, and is back at 0 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from lib import settings as environment
from lib.app import App
from lib.control.flags import GATE
from lib.control.parameters import ITEM
from lib.control.specs import with_share
from lib.data.rollups import catch_up
from lib.providers.base import Usage
from lib.providers.catalog import ROWS, Row
from lib.telemetry.cost import Costs
from local.edge_config import FOLDER, Files, connection_string, endpoints
from local.engine import Engine
from local.migrations import MigrationError
from local.postgres import Postgres, PostgresError
from local.report import ROOT
from local.server import DEFAULT_PORT, STATE, Site, kept_secret
from local.supabase.gateway import gateway

ARMS = {"groq": "local", "deepinfra": "local-b", "xai": "local-c"}
"""The experiment's arms and the rows that stand for them: nothing is ever counted for a vendor that was not asked."""
UPTO = {"groq": 500, "deepinfra": 750, "xai": 1000}
"""Below which of Statsig's thousand buckets a user is in the arm: half of all in that which the rollout is about."""
USERS = 300
AT_ONCE = 6
"""Users who wait for an answer at the same time: what the embedded model can serve in parallel, and a short queue."""
QUESTIONS = (
    "Name a colour.",
    "Say hello in French.",
    "What is 2 + 2?",
    "Name a river in Europe.",
    "One word for a small dog.",
    "What do bees make?",
    "Name a planet.",
    "Is water wet?",
)
SPECS = "statsig-local.json"
OK, UNAVAILABLE, SLOWER_S, FAILS, CUTS = 200, 503, (0.15, 0.6), 0.10, 0.06
CANDIDATE, REPLACED = "smollm2-135m-candidate", "smollm2-135m-instruct"
FAILS_LATER = 0.7
ROLLOUT = {
    "rollout_stages": [30, 60, 100],
    "rollout_dwell_s": 3,
    "rollout_fewest_users": 3,
    "rollout_most_users": 8,
    "rollout_baseline_requests": 50,
    "rollout_tick_s": 2,
    # How fast the embedded model is depends on what else the processor does.
    "rollout_latency_ratio": 5,
}
"""A rollout in a minute instead of days: so few users prove nothing of a candidate that is only a little worse."""


class Flaky:
    """A proxy before an OpenAI-compatible server: every answer late, some refused, some cut off in the middle."""

    def __init__(self, upstream: str, chance: random.Random) -> None:
        self._client = httpx.AsyncClient(base_url=upstream, timeout=60)
        self._chance = chance
        self.app = Starlette(routes=[Route("/{path:path}", self._forward, methods=["GET", "POST"])])

    async def _forward(self, request: Request) -> Response:
        await asyncio.sleep(self._chance.uniform(*SLOWER_S))
        fate = self._chance.random()
        if fate < FAILS:
            return JSONResponse({"error": {"message": "overloaded", "type": "server_error"}}, UNAVAILABLE)
        sent = self._client.build_request(
            request.method,
            request.path_params["path"],
            content=await request.body(),
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
        reply = await self._client.send(sent, stream=True)
        chunks = self._chunks(reply, cut_after=self._chance.randint(3, 6) if fate < FAILS + CUTS else None)
        return StreamingResponse(chunks, reply.status_code, {"content-type": reply.headers["content-type"]})

    async def _chunks(self, reply: httpx.Response, cut_after: int | None) -> AsyncGenerator[bytes]:
        try:
            number = 0
            async for line in reply.aiter_lines():
                yield f"{line}\n".encode()
                number += bool(line)
                if number == cut_after:
                    raise ConnectionAbortedError  # uvicorn closes the connection where it stands
        finally:
            await reply.aclose()


class Candidate:
    """A proxy that serves the candidate by the model it replaces, until it is told to fail."""

    def __init__(self, upstream: str, chance: random.Random) -> None:
        self.fails = False
        self._client = httpx.AsyncClient(base_url=upstream, timeout=60)
        self._chance = chance
        self.app = Starlette(routes=[Route("/{path:path}", self._forward, methods=["GET", "POST"])])

    async def _forward(self, request: Request) -> Response:
        body = await request.body()
        if CANDIDATE.encode() in body:
            if self.fails and self._chance.random() < FAILS_LATER:
                return JSONResponse({"error": {"message": "overloaded", "type": "server_error"}}, UNAVAILABLE)
            body = body.replace(CANDIDATE.encode(), REPLACED.encode())
        kind = {"content-type": request.headers.get("content-type", "application/json")}
        sent = self._client.build_request(request.method, request.path_params["path"], content=body, headers=kind)
        reply = await self._client.send(sent, stream=True)
        return StreamingResponse(
            self._chunks(reply), reply.status_code, {"content-type": reply.headers["content-type"]}
        )

    async def _chunks(self, reply: httpx.Response) -> AsyncGenerator[bytes]:
        try:
            async for chunk in reply.aiter_raw():
                yield chunk
        finally:
            await reply.aclose()


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncGenerator[str]:
    """An ASGI app at a free port of this machine; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1, lifespan="on")
    server = uvicorn.Server(config)
    # Or each of these servers would take the signals from the one before.
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def rows() -> tuple[Row, ...]:
    """The catalogue, with two more rows over the embedded model."""
    (local,) = (row for row in ROWS if row.name == "local")
    more = [
        replace(local, name=name, label=f"Embedded demo model ({name})", base_url_var=_variable(name))
        for name in ARMS.values()
        if name != "local"
    ]
    candidate = replace(local, models=(*local.models, replace(local.models[0], id=CANDIDATE)))
    return (*(row for row in ROWS if row is not local), candidate, *more)


def _variable(name: str) -> str:
    return f"{name.upper().replace('-', '_')}_TEXT_BASE_URL"


def items(folder: Path) -> Files:
    """The Edge Config's items, in which each arm names its own row."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    specs = json.loads((folder / SPECS).read_text())
    (experiment,) = specs["dynamic_configs"]
    for rule in experiment["rules"]:
        rule["conditions"][0]["targetValue"] = UPTO[rule["groupName"]]
        rule["returnValue"] = {
            "provider": ARMS[rule["groupName"]],
            "model": rule["returnValue"]["model"],
            "candidate_model": CANDIDATE,
        }
    (folder / SPECS).write_text(json.dumps(with_share(specs, GATE, 0)))
    (folder / f"{ITEM}.json").write_text(json.dumps(ROLLOUT))
    return Files(folder)


async def _supabase(engines: AsyncExitStack) -> tuple[Postgres, str, str]:
    """The embedded Postgres, `make run`'s where that runs already, and its keys. Raises SystemExit."""
    STATE.mkdir(exist_ok=True)
    postgres = Postgres(STATE / "postgres")
    try:
        postgres.conninfo()
    except PostgresError:
        try:
            engines.callback(postgres.stop)
            await asyncio.to_thread(postgres.start)
        except PostgresError as error:
            raise SystemExit(str(error)) from error
    folder = ROOT / "supabase"
    try:
        await asyncio.to_thread(postgres.migrate, folder / "migrations", seed=folder / "seed.sql")
    except MigrationError as error:
        raise SystemExit(str(error)) from error
    secret, publishable = (f"sb_{kind}_{kept_secret(STATE / f'supabase-{kind}')}" for kind in ("secret", "publishable"))
    return postgres, secret, publishable


class Free(Costs):
    """Prices, in which the further rows cost what the embedded model does: nothing."""

    async def usd(self, provider: str, model: str, usage: Usage) -> Decimal | None:
        """See Costs."""
        return await super().usd("local" if provider in ARMS.values() else provider, model, usage)


class Crowd:
    """Users who ask one thing or a few, one after the other, and sometimes leave or say what they think of it."""

    def __init__(self, url: str, chance: random.Random, ends_at: float) -> None:
        self._url = url
        self._chance = chance
        self._ends_at = ends_at
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.outcomes: Counter[str] = Counter()

    async def come(self, users: int) -> None:
        """All of them, as many at once as may."""
        await asyncio.gather(*(self._user(random.Random(self._chance.random())) for _ in range(users)))  # noqa: S311

    async def _user(self, chance: random.Random) -> None:
        async with self._turn:
            if time.monotonic() > self._ends_at:
                self.outcomes["stayed away"] += 1
                return
            async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
                for _ in range(chance.choice((1, 1, 1, 2))):
                    outcome = await self._ask(client, chance)
                    self.outcomes[outcome] += 1
            if sum(self.outcomes.values()) % 25 == 0:
                print(f"  {sum(self.outcomes.values())} requests", flush=True)

    async def _ask(self, client: httpx.AsyncClient, chance: random.Random) -> str:
        body = {"prompt": chance.choice(QUESTIONS), "max_tokens": chance.randint(5, 14)}
        leaves = chance.random() < 0.03  # noqa: PLR2004 - a few do
        parts: list[str] = []
        try:
            async with client.stream("POST", "/api/generate", json=body) as reply:
                if reply.status_code != OK:
                    return f"answered {reply.status_code}"
                request_id = reply.headers["x-request-id"]
                async for line in reply.aiter_lines():
                    parts.append(line)
                    if leaves and "text-delta" in line:
                        return "left"
        except httpx.HTTPError:
            return "broke off"
        good = any('"finish"' in line for line in parts) and not any('"type":"error"' in line for line in parts)
        if chance.random() < 0.2:  # noqa: PLR2004 - one in five says so
            thumb = "up" if good and chance.random() < 0.8 else "down"  # noqa: PLR2004 - most are content
            await client.post("/api/feedback", json={"request_id": request_id, "thumb": thumb})
        return "answered" if good else "interrupted"


async def begin_rollout(operator: httpx.AsyncClient) -> None:
    """Start one, whatever became of the last."""
    status = (await operator.get("/api/rollout")).json()["status"]
    if status in {"stage", "hold", "paused", "baseline"}:
        await operator.post("/api/rollout", json={"action": "roll_back"})
    begun = await operator.post("/api/rollout", json={"action": "start" if status == "idle" else "restart"})
    begun.raise_for_status()


async def watch_rollout(operator: httpx.AsyncClient, candidate: Candidate) -> None:
    """Say where it is, and let the candidate fail as soon as half of the users get it; until the rollout is over."""
    said, status = "", ""
    while status not in {"rolled_back", "done"}:
        shown = (await operator.get("/api/rollout")).json()
        status = shown["status"]
        if (where := f"{shown['percent']:g} % {status}") != said:
            said = where
            print(f"  {shown['words']}", flush=True)
        candidate.fails = candidate.fails or shown["percent"] >= 50  # noqa: PLR2004 - half of the users
        await asyncio.sleep(1)


async def main(users: int, seconds: float, picture: Path | None) -> None:
    """Send the traffic, add it up, say where to look."""
    chance = random.Random(20261122)  # noqa: S311 - made-up users
    async with AsyncExitStack() as engines:
        postgres, secret, publishable = await _supabase(engines)
        text = Engine("local.text", STATE / "traffic-text.log")
        engines.push_async_callback(text.stop)
        url = await text.start()
        flaky = await engines.enter_async_context(served(Flaky(url, chance).app))
        candidate = Candidate(url, chance)
        mended = await engines.enter_async_context(served(candidate.app))
        folder = Path(engines.enter_context(tempfile.TemporaryDirectory()))
        files = items(folder)
        store = await engines.enter_async_context(
            served(Site(ROOT, App(environment.from_environ({})), endpoints(files)))
        )
        project = gateway(postgres, STATE / "supabase", "http://supabase.local", secret, publishable)
        supabase = await engines.enter_async_context(served(_below(project)))
        environ = {
            "ALLOW_ANONYMOUS": "1",
            "SESSION_SECRET": kept_secret(STATE / "session-secret"),
            "API_KEYS": f"traffic:operator:{secret}",
            "SUPABASE_URL": supabase,
            "SUPABASE_SECRET_KEY": secret,
            "SUPABASE_PUBLISHABLE_KEY": publishable,
            "EDGE_CONFIG": connection_string(int(store.rpartition(":")[2])),
            "EDGE_CONFIG_FRESHNESS": "1",
            "LOCAL_TEXT_BASE_URL": mended,
            _variable("local-b"): url,
            _variable("local-c"): flaky,
        }
        app = App(environment.from_environ(environ, rows()), rows())
        app.costs = Free()
        site = await engines.enter_async_context(served(Site(ROOT, app)))
        headers = {"authorization": f"Bearer {secret}"}
        operator = await engines.enter_async_context(httpx.AsyncClient(base_url=site, headers=headers, timeout=60))
        await begin_rollout(operator)
        print(f"{users} users, {seconds:.0f} s at most; the arm xai is slower and flakier.", flush=True)
        print("A rollout has begun; its candidate fails as soon as half of the users get it.", flush=True)
        began = time.monotonic()
        crowd = Crowd(site, chance, began + seconds)
        watching = asyncio.create_task(watch_rollout(operator, candidate))
        await crowd.come(users)
        while not watching.done() and time.monotonic() < began + seconds:
            await crowd.come(AT_ONCE * 4)
        watching.cancel()
        print(f"  {dict(crowd.outcomes)} in {time.monotonic() - began:.0f} s")
        assert app.supabase is not None  # noqa: S101 - the settings name it
        await catch_up(app.supabase.rpc, 60.0)
        assert app.experiments is not None  # noqa: S101 - there is a database
        await app.experiments.run()
        if picture is not None:
            await _take(picture, f"{site}/dashboard.html?range=5m", secret)
    port = os.environ.get("PORT") or DEFAULT_PORT
    print(f"\n  make run, then as the operator: http://localhost:{port}/dashboard.html?range=5m\n")


def _below(project: ASGIApp) -> Starlette:
    """The gateway at the root of its own server."""
    assert isinstance(project, Starlette)  # noqa: S101 - it is
    return project


async def _take(file: Path, url: str, key: str) -> None:
    """A picture of the dashboard, for the README. Needs playwright and a Chromium."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - for this alone

    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-headless-shell"))), None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page(
            viewport={"width": 1360, "height": 1280}, extra_http_headers={"authorization": f"Bearer {key}"}
        )
        await page.goto(url)
        await page.locator(".card .chart svg").nth(5).wait_for()
        await page.wait_for_timeout(1000)
        await page.screenshot(path=file)
        await browser.close()


def parsed(arguments: Sequence[str] | None = None) -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seconds", type=float, default=170.0)
    parser.add_argument("--picture", type=Path, help="a PNG of the dashboard afterwards")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parsed()
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(options.users, options.seconds, options.picture))

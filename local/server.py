"""`make run`: every api/*.py and public/ in one process, at the paths that vercel.json gives them."""

from __future__ import annotations

import argparse
import asyncio
import errno
import importlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Generator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib import settings as environment
from lib.app import App
from lib.errors import NotFound
from lib.http.endpoint import Endpoint
from lib.http.problem import problem
from lib.ids import uuid7
from lib.settings import MIN_SECRET_CHARACTERS, Settings
from local.edge_config import FOLDER, Files, connection_string, endpoints
from local.engine import Engine, EngineError
from local.migrations import MigrationError
from local.on_demand import OnDemand
from local.operator_link import PATH, OperatorLink
from local.postgres import Postgres, PostgresError
from local.report import ENV_FILES, ROOT, lines, load_env_files
from local.supabase.gateway import gateway

STATE = ROOT / ".local"
URL_FILE = "url"
"""Where the server that has this clone's database is found, while it runs."""
DEFAULT_PORT = 8000
GRACE_S = 1
NOTHING: Mapping[str, ASGIApp] = MappingProxyType({})
ON_DEMAND = {"embeddings": "/v1", "voice": "", "images": ""}
"""Engines that start with their first caller, and the path that their base URLs end in."""
FLAG_SOURCES = ("EDGE_CONFIG", "GLOBAL_CONFIG", "EXPERIMENTATION_CONFIG", "STATSIG_SERVER_SECRET")
"""Where one of these is set, flags come from there and not from the files of local/items."""


class Site:
    """The deployment on one machine: files of public/, functions, rewrites and headers, as Vercel serves them."""

    def __init__(self, root: Path, app: App, beside: Mapping[str, ASGIApp] = NOTHING) -> None:
        """`beside` is served below these paths too, though it is no part of the deployment."""
        config = json.loads((root / "vercel.json").read_text())
        self._app = app
        self._beside = beside
        self._functions = {path: endpoint.over(app) for path, endpoint in functions(root).items()}
        self._rewrites = [(_pattern(rule["source"]), rule["destination"]) for rule in config["rewrites"]]
        self._headers = [(_pattern(rule["source"]), _encoded(rule["headers"])) for rule in config["headers"]]
        self._files = StaticFiles(directory=root / "public", html=True)
        self._public = root / "public"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            path = scope["path"]
            extra = [header for pattern, headers in self._headers if pattern.fullmatch(path) for header in headers]
            await self._route(scope)(scope, receive, _adding(extra, send))

    def _route(self, scope: Scope) -> ASGIApp:
        path = scope["path"]
        for prefix, other in self._beside.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return other
        if scope["method"] in {"GET", "HEAD"} and self._is_file(path):
            return self._files
        function = self._functions.get(path.rstrip("/"))
        if function is not None:
            return function
        destinations = (destination for pattern, destination in self._rewrites if pattern.fullmatch(path))
        # As on the platform, the function still sees the path that was asked for.
        path, _, query = next(destinations, "").partition("?")
        scope["query_string"] = b"&".join(filter(None, [query.encode(), scope["query_string"]]))
        return self._functions.get(path, _not_found)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._app.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    def _is_file(self, path: str) -> bool:
        try:
            file = (self._public / path.lstrip("/")).resolve()
            inside = file.is_relative_to(self._public)
            return inside and (file.is_file() or (file / "index.html").is_file())
        except (OSError, ValueError, RuntimeError):
            return False  # no name that a file can have


def functions(root: Path) -> dict[str, Endpoint]:
    """Every function by its path: the `app` of each api/*.py."""
    files = sorted(file for file in (root / "api").glob("*.py") if not file.name.startswith("_"))
    return {f"/api/{file.stem}": importlib.import_module(f"api.{file.stem}").app for file in files}


def _pattern(source: str) -> re.Pattern[str]:
    """A path pattern of vercel.json: literals, `:name*`, `:name` and `(.*)`, which is all that ours use."""
    named = re.sub(r":\w+\*", "(.*)", source)
    return re.compile(re.sub(r":\w+", "([^/]+)", named), re.DOTALL)


def _encoded(headers: list[dict[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(header["key"].lower().encode(), header["value"].encode()) for header in headers]


def _adding(extra: list[tuple[bytes, bytes]], send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return send_with_headers


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = uuid7()
    response = problem(NotFound("There is nothing at this path."), request_id)
    response.headers["x-request-id"] = request_id
    await response(scope, receive, send)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to `main`: uvicorn would raise them again before our engines are stopped."""
        yield


async def main(port: int, env_files: tuple[Path, ...], items: Path = FOLDER) -> None:
    """Serve until SIGINT or SIGTERM. Raises SystemExit with a message where it can't start."""
    listener = _listen(port)
    port = listener.getsockname()[1]
    try:
        STATE.mkdir(exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{STATE} can't be made: {error.strerror}") from error
    _prepare_environment(env_files, port)
    async with AsyncExitStack() as engines:
        notes = await _start_engines(engines)
        supabase = await _start_supabase(engines, port, notes)
        app = App(environment.load())
        store: dict[str, ASGIApp] = {}
        if os.environ.get("EDGE_CONFIG") == connection_string(port):
            notes["edge config"] = f"the page's Control, or edit {items}/*.json"
            store = endpoints(Files(items), app.assignable)
        operator = OperatorLink(app) if supabase else None
        site = Site(ROOT, app, {**store, **supabase, **({PATH: operator} if operator else {})})
        config = uvicorn.Config(
            # Or a page elsewhere could reach us under a name of its own, and spend the keys in .env (DNS rebinding).
            TrustedHostMiddleware(site, ["localhost", "127.0.0.1"], www_redirect=False),
            log_level="critical",  # what goes wrong is logged by us, without the traces that hold texts
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = _Server(config)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
        print(banner(app.settings, notes, port), flush=True)
        if operator is not None:
            print(f"  operator, once, within an hour: {operator.url(port)}\n", flush=True)
        await server.serve(sockets=[listener])


def banner(settings: Settings, notes: dict[str, str], port: int) -> str:
    """What is on and off, then the URL."""
    title = ["", "AI Integration Blueprint", ""]
    return "\n".join([*title, *lines(settings, notes), "", f"  http://localhost:{port}   (Ctrl-C stops it)", ""])


def _listen(port: int) -> socket.socket:
    try:
        listener = socket.create_server(("127.0.0.1", port), reuse_port=False)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken; stop what listens there, or choose another" if taken else f"can't be used ({error})"
        raise SystemExit(f"Port {port} {why}: PORT={DEFAULT_PORT + 1} make run") from error
    # asyncio sets it on sockets of its own making alone; without it many an answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _prepare_environment(env_files: tuple[Path, ...], port: int) -> None:
    """Lay the files under the real environment, and give what a deployment would have to be given."""
    load_env_files(env_files)
    if not os.environ.get("ALLOW_ANONYMOUS"):
        os.environ["ALLOW_ANONYMOUS"] = "1"
    if not os.environ.get("SESSION_SECRET"):
        os.environ["SESSION_SECRET"] = kept_secret(STATE / "session-secret")
    if not os.environ.get("SITE_URL"):
        os.environ["SITE_URL"] = f"http://localhost:{port}"
    if not any(os.environ.get(name) for name in FLAG_SOURCES):
        os.environ["EDGE_CONFIG"] = connection_string(port)
        # Here a read costs nothing.
        os.environ["EDGE_CONFIG_FRESHNESS"] = os.environ.get("EDGE_CONFIG_FRESHNESS") or "1"


def kept_secret(file: Path) -> str:
    """A random secret that stays the same from run to run, where the disk lets it."""
    secret = secrets.token_urlsafe(32)
    with suppress(OSError, ValueError):
        kept = file.read_text().strip() if file.exists() else ""
        if len(kept) >= MIN_SECRET_CHARACTERS:
            return kept
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(secret)
        new.replace(file)
    return secret


async def _start_engines(engines: AsyncExitStack) -> dict[str, str]:
    """Start the embedded engines that nothing else stands in for; return a note for each that failed."""
    notes: dict[str, str] = {}
    if not os.environ.get("LOCAL_TEXT_BASE_URL"):
        text = Engine("local.text", STATE / "text.log")
        engines.push_async_callback(text.stop)
        try:
            os.environ["LOCAL_TEXT_BASE_URL"] = await text.start()
        except EngineError as error:
            notes["local"] = str(error)
    for name, path in ON_DEMAND.items():
        variable = f"LOCAL_{name.upper()}_BASE_URL"
        if not os.environ.get(variable):
            engine = OnDemand(Engine(f"local.{name}", STATE / f"{name}.log"), path)
            engines.push_async_callback(engine.stop)
            os.environ[variable] = await engine.start()
    return notes


async def _start_supabase(engines: AsyncExitStack, port: int, notes: dict[str, str]) -> dict[str, ASGIApp]:
    """Start the embedded Postgres and the gateway to it, unless the environment names a project; where to serve it.

    It has the site's own origin, so that pages reach its files under the same policy as everything else.
    """
    if os.environ.get("SUPABASE_URL"):
        return {}
    url = f"http://localhost:{port}"
    postgres = Postgres(STATE / "postgres")
    keys = {kind: f"sb_{kind}_{kept_secret(STATE / f'supabase-{kind}')}" for kind in ("secret", "publishable")}
    engines.callback(postgres.stop)
    try:
        await asyncio.to_thread(postgres.start)
        folder = ROOT / "supabase"
        await asyncio.to_thread(postgres.migrate, folder / "migrations", seed=folder / "seed.sql")
    except (PostgresError, MigrationError) as error:
        notes["supabase"] = str(error)
        return {}
    answer = gateway(postgres, STATE / "supabase", url, keys["secret"], keys["publishable"])
    await engines.enter_async_context(answer.router.lifespan_context(answer))
    os.environ["SUPABASE_URL"] = url
    os.environ["SUPABASE_SECRET_KEY"] = keys["secret"]
    os.environ["SUPABASE_PUBLISHABLE_KEY"] = keys["publishable"]
    note = STATE / URL_FILE
    note.write_text(url)
    engines.callback(note.unlink, missing_ok=True)
    return dict.fromkeys(("/rest/v1", "/auth/v1", "/storage/v1"), answer)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=DEFAULT_PORT)
    arguments.add_argument("--env-file", type=Path, action="append", help="instead of .env.local and .env")
    arguments.add_argument("--items", type=Path, default=FOLDER, help="folder of the Edge Config's items")
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with suppress(KeyboardInterrupt):
        asyncio.run(main(options.port, tuple(options.env_file or ENV_FILES), options.items))

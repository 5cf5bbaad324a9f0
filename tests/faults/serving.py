"""The product served over an App of the test's own making, and callers of it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from lib import settings as environment
from lib.app import App
from lib.data.limits import Cap
from lib.providers.catalog import ROWS, Row
from lib.router.attempt import Policy
from lib.router.health import Health
from local.server import Site
from tests.conftest import ROOT
from tests.fakes.asgi import serving
from tests.fakes.loop import LoopThread

Adjust = Callable[[Policy], Policy]
TLS = ssl.create_default_context()
"""Made once: httpx would load the certificates again for every call, though none is encrypted."""


def make_app(
    environ: dict[str, str],
    rows: tuple[Row, ...] = ROWS,
    adjust: Adjust | None = None,
    health: Health | None = None,
    cap: Cap | None = None,
) -> App:
    """The product over an environment, with another policy, health or cap where the test says so."""
    policy = adjust(Policy()) if adjust is not None else None
    return App(environment.from_environ(environ, rows), rows, policy=policy, health=health, cap=cap)


@contextmanager
def served(app: App, loop: LoopThread) -> Generator[str]:
    """Serve the whole site over `app`; gives its URL."""
    with serving(lambda _url: Site(ROOT, app), loop, backlog=1024) as url:
        yield url


@dataclass
class Result:
    """What a caller got out of one call, as the suite's own adapters report it."""

    ok: bool = False
    text: str = ""
    error: str | None = None
    status: int = 0
    elapsed_s: float = 0.0
    hung: bool = False
    resets: int = 0
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


def call(url: str, body: dict[str, object], cap_s: float = 30, **headers: str) -> Result:
    """One call of POST /api/generate, read as a UI message stream or, where it is JSON, as a whole.

    Joined text deltas are the content; an error or abort part, or an end without a finish, is a failure.
    """
    began = time.monotonic()
    result = Result()
    try:
        with httpx.stream(
            "POST", f"{url}/api/generate", json=body, headers=headers, timeout=cap_s + 1, verify=TLS
        ) as response:
            result.status = response.status_code
            if response.headers["content-type"].startswith("text/event-stream"):
                _read_parts(response, result, began + cap_s + 1)
            else:
                _read_json(json.loads(response.read()), result)
    except httpx.TimeoutException:
        result.hung, result.error = True, "hang"
    except httpx.HTTPError as error:
        result.ok, result.error = False, type(error).__name__
    result.elapsed_s = time.monotonic() - began
    return result


def _read_json(body: dict[str, Any], result: Result) -> None:
    result.ok = result.status == 200
    result.text = body.get("text", "")
    result.error = body.get("code")
    result.metadata = body


def _read_parts(response: httpx.Response, result: Result, until: float) -> None:
    finished = False
    for line in response.iter_lines():
        if time.monotonic() > until:
            raise httpx.ReadTimeout("cap")
        data = line.removeprefix("data: ")
        if data in {"", "[DONE]"} or line.startswith(":"):
            continue
        part = json.loads(data)
        result.metadata |= part.get("messageMetadata", {})
        match part["type"]:
            case "text-delta":
                result.text += part["delta"]
            case "reset-step":
                result.text = ""
                result.resets += 1
            case "error" | "abort":
                result.error = result.metadata.get("error_code") or part.get("errorText", "abort")
            case "finish":
                finished = True
            case _:
                pass
    result.ok = finished and result.error is None
    if not finished and result.error is None:
        result.error = "no finish"

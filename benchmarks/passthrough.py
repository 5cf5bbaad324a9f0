"""The least that a handler can do on this runtime: hand the body to the vendor and its bytes back.

`UPSTREAM` says where the vendor is, `ENGINE` by what it is called: `aiohttp`, as the product does, or `httpx`.
With `SETTLED` it settles the process as the product does.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

HEADERS = {"content-type": "application/json"}
ANSWERED = [(b"content-type", b"text/event-stream")]
URL = f"{os.environ.get('UPSTREAM', '')}/v1/chat/completions"  # noqa: TID251 - not part of the product
IS_HTTPX = os.environ.get("ENGINE") == "httpx"  # noqa: TID251

if os.environ.get("SETTLED"):  # noqa: TID251
    from lib.app import settle_process

    settle_process()

_session: Any = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    """ASGI."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    started = False
    async for chunk in (_by_httpx if IS_HTTPX else _by_aiohttp)(body):
        if not started:
            started = True
            await send({"type": "http.response.start", "status": 200, "headers": ANSWERED})
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _by_aiohttp(body: bytes) -> AsyncGenerator[bytes]:
    global _session  # noqa: PLW0603 - one per process, made on its loop
    if _session is None:
        import aiohttp  # noqa: PLC0415

        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000))
    async with _session.post(URL, data=body, headers=HEADERS) as response:
        async for chunk in response.content.iter_any():
            yield chunk


async def _by_httpx(body: bytes) -> AsyncGenerator[bytes]:
    global _session  # noqa: PLW0603
    if _session is None:
        import httpx  # noqa: PLC0415

        _session = httpx.AsyncClient(limits=httpx.Limits(max_connections=1000, max_keepalive_connections=1000))
    async with _session.stream("POST", URL, content=body, headers=HEADERS) as response:
        async for chunk in response.aiter_raw():
            yield chunk

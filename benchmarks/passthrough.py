"""The least that a handler can do on this runtime: hand the body to the vendor and its bytes back."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

_session: aiohttp.ClientSession | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    """ASGI."""
    global _session  # noqa: PLW0603 - one per process, made on its loop
    if scope["type"] != "http":
        return
    if _session is None:
        _session = aiohttp.ClientSession()
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    url = f"{os.environ['UPSTREAM']}/v1/chat/completions"  # noqa: TID251 - not part of the product
    async with _session.post(url, data=body, headers={"content-type": "application/json"}) as response:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for chunk in response.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})

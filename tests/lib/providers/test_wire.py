"""What we send is what the vendors' own SDKs send for the same arguments: they are the reference."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lib.app import App
from lib.providers.base import ChatRequest, Model
from lib.providers.catalog import ROWS, Row
from lib.providers.chat import request_arguments, request_headers
from lib.settings import from_environ
from tests.conftest import MakeVendor, hosted_over, local_over
from tests.fakes.vendor import Received, Vendor

MATTERS = ("host", "accept", "content-type", "authorization", "content-length", "accept-encoding", "connection")
"""Headers that a server may act on; the SDKs' others say which SDK and machine it was."""
SCHEMA: dict[str, object] = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object", "properties": {}}},
}
PICTURE: dict[str, object] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REQUESTS = {
    "plain": ChatRequest(({"role": "user", "content": "Hi"},), 16),
    "everything": ChatRequest(
        ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}),
        100,
        temperature=0.3,
        top_p=0.9,
        stop=("END", "\n\n"),
        seed=2**53 + 1,
        response_format=SCHEMA,
        reasoning_effort="medium",
    ),
    "beyond ASCII": ChatRequest(
        ({"role": "user", "content": 'Olá 🌍 "漢字" \\ / \u2028 \x7f <&>'},), 16, temperature=1e-7
    ),
    "picture": ChatRequest(({"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]},), 16),
    "continued": ChatRequest(({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}), 16),
}


async def by_sdk(row: Row, environ: dict[str, str], request: ChatRequest, model: Model) -> None:
    """Send it through the vendor's SDK, over the process's own HTTP client."""
    app = App(from_environ(environ))
    access = app.settings.vendors[row.name]
    http: Any = app.http()
    given: dict[str, Any] = {"api_key": access.api_key or "none", "base_url": access.base_url, "max_retries": 0}
    if row.sdk == "groq":
        from groq import AsyncGroq  # noqa: PLC0415 - half a second

        client: Any = AsyncGroq(**given, http_client=http)
        more: dict[str, Any] = {"extra_body": {"stream_options": {"include_usage": True}}}
    else:
        from openai import AsyncOpenAI  # noqa: PLC0415 - half a second

        client = AsyncOpenAI(**given, http_client=http)
        more = {"stream_options": {"include_usage": True}}
    more["extra_headers"] = request_headers(request, row)
    async with await client.chat.completions.create(**request_arguments(request, model, row), **more) as stream:
        assert [chunk async for chunk in stream]
    await app.aclose()


async def by_us(row: Row, environ: dict[str, str], request: ChatRequest, model: Model) -> None:
    """Send it as the product does."""
    app = App(from_environ(environ))
    assert [deltas async for deltas in app.text_provider(row.name).stream(request, model)]
    await app.aclose()


def sent(vendor: Vendor) -> tuple[str, str, dict[str, str | None], dict[str, Any]]:
    """What of the last request matters; its body's length alone may differ, by the way in which JSON is written."""
    received: Received = vendor.requests[-1]
    headers = {name: received.headers.get(name) for name in MATTERS}
    headers["connection"] = headers["connection"] or "keep-alive"  # what HTTP/1.1 means where nothing is said
    assert int(headers.pop("content-length") or 0) > 0
    return received.method, received.path, headers, received.body


@pytest.mark.parametrize("name", [row.name for row in ROWS])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_same_as_the_sdk(make_vendor: MakeVendor, name: str, request_name: str) -> None:
    """Method, address, headers that matter and the whole body are the same."""
    vendor, request = make_vendor(), REQUESTS[request_name]
    row = next(row for row in ROWS if row.name == name)
    environ = local_over(vendor) if name == "local" else hosted_over(**{name: vendor})
    for model in row.models:
        asyncio.run(by_sdk(row, environ, request, model))
        reference = sent(vendor)
        asyncio.run(by_us(row, environ, request, model))
        assert sent(vendor) == reference
    assert len(vendor.requests) == 2 * len(row.models)

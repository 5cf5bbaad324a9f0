"""POST /api/generate over a fake vendor: its three forms, and what it says of itself."""

from __future__ import annotations

import httpx

from tests.conftest import Serve, local_over
from tests.fakes.vendor import Vendor, words


def test_json(serve: Serve, vendor: Vendor) -> None:
    """Asked for JSON, the whole answer comes at once with what it took."""
    vendor.script(words("Hello", " world"))
    answer = httpx.post(f"{serve(local_over(vendor))}/api/generate", json={"prompt": "Hi", "stream": False})
    body = answer.json()
    assert answer.status_code == 200
    assert body["text"] == "Hello world"

"""npm's `ai` itself: every event is one of the SDK's."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, local_over
from tests.fakes.vendor import Reply, Vendor, calls, words
from tests.js_clients.answers import (
    HOSTILE,
    PARIS,
    THINKING,
    THOUGHTS,
)
from tests.js_clients.node import Node


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        pytest.param(words("One", " two"), ["text"], id="success"),
        pytest.param(THINKING, ["reasoning", "text"], id="reasoning"),
        pytest.param(words("Half", finish_reason=None), ["text", "error"], id="failure"),
        pytest.param(Reply(THOUGHTS), ["reasoning", "error"], id="failure while reasoning"),
        pytest.param(words(HOSTILE), ["text"], id="hostile text"),
        pytest.param(words(), [], id="nothing said"),
        pytest.param(calls(("weather", PARIS), text="So:"), ["text", "tool-input", "tool-input-available"], id="call"),
        pytest.param(calls(("weather", PARIS[:9])), ["tool-input", "tool-input-error", "error"], id="half a call"),
    ],
)
def test_every_chunk_fits_the_sdks_schema(
    node: Node, serve: Serve, vendor: Vendor, reply: Reply, kinds: list[str]
) -> None:
    """Every event of ours is a chunk by the SDK's own schema, and [DONE] is the last."""
    vendor.script(reply)
    body = {"prompt": "Hi", "on_interrupt": "error"}
    read = node.ask("read", {"url": serve(local_over(vendor)), "body": body})
    types = [chunk["type"] for chunk in read["chunks"]]
    assert read["rejected"] == []
    assert types[:2] == ["start", "start-step"]
    assert types[-1] == "finish"
    assert [kind for kind in kinds if f"{kind}-start" in types or kind in types] == kinds
    assert len(read["errors"]) == kinds.count("error")
    assert read["raw"].endswith("\n\ndata: [DONE]\n\n")
    assert read["raw"].count("\n\n") == len(types) + 1
    assert read["headers"]["x-vercel-ai-ui-message-stream"] == "v1"


@pytest.mark.parametrize(
    ("vendors", "sdks"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content-filter"), ("tool_calls", "tool-calls")],
)
def test_finish_reasons(node: Node, serve: Serve, vendor: Vendor, vendors: str, sdks: str) -> None:
    """The vendor's reason to end arrives under the SDK's name for it."""
    vendor.script(words("Text", finish_reason=vendors))
    read = node.ask("read", {"url": serve(local_over(vendor)), "body": {"prompt": "Hi"}})
    assert read["rejected"] == []
    assert read["chunks"][-1]["finishReason"] == sdks

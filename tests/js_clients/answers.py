"""What vendors say to these clients, and what the tests look for in what came of it."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.vendor import Reply, Vendor, chunk, event, words
from tests.js_clients.node import Seen

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = (
    "👩‍👩‍👧‍👦🇺🇳 e\u0301 漢字かな 한국어 العربية \u202eright to left\u202c "
    "line\u2028paragraph\u2029next\u0085 \ufeff\u200b\u00a0 \uffff \U0010ffff \x07\x1b[31m\x7f "
    "</script><script>alert(1)</script> <!-- ]]> &amp; \" ' ` \\ \\n \\u0041 \\\\ %s {0} ${1} "
    '\r\n\r\n\n\ndata: [DONE]\n\ndata: {"type":"error"}\n\n: comment\nevent: x\n'
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PARIS = '{"city": "Paris"}'
TOOLS = {"tools": [WEATHER]}
THOUGHTS = [event(chunk({"reasoning": text})) for text in ("Let me ", "think.")]
THINKING = Reply([*THOUGHTS, *words("It is ", "42.").steps])


def everything_at_once(reply: Reply) -> Reply:
    """The same reply in a single write."""
    return in_pieces(reply, 1 << 30)


def in_pieces(reply: Reply, size: int) -> Reply:
    """The same reply, cut without regard for events and characters."""
    body = b"".join(step for step in reply.steps if isinstance(step, bytes))
    return Reply([body[start : start + size] for start in range(0, len(body), size)])


def problem(seen: Seen) -> dict[str, Any]:
    """The problem+json that a page got for an error."""
    return json.loads(seen["error"]["message"])


def said(vendor: Vendor) -> list[tuple[str, Any]]:
    """Who said what in the last request that the vendor got."""
    return [(message["role"], message["content"]) for message in vendor.requests[-1].body["messages"]]

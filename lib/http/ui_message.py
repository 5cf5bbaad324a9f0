"""The AI SDK's UI message stream, protocol v1, as `useChat` reads it (npm `ai` 5 to 7, ui-message-chunks.ts).

The order that every client takes: start, start-step, text-start, text-delta*, text-end, finish-step, finish, [DONE].
Absent fields are left out: the client's schema refuses null.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from lib.providers.base import Delta, FinishReason
from lib.router.attempt import Reset

MEDIA_TYPE = "text/event-stream"
HEADERS = {
    # Without no-transform, proxies (Next.js' rewrites among them) compress the stream and hold it back.
    "cache-control": "no-cache, no-transform",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": ping\n\n"
"""A comment, which every reader of server-sent events skips."""
_FINISH_REASONS: dict[FinishReason | None, str] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


def frame(chunk: dict[str, object]) -> bytes:
    """One chunk as a server-sent event."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


class UIMessageWriter:
    """Writes one message of one step; keeps track of which part is open."""

    def __init__(self) -> None:
        self._open: str | None = None
        self._parts = 0

    def start(self, message_id: str, metadata: dict[str, object]) -> bytes:
        """The head of the stream."""
        return frame({"type": "start", "messageId": message_id, "messageMetadata": metadata}) + frame(
            {"type": "start-step"}
        )

    def write(self, deltas: Sequence[Delta] | Reset) -> bytes:
        """The chunks of these deltas; empty where they hold no text."""
        if isinstance(deltas, Reset):
            # The client drops the step's parts, open ones included (npm `ai` 7, process-ui-message-stream.ts).
            self._open = None
            return frame({"type": "reset-step"})
        out: list[bytes] = []
        for delta in deltas:
            for kind, text in (("reasoning", delta.reasoning), ("text", delta.text)):
                if text:
                    out.append(self._switch(kind))
                    out.append(frame({"type": f"{kind}-delta", "id": str(self._parts), "delta": text}))
        return b"".join(out)

    def finish(self, finish_reason: FinishReason | None, metadata: dict[str, object]) -> bytes:
        """The tail of a complete answer."""
        reason = _FINISH_REASONS.get(finish_reason, "other")
        return (
            self._switch(None)
            + frame({"type": "finish-step"})
            + frame({"type": "finish", "finishReason": reason, "messageMetadata": metadata})
            + DONE
        )

    def fail(self, error_text: str, metadata: dict[str, object]) -> bytes:
        """The tail of an answer that broke off: the client keeps what it has and shows the error.

        The metadata goes first, since useChat reads nothing after an error.
        """
        return (
            self._switch(None)
            + frame({"type": "message-metadata", "messageMetadata": metadata})
            + frame({"type": "error", "errorText": error_text})
            + frame({"type": "finish", "finishReason": "error"})
            + DONE
        )

    def _switch(self, kind: str | None) -> bytes:
        """Close the open part, if it is of another kind, and open one of this kind."""
        if kind == self._open:
            return b""
        out = b"" if self._open is None else frame({"type": f"{self._open}-end", "id": str(self._parts)})
        self._open = kind
        if kind is not None:
            self._parts += 1
            out += frame({"type": f"{kind}-start", "id": str(self._parts)})
        return out

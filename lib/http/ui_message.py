"""The AI SDK's UI message stream, protocol v1, as `useChat` reads it (npm `ai` 5 to 7, ui-message-chunks.ts).

The order that every client takes: start, start-step, text-start, text-delta*, text-end, finish-step, finish, [DONE].
A call of a tool is tool-input-start and tool-input-delta* where text would be, then, once the whole answer is there,
tool-input-available: that is what makes a client call it, so it is never said of a call that may yet be taken back.
Absent fields are left out: the client's schema refuses null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from lib.providers.base import Delta, FinishReason, ToolCallDelta, json_object
from lib.router.attempt import Reset
from lib.router.tool_calls import ToolCall, ToolCalls

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
        self._calls = ToolCalls()

    def start(self, message_id: str, metadata: dict[str, object]) -> bytes:
        """The head of the stream."""
        return frame({"type": "start", "messageId": message_id, "messageMetadata": metadata}) + frame(
            {"type": "start-step"}
        )

    def write(self, deltas: Sequence[Delta] | Reset) -> bytes:
        """The chunks of these deltas; empty where they hold neither text nor calls."""
        if isinstance(deltas, Reset):
            # The client drops the step's parts, open ones included (npm `ai` 7, process-ui-message-stream.ts).
            self._open = None
            self._calls.clear()
            return frame({"type": "reset-step"})
        out: list[bytes] = []
        for delta in deltas:
            for kind, text in (("reasoning", delta.reasoning), ("text", delta.text)):
                if text:
                    out.append(self._switch(kind))
                    out.append(frame({"type": f"{kind}-delta", "id": str(self._parts), "delta": text}))
            out += map(self._call, delta.tool_calls)
        return b"".join(out)

    def files(self, files: Sequence[Mapping[str, Any]]) -> bytes:
        """Files of the answer, each with `url` and `content_type`. A text that is open goes on after them."""
        return b"".join(
            frame({"type": "file", "url": file["url"], "mediaType": file["content_type"]}) for file in files
        )

    def close(self) -> bytes:
        """No more text will come."""
        return self._switch(None)

    def another(self) -> bytes:
        """Another model speaks from here on: what it thinks does not go on from what the one before it thought."""
        return self._switch(None) if self._open == "reasoning" else b""

    def finish(self, finish_reason: FinishReason | None, metadata: dict[str, object]) -> bytes:
        """The tail of a complete answer."""
        reason = _FINISH_REASONS.get(finish_reason, "other")
        return (
            self._switch(None)
            + b"".join(map(_available, self._calls))
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
            + b"".join(_not_called(call, error_text) for call in self._calls)
            + frame({"type": "message-metadata", "messageMetadata": metadata})
            + frame({"type": "error", "errorText": error_text})
            + frame({"type": "finish", "finishReason": "error"})
            + DONE
        )

    def abort(self, metadata: dict[str, object]) -> bytes:
        """The tail of an answer that its caller has stopped: the client keeps what it has, and knows that."""
        return (
            self._switch(None)
            + b"".join(_not_called(call, "stopped") for call in self._calls)
            + frame({"type": "message-metadata", "messageMetadata": metadata})
            + frame({"type": "abort"})
            + DONE
        )

    def _call(self, piece: ToolCallDelta) -> bytes:
        self._calls.add((piece,))
        out = b""
        if piece.name:
            out = self._switch(None) + frame(
                {"type": "tool-input-start", "toolCallId": piece.id, "toolName": piece.name}
            )
        if piece.arguments:
            id_ = self._calls[piece.index].id
            out += frame({"type": "tool-input-delta", "toolCallId": id_, "inputTextDelta": piece.arguments})
        return out

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


def without_none(value: Mapping[str, Any]) -> dict[str, Any]:
    """The AI SDK's client takes no null: what is unknown is left out, at any depth."""
    return {key: _without_none(item) for key, item in value.items() if item is not None}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return without_none(cast("dict[str, Any]", value))
    return [_without_none(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _available(call: ToolCall) -> bytes:
    input_ = json_object(call.arguments)
    return frame({"type": "tool-input-available", "toolCallId": call.id, "toolName": call.name, "input": input_})


def _not_called(call: ToolCall, error_text: str) -> bytes:
    """Whole or not: it is part of an answer that broke off, and its page must not wait for it."""
    said = {"toolCallId": call.id, "toolName": call.name, "input": call.arguments, "errorText": error_text}
    return frame({"type": "tool-input-error", **said})

"""A vendor of text at the network's edge: OpenAI's chat completions as a server of raw bytes, with scripted faults.

Every request body is checked against OpenAI's published description; `violations` collects what does not fit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.providers.catalog import ROWS
from tests.fakes.listener import Listener
from tests.fakes.loop import LoopThread
from tests.fakes.openapi import violations

CREATED = 1_795_000_000


class Gate:
    """A point in a script where the vendor waits until the test opens it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let the vendor go on."""
        with self._lock:
            self._is_open = True
            for loop, passing in self._waiting:
                loop.call_soon_threadsafe(passing.set)

    async def passed(self) -> None:
        """Wait until it is open."""
        passing = asyncio.Event()
        with self._lock:
            if self._is_open:
                return
            self._waiting.append((asyncio.get_running_loop(), passing))
        await passing.wait()


@dataclass(frozen=True)
class Hang:
    """Keep the connection and say nothing more."""


@dataclass(frozen=True)
class Cut:
    """Close the connection in mid-answer, by FIN or by reset."""

    reset: bool = False


Step = bytes | Gate | Hang | Cut


@dataclass(frozen=True)
class Reply:
    """What the vendor does with one request: status, headers, then the body's steps in order."""

    steps: Sequence[Step]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    head: bool = True


@dataclass
class Received:
    """A request that the vendor got, and whether its sender has hung up since."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    method: str = "POST"
    connection: int = 0
    """Which of its connections the vendor got it on, counted from 1."""
    hung_up: threading.Event = field(default_factory=threading.Event)
    raw: bytes = b""
    """The body as it was sent."""


def event(data: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, object] | None = None, **fields: object) -> dict[str, object]:
    """One chat.completion.chunk; without a delta it has no choices, as the usage chunk has none."""
    choice = {"index": 0, "delta": delta, "finish_reason": fields.pop("finish_reason", None)}
    base = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": CREATED, "model": "fake"}
    return {**base, "choices": [] if delta is None else [choice], **fields}


def usage(input_tokens: int = 7, output_tokens: int = 3, cached_tokens: int = 0) -> dict[str, object]:
    """Token counts as OpenAI sends them."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def words(*texts: str | Step, finish_reason: str | None = "stop", counted: dict[str, object] | None = None) -> Reply:
    """A healthy answer: a role, each text as a chunk (or a step of another kind), finish, usage, [DONE]."""
    steps: list[Step] = [event(chunk({"role": "assistant", "content": ""}))]
    steps += [event(chunk({"content": text})) if isinstance(text, str) else text for text in texts]
    if finish_reason is not None:
        steps.append(event(chunk({}, finish_reason=finish_reason)))
        steps.append(event(chunk(None, usage=counted or usage())))
        steps.append(b"data: [DONE]\n\n")
    return Reply(steps)


def groq_words(*texts: str) -> Reply:
    """The same as Groq sends it: usage in `x_groq` of the last chunk."""
    steps: list[Step] = [event(chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_fake"}))]
    steps += [event(chunk({"content": text})) for text in texts]
    steps.append(event(chunk({}, finish_reason="stop", x_groq={"id": "req_fake", "usage": usage()})))
    return Reply([*steps, b"data: [DONE]\n\n"])


def call_piece(index: int | None = 0, **fields: Any) -> dict[str, object]:
    """One piece of a tool call as a delta; fields: id, name, arguments. An index of None is left out."""
    names = fields.keys() & {"name", "arguments"}
    piece: dict[str, object] = {"function": {name: fields.pop(name) for name in sorted(names, reverse=True)}}
    piece = {**({} if index is None else {"index": index}), **fields, **piece}
    return {"tool_calls": [{"type": "function", **piece} if "id" in piece else piece]}


def calls(*tools: tuple[str, str], text: str = "", size: int = 7, finish_reason: str | None = "tool_calls") -> Reply:
    """A healthy answer of tool calls (name and arguments each), as OpenAI streams it, arguments in pieces of `size`."""
    steps: list[Step] = [event(chunk({"role": "assistant", "content": None}))]
    steps += [event(chunk({"content": text}))] * bool(text)
    for index, (name, arguments) in enumerate(tools):
        steps.append(event(chunk(call_piece(index, id=f"call_{index}", name=name, arguments=""))))
        pieces = (arguments[start : start + size] for start in range(0, len(arguments), size))
        steps += [event(chunk(call_piece(index, arguments=piece))) for piece in pieces]
    if finish_reason is not None:
        steps.append(event(chunk({}, finish_reason=finish_reason)))
        steps.append(event(chunk(None, usage=usage(20, 9))))
        steps.append(b"data: [DONE]\n\n")
    return Reply(steps)


def failure(status: int, code: str | None = None, message: str = "fake failure", **headers: str) -> Reply:
    """An error answer in OpenAI's shape."""
    body = {"error": {"message": message, "type": "fake", "param": None, "code": code}}
    return Reply([json.dumps(body).encode()], status, {"content-type": "application/json", **headers})


class Vendor:
    """One fake vendor on a port of its own. Unscripted requests get their own last message back."""

    def __init__(self, loop: LoopThread) -> None:
        self._replies: list[Reply] = []
        self._connections = 0
        self.requests: list[Received] = []
        self.violations: list[str] = []
        self.asked = threading.Event()
        self._listener = Listener(loop, self._serve)
        self.port = self._listener.port

    @property
    def url(self) -> str:
        """The server's root, without a path."""
        return self._listener.url

    def script(self, *replies: Reply) -> None:
        """What to do with the next requests, one reply each."""
        self._replies.extend(replies)

    def close(self) -> None:
        """Stop listening, and end the conversations that go on and the connections that are kept."""
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        while (received := await _read_request(reader)) is not None:
            received.connection = number
            if received.path.endswith("/models"):
                await _Conversation(reader, writer, received).play(MODELS)
                continue
            self.requests.append(received)
            self.asked.set()
            described = "/embeddings" if received.path.endswith("/embeddings") else "/chat/completions"
            self.violations += violations(described, received.body)
            reply = self._replies.pop(0) if self._replies else _echo(received.body)
            try:
                await _Conversation(reader, writer, received).play(reply)
            except ConnectionError:
                received.hung_up.set()
                raise


class _Conversation:
    """Plays one reply, watching for the caller to hang up meanwhile."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: Received) -> None:
        self._reader = reader
        self._writer = writer
        self._received = received

    async def play(self, reply: Reply) -> None:
        if reply.head:
            self._writer.write(_head(reply))
        for step in reply.steps:
            match step:
                case bytes():
                    self._writer.write(b"%x\r\n%b\r\n" % (len(step), step))
                    await self._writer.drain()
                case Gate():
                    await self._until_hang_up(step.passed())
                case Hang():
                    await self._until_hang_up(asyncio.sleep(60))
                case Cut(reset):
                    self._cut(reset=reset)
        if reply.head:
            self._writer.write(b"0\r\n\r\n")
            await self._writer.drain()

    async def _until_hang_up(self, waiting: Any) -> None:
        """Wait, unless the caller goes: then note it and raise ConnectionResetError."""
        wait, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(self._reader.read(1))
        try:
            done, _ = await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wait.cancel()
            gone.cancel()
        if gone in done:
            raise ConnectionResetError
        await asyncio.gather(gone, return_exceptions=True)

    def _cut(self, *, reset: bool) -> None:
        if reset:
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.close()
        raise ConnectionResetError


def _head(reply: Reply) -> bytes:
    headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **reply.headers}
    lines = [f"HTTP/1.1 {reply.status} Fake", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    head = await reader.readuntil(b"\r\n\r\n")
    request_line, *lines = head.decode().rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = request_line.split()
    return Received(path, headers, json.loads(body) if body else {}, method, raw=body)


MODELS = Reply(
    [json.dumps({"object": "list", "data": [{"id": model.id} for row in ROWS for model in row.models]}).encode()],
    headers={"content-type": "application/json"},
)
"""What any vendor lists: all that the catalogue knows."""


def _echo(body: dict[str, Any]) -> Reply:
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else json.dumps(content)
    pieces = ["".join(group) for _, group in itertools.groupby(text, key=str.isspace)]
    return words("You said: ", *pieces, counted=usage(len(text.split()), len(pieces) + 1))

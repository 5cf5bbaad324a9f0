"""A provider that breaks on purpose: the 16 patterns of the public failover suite, byte for byte, over raw sockets.

The model's name picks the fault, as in that suite; the times are those of its profile `fast`. Every request body is
checked against OpenAI's published description besides.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.fakes.listener import Listener
from tests.fakes.loop import LoopThread
from tests.fakes.openapi import violations

ANSWER = (
    "Some nights the harbour lights go out, one after another, and the boats that are at sea must find their "
    "own way home. Old sailors say that a chart, a steady hand and a little patience are enough. The young ones ask "
    "for engines. Both arrive in the end, tired, salted, glad to see the shore and each other again."
)
WORDS: list[str] = [*ANSWER.split()]
CUT_AFTER, STALL_AFTER, MALFORMED_AT = 40, 20, 10
ANSWERING = {"ok", "s01", "s03", "s05", "s07", "s08", "s09", "s10", "s11", "s14", "s15"}
"""Who answers in the end, or begins to."""
ALWAYS = {
    "s02": (429, "rate_limit_error", "rate_limit_exceeded"),
    "s04": (503, "server_error", "overloaded"),
    "s12": (400, "invalid_request_error", "context_length_exceeded"),
    "s13": (400, "invalid_request_error", "content_policy_violation"),
    "s16": (503, "server_error", "overloaded"),
}
"""Who refuses every time: status, type and code."""
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True)
class Times:
    """How long the wall waits, in seconds."""

    retry_after: int = 2
    first_token: float = 3.0
    stall: float = 4.0
    silence: float = 15.0
    outage: float = 6.0
    token: float = 0.005


@dataclass
class Entry:
    """One attempt as the wall saw it; times in seconds since the wall began."""

    at: float
    model: str
    attempt: int
    last_role: str | None
    prompt_tokens: int = 0
    action: str = ""
    hung_up_at: float | None = None


class HangUp(Exception):
    """The connection is to end here, or has ended."""


class Wall:
    """The provider on a port of its own."""

    def __init__(self, loop: LoopThread, times: Times | None = None) -> None:
        self.times = times or Times()
        self.log: list[Entry] = []
        self.violations: list[str] = []
        self.cut: Callable[[int], tuple[int, bool]] = lambda _: (CUT_AFTER, False)
        """For an attempt's number: after how many words its stream is cut, and whether by reset."""
        self._began = time.monotonic()
        self._listener = Listener(loop, self._serve)
        self.url = f"{self._listener.url}/v1"

    def now(self) -> float:
        """Seconds since the wall began."""
        return time.monotonic() - self._began

    def restart_clock(self) -> None:
        """The outage begins now."""
        self._began = time.monotonic()

    def of(self, model: str) -> list[Entry]:
        """The attempts on one model, in order."""
        return [entry for entry in self.log if entry.model == model]

    def close(self) -> None:
        """Stop listening, and end the conversations that go on and the connections that are kept."""
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(HangUp):
            while True:
                await _Exchange(self, reader, writer).play(await _read_body(reader))


class _Exchange:
    """One request and its answer."""

    def __init__(self, wall: Wall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wall = wall
        self._times = wall.times
        self._reader = reader
        self._writer = writer

    async def play(self, body: dict[str, Any]) -> None:
        messages: list[dict[str, Any]] = body["messages"]
        self._wall.violations += violations("/chat/completions", body)
        name = str(body["model"]).rsplit("/", 1)[-1]
        entry = Entry(self._wall.now(), name, len(self._wall.of(name)) + 1, messages[-1]["role"])
        entry.prompt_tokens = sum(len(str(message["content"]).split()) + 4 for message in messages)
        self._wall.log.append(entry)
        self._entry = entry
        try:
            await self._play(name.removeprefix("fb-").split("-")[0], name, messages[-1], body)
        except OSError:
            entry.hung_up_at = self._wall.now()
            raise

    async def _play(self, fault: str, name: str, last: dict[str, Any], body: dict[str, Any]) -> None:
        words, continues = WORDS, False
        if last["role"] == "assistant":
            if name == "fb-ok-noprefill":
                await self._refuse(400, "invalid_request_error", "invalid_prefill")
                return
            if not isinstance(last["content"], str):
                raise HangUp
            told = last["content"].strip()
            if told and ANSWER.startswith(told):
                words, continues = [*ANSWER[len(told) :].split()], True
        if await self._fails(fault):
            return
        if body.get("stream"):
            await self._stream(fault, words, body, continues=continues)
        else:
            await self._whole(words, body, continues=continues)

    async def _fails(self, fault: str) -> bool:
        """Play a fault that comes before the answer; False where there is none (any more)."""
        first = self._entry.attempt == 1
        match fault:
            case "s01" if first:
                await self._refuse(
                    429, "rate_limit_error", "rate_limit_exceeded", {"Retry-After": str(self._times.retry_after)}
                )
            case "s03" if first:
                await self._refuse(500, "server_error", None)
            case "s05" if first:
                self._entry.action = "reset"
                self._reset()
            case "s06":
                self._entry.action = "silence"
                await self._wait(self._times.silence)
                raise HangUp
            case "s15" if self._wall.now() < self._times.outage:
                await self._refuse(503, "server_error", "overloaded")
            case _ if fault in ALWAYS:
                await self._refuse(*ALWAYS[fault])
            case _ if fault not in ANSWERING:
                await self._refuse(404, "invalid_request_error", "model_not_found")
            case _:
                return False
        return True

    async def _stream(self, fault: str, words: list[str], body: dict[str, Any], *, continues: bool) -> None:
        self._entry.action = "200"
        head = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        self._write(_head(200, {**head, "Transfer-Encoding": "chunked", "X-Accel-Buffering": "no"}))
        if fault == "s07":
            await self._wait(self._times.first_token)
        chunk = self._chunk(body)
        await self._event({**chunk, "choices": [_choice({"role": "assistant", "content": ""})]})
        cut_after, by_reset = self._wall.cut(self._entry.attempt)
        for index, word in enumerate(words):
            if fault in {"s08", "s14"} and index == cut_after:
                self._entry.action = f"200, cut after {index} words"
                self._reset() if by_reset else self._end()
            if fault == "s09" and index == STALL_AFTER:
                self._entry.action = f"200, stalled after {index} words"
                await self._wait(self._times.stall)
                self._end()
            if fault == "s10" and index == MALFORMED_AT:
                await self._raw(b'data: {"id": "chatcmpl-fb", "choices": [{"delta": {"content": \n\n')
            text = f" {word}" if index or continues else word
            await self._event({**chunk, "choices": [_choice({"content": text})]})
            if self._times.token:
                await self._wait(self._times.token)
        await self._event({**chunk, "choices": [_choice({}, "stop")]})
        options: dict[str, Any] = body.get("stream_options") or {}
        if options.get("include_usage"):
            await self._event({**chunk, "choices": [], "usage": self._usage(len(words))})
        if fault != "s11":
            await self._raw(b"data: [DONE]\n\n")
        self._write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _whole(self, words: list[str], body: dict[str, Any], *, continues: bool) -> None:
        self._entry.action = "200"
        message = {"role": "assistant", "content": (" " if continues else "") + " ".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {**self._chunk(body), "object": "chat.completion", "choices": [choice]}
        await self._json(200, {**answer, "usage": self._usage(len(words))})

    async def _refuse(self, status: int, kind: str, code: str | None, headers: dict[str, str] | None = None) -> None:
        self._entry.action = f"{status} {code or ''}".strip()
        error = {"message": "The wall refuses.", "type": kind, "param": None, "code": code}
        await self._json(status, {"error": error}, headers)

    async def _json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        head = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
        self._write(_head(status, head) + content)
        await self._writer.drain()

    async def _event(self, data: object) -> None:
        await self._raw(b"data: " + json.dumps(data).encode() + b"\n\n")

    async def _raw(self, data: bytes) -> None:
        self._write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    def _write(self, data: bytes) -> None:
        self._writer.write(data)

    async def _wait(self, seconds: float) -> None:
        """Wait, unless the caller goes meanwhile."""
        gone = asyncio.ensure_future(self._reader.read(1))
        done, _ = await asyncio.wait({gone}, timeout=seconds)
        if done:
            raise ConnectionResetError
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)

    def _reset(self) -> None:
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise HangUp

    def _end(self) -> None:
        self._writer.close()
        raise HangUp

    def _chunk(self, body: dict[str, Any]) -> dict[str, object]:
        number = len(self._wall.log)
        return {
            "id": f"chatcmpl-fb-{number}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": body["model"],
        }

    def _usage(self, words: int) -> dict[str, int]:
        prompt = self._entry.prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _head(status: int, headers: dict[str, str]) -> bytes:
    reason = REASONS.get(status, "Service Unavailable")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "Connection: keep-alive"]).encode() + b"\r\n\r\n"


async def _read_body(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    return json.loads(await reader.readexactly(length))

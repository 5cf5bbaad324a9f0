"""A web service at the network's edge: a server of raw bytes that keeps what it is sent and answers as scripted."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.listener import Listener
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate


@dataclass(frozen=True)
class Asked:
    """A request that the service got; names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The target's query."""
        return parse_qs(urlsplit(self.target).query)

    def json(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Told:
    """An answer: after `gate`, if any; of `body` no more than `cut` bytes are sent, then the connection is closed.

    With `stall` it is closed only when that opens, or the caller hangs up.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    gate: Gate | None = None
    cut: int | None = None
    stall: Gate | None = None


def told(value: object, status: int = 200, **headers: str) -> Told:
    """An answer in JSON; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Told(status, json.dumps(value).encode(), {"content-type": "application/json", **named})


class Web:
    """One service on a port of its own: the scripted answers first, then what `usual` says."""

    def __init__(self, loop: LoopThread, usual: Callable[[Asked], Told]) -> None:
        self._usual = usual
        self._script: list[Told] = []
        self._news = threading.Condition()
        self.asked: list[Asked] = []
        self.takes_s = 0.0
        """How long it is at work on each answer."""
        self._left = 0
        self._listener = Listener(loop, self._serve)
        self.url = self._listener.url
        self.port = self._listener.port

    def script(self, *answers: Told) -> None:
        """What to answer the next requests, one each."""
        self._script.extend(answers)

    def forget(self) -> None:
        """From now on it answers as usual."""
        self._script.clear()

    def wait_for(self, count: int, timeout_s: float = 10) -> list[Asked]:
        """All requests so far, once there are so many."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.asked) >= count, timeout_s), f"{len(self.asked)} of {count}"
            return list(self.asked)

    def wait_for_leaving(self, timeout_s: float = 10) -> None:
        """Until a caller has hung up on a gate."""
        with self._news:
            assert self._news.wait_for(lambda: self._left > 0, timeout_s), "nobody hung up"

    async def _stays(self, reader: asyncio.StreamReader, gate: Gate) -> bool:
        """Wait at the gate; whether the caller was still there when it opened."""
        passing, leaving = asyncio.ensure_future(gate.passed()), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
            stays = not leaving.done()
        finally:
            passing.cancel()
            leaving.cancel()
            await asyncio.gather(passing, leaving, return_exceptions=True)
        if not stays:
            with self._news:
                self._left += 1
                self._news.notify_all()
        return stays

    def close(self) -> None:
        """Stop listening, and end the connections that are kept."""
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await _read(reader)
            with self._news:
                self.asked.append(asked)
                self._news.notify_all()
            answer = self._script.pop(0) if self._script else self._usual(asked)
            if self.takes_s:
                await asyncio.sleep(self.takes_s)
            if answer.gate is not None and not await self._stays(reader, answer.gate):
                return
            writer.write(_encoded(answer, asked.method))
            await writer.drain()
            if answer.stall is not None:
                await self._stays(reader, answer.stall)
            if answer.cut is not None:
                return


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = await reader.readuntil(b"\r\n\r\n")
    request_line, *lines = head.decode().rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    method, target, _ = request_line.split()
    return Asked(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def _encoded(answer: Told, method: str) -> bytes:
    headers = {"content-length": str(len(answer.body)), **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} Fake", *(f"{name}: {value}" for name, value in headers.items())]
    has_body = method != "HEAD" and answer.status not in {204, 304}
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (answer.body[: answer.cut] if has_body else b"")

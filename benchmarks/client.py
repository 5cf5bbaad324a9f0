"""A caller in a process of its own, so that it shares no interpreter with what reads the runtime's messages.

Run as `python -m benchmarks.client MODE` with a JSON object on its input; prints a JSON object. See `_MODES`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from benchmarks.tools import ROOT

KEY = "sk-benchmark-secret-0123456789"
WARM_UP = 100
HEAD_END = b"\r\n\r\n"
END = b"0\r\n\r\n"

Times: TypeAlias = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Target:
    """A server, and the request that it is sent."""

    name: str
    url: str
    path: str
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        return str(parts.hostname), parts.port or 80

    @property
    def request(self) -> bytes:
        """The request's bytes."""
        body = json.dumps(self.body).encode()
        headers = {
            "host": "x",
            "accept": "*/*",
            "content-type": "application/json",
            "authorization": f"Bearer {KEY}",
            "content-length": str(len(body)),
            **self.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{head}\r\n".encode() + body


@dataclass(frozen=True)
class Load:
    """What a server bore: requests that were answered whole, those that were not, and how long each took."""

    answered: int
    failed: int
    seconds: float
    taken_s: list[float]


@dataclass(frozen=True)
class Answered:
    """One answer as its caller saw it: seconds to its first byte, of the longest pause after that, and to its end."""

    status: int
    first_s: float
    pause_s: float
    total_s: float
    words: list[int]
    ended: bool


def call_in_turns(targets: Sequence[Target], rounds: int) -> Times:
    """Call each target once per round, over one kept connection each; times in microseconds, by target."""
    return _run("turns", {"rounds": rounds, "targets": [asdict(target) for target in targets]})


def load(target: Target, connections: int, seconds: float) -> Load:
    """Call a target over so many connections at once, again and again, for so long."""
    return Load(**_run("load", {"target": asdict(target), "connections": connections, "seconds": seconds}))


def hold(target: Target, connections: int) -> Load:
    """Call a target over so many connections at once, once each."""
    return load(target, connections, 0)


def call_once(target: Target) -> Answered:
    """One call, looked at closely."""
    return Answered(**_run("once", {"target": asdict(target)}))


def _run(mode: str, given: dict[str, Any]) -> Any:
    command = [sys.executable, "-m", "benchmarks.client", mode]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(given), stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


class _Kept:
    """One kept connection to a target."""

    def __init__(self, target: Target) -> None:
        self._request = target.request
        self._socket = socket.create_connection(target.address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> tuple[float, float]:
        """One request: microseconds to the first byte of its body, and to its last."""
        begin = time.perf_counter()
        self._socket.sendall(self._request)
        received = b""
        first = 0.0
        while not received.endswith(END):
            received += self._socket.recv(65_536)
            if not first and 0 <= received.find(HEAD_END) < len(received) - len(HEAD_END):
                first = time.perf_counter()
        end = time.perf_counter()
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(received[:500].decode())
        return (first - begin) * 1e6, (end - begin) * 1e6


def _turns(given: dict[str, Any]) -> Times:
    targets = [Target(**fields) for fields in given["targets"]]
    connections = [(target.name, _Kept(target)) for target in targets]
    for _, connection in connections:
        for _ in range(WARM_UP):
            connection.call()
    times: Times = {target.name: {"first_byte_us": [], "total_us": []} for target in targets}
    order = random.Random(1)  # noqa: S311 - so that nobody always follows the same one
    for _ in range(given["rounds"]):
        order.shuffle(connections)
        for name, connection in connections:
            first, total = connection.call()
            times[name]["first_byte_us"].append(first)
            times[name]["total_us"].append(total)
    return times


class _Caller(asyncio.Protocol):
    """One of many: calls; says how long a whole answer took, None for no such answer; calls again if told to."""

    def __init__(self, request: bytes, done: Callable[[float | None], bool]) -> None:
        self._request = request
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Protocol's hook."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._call()

    def data_received(self, data: bytes) -> None:
        """Protocol's hook."""
        self._good = self._good or data.startswith(b"HTTP/1.1 200")
        self._tail = (self._tail + data)[-len(END) :]
        if self._tail == END:
            self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """Protocol's hook."""
        del exc
        if not self._over:
            self._over = True
            self._done(None)

    def _call(self) -> None:
        self._good, self._over, self._tail = False, False, b""
        self._begin = time.perf_counter()
        self._transport.write(self._request)

    def _ended(self) -> None:
        self._over = True
        if self._done(time.perf_counter() - self._begin if self._good else None):
            self._call()
        else:
            self._transport.close()


async def _load(given: dict[str, Any]) -> dict[str, Any]:
    target = Target(**given["target"])
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    failed, left = 0, given["connections"]
    ends_at = time.perf_counter() + given["seconds"]
    over = asyncio.Event()

    def done(seconds: float | None) -> bool:
        nonlocal failed, left
        if seconds is None:
            failed += 1
        else:
            taken.append(seconds)
        again = seconds is not None and time.perf_counter() < ends_at
        left -= not again
        if not left:
            over.set()
        return again

    begin = time.perf_counter()
    await asyncio.gather(
        *(
            loop.create_connection(lambda: _Caller(target.request, done), *target.address)
            for _ in range(given["connections"])
        )
    )
    await over.wait()
    return {"answered": len(taken), "failed": failed, "seconds": time.perf_counter() - begin, "taken_s": taken}


def _once(given: dict[str, Any]) -> dict[str, Any]:
    target = Target(**given["target"])
    with socket.create_connection(target.address) as connection:
        begin = last = time.perf_counter()
        connection.sendall(target.request)
        received, first, pause = b"", 0.0, 0.0
        while not received.endswith(END):
            data = connection.recv(65_536)
            if not data:
                break
            now = time.perf_counter()
            received += data
            if first:
                pause = max(pause, now - last)
            elif 0 <= received.find(HEAD_END) < len(received) - len(HEAD_END):
                first = now - begin
            last = now
    return {
        "status": int(received[9:12] or b"0"),
        "first_s": first,
        "pause_s": pause,
        "total_s": last - begin,
        "words": [int(word) for word in re.findall(rb'" w(\d+)', received)],
        "ended": received.endswith(END),
    }


_MODES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "turns": _turns,
    "load": lambda given: asyncio.run(_load(given)),
    "once": _once,
}

if __name__ == "__main__":
    print(json.dumps(_MODES[sys.argv[1]](json.load(sys.stdin))))

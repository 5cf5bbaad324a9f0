"""A caller in a process of its own, so that it shares no interpreter with what reads the runtime's messages.

Run as `python -m benchmarks.client`: takes a JSON object `{"rounds", "targets": [Target's fields]}` on its input, calls
the targets in turns, and prints `{name: {"first_byte_us": […], "total_us": […]}}`.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from benchmarks.tools import ROOT

KEY = "benchmark-secret-0123456789"
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


def call_in_turns(targets: Sequence[Target], rounds: int) -> Times:
    """Call each target once per round, over one kept connection each; times in microseconds, by target."""
    given = json.dumps({"rounds": rounds, "targets": [asdict(target) for target in targets]})
    command = [sys.executable, "-m", "benchmarks.client"]
    done = subprocess.run(command, cwd=ROOT, input=given, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


class Connection:
    """One kept connection to a target."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._socket = socket.create_connection((str(parts.hostname), parts.port or 80))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps(target.body).encode()
        headers = {
            "host": "x",
            "accept": "*/*",
            "content-type": "application/json",
            "authorization": f"Bearer {KEY}",
            "content-length": str(len(body)),
            **target.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._request = f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body

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


def _main() -> None:
    given = json.load(sys.stdin)
    targets = [Target(**fields) for fields in given["targets"]]
    connections = [(target.name, Connection(target)) for target in targets]
    for _, connection in connections:
        for _ in range(WARM_UP):
            connection.call()
    times: Times = {target.name: {"first_byte_us": [], "total_us": []} for target in targets}
    for _ in range(given["rounds"]):
        for name, connection in connections:
            first, total = connection.call()
            times[name]["first_byte_us"].append(first)
            times[name]["total_us"].append(total)
    print(json.dumps(times))


if __name__ == "__main__":
    _main()

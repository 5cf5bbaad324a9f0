"""What /api/generate adds to a call, under Vercel's runtime, beside a bare pass-through on the same runtime."""

from __future__ import annotations

import json
import re
import socket
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.tools import Table, running_upstream
from tests.runtime import Runtime

KEY = "benchmark-secret-0123456789"
WARM_UP = 50
ROUNDS = 600
CHUNKS = 20


@dataclass
class Target:
    """A server and the request it is sent, over one kept connection; times in microseconds."""

    name: str
    url: str
    path: str
    body: Mapping[str, object]
    first_byte_us: list[float] = field(default_factory=list)
    total_us: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self._connection = socket.create_connection((str(parts.hostname), parts.port or 80))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = json.dumps(self.body).encode()
        self._request = (
            f"POST {self.path} HTTP/1.1\r\nhost: x\r\naccept: */*\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    def call(self) -> tuple[float, float]:
        """One request: microseconds to the first byte of its body, and to its last."""
        begin = time.perf_counter()
        self._connection.sendall(self._request)
        received = b""
        first = 0.0
        while not received.endswith(b"0\r\n\r\n"):
            received += self._connection.recv(65_536)
            if not first and re.search(rb"\r\n\r\n.", received, re.DOTALL):
                first = time.perf_counter()
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(received[:200].decode())
        return (first - begin) * 1e6, (time.perf_counter() - begin) * 1e6


def measure() -> Table:
    """Call direct, pass-through and handler in turns; return what the two added to the direct call."""
    with running_upstream() as upstream:
        chat = {"model": f"burst-{CHUNKS}", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        environ = {"API_KEYS": f"bench:user:{KEY}", "FEATURE_AI_PROVIDER": f"groq/burst-{CHUNKS}"}
        vendors = {"GROQ_API_KEY": "key-0123456789", "GROQ_BASE_URL": upstream}
        with (
            Runtime.of_file("benchmarks/passthrough.py", {"UPSTREAM": upstream}) as bare,
            Runtime.of_file("api/generate.py", {**environ, **vendors}) as product,
        ):
            direct = Target("direct", upstream, "/v1/chat/completions", chat)
            floor = Target("pass-through", bare.url, "/", chat)
            ours = Target("/api/generate", product.url, "/api/generate", {"prompt": "Hi"})
            for target in (direct, floor, ours):
                for _ in range(WARM_UP):
                    target.call()
            for _ in range(ROUNDS):
                for target in (direct, floor, ours):
                    first, total = target.call()
                    target.first_byte_us.append(first)
                    target.total_us.append(total)
    table = Table(f"Added to a direct call, {ROUNDS} calls of {CHUNKS} chunks each, microseconds")
    for name, values in (("time to first byte", "first_byte_us"), ("whole answer", "total_us")):
        for label, pick in (("p50", 50), ("p99", 99)):
            floor_us, ours_us = (
                _percentile(getattr(target, values), pick) - _percentile(getattr(direct, values), pick)
                for target in (floor, ours)
            )
            table.add(f"{name}, {label}", "pass-through", floor_us, "/api/generate", ours_us)
    return table


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

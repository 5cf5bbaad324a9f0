"""What /api/generate adds to a call, under Vercel's runtime, beside a bare pass-through on the same runtime."""

from __future__ import annotations

import statistics

from benchmarks.client import KEY, Target, call_in_turns
from benchmarks.tools import Table, running_upstream
from tests.runtime import Runtime

ROUNDS = 600
CHUNKS = 20


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
            times = call_in_turns((direct, floor, ours), ROUNDS)
    table = Table(f"Added to a direct call, {ROUNDS} calls of {CHUNKS} chunks each, microseconds")
    for name, values in (("time to first byte", "first_byte_us"), ("whole answer", "total_us")):
        for label, pick in (("p50", 50), ("p99", 99)):
            floor_us, ours_us = (
                _percentile(times[target.name][values], pick) - _percentile(times[direct.name][values], pick)
                for target in (floor, ours)
            )
            table.add(f"{name}, {label}", "pass-through", floor_us, "/api/generate", ours_us)
    return table


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

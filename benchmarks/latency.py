"""What /api/generate adds to a call, under Vercel's runtime, beside a bare pass-through on the same runtime."""

from __future__ import annotations

import statistics

from benchmarks.client import Times, call_in_turns
from benchmarks.report import Goal, Section
from benchmarks.servers import direct, handler, pass_through
from benchmarks.tools import running_upstream

ROUNDS = 800
CHUNKS = 20


def measure() -> Section:
    """Call direct, pass-through and handler in turns."""
    with (
        running_upstream() as upstream,
        pass_through(upstream) as floor,
        pass_through(upstream, settled=True) as lower,
        handler(upstream) as ours,
    ):
        times = call_in_turns((direct(upstream), floor.target, lower.target, ours.target), ROUNDS)
    section = Section(
        "What the handler adds to a call",
        f"{ROUNDS} calls in turns, each answered with {CHUNKS} chunks in one write; under Vercel's runtime. Added: the "
        "percentile through the server less the same percentile of calling the vendor directly. Ratio: what the "
        "handler adds to what the pass-through adds.",
        ("microseconds", "first byte p50", "p99", "whole p50", "p99"),
        [("direct (not added)", *_percentiles(times, "direct"))],
    )
    floor_us, lower_us, ours_us = (added(times, server.target.name) for server in (floor, lower, ours))
    ratios, stricter = (
        [mine / least for mine, least in zip(ours_us, least_us, strict=True)] for least_us in (floor_us, lower_us)
    )
    section.rows += [
        ("added by the pass-through", *floor_us),
        ("added by /api/generate", *ours_us),
        ("ratio", *ratios),
        ("added by the pass-through, settled", *lower_us),
        ("ratio to that", *stricter),
    ]
    for name, ratio in zip(("first byte p50", "first byte p99", "whole p50", "whole p99"), ratios, strict=True):
        section.goals.append(Goal(f"{name}, ratio", ratio, 1.3))
    section.notes.append(
        "Settled: Vercel's runtime searches for Vercel's SDK with every request, and Python for cycles after every 700 "
        "objects; ours settles both once (lib/app.py). The second ratio is to a pass-through that does so too."
    )
    return section


def added(times: Times, name: str) -> list[float]:
    """What this server adds to a direct call: first byte p50 and p99, whole p50 and p99; microseconds."""
    return [
        through - alone for through, alone in zip(_percentiles(times, name), _percentiles(times, "direct"), strict=True)
    ]


def _percentiles(times: Times, name: str) -> list[float]:
    return [
        statistics.quantiles(times[name][what], n=100, method="inclusive")[percent - 1]
        for what in ("first_byte_us", "total_us")
        for percent in (50, 99)
    ]

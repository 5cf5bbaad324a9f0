"""Hedging with a learnt delay, beside the best fixed delay in hindsight: a simulation, the router's own code in it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from benchmarks.report import Goal, Section
from lib.providers.base import ChatRequest, Delta, Model, TextProvider
from lib.providers.catalog import Row
from lib.router.attempt import Policy
from lib.router.health import HEDGE_SHARE, Health
from lib.router.plan import ProviderFlag
from lib.router.router import Context, Router
from tests.lib.virtual_time import run

REQUESTS = 20_000
PER_SECOND = 5.0
PATIENT_S = 600.0
"""No deadline cuts a silence short: what is measured is hedging alone."""


@dataclass(frozen=True)
class Moment:
    """One request: when it comes after the one before, and how long two vendors would take to their first tokens."""

    gap_s: float
    first_s: float
    second_s: float


def make_trace(seed: int, requests: int, *, drifts: bool) -> list[Moment]:
    """A lognormal body and, for one call in twenty, a Pareto tail; where it drifts, slower and faster hours as well."""
    chance = random.Random(seed)  # noqa: S311 - a trace, not a secret

    def one(scale: float) -> float:
        usual = chance.lognormvariate(math.log(0.25), 0.35)
        return scale * (min(0.5 * chance.paretovariate(1.1), 30.0) if chance.random() < 0.05 else usual)  # noqa: PLR2004

    def slowness(part: float) -> float:
        hour = 1 + 0.5 * math.sin(4 * math.pi * part)
        return hour * 3 if 0.5 < part < 0.6 else hour  # noqa: PLR2004

    return [
        Moment(chance.expovariate(PER_SECOND), one(slowness(index / requests) if drifts else 1.0), one(1.2))
        for index in range(requests)
    ]


def hedged(trace: Sequence[Moment]) -> tuple[list[float], float]:
    """Each request's time to its first token through the router, and extra calls per request."""
    return run(_play(trace))


def best_fixed(trace: Sequence[Moment], share: float) -> tuple[float, float, float]:
    """The fixed delay that, within so many extra calls per request, has the lowest p99: p99, delay, extra calls."""
    slowest_first = sorted((moment.first_s for moment in trace), reverse=True)
    delays = [slowest_first[index] for index in range(int(share * len(trace)))][:: max(len(trace) // 2_000, 1)]
    return min((percentile(_fixed(trace, delay), 99), delay, _extra(trace, delay)) for delay in delays)


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile."""
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def measure() -> Section:
    """Both traces, three ways."""
    section = Section(
        "Hedging: p99 of the time to the first token",
        f"{REQUESTS:,} requests of a seeded trace under virtual time; the router, its budget and the learnt delay are "
        f"the real code. The fixed delay is the best in hindsight that costs at most {HEDGE_SHARE:.0%} extra calls.",
        ("trace", "no hedging s", "best fixed s", "its delay s", "ours s", "ratio", "extra calls %"),
    )
    for name, drifts in (("steady, heavy tail", False), ("drifting, heavy tail", True)):
        trace = make_trace(1, REQUESTS, drifts=drifts)
        times, extra = hedged(trace)
        fixed_s, delay_s, _ = best_fixed(trace, HEDGE_SHARE)
        ours_s = percentile(times, 99)
        none_s = percentile([moment.first_s for moment in trace], 99)
        section.rows.append((name, none_s, fixed_s, delay_s, ours_s, ours_s / fixed_s, extra * 100))
        section.goals += [
            Goal(f"{name}: ours to the best fixed", ours_s / fixed_s, 1.15),
            Goal(f"{name}: extra calls", extra * 100, 3, " %"),
        ]
    return section


def _fixed(trace: Sequence[Moment], delay_s: float) -> list[float]:
    return [min(each.first_s, delay_s + each.second_s) if each.first_s > delay_s else each.first_s for each in trace]


def _extra(trace: Sequence[Moment], delay_s: float) -> float:
    return sum(moment.first_s > delay_s for moment in trace) / len(trace)


@dataclass
class _Vendor:
    """Says one word after as long as the trace says of the request."""

    name: str
    times: Sequence[float]

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        del model
        await asyncio.sleep(self.times[int(str(request.messages[0]["content"]))])
        yield [Delta(text="word", finish_reason="stop")]


async def _play(trace: Sequence[Moment]) -> tuple[list[float], float]:
    vendors: dict[str, TextProvider] = {
        "first": _Vendor("first", [moment.first_s for moment in trace]),
        "second": _Vendor("second", [moment.second_s for moment in trace]),
    }
    rows = tuple(Row(name, name, "openai", "", (Model("m", 8_192, 1_024),), "m", "m") for name in vendors)
    router = Router(rows, set(vendors), vendors.__getitem__, Health())
    policy = Policy(hedge_adapts=True, first_token_s=PATIENT_S, patience_s=PATIENT_S, total_s=PATIENT_S)
    times = [0.0] * len(trace)
    calls = 0

    async def ask(index: int) -> None:
        nonlocal calls
        begin = asyncio.get_running_loop().time()
        request = ChatRequest(({"role": "user", "content": str(index)},), 16)
        answer = router.get_completion(ProviderFlag(), request, Context(policy=policy))
        async for _ in answer:
            times[index] = asyncio.get_running_loop().time() - begin
        calls += len(answer.attempts)

    async with asyncio.TaskGroup() as running:
        for index, moment in enumerate(trace):
            await asyncio.sleep(moment.gap_s)
            running.create_task(ask(index))
    return times, calls / len(trace) - 1

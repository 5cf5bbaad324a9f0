"""CPU per request for what decides about it: the flags alone, and with the parameters from each of their sources."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import orjson

from benchmarks.report import Goal, Section
from benchmarks.tools import ROOT
from lib.control.flags import Flags
from lib.control.hypertune import InitData
from lib.control.parameters import ITEM, Resolver
from lib.control.sources import Specs
from lib.providers.catalog import ROWS

REQUESTS = 3_000
ROUNDS = 5
CALLER = "0190b7e6-7a3c-7000-8000-000000000001"
TRAITS = {"kind": "key", "role": "user"}
CONFIG: Mapping[str, object] = {"temperature": 0.4, "max_tokens": 800, "fallback_order": ["xai"], "hedge": "auto"}


def measure() -> Section:
    """Flags from the local specs; Hypertune's fields are those of the test vectors: two splits, a switch, an enum."""
    specs = json.loads((ROOT / "local/items/statsig-local.json").read_text())
    hypertune = json.loads((ROOT / "tests/vectors/hypertune/init_data.json").read_text())
    section = Section(
        "Flags and parameters per request",
        f"CPU of a request's decision, best of {ROUNDS} x {REQUESTS}.",
        ("microseconds", "value"),
    )
    flags = asyncio.run(_flags(specs))
    number = count()
    known: Callable[[], str] = lambda: CALLER  # noqa: E731 - a function of one word
    new: Callable[[], str] = lambda: f"{next(number):036}"  # noqa: E731
    for what, items, caller in (
        ("no item", {}, known),
        ("ai_config", {ITEM: CONFIG}, known),
        ("Hypertune, known caller", {ITEM: CONFIG, "hypertune": hypertune}, known),
        ("Hypertune, new caller", {ITEM: CONFIG, "hypertune": hypertune}, new),
    ):
        value = flags + _parameters(items, caller)
        section.rows.append((f"flags and parameters: {what}", value))
        if caller is known:
            section.goals.append(Goal(f"warm, {what}", value, 60, " µs"))
    stored = orjson.dumps(hypertune)
    parsing = _each(lambda: orjson.loads(stored), 100)
    section.rows.append(("a new version of Hypertune's item: JSON read", parsing))
    section.rows.append(("and made ready", _each(lambda: InitData(hypertune), 100)))
    return section


def _parameters(items: Mapping[str, object], caller: Callable[[], str]) -> float:
    resolver = Resolver()

    def resolve() -> None:
        resolver.resolve(items, {"environment": "production", "user": {"id": caller(), "plan": "pro", **TRAITS}})

    return _each(resolve, REQUESTS)


async def _flags(document: Mapping[str, object]) -> float:
    names = [row.name for row in ROWS]
    flags = Flags(None, [_Fixed(Specs(document, "1"))], on=names, assignable=names)
    await flags.provider(CALLER, TRAITS)
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(REQUESTS):
            await flags.provider(CALLER, TRAITS)
        best = min(best, time.process_time() - begin)
    return best / REQUESTS * 1e6


class _Fixed:
    """Specs that never change."""

    part = "benchmark"
    error: str | None = None
    age_s: float | None = 0.0

    def __init__(self, specs: Specs) -> None:
        self._specs = specs

    async def specs(self) -> Specs | None:
        return self._specs

    async def renew(self) -> None:
        """Nothing to do."""


def _each(work: Callable[[], Any], times: int) -> float:
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - begin)
    return best / times * 1e6

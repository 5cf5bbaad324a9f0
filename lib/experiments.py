"""Analyses experiments on a schedule and keeps what was found, so that the dashboard only has to read."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from lib.control.design import design_of
from lib.control.experiments import BROKEN_RATIO, Design, Unit, report, verdict
from lib.control.statistics import sample_ratio_p
from lib.data.circuit import Rpc
from lib.data.panels import ANALYSED
from lib.errors import DataFailed

EVERY_S = 300.0
TIMEOUT_S = 20.0
KEPT = timedelta(days=90)
"""How long events are kept: a verdict takes all users, so an older experiment has none."""
AT_MOST_BESIDE_TRAFFIC = 2_000
"""Users of an analysis that rides on traffic, where it takes the processor from answers; more are for the cron."""
UNREADABLE = "The flag's specs do not say how users are divided: the arms are shown, and not compared."
TOO_OLD = "Users were divided like this before the events that are still kept: so there is no verdict."

log = logging.getLogger("experiments")
_FIELDS = {each.name for each in fields(Unit)}


class Experiments:
    """The experiments that callers are assigned in."""

    def __init__(
        self,
        rpc: Rpc,
        document: Callable[[], Awaitable[Mapping[str, object] | None]],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`document` gives the flags' specs as they stand."""
        self._rpc = rpc
        self._document = document
        self._now = now
        self._clock = clock
        self._next_at = float("-inf")

    async def keep_up(self) -> None:
        """After an answer: analyse what is due, once in five minutes over all instances. Never raises."""
        if self._clock() < self._next_at:
            return
        self._next_at = self._clock() + EVERY_S
        try:
            if await self._rpc("take_turn", {"p_job": "experiments", "p_every_s": round(EVERY_S)}):
                await self.run(at_most=AT_MOST_BESIDE_TRAFFIC)
        except DataFailed as error:
            log.info("the analysis of experiments waits: %s", error.reason)

    async def run(self, *, at_most: int | None = None) -> dict[str, int]:
        """Analyse them all; `{experiment: users of its longest period}`. Raises DataFailed.

        Those with more users than `at_most` are left to whoever has the time.
        """
        now = self._now()
        document = await self._document() or {}
        done: dict[str, int] = {}
        for name in await self._rpc("experiments_since", {"p_from": (now - max(ANALYSED.values())).isoformat()}):
            done[name] = await self._analyse(name, design_of(document, name), now, at_most)
        return done

    async def _analyse(self, name: str, design: Design | None, now: datetime, at_most: int | None) -> int:
        since = await self._since(name, design)
        by_period = {period: await self._units(name, now - span, now) for period, span in ANALYSED.items()}
        most = max(map(len, by_period.values()))
        if at_most is not None and most > at_most:
            return most
        whole = None if design is None or since < now - KEPT else await self._units(name, since, now)
        for period, units in by_period.items():
            # The same draws for the same hour: an analysis that is repeated says the same.
            chance = random.Random(f"{name} {period} {now:%Y-%m-%dT%H}")  # noqa: S311 - a bootstrap
            result = await asyncio.to_thread(analysed, units, design, whole, chance)
            kept = result | {"since": since.isoformat(), "shares": None if design is None else dict(design.shares)}
            await self._rpc("keep_experiment_result", {"p_experiment": name, "p_period": period, "p_result": kept})
        return most

    async def _since(self, name: str, design: Design | None) -> datetime:
        """Since when users are divided as they are now, as far as the analyses until now have seen."""
        rows: Sequence[Mapping[str, Any]] = await self._rpc("panel_analysis", {"p_period": max(ANALYSED)})
        last = next((row["result"] for row in rows if row["experiment"] == name), None)
        if last is None or last["shares"] is None:
            return datetime.fromisoformat(await self._rpc("experiment_began", {"p_experiment": name}))
        if design is None or last["shares"] == dict(design.shares):
            return datetime.fromisoformat(last["since"])
        return self._now()

    async def _units(self, name: str, begin: datetime, end: datetime) -> list[Unit]:
        given = {"p_experiment": name, "p_from": begin.isoformat(), "p_to": end.isoformat()}
        rows: Sequence[Mapping[str, Any]] = await self._rpc("experiment_units", given, timeout_s=TIMEOUT_S)
        return [Unit(**{key: value for key, value in row.items() if key in _FIELDS}) for row in rows]


def analysed(
    units: Sequence[Unit], design: Design | None, whole: Sequence[Unit] | None, chance: random.Random
) -> dict[str, Any]:
    """See experiments.report, for a period; but the verdict is of `whole`, all users since they are divided like this.

    `warnings` say what is missing and why: without a design all that compares arms, without `whole` the verdicts.
    """
    if design is None:
        arms = sorted({unit.arm for unit in units})
        shown: Mapping[str, Any] = report(units, Design(arms[0], dict.fromkeys(arms, 1.0)), chance) if arms else {}
        compared: dict[str, Any] = {"control": None, "differences": [], "sample_ratio": None, "verdicts": []}
        return compared | {"arms": shown.get("arms", []), "warnings": [UNREADABLE]}
    found = report(units, design, chance)
    if whole is None:
        return found | {"verdicts": [], "warnings": [TOO_OLD]}
    of = {arm: [unit for unit in whole if unit.arm == arm and unit.requests] for arm in design.shares}
    trusted = sample_ratio_p([len(each) for each in of.values()], list(design.shares.values())) >= BROKEN_RATIO
    control = of[design.control]
    others = [arm for arm in design.shares if arm != design.control]
    verdicts = [verdict(arm, of[arm], control, design, trusted=trusted) for arm in others]
    return found | {"verdicts": verdicts, "warnings": []}

"""Looks after the product: what rides on traffic once a minute, and the cron's tasks for incidents.

With a daily cron (Vercel's Hobby plan) a webhook that nobody finished, an issue that was not told or a recovery would
wait for a day. So each instance looks after an answer, at most once a minute, and one of them all does what is due.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from lib.cron import Task
from lib.data.circuit import Circuit, Rpc
from lib.errors import DataFailed
from lib.incidents.deploys import Deploys
from lib.incidents.failures import Failures, drift_failure, price_failure, switch_failure, vendor_failure
from lib.incidents.incidents import Failure, Incidents
from lib.incidents.probe import Listed
from lib.providers.catalog import Row

EVERY_S = 60
TURN = "urgent"
TOLERANCE = Decimal("0.01")
"""By which share a price may differ: lists are rounded."""

Look = Callable[[], Sequence[Failure]]
"""What this process can see by itself, without asking anybody."""
Probe = Callable[[], Awaitable[Sequence[tuple[Row, Listed]]]]
Price = Callable[[str, str, str], Awaitable[Decimal | None]]
Switches = Callable[[], Awaitable[tuple[frozenset[str], frozenset[str]]]]
"""The providers that are switched off, and all that could be."""

log = logging.getLogger("incidents")


@cache
def expected_migrations() -> tuple[str, ...]:
    """The versions that this code was written for (scripts/generate.py lists them)."""
    file = Path(__file__).parent.parent / "data" / "migrations.json"
    return tuple(json.loads(file.read_text()))


class Watch:
    """Of one process. Nothing here raises but the cron's tasks, whose failures the cron reports."""

    def __init__(
        self,
        database: Circuit,
        incidents: Incidents,
        deploys: Deploys,
        failures: Failures,
        *,
        look: Look,
        switches: Switches,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._incidents = incidents
        self._deploys = deploys
        self._failures = failures
        self._look = look
        self._switches = switches
        self._clock = clock
        self._looked_at = float("-inf")

    async def after_answer(self) -> None:
        """Tell what has failed; once a minute look, and do what is due. Never raises."""
        try:
            if self._clock() - self._looked_at >= EVERY_S:
                self._looked_at = self._clock()
                for failure in self._look():
                    self._failures.note(failure)
                if await self._database("take_turn", {"p_job": TURN, "p_every_s": EVERY_S}):
                    await self.urgent()
            if self._database.trouble is None:
                await self._failures.tell(self._open)
        except DataFailed as error:
            log.debug("nothing is looked after now: %s", error.reason)

    async def urgent(self) -> dict[str, Any]:
        """What must not wait for a day. Raises DataFailed."""
        return {
            "deliveries": await self._deploys.process_pending(),
            "switches": await self.check_switches(),
            "recovered": await self._incidents.recover(),
            "incidents": await self._incidents.reconcile(),
        }

    async def check_switches(self) -> dict[str, Any]:
        """Note kill switches that are on, and that others are off again. Raises DataFailed."""
        killed, known = await self._switches()
        for provider in sorted(killed):
            self._failures.note(switch_failure(provider))
        over = [
            subject
            for subject in await self._incidents.open_subjects("switch:")
            if subject.removeprefix("switch:") in known - killed
        ]
        for subject in over:
            await self._incidents.resolve(subject)
        return {"on": sorted(killed), "over": over}

    async def check_migrations(self) -> dict[str, Any]:
        """Whether the database has what this code was written for. Raises DataFailed."""
        applied: list[str] | None = await self._database("applied_migrations", {})
        if applied is None:
            return {"recorded": False}
        missing = [version for version in expected_migrations() if version not in applied]
        if missing:
            await self._incidents.open(drift_failure(missing))
        else:
            await self._incidents.resolve("migrations")
        return {"missing": missing}

    async def check_vendors(self, probe: Probe, price: Price) -> dict[str, Any]:
        """Ask every vendor for its models: what does not fit becomes an incident, what fits again ends one."""
        report: dict[str, Any] = {}
        for row, told in await probe():
            wrong = await self._vendor_failures(row, told, price)
            for failure in wrong:
                await self._incidents.open(failure)
            if told.code is None:
                still = {failure.subject for failure in wrong}
                for prefix in (f"vendor:{row.name}:model_unavailable:", f"price:{row.name}:"):
                    for subject in await self._incidents.open_subjects(prefix):
                        if subject not in still and subject.removeprefix(prefix) in told.models:
                            await self._incidents.resolve(subject)
            report[row.name] = told.code or [failure.title for failure in wrong] or "ok"
        return report

    async def _vendor_failures(self, row: Row, told: Listed, price: Price) -> list[Failure]:
        if told.code is not None:
            return [vendor_failure(row.name, told.code)] if told.code == "credentials_rejected" else []
        wrong = [
            vendor_failure(row.name, "model_unavailable", model.id)
            for model in row.models
            if model.id not in told.models
        ]
        for model in row.models:
            differing: dict[str, tuple[str, str]] = {}
            for side in ("input", "output"):
                theirs, ours = told.prices.get((model.id, side)), await price(row.name, model.id, side)
                if theirs is not None and ours is not None and abs(theirs - ours) > TOLERANCE * max(theirs, ours):
                    differing[side] = (f"{theirs:f}", f"{ours:f}")
            if differing:
                wrong.append(price_failure(row.name, model.id, differing))
        return wrong

    async def _open(self, failure: Failure, count: int) -> None:
        await self._incidents.open(failure, count=count)

    def tasks(self, probe: Probe, price: Price, flush: Callable[[], Awaitable[Any]]) -> tuple[Task, ...]:
        """The cron's tasks."""

        async def vendors(_rpc: Rpc, _box_s: float) -> Any:
            return await self.check_vendors(probe, price)

        async def deliveries(_rpc: Rpc, _box_s: float) -> Any:
            return await self._deploys.process_pending()

        async def switches(_rpc: Rpc, _box_s: float) -> Any:
            return await self.check_switches()

        async def recoveries(_rpc: Rpc, _box_s: float) -> Any:
            return await self._incidents.recover()

        async def telemetry(_rpc: Rpc, _box_s: float) -> Any:
            report = await flush()
            for failure in self._look():
                self._failures.note(failure)
            await self._failures.tell(self._open)
            return report

        async def migrations(_rpc: Rpc, _box_s: float) -> Any:
            return await self.check_migrations()

        async def incidents(_rpc: Rpc, _box_s: float) -> Any:
            return await self._incidents.reconcile(thorough=True)

        async def prune(rpc: Rpc, box_s: float) -> Any:
            return await rpc("prune_incidents", {}, timeout_s=box_s)

        return (
            Task("vendors", 20.0, vendors),
            Task("deliveries", 25.0, deliveries),
            Task("kill switches", 5.0, switches),
            Task("undelivered telemetry", 10.0, telemetry),
            Task("migrations", 5.0, migrations),
            Task("recoveries", 10.0, recoveries),
            Task("incidents", 50.0, incidents),
            Task("old incidents", 10.0, prune),
        )

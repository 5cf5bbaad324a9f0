"""What webhooks tell of deployments: a row first, what follows from it after the answer, or again from the row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from lib.data.circuit import Rpc
from lib.errors import DataFailed
from lib.incidents.build_log import BuildLog, BuildLogs
from lib.incidents.deploy_events import DeployEvent, event_of
from lib.incidents.incidents import Delivery, Incidents

Result = TypeVar("Result")


class Deploys:
    """Takes deliveries and makes them count, each once."""

    def __init__(self, rpc: Rpc, incidents: Incidents, logs: BuildLogs | None) -> None:
        """`logs` is None without a token of Vercel's: then an issue has no lines of the build's log."""
        self._rpc = rpc
        self._incidents = incidents
        self._logs = logs

    async def accept(self, delivery: Delivery, event: DeployEvent) -> bool:
        """Write it down; False where it was here already, and is done or being done. Raises DataFailed."""
        given = {"p_source": delivery.source, "p_delivery_id": delivery.id, "p_facts": event.facts()}
        return await _twice(lambda: self._rpc("accept_delivery", given)) != "duplicate"

    async def process(self, delivery: Delivery, event: DeployEvent) -> None:
        """Count it, and tell GitHub. Raises DataFailed where it could not be counted: `process_pending` will."""
        if event.ending == "ready":
            ended = await _twice(lambda: self._incidents.recovered(event.subject, at=event.time, delivery=delivery))
            await self._incidents.settle_all(ended)
            return
        log = BuildLog() if self._logs is None else await self._logs.of(event.deployment)
        failure = event.failure(log.lines, log.code)
        _, incident = await _twice(lambda: self._incidents.observe(failure, at=event.time, delivery=delivery))
        if incident is not None:
            await self._incidents.settle(incident)

    async def process_pending(self) -> int:
        """Do what nobody has finished; how many deliveries that were. Raises DataFailed."""
        pending: list[Mapping[str, Any]] = await self._rpc("pending_deliveries", {})
        for each in pending:
            await self.process(Delivery(each["source"], each["delivery_id"]), event_of(each["facts"]))
        return len(pending)


async def _twice(call: Callable[[], Awaitable[Result]]) -> Result:
    """Once more where the connection failed, as kept ones do at times. For what a delivery makes idempotent."""
    try:
        return await call()
    except DataFailed as error:
        if error.reason != "connection_failed":
            raise
        return await call()

"""What is done on a schedule: each task in its own time, none stopping the next, a row of `cron_runs` for each run.

To add a task, add a line to TASKS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lib.data.circuit import Rpc
from lib.data.rollups import catch_up
from lib.errors import DataFailed, ServiceFailed
from lib.exchange import Exchange

JOB = "daily"
MARGIN_S = 30
"""The lease outlasts the tasks' time by this: a run that takes longer is lost, and another may begin."""

log = logging.getLogger("cron")


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do; `box_s` is how long it may take. It returns its report, as JSON."""

    name: str
    box_s: float
    do: Callable[[Rpc, float], Awaitable[Any]]


async def _call(function: str, rpc: Rpc, box_s: float) -> Any:
    return await rpc(function, {}, timeout_s=box_s)


async def call_worker(exchange: Exchange, site_url: str, secret: str, box_s: float) -> int:
    """Have the function that carries ffmpeg go on with sales letters that nobody drives: GET /api/vsl/worker.

    It answers before it is done, and works on as long as its own invocation lasts. The status: 200 where all is done,
    202 where it goes on. Raises ServiceFailed.
    """
    bearer = {"authorization": f"Bearer {secret}"}
    reply = await exchange("GET", f"{site_url}/api/vsl/worker", bearer, timeout_s=box_s)
    if reply.status not in {200, 202}:
        raise ServiceFailed(f"answered {reply.status}")
    return reply.status


TASKS: tuple[Task, ...] = (
    Task("expired reservations", 20.0, partial(_call, "expire_reservations")),
    Task("event partitions", 30.0, partial(_call, "ensure_event_partitions")),
    Task("retention", 60.0, partial(_call, "apply_retention")),
    Task("rollups", 60.0, catch_up),
    Task("telemetry retention", 30.0, partial(_call, "trim_telemetry")),
)


async def run_due(rpc: Rpc, tasks: Sequence[Task] = TASKS) -> dict[str, Any]:
    """Do all tasks, unless another run is at it: `{outcome, tasks: {name: {ok, report} or {ok, code}}}`.

    The outcome is `ok`, `error` where a task failed, or `running elsewhere`. One at a time, by a lease in a row: the
    Data API gives no session that could hold a lock. Raises DataFailed where not even that can be had.
    """
    lease_s = round(sum(task.box_s for task in tasks)) + MARGIN_S
    run_id: Any = await rpc("start_cron_run", {"p_job": JOB, "p_lease_s": lease_s})
    if run_id is None:
        return {"outcome": "running elsewhere", "tasks": {}}
    done: dict[str, dict[str, Any]] = {}
    for task in tasks:
        done[task.name] = await _boxed(task, rpc)
    outcome = "ok" if all(each["ok"] for each in done.values()) else "error"
    await rpc("finish_cron_run", {"p_id": run_id, "p_outcome": outcome, "p_report": done})
    return {"outcome": outcome, "tasks": done}


async def _boxed(task: Task, rpc: Rpc) -> dict[str, Any]:
    try:
        async with asyncio.timeout(task.box_s):
            return {"ok": True, "report": await task.do(rpc, task.box_s)}
    except DataFailed as error:
        code = error.reason
    except Exception as error:  # noqa: BLE001 - a task that fails must not stop the next
        code = type(error).__name__
    log.error("the task %s failed: %s", task.name, code)
    return {"ok": False, "code": code}

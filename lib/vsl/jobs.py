"""Jobs and their steps as rows, which outlive every instance: see supabase/migrations/*_vsl.sql.

One driver at a time holds a job, by a lease that it renews. A step's result lies under a hash of all that went into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from lib.data.circuit import Rpc

LEASE_S = 60
Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
Stage = Literal["script", "storyboard", "frames", "narration", "timeline", "captions", "render", "upload", "done"]
OVER: frozenset[str] = frozenset({"succeeded", "failed", "canceled"})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepRow:
    """What is known of a step: `result` where it is done, `error` where it failed.

    `answers` are those that models gave while it ran, by what they were asked; `started_at` and `finished_at` are ISO
    8601, in UTC.
    """

    name: str
    content_key: str
    status: Literal["running", "done", "failed"]
    attempts: int = 1
    cached: bool = False
    ms: int | None = None
    cost_microusd: int = 0
    provider: str | None = None
    model: str | None = None
    result: Json | None = None
    error: Json | None = None
    answers: Mapping[str, Json] = field(default_factory=dict[str, Json])
    started_at: str | None = None
    finished_at: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its row was when it was read; `percent` never falls."""

    id: str
    user_id: str
    caller_kind: Literal["user", "guest", "key"]
    request: Json
    status: Status
    stage: Stage
    percent: int
    budget_microusd: int | None
    cost_microusd: int
    is_cancelling: bool
    webhook_url: str | None
    webhook_attempts: int
    created_at: str
    updated_at: str
    finished_at: str | None = None
    result: Json | None = None
    error: Json | None = None
    steps: Mapping[str, StepRow] = field(default_factory=dict[str, StepRow])

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.status in OVER


class Jobs:
    """The jobs of one project. Everything raises DataFailed."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def create(
        self,
        job_id: str,
        *,
        owner_id: str,
        caller_kind: str,
        request: Mapping[str, Any],
        request_hash: str,
        budget_microusd: int | None,
        webhook_url: str | None,
    ) -> tuple[Job, bool]:
        """The job of this request, and whether it is new: the same request of the same owner is one job."""
        row = await self._rpc(
            "create_vsl_job",
            {
                "p_id": job_id,
                "p_user_id": owner_id,
                "p_caller_kind": caller_kind,
                "p_request": request,
                "p_request_hash": request_hash,
                "p_budget_microusd": budget_microusd,
                "p_webhook_url": webhook_url,
            },
        )
        return _job(row), bool(row["created"])

    async def find(self, owner_id: str, job_id: str) -> Job | None:
        """A job of this owner."""
        row = await self._rpc("vsl_job", {"p_user_id": owner_id, "p_id": job_id})
        return None if row is None else _job(row)

    async def list(self, owner_id: str, *, before: str | None = None, limit: int = 20) -> list[Json]:
        """An owner's jobs, the newest first: what a list shows of them."""
        return await self._rpc("vsl_jobs_of", {"p_user_id": owner_id, "p_before": before, "p_limit": limit})

    async def cancel(self, owner_id: str, job_id: str) -> str | None:
        """`canceled`, `canceling` (its driver ends it), or how it had ended; None for no job of theirs."""
        return await self._rpc("cancel_vsl_job", {"p_user_id": owner_id, "p_id": job_id})

    async def retry(self, owner_id: str, job_id: str) -> str | None:
        """`queued`, `superseded`, or the status that forbids it; None for no job of theirs."""
        return await self._rpc("retry_vsl_job", {"p_user_id": owner_id, "p_id": job_id})

    async def delete(self, owner_id: str, job_id: str) -> list[str] | None:
        """The ids of the assets that were made for it, now nobody's; None for no job of theirs.

        Raises StillRunning where it has to be canceled first.
        """
        answer = await self._rpc("delete_vsl_job", {"p_user_id": owner_id, "p_id": job_id})
        if answer is None:
            return None
        if answer["outcome"] == "running":
            raise StillRunning
        return cast("list[str]", answer["assets"])

    async def claim(self, driver: str, job_id: str | None = None) -> Job | None:
        """The right to drive this job, or any that is due; None where there is none, or another has it."""
        row = await self._rpc("claim_vsl_job", {"p_driver": driver, "p_id": job_id, "p_lease_s": LEASE_S})
        return None if row is None else _job(row)

    async def keep_answer(self, job_id: str, step: str, key: str, answer: Json) -> None:
        """What a model answered for a step that runs, for whoever does it again."""
        await self._rpc("keep_vsl_answer", {"p_id": job_id, "p_step": step, "p_key": key, "p_answer": answer})

    async def claim_webhook(self) -> Job | None:
        """A job that has ended, whose owner is to be told."""
        row = await self._rpc("claim_vsl_webhook", {})
        return None if row is None else _job(row)

    async def finish_webhook(self, job_id: str, state: Literal["sent", "failed"]) -> None:
        """It was told, or never will be."""
        await self._rpc("finish_vsl_webhook", {"p_id": job_id, "p_state": state})


class StillRunning(Exception):
    """Someone drives this job."""


class Lost(Exception):
    """The lease is gone: another drives the job, or it is over. Stop, and touch nothing."""


class Lease:
    """A job that this process drives."""

    def __init__(self, rpc: Rpc, job_id: str, driver: str) -> None:
        self._rpc = rpc
        self._row = {"p_id": job_id, "p_driver": driver}

    async def renew(self, stage: Stage | None = None, percent: int | None = None) -> bool:
        """Go on for another minute; False where the owner wants it to end. Raises Lost, DataFailed."""
        arguments = {**self._row, "p_lease_s": LEASE_S, "p_stage": stage, "p_percent": percent}
        answer = await self._rpc("renew_vsl_job", arguments)
        if answer == "lost":
            raise Lost
        return answer == "held"

    async def start(self, step: str, content_key: str) -> StepRow:
        """The step as it is now: `done` where the very same was made before, else it is to be done.

        Raises Lost, DataFailed.
        """
        answer = await self._rpc("start_vsl_step", {**self._row, "p_step": step, "p_content_key": content_key})
        if answer["outcome"] == "lost":
            raise Lost
        return _step(answer["step"])

    async def finish(self, row: StepRow) -> None:
        """Keep what a step made, or why it failed. Raises Lost (it is kept all the same), DataFailed."""
        held = await self._rpc(
            "finish_vsl_step",
            {
                **self._row,
                "p_step": row.name,
                "p_content_key": row.content_key,
                "p_result": row.result,
                "p_error": row.error,
                "p_ms": row.ms or 0,
                "p_cost_microusd": row.cost_microusd,
                "p_provider": row.provider,
                "p_model": row.model,
                "p_cached": row.cached,
            },
        )
        if not held:
            raise Lost

    async def end(self, status: Status, *, result: Json | None = None, error: Json | None = None) -> None:
        """End the job. Raises Lost, DataFailed."""
        arguments = {**self._row, "p_status": status, "p_result": result, "p_error": error}
        if not await self._rpc("finish_vsl_job", arguments):
            raise Lost

    async def release(self, after_s: int = 0) -> None:
        """Leave it to whoever goes on. Raises DataFailed."""
        await self._rpc("release_vsl_job", {**self._row, "p_after_s": after_s})


def _job(row: Json) -> Job:
    steps = map(_step, row["steps"])
    return Job(
        id=row["id"],
        user_id=row["user_id"],
        caller_kind=row["caller_kind"],
        request=row["request"],
        status=row["status"],
        stage=row["stage"],
        percent=row["percent"],
        budget_microusd=row["budget_microusd"],
        cost_microusd=row["cost_microusd"],
        is_cancelling=row["is_cancelling"],
        webhook_url=row["webhook_url"],
        webhook_attempts=row["webhook_attempts"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
        result=row["result"],
        error=row["error"],
        steps={step.name: step for step in steps},
    )


def _step(row: Json) -> StepRow:
    return StepRow(
        name=row["step"],
        content_key=row["content_key"],
        status=row["status"],
        attempts=row["attempts"],
        cached=row["cached"],
        ms=row["ms"],
        cost_microusd=row["cost_microusd"],
        provider=row["provider"],
        model=row["model"],
        result=row["result"],
        error=row["error"],
        answers=row["answers"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )

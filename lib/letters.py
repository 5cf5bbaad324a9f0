"""Sales letters: the parts of lib/vsl put together over flags, parameters, limits and vendors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from lib.control.parameters import Parameters
from lib.data.assets import Assets
from lib.data.circuit import Rpc
from lib.data.idempotency import Kept, claim
from lib.data.limits import Account, Limits, Subject
from lib.errors import DataFailed
from lib.ids import uuid7
from lib.media.rendering import MediaContext
from lib.router.plan import ProviderFlag
from lib.telemetry.events import Subject as EventSubject
from lib.vsl.brief import Brief
from lib.vsl.jobs import Job, Jobs, Json
from lib.vsl.pipeline import Pipeline, Works
from lib.vsl.plan import Worst, content_key, measure, plan
from lib.vsl.studio import Studio

ROUTE = "/api/vsl"
MICRO = 1_000_000
LEASE_S = 30.0
Traits = Mapping[str, str]
FlagFor = Callable[[str, Traits], Awaitable[ProviderFlag]]
ParametersFor = Callable[[str, Traits], Awaitable[Parameters]]

log = logging.getLogger("vsl")


@dataclass(frozen=True, slots=True)
class Steering:
    """What decides, for an owner: the flag and the parameters."""

    flag: FlagFor
    parameters: ParametersFor


class Letters:
    """All sales letters of this process."""

    def __init__(  # noqa: PLR0913 - one place where these meet
        self,
        rpc: Rpc,
        assets: Assets,
        limits: Limits,
        steering: Steering,
        studio: Studio,
        worst: Worst,
    ) -> None:
        self.assets = assets
        self.jobs = Jobs(rpc)
        self._rpc = rpc
        self._limits = limits
        self._steering = steering
        self._studio = studio
        self._worst = worst
        works = Works(
            plan=lambda job, results: plan(job, results, worst),
            do=studio.do,
            instead=studio.instead,
            measure=measure,
            finish=finished,
        )
        self.pipeline = Pipeline(self.jobs, rpc, works)

    async def begin(
        self,
        job_id: str,
        brief: Brief,
        *,
        owner_id: str,
        kind: str,
        traits: Traits,
        idempotency_key: str | None,
    ) -> tuple[Job, bool]:
        """The job of this brief, and whether it is new. Under the same key it is the same job, however it went.

        Raises Conflict and InvalidRequest for a key that is in use or came with another brief; DataFailed.
        """
        parameters = await self._steering.parameters(owner_id, traits)
        request = brief.request(parameters)
        if idempotency_key is None:
            return await self._create(job_id, brief, request, owner_id, kind)
        claimed = await claim(
            self._rpc, owner_id=owner_id, route=ROUTE, key=idempotency_key, content=brief.told(), lease_s=LEASE_S
        )
        if isinstance(claimed, Kept):
            job = await self.jobs.find(owner_id, orjson.loads(claimed.body)["id"])
            if job is not None:
                return job, False
            return await self._create(job_id, brief, request, owner_id, kind)  # it was deleted since
        try:
            job, created = await self._create(job_id, brief, request, owner_id, kind)
            await claimed.keep(orjson.dumps({"id": job.id}))
        finally:
            await claimed.give_back()
        return job, created

    async def estimate(self, brief: Brief, owner_id: str, traits: Traits) -> Json:
        """What it costs at most, by stage; pays nothing."""
        parameters = await self._steering.parameters(owner_id, traits)
        return brief.estimate_of(brief.request(parameters), self._worst)

    async def drive(self, job_id: str, ends_at: float) -> None:
        """Go on with a job until it is over or time is. Raises DataFailed."""
        if await self.pipeline.advance(ends_at, job_id) is not None:
            await asyncio.to_thread(self._studio.forget, job_id)
            await self.tell_owners()

    async def tell_owners(self) -> int:
        """Tell those who wait for it that their jobs have ended; how many were told."""
        return 0

    async def _create(self, job_id: str, brief: Brief, request: Json, owner_id: str, kind: str) -> tuple[Job, bool]:
        fresh = [] if brief.reuse else [job_id]
        return await self.jobs.create(
            job_id,
            owner_id=owner_id,
            caller_kind=kind,
            request=request,
            request_hash=content_key("job", request, fresh),
            budget_microusd=None if brief.budget_usd is None else round(brief.budget_usd * MICRO),
            has_webhook=brief.webhook_url is not None,
        )


def finished(job: Job, results: Mapping[str, Json]) -> Json:
    """What a job came to."""
    script = results["script"]
    told: dict[str, Any] = {
        "schema": "vsl.manifest/1",
        "id": job.id,
        "title": script["title"],
        "language": job.request["language"],
        "aspect": job.request["aspect"],
        "ai_generated": True,
        "degraded": any(result.get("degraded") for result in results.values()),
        "script": {"title": script["title"], "frames": script["frames"]},
    }
    return {**told, **results.get("film", {})}


async def context_for(job: Job, limits: Limits, steering: Steering) -> MediaContext:
    """For whom a step is done, on an account of its own, and which vendors may be asked."""
    traits = {"kind": job.caller_kind, "role": "user"}
    flag, parameters = await asyncio.gather(
        steering.flag(job.user_id, traits), steering.parameters(job.user_id, traits)
    )
    budget = parameters.budget_usd_per_day
    day = None if budget is None else round(budget * MICRO)
    request_id = uuid7()
    subject = EventSubject(
        request_id=request_id,
        caller_id=job.user_id,
        caller_kind=job.caller_kind,
        route=ROUTE,
        flag=flag.not_applied(),
        prompt_characters=0,
        metadata={"job": job.id},
    )
    return MediaContext(
        subject,
        Account(limits, request_id, Subject(job.caller_kind, job.user_id, day)),
        killed=flag.killed,
        fallback_order=parameters.fallback_order,
        job_id=job.id,
    )



"""Sales letters: the parts of lib/vsl put together over flags, parameters, limits and vendors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import orjson

from lib.control.parameters import Parameters
from lib.data.assets import Assets
from lib.data.circuit import Rpc
from lib.data.idempotency import Kept, claim
from lib.data.limits import Account, Limits, Subject
from lib.data.remote import fetch_public, post_public
from lib.errors import DataFailed, InvalidRequest
from lib.ids import uuid7
from lib.media.pictures import Pictures
from lib.media.rendering import MediaContext
from lib.media.speech import Speaker
from lib.media.styles import STYLES
from lib.providers.base import Units
from lib.router.attempt import Policy
from lib.router.plan import Candidate, ProviderFlag
from lib.router.router import Context, Router
from lib.telemetry.cost import worst_units_usd
from lib.telemetry.events import Recorder
from lib.telemetry.events import Subject as EventSubject
from lib.vsl.asking import Asker, Memory
from lib.vsl.brief import Brief
from lib.vsl.jobs import Job, Jobs, Json
from lib.vsl.manifest import manifest_of
from lib.vsl.pipeline import Made, Pipeline, Step, Works
from lib.vsl.plan import Worst, content_key, measure, plan
from lib.vsl.price import Route, estimate, worst_script_microusd
from lib.vsl.script import script_request, write_script
from lib.vsl.studio import Studio, Tools
from lib.vsl.webhook import MOST_ATTEMPTS, message

ROUTE = "/api/vsl"
MICRO = 1_000_000
LEASE_S = 30.0
OK = range(200, 300)
Traits = Mapping[str, str]

log = logging.getLogger("vsl")


@dataclass(frozen=True, slots=True)
class Vendors:
    """Who serves: the router of text, and by name and model those who draw and read, the first choice first."""

    router: Router
    recorder: Recorder
    pictures: Pictures
    speaker: Speaker
    painters: Sequence[Route]
    readers: Sequence[Route]


@dataclass(frozen=True, slots=True)
class Steering:
    """What decides, for an owner: the flag, the parameters, and the operator's part of the policy."""

    flag: Callable[[str, Traits], Awaitable[ProviderFlag]]
    parameters: Callable[[str, Traits], Awaitable[Parameters]]
    policy: Callable[[Parameters], Policy]


class Letters:
    """All sales letters of this process."""

    def __init__(
        self,
        rpc: Rpc,
        assets: Assets,
        limits: Limits,
        steering: Steering,
        vendors: Vendors,
        webhook_secret: str | None,
    ) -> None:
        self.assets = assets
        self.jobs = Jobs(rpc)
        self._rpc = rpc
        self._limits = limits
        self._steering = steering
        self._vendors = vendors
        self._webhook_secret = webhook_secret
        tools = Tools(assets, vendors.pictures, vendors.speaker, self._write, self._tell, self._open, fetch_public)
        self._studio = Studio(tools)
        works = Works(self._plan, self._studio.do, self._studio.instead, measure, finished)
        self.pipeline = Pipeline(self.jobs, rpc, works)

    async def begin(
        self, job_id: str, brief: Brief, *, owner_id: str, kind: str, traits: Traits, idempotency_key: str | None
    ) -> Job:
        """The job of this brief: the one there is, if the same was asked for. Under the same key it is the same job.

        Raises Conflict and InvalidRequest for a key that is in use, or came with another brief; DataFailed.
        """
        if brief.webhook_url is not None and self._webhook_secret is None:
            raise InvalidRequest("Nobody can be called here: set SESSION_SECRET, which signs what is sent.")
        request = brief.request(await self._steering.parameters(owner_id, traits))
        # One style for all pictures of a letter, and the same one for the same product.
        request["img_style"] = request["img_style"] or _style(request["product"] or "")
        if idempotency_key is None:
            return await self._create(job_id, brief, request, owner_id, kind)
        claimed = await claim(
            self._rpc, owner_id=owner_id, route=ROUTE, key=idempotency_key, content=brief.told(), lease_s=LEASE_S
        )
        if isinstance(claimed, Kept):
            job = await self.jobs.find(owner_id, orjson.loads(claimed.body)["id"])
            # It may have been deleted since.
            return job or await self._create(job_id, brief, request, owner_id, kind)
        try:
            job = await self._create(job_id, brief, request, owner_id, kind)
            await claimed.keep(orjson.dumps({"id": job.id}))
        finally:
            await claimed.give_back()
        return job

    async def estimate(self, brief: Brief, owner_id: str, traits: Traits) -> Json:
        """What it would cost, by stage (lib/vsl/price.py); pays nothing. Raises AppError where nobody could serve."""
        flag, parameters = await self._steered(owner_id, traits)
        request = brief.request(parameters)
        asked = script_request(request)
        text: Route | None = None
        if asked is not None:
            context = Context(policy=self._steering.policy(parameters))
            first = self._vendors.router.get_completion(flag, asked, context).plan[0]
            text = Route(first.provider, first.model.id)
        return estimate(request, text=text, picture=self._vendors.painters[0], voice=self._vendors.readers[0])

    async def drive(self, ends_at: float, job_id: str | None = None) -> str | None:
        """Go on with this job, or any that waits, until it is over or time is; its id, None where there is none.

        Raises DataFailed.
        """
        driven = await self.pipeline.advance(ends_at, job_id)
        if driven is not None:
            await asyncio.to_thread(self._studio.forget, driven)
            await self.tell_owners()
        return driven

    async def tell_owners(self) -> int:
        """Tell those who want to know that their jobs have ended; how many were told. Raises DataFailed."""
        told = 0
        while (secret := self._webhook_secret) is not None and (job := await self.jobs.claim_webhook()) is not None:
            body, headers = message(job, int(time.time()), secret)
            try:
                is_told = await post_public(job.webhook_url or "", body, headers) in OK
            except InvalidRequest:
                is_told = False
            if is_told or job.webhook_attempts >= MOST_ATTEMPTS:
                await self.jobs.finish_webhook(job.id, "sent" if is_told else "failed")
            if not is_told:
                log.warning("the owner of job %s could not be told that it has ended", job.id)
            told += is_told
        return told

    def _plan(self, job: Job, results: Mapping[str, Json]) -> Sequence[Step]:
        asked = script_request(job.request)
        candidates: Sequence[Candidate] = () if asked is None else self._vendors.router.foreseen(Context())
        worst = Worst(
            worst_script_microusd(job.request, candidates),
            lambda megapixels: _worst(self._vendors.painters, Units("megapixels", megapixels)),
            lambda characters: _worst(self._vendors.readers, Units("characters", characters)),
        )
        return plan(job, results, worst)

    async def _write(self, job: Job) -> Made:
        """The script of a job."""
        traits = _traits(job)
        flag, parameters = await self._steered(job.user_id, traits)
        context = self._context(job, flag, parameters, is_text=True)
        policy, memory = self._steering.policy(parameters), self._memory(job)
        asker = Asker(self._vendors.router, self._vendors.recorder, context, policy, memory)
        try:
            script = await write_script(job.request, asker)
        finally:
            await asyncio.shield(context.account.settle())
        served = asker.served_by
        return Made(
            script.told(),
            0 if asker.cost_usd is None else round(asker.cost_usd * MICRO),
            served.provider if served else None,
            served.model.id if served else None,
        )

    async def _tell(self, job: Job, results: Mapping[str, Json]) -> Json:
        """The manifest, with what the job has cost by now."""
        now = await self.jobs.find(job.user_id, job.id)
        return manifest_of(now or job, results).json()

    def _memory(self, job: Job) -> Memory:
        """What models answered for this job's script before whoever asked them died."""
        row = job.steps.get("script")

        async def keep(key: str, answer: Json) -> None:
            try:
                await self.jobs.keep_answer(job.id, "script", key, answer)
            except DataFailed as error:
                log.warning("an answer could not be kept: %s", error.reason)

        return Memory({} if row is None else row.answers, keep)

    async def _open(self, job: Job) -> MediaContext:
        """For whom a step is done, on an account of its own, and which vendors may be asked."""
        return self._context(job, *await self._steered(job.user_id, _traits(job)), is_text=False)

    async def _steered(self, owner_id: str, traits: Traits) -> tuple[ProviderFlag, Parameters]:
        return await asyncio.gather(self._steering.flag(owner_id, traits), self._steering.parameters(owner_id, traits))

    def _context(self, job: Job, flag: ProviderFlag, parameters: Parameters, *, is_text: bool) -> MediaContext:
        budget = parameters.budget_usd_per_day
        request_id = uuid7()
        subject = EventSubject(
            request_id=request_id,
            caller_id=job.user_id,
            caller_kind=job.caller_kind,
            route=ROUTE,
            flag=flag if is_text else flag.not_applied(),
            prompt_characters=0,
            metadata={"job": job.id},
        )
        spender = Subject(job.caller_kind, job.user_id, None if budget is None else round(budget * MICRO))
        return MediaContext(
            subject,
            Account(self._limits, request_id, spender),
            killed=flag.killed,
            fallback_order=parameters.fallback_order,
            job_id=job.id,
        )

    async def _create(self, job_id: str, brief: Brief, request: Json, owner_id: str, kind: str) -> Job:
        job, _ = await self.jobs.create(
            job_id,
            owner_id=owner_id,
            caller_kind=kind,
            request=request,
            request_hash=content_key("job", request, [] if brief.reuse else [job_id]),
            budget_microusd=None if brief.budget_usd is None else round(brief.budget_usd * MICRO),
            webhook_url=brief.webhook_url,
        )
        return job


def finished(job: Job, results: Mapping[str, Json]) -> Json:
    """What a job came to, without addresses, which do not last. Its files hold a manifest with all the rest."""
    script = results["script"]
    film = results.get("film")
    made: Json = {} if film is None else {**film, "files": {**film["files"], "manifest": results["manifest"]}}
    told: Json = {
        "schema": "vsl.result/1",
        "id": job.id,
        "created_at": job.created_at,
        "title": script["title"],
        "language": job.request["language"],
        "aspect": job.request["aspect"],
        "ai_generated": True,
        "degraded": any(result.get("degraded") for result in results.values()),
        "script": {"title": script["title"], "frames": script["frames"]},
        "request_hash": content_key("job", job.request, []),
    }
    return {**told, **made}


def _worst(routes: Sequence[Route], units: Units) -> int:
    return max((ceil(worst_units_usd(route.provider, route.model, units) * MICRO) for route in routes), default=0)


def _traits(job: Job) -> Traits:
    return {"kind": job.caller_kind, "role": "user"}


def _style(product: str) -> str:
    names = sorted(STYLES)
    return names[sum(product.encode()) % len(names)]

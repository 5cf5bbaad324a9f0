"""/api/vsl: video sales letters. POST begins one, or tells what it would cost; GET lists one's own.

/api/vsl/{id}: GET tells how far it is, as JSON or as events until its end (also at /stream); DELETE removes it.
POST /api/vsl/{id}/cancel, POST /api/vsl/{id}/retry (failed steps alone), GET /api/vsl/{id}/video (307).
GET /api/vsl/worker, with the cron's secret, goes on with whatever waits.

A job lives in rows. Whoever is there drives it: this request while its caller listens, what is left of the invocation
after a 202, a later look at it, the worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from starlette.responses import Response

from lib.app import current
from lib.errors import Conflict, DataFailed, InvalidRequest, MethodNotAllowed, NotConfigured, NotFound
from lib.http import ui_message
from lib.http.auth import Caller
from lib.http.cron_secret import require_cron_secret
from lib.http.endpoint import Call, Endpoint, Stream
from lib.http.vsl_view import events, shown
from lib.ids import uuid7
from lib.letters import Letters
from lib.settings import SUPABASE_VARIABLES
from lib.vsl.brief import read_brief
from lib.vsl.jobs import Job, StillRunning

NO_STORE = {"cache-control": "private, no-store"}
MAX_BODY_BYTES = 256 * 1024
MICRO = 1_000_000
WORKER_JOBS = 3
"""How many one run of the worker goes on with, one after another."""
ANSWERS_WITHIN_S = 15.0
"""Whoever calls the worker waits no longer; it works on."""

log = logging.getLogger("vsl")
Handler = Callable[[Call, Letters, Caller], Awaitable[Response]]


async def get(call: Call) -> Response:
    """What the path names."""
    match call.request.query_params.get("of"):
        case "worker":
            return await work(call)
        case "job" | "stream":
            return await _as_owner(call, one)
        case "video":
            return await _as_owner(call, video)
        case None:
            return await _as_owner(call, own)
        case _:
            raise MethodNotAllowed("This path takes POST.", headers={"allow": "POST"})


async def post(call: Call) -> Response:
    """A new job, or what is to become of one."""
    call.app.auth.require_same_origin(call.request)
    match call.request.query_params.get("of"):
        case None:
            return await begin(call)
        case "cancel":
            return await _as_owner(call, cancel)
        case "retry":
            return await _as_owner(call, retry)
        case _:
            raise MethodNotAllowed("This path takes GET.", headers={"allow": "GET"})


async def delete(call: Call) -> Response:
    """Remove a job."""
    if call.request.query_params.get("of") != "job":
        raise MethodNotAllowed("This path takes GET and POST.", headers={"allow": "GET, POST"})
    call.app.auth.require_same_origin(call.request)
    return await _as_owner(call, remove)


async def begin(call: Call) -> Response:
    """202 with the job, 200 where the very same is finished, or its events; `estimate`: its price, and no job."""
    letters = _letters(call)
    if len(call.body) > MAX_BODY_BYTES:
        raise InvalidRequest(f"The body may have {MAX_BODY_BYTES // 1024} KB at most.", code="too_large")
    brief = read_brief(call.json())
    if brief.estimate:
        caller = await call.caller()
        body = await letters.estimate(brief, caller.id, caller.traits)
        return Response(orjson.dumps(body), headers=NO_STORE, media_type="application/json")
    caller = await call.with_account(await call.caller())
    key = call.request.headers.get("idempotency-key")
    job = await letters.begin(
        uuid7(), brief, owner_id=caller.id, kind=caller.kind, traits=caller.traits, idempotency_key=key
    )
    if not job.is_over:
        _drive(call, letters, job.id)
    if _wants_events(call):
        return _events(letters, job)
    body = {**await shown(job, letters.assets), "location": f"/api/vsl/{job.id}", "events": f"/api/vsl/{job.id}/stream"}
    headers = {**NO_STORE, "location": f"/api/vsl/{job.id}"}
    if not job.is_over:
        headers["retry-after"] = "2"
    return Response(orjson.dumps(body), 200 if job.is_over else 202, headers, media_type="application/json")


async def own(call: Call, letters: Letters, caller: Caller) -> Response:
    """`{jobs: [{id, status, stage, percent, title, product, created_at, cost_usd}]}`; `?before=` a created_at."""
    rows = await letters.jobs.list(caller.id, before=_moment(call))
    jobs = [{**row, "cost_usd": row.pop("cost_microusd") / MICRO} for row in rows]
    for job in jobs:
        job.pop("poster", None)
    return Response(orjson.dumps({"jobs": jobs}), headers=NO_STORE, media_type="application/json")


async def one(call: Call, letters: Letters, caller: Caller) -> Response:
    """How far it is; as events where these are asked for. Looking at it drives it, where nobody else does."""
    job = await _found(call, letters, caller)
    if not job.is_over:
        _drive(call, letters, job.id)
    if call.request.query_params.get("of") == "stream" or _wants_events(call, by_default=False):
        return _events(letters, job)
    return Response(orjson.dumps(await shown(job, letters.assets)), headers=NO_STORE, media_type="application/json")


async def video(call: Call, letters: Letters, caller: Caller) -> Response:
    """307 to the finished film."""
    job = await _found(call, letters, caller)
    files: Mapping[str, Mapping[str, str]] = (job.result or {}).get("files", {})
    file = files.get("video")
    asset = None if file is None else await letters.assets.find(caller.id, file["asset_id"])
    if asset is None:
        raise NotFound("There is no film of this job.", code="no_video")
    link = await letters.assets.link(asset)
    return Response(status_code=307, headers={**NO_STORE, "location": link.url})


async def cancel(call: Call, letters: Letters, caller: Caller) -> Response:
    """202 `{id, status}`: what runs is withdrawn, what was made is kept."""
    job = await _found(call, letters, caller)
    return _status(job, await letters.jobs.cancel(caller.id, job.id))


async def retry(call: Call, letters: Letters, caller: Caller) -> Response:
    """202 `{id, status}`: the failed steps are done again, and nothing else."""
    job = await _found(call, letters, caller)
    status = await letters.jobs.retry(caller.id, job.id)
    if status not in {"queued", None}:
        why = "The same was asked for again since." if status == "superseded" else f"It is {status}."
        raise Conflict(f"There is nothing to try again. {why}", code="not_failed")
    _drive(call, letters, job.id)
    return _status(job, status)


async def remove(call: Call, letters: Letters, caller: Caller) -> Response:
    """204: the job, and the files that no other asset has. One that runs has to be canceled first."""
    job = await _found(call, letters, caller)
    try:
        assets = await letters.jobs.delete(caller.id, job.id)
    except StillRunning as error:
        raise Conflict("It is being made: cancel it first.", code="still_running") from error
    for asset_id in assets or ():
        await letters.assets.remove(caller.id, asset_id)
    return Response(status_code=204, headers=NO_STORE)


async def work(call: Call) -> Response:
    """Go on with jobs that nobody drives, and tell those who wait to be told: `{driven, told}`.

    202 without `told` where that takes longer than whoever calls waits: it goes on while this invocation lasts.
    """
    require_cron_secret(call)
    driven: list[str] = []
    working = asyncio.create_task(_work(_letters(call), call.ends_at, driven))
    call.afterwards.append(_ended(working))
    await asyncio.wait([working], timeout=ANSWERS_WITHIN_S)
    body = {"driven": driven, "told": await working} if working.done() else {"driven": driven}
    return Response(orjson.dumps(body), 200 if working.done() else 202, headers=NO_STORE, media_type="application/json")


async def _work(letters: Letters, ends_at: float, driven: list[str]) -> int:
    """How many owners were told. Raises DataFailed."""
    for _ in range(WORKER_JOBS):
        job_id = await letters.drive(ends_at)
        if job_id is None:
            break
        driven.append(job_id)
    return await letters.tell_owners()


def _drive(call: Call, letters: Letters, job_id: str) -> None:
    """Go on with the job beside the answer and after it, as long as this invocation lasts."""
    call.afterwards.append(_ended(asyncio.create_task(letters.drive(call.ends_at, job_id))))


def _ended(driving: asyncio.Task[Any]) -> Callable[[], Awaitable[None]]:
    async def ended() -> None:
        await asyncio.wait([driving])
        error = None if driving.cancelled() else driving.exception()
        if isinstance(error, DataFailed):
            log.warning("a job was left to the next who drives: %s", error.reason)
        elif error is not None:
            raise error

    return ended


def _events(letters: Letters, job: Job) -> Response:
    async def closed() -> None:
        pass  # the job goes on without a listener

    headers = {**ui_message.HEADERS, "location": f"/api/vsl/{job.id}"}
    stream = events(job, letters.jobs, letters.pipeline, letters.assets)
    return Stream(stream, ui_message.MEDIA_TYPE, headers, closed, heartbeat=ui_message.HEARTBEAT)


def _wants_events(call: Call, *, by_default: bool = True) -> bool:
    accept = call.request.headers.get("accept") or "*/*"
    if "text/event-stream" in accept:
        return True
    return by_default and "application/json" not in accept and "*/*" in accept


async def _as_owner(call: Call, handler: Handler) -> Response:
    letters = _letters(call)
    return await handler(call, letters, await call.caller())


def _letters(call: Call) -> Letters:
    if call.app.letters is None:
        raise NotConfigured(f"Sales letters are kept in a project: set {', '.join(SUPABASE_VARIABLES)}.")
    return call.app.letters


async def _found(call: Call, letters: Letters, caller: Caller) -> Job:
    """The job that the path names. Raises NotFound."""
    parts = call.request.url.path.rstrip("/").split("/")
    text = parts[3] if len(parts) > len(("", "api", "vsl")) else ""
    try:
        job = await letters.jobs.find(caller.id, text) if str(UUID(text)) == text else None
    except ValueError:
        job = None
    if job is None:
        raise NotFound("You have no sales letter of this id.")
    return job


def _moment(call: Call) -> str | None:
    before = call.request.query_params.get("before")
    if before is None:
        return None
    try:
        return datetime.fromisoformat(before).astimezone(UTC).isoformat()
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("before must be the created_at of a job.") from error


def _status(job: Job, status: str | None) -> Response:
    body: Mapping[str, object] = {"id": job.id, "status": status}
    return Response(orjson.dumps(body), 202, NO_STORE, media_type="application/json")


app = Endpoint(current, GET=get, POST=post, DELETE=delete)

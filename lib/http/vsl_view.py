"""A sales letter's job as its owner sees it: how far it is, what there is of it, and where that may be read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from lib.data.assets import Assets, Link
from lib.data.content import EXTENSIONS
from lib.http import ui_message
from lib.http.endpoint import Last
from lib.vsl.jobs import Job, Jobs, Json, StepRow
from lib.vsl.pipeline import Pipeline

MICRO = 1_000_000
LOOK_S = 1.0
"""Steps that another instance does are seen within this time."""
Links = Mapping[str, Link]


async def shown(job: Job, assets: Assets) -> Json:
    """The job with addresses that anyone may read for a while."""
    ids = sorted(set(_asset_ids(job)))
    links: dict[str, Link] = {}
    if ids:
        found = await assets.among(job.user_id, ids)
        links = {
            asset.id: link for asset, link in zip(found, await assets.links(found), strict=True) if link is not None
        }
    return view(job, links)


def view(job: Job, links: Links) -> Json:
    """The same where the addresses are known. Pure."""
    script = _result(job, "script")
    told: Json = {
        "id": job.id,
        "status": "canceling" if job.is_cancelling and not job.is_over else job.status,
        "stage": job.stage,
        "percent": job.percent,
        "title": script["title"] if script else None,
        "language": job.request["language"],
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "cost_usd": job.cost_microusd / MICRO,
        "budget_usd": None if job.budget_microusd is None else job.budget_microusd / MICRO,
        "degraded": any((step.result or {}).get("degraded") for step in job.steps.values()),
        "steps": list(map(_step, job.steps.values())),
        "frames": list(_frames(job, script, links)) if script else [],
    }
    if job.error is not None:
        told["error"] = job.error
    if job.result is not None:
        files: Mapping[str, Json] = job.result.get("files", {})
        told["result"] = {
            **job.result,
            **({"files": {name: _linked(file, links) for name, file in files.items()}} if files else {}),
        }
    return told


async def events(job: Job, jobs: Jobs, pipeline: Pipeline, assets: Assets) -> AsyncGenerator[bytes, None]:
    """The job as a UI message stream: how far it is, whenever that changes; files as they come; then what came of it.

    Begins with how it stands, so that whoever lost the stream takes it up again by another request.
    """
    yield ui_message.frame({"type": "start", "messageId": job.id}) + ui_message.frame({"type": "start-step"})
    seen: set[str] = set()
    last: Json = {}
    while True:
        told = await shown(job, assets)
        if told != last:
            last = told
            yield _progress(told) + b"".join(_files(told, seen))
        if job.is_over:
            break
        await pipeline.changed(job.id, LOOK_S)
        found = await jobs.find(job.user_id, job.id)
        if found is None:
            yield Last(_end({"type": "error", "errorText": "The video has been deleted."}, "error"))
            return
        job = found
    if job.status == "succeeded":
        yield Last(_end({"type": "data-vsl-result", "id": "result", "data": last["result"]}, "stop"))
        return
    why = (job.error or {}).get("detail", "It was canceled.")
    yield Last(_end({"type": "error", "errorText": why}, "error"))


def _progress(told: Json) -> bytes:
    return ui_message.frame({"type": "data-vsl-progress", "id": "progress", "data": told})


def _end(part: Json, reason: str) -> bytes:
    finish: Json = {"type": "finish", "finishReason": reason}
    step = ui_message.frame({"type": "finish-step"}) if reason == "stop" else b""
    return ui_message.frame(part) + step + ui_message.frame(finish) + ui_message.DONE


def _files(told: Json, seen: set[str]) -> Iterator[bytes]:
    """A part for each file that was not told yet: pictures and narrations as they come, at last the video."""
    files = [file for frame in told["frames"] for file in (frame.get("picture"), frame.get("audio")) if file]
    made: Mapping[str, Json] = told.get("result", {}).get("files", {})
    files += [made[name] for name in ("captions_vtt", "video") if name in made]
    for file in files:
        if file["asset_id"] not in seen and "url" in file:
            seen.add(file["asset_id"])
            yield ui_message.frame({"type": "file", "url": file["url"], "mediaType": file["content_type"]})


def _frames(job: Job, script: Json, links: Links) -> Iterator[Json]:
    for number, frame in enumerate(script["frames"]):
        picture, audio = _result(job, f"picture/{number}"), _result(job, f"narration/{number}")
        told: Json = {"index": number, **{name: value for name, value in frame.items() if value is not None}}
        if picture:
            told["picture"] = _linked(picture, links)
        if audio:
            told["audio"] = {name: value for name, value in _linked(audio, links).items() if name not in _INNER}
        yield told


_INNER = frozenset({"words", "text"})


def _linked(file: Json, links: Links) -> Json:
    """A file with its address, if it still has one."""
    told = {**file, "extension": EXTENSIONS.get(file["content_type"], "bin")}
    link = links.get(file["asset_id"])
    return told if link is None else {**told, "url": link.url, "expires_at": round(link.expires_at)}


def _asset_ids(job: Job) -> Iterator[str]:
    for name, step in job.steps.items():
        if step.result is not None and "asset_id" in step.result and not name.startswith("clip/"):
            yield step.result["asset_id"]
    files: Mapping[str, Json] = (job.result or {}).get("files", {})
    yield from (file["asset_id"] for file in files.values())


def _result(job: Job, step: str) -> Json | None:
    row = job.steps.get(step)
    return row.result if row is not None and row.status == "done" else None


def _step(row: StepRow) -> Json:
    told: dict[str, Any] = {
        "name": row.name,
        "status": row.status,
        "attempts": row.attempts,
        "cached": row.cached,
        "ms": row.ms,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "cost_usd": row.cost_microusd / MICRO,
        "provider": row.provider,
        "model": row.model,
        "error": row.error,
    }
    return {name: value for name, value in told.items() if value is not None}

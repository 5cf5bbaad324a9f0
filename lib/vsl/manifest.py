"""What `manifest.json` says of a finished video: made of its job's row and of what its steps made. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lib.vsl.documents import CaptionFile, File, Manifest, ManifestFrame, Narration, Picture
from lib.vsl.jobs import Job, Json
from lib.vsl.plan import content_key, size_of

MICRO = 1_000_000
STAGES: Mapping[str, str] = {"script": "script", "picture": "images", "narration": "narration"}
"""What is paid for, by the kind of step."""


def manifest_of(job: Job, results: Mapping[str, Json]) -> Manifest:
    """`job` as its row is once the film is there: what its steps cost stands in it."""
    script, film, request = results["script"], results["film"], job.request
    files: Mapping[str, Json] = film["files"]
    first = results["narration/0"]
    width, height = size_of(request)
    frames = tuple(_frame(number, frame, results) for number, frame in enumerate(script["frames"]))
    return Manifest(
        id=job.id,
        created_at=job.created_at,
        title=script["title"],
        language=request["language"],
        aspect=request["aspect"],
        width=width,
        height=height,
        duration_s=film["duration_s"],
        video=_file(files["video"]),
        poster=_file(files["poster"]),
        captions=(
            _captions(files["captions_vtt"], job, film["timing"], is_vtt=True),
            _captions(files["captions_srt"], job, film["timing"], is_vtt=False),
        ),
        transcript=_file(files["transcript"]),
        words=_file(files["words"]),
        narration=Narration(
            _file(files["narration"]),
            film["duration_s"],
            film["lufs"],
            film["true_peak_db"],
            first["voice_id"],
            first["provider"],
            first["model"],
        ),
        frames=frames,
        usage={
            "characters": sum(len(each["narration"]) for each in script["frames"] if not each.get("narration_audio")),
            "images": sum(not each.get("image") for each in script["frames"]),
        },
        cost_usd=_costs(job),
        request_hash=content_key("job", request, []),
        steps_cached=sum(step.cached for step in job.steps.values()),
    )


def _frame(number: int, frame: Json, results: Mapping[str, Json]) -> ManifestFrame:
    start_s, end_s = results["film"]["spans"][number]
    picture = results[f"picture/{number}"]
    return ManifestFrame(
        index=number,
        beat=frame["beat"],
        start_s=start_s,
        end_s=end_s,
        narration=frame["narration"],
        on_screen=frame["on_screen"],
        alt=frame["alt"],
        image=Picture(*_told(picture), width=picture.get("width", 0), height=picture.get("height", 0)),
        image_prompt=frame["image_prompt"],
        claims=tuple(frame["claims"]),
        degraded=bool(picture.get("degraded")),
    )


def _captions(file: Json, job: Job, timing: str, *, is_vtt: bool) -> CaptionFile:
    return CaptionFile(
        *_told(file),
        language=job.request["language"],
        format="vtt" if is_vtt else "srt",
        timing="exact" if timing == "exact" else "estimated",
    )


def _file(file: Json) -> File:
    return File(*_told(file))


def _told(file: Json) -> tuple[str, str, int, str]:
    return file["path"], file["content_type"], file["bytes"], file["sha256"]


def _costs(job: Job) -> dict[str, float]:
    costs = dict.fromkeys(STAGES.values(), 0)
    for name, step in job.steps.items():
        if (stage := STAGES.get(name.partition("/")[0])) is not None:
            costs[stage] += step.cost_microusd
    return {stage: microusd / MICRO for stage, microusd in {"total": job.cost_microusd, **costs}.items()}

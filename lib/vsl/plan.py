"""What a sales letter is made of, and what can be made of it now: pure functions of the request and of what is there.

    script ─┬─ picture/0 … picture/n ─────┬─ clip/0 … clip/n ─ film
            └─ narration/0 … narration/n ─┘          └─ manifest

A step's key is a hash of all that goes into it, by content: change one sentence, and only what depends on it has
another key. The results of steps are JSON:

    script     lib/vsl/screenplay.py's: {title, degraded, frames: [{beat, narration, on_screen, image_prompt, …}]}
    picture    {asset_id, sha256, content_type, width, height, degraded?}
    narration  {asset_id, sha256, content_type, lasts_s, text, words: [[text, start_s, end_s]], voice_id}
    music      {asset_id, sha256, content_type}
    clip       {asset_id, sha256, name}
    film       {files: {name: {asset_id, …}}, …}: see lib/vsl/studio.py
    manifest   {asset_id, sha256, content_type}: of this job alone
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lib.providers.images import SizeName
from lib.vsl.compose import SIZES
from lib.vsl.film import MOVES
from lib.vsl.film import VERSION as FILM_VERSION
from lib.vsl.jobs import Job, Json, Stage
from lib.vsl.pipeline import Progress, Step
from lib.vsl.timeline import CROSSFADE_S, FPS, Timeline, timeline

VERSION = 1
"""Grows when a step of the same input would give something else."""
SHAPES: Mapping[str, SizeName] = {"16:9": "landscape_16_9", "9:16": "portrait_16_9", "1:1": "square_hd"}
"""What an aspect is called where pictures are drawn."""
WEIGHTS: Mapping[str, int] = {"script": 10, "picture": 30, "narration": 20, "clip": 30, "film": 9, "manifest": 1}
"""How much of the whole each kind of step is, in percent."""
SECONDS: Mapping[str, float] = {"script": 20, "picture": 20, "narration": 15, "music": 10, "manifest": 5}


@dataclass(frozen=True, slots=True)
class Worst:
    """What a step costs at most, in millionths of a dollar, by whoever might be asked.

    The script; a picture of this many megapixels; a narration of so many characters.
    """

    script: int
    picture: Callable[[float], int]
    narration: Callable[[int], int]


def content_key(*parts: object) -> str:
    """The SHA-256, in hex, of these values as JSON."""
    return hashlib.sha256(orjson.dumps([VERSION, *parts], option=orjson.OPT_SORT_KEYS)).hexdigest()


def size_of(request: Mapping[str, Any]) -> tuple[int, int]:
    """The video's width and height in pixels."""
    return SIZES[request["aspect"], request["resolution"]]


def plan(job: Job, results: Mapping[str, Json], worst: Worst) -> Sequence[Step]:
    """All steps whose inputs are there. `worst` is what they cost at most."""
    return tuple(_steps(job.request, results, worst, job.id))


def _steps(request: Mapping[str, Any], results: Mapping[str, Json], worst: Worst, job_id: str) -> Iterator[Step]:
    said = {name: value for name, value in request.items() if name in SCRIPT_FIELDS}
    yield Step("script", "script", "text", content_key("script", said), None, worst.script, SECONDS["script"])
    script = results.get("script")
    if script is None or request["stop_after"] == "script":
        return
    frames: list[dict[str, Any]] = script["frames"]
    for number, frame in enumerate(frames):
        yield _picture(number, frame, request, worst)
        yield _narration(number, frame, request, worst)
    if request["music"] is not None:
        yield Step("music", "narration", "text", content_key("music", request["music"]), seconds=SECONDS["music"])
    count = len(frames)
    pictures = [results.get(f"picture/{number}") for number in range(count)]
    narrations = [results.get(f"narration/{number}") for number in range(count)]
    if not all(pictures) or not all(narrations) or (request["music"] is not None and "music" not in results):
        return
    there = [each for each in pictures if each], [each for each in narrations if each]
    line = timed(there[1])
    keys: list[str] = []
    for number in range(count):
        keys.append(clip_key(number, request, there[0], there[1], line))
        seconds = 3 + line.spans[number].frames / FPS
        yield Step(f"clip/{number}", "render", "film", keys[-1], number, seconds=seconds)
    if all(f"clip/{number}" in results for number in range(count)):
        music = results["music"]["sha256"] if request["music"] is not None else None
        read = [[narration["sha256"], narration["text"], narration["words"]] for narration in there[1]]
        told = [script["title"], [[frame["beat"], frame["alt"], frame["on_screen"]] for frame in frames]]
        captions = request["captions"], request["language"]
        key = content_key("film", keys, read, music, told, captions, there[0][0]["sha256"])
        yield Step("film", "upload", "film", key, seconds=10 + line.duration_s / 4)
        if "film" in results:
            yield Step("manifest", "upload", "text", content_key("manifest", key, job_id), seconds=SECONDS["manifest"])


SCRIPT_FIELDS = frozenset(
    {
        *("product", "audience", "offer", "guarantee", "cta", "facts", "tone", "language", "script", "frames"),
        *("duration_s", "voice_speed", "seed"),
    }
)
"""Those of a request that decide what the script says."""


def timed(narrations: Sequence[Json]) -> Timeline:
    """When each picture is seen: as long as its narration was measured to last."""
    return timeline([narration["lasts_s"] for narration in narrations], crossfade_s=CROSSFADE_S)


def clip_key(
    number: int,
    request: Mapping[str, Any],
    pictures: Sequence[Json],
    narrations: Sequence[Json],
    line: Timeline,
) -> str:
    """Of one clip: its picture, the end of the one before, its length, its movement, the captions burned into it."""
    span = line.spans[number]
    before = pictures[number - 1]["sha256"] if span.fade else None
    fades = line.spans[number + 1].fade if number + 1 < len(line.spans) else 0
    earlier = [line.spans[number - 1].frames, (number - 1) % len(MOVES)] if span.fade else None
    captions = request["captions"]
    burned = [narrations[number]["words"], captions["style"], request["language"]] if captions["burn_in"] else None
    return content_key(
        *("clip", FILM_VERSION, size_of(request), number % len(MOVES) if request["motion"] else None),
        *(pictures[number]["sha256"], before, earlier, span.frames, span.fade, fades, burned),
    )


def _picture(number: int, frame: Mapping[str, Any], request: Mapping[str, Any], worst: Worst) -> Step:
    own = frame.get("image")
    look = SHAPES[request["aspect"]], request["img_style"], request["img_model"]
    inputs = ["own", own] if own is not None else [frame["image_prompt"], *look, seed_of(request, number)]
    cost = 0 if own is not None else worst.picture(1.0)
    key = content_key("picture", inputs)
    return Step(f"picture/{number}", "frames", "pictures", key, number, cost, SECONDS["picture"])


def _narration(number: int, frame: Mapping[str, Any], request: Mapping[str, Any], worst: Worst) -> Step:
    own, text = frame.get("narration_audio"), frame["narration"]
    voice = [request["voice_id"], request["voice_model"], request["voice_speed"], request["language"]]
    inputs = ["own", own, text] if own is not None else [text, *voice]
    cost = 0 if own is not None else worst.narration(len(text))
    key = content_key("narration", inputs)
    return Step(f"narration/{number}", "narration", "voices", key, number, cost, SECONDS["narration"])


def seed_of(request: Mapping[str, Any], number: int) -> int | None:
    """Of one frame's picture: frames of the same prompt differ all the same."""
    return None if request["seed"] is None else (request["seed"] + number) % 2**31


def measure(job: Job, results: Mapping[str, Json]) -> Progress:
    """Where a job stands: the stage of what is still missing, and how much of the whole is done, by weight."""
    if "script" not in results:
        return Progress("script", 0)
    count = len(results["script"]["frames"])
    if job.request["stop_after"] == "script":
        return Progress("done", 100)
    done = {kind: sum(name.startswith(kind) for name in results) for kind in ("picture", "narration", "clip")}
    percent = WEIGHTS["script"] + sum(WEIGHTS[kind] * min(done[kind], count) // count for kind in done)
    stages: dict[str, Stage] = {"picture": "frames", "narration": "narration", "clip": "render"}
    missing: list[Stage] = [*(stages[kind] for kind in done if done[kind] < count), "upload"]
    return Progress(missing[0], percent + (WEIGHTS["film"] if "film" in results else 0))

"""Does the steps of a sales letter: asks for pictures and voices, runs ffmpeg, keeps what comes of it.

Everything lies in Storage, under its owner's name and its hash. A folder of this process holds copies of what ffmpeg
reads: whoever goes on with a job elsewhere fetches them again.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from lib.data.assets import Asset, Assets, Audio, NewFile
from lib.data.circuit import NOT_WELL, RESTING
from lib.data.content import kind_of
from lib.data.limits import Account
from lib.errors import AppError, DataFailed, LimitReached, NotFound, RenderFailed, Unavailable
from lib.media.pictures import Pictures
from lib.media.plan import ReadingRequest
from lib.media.rendering import MediaContext, Rendered
from lib.media.speech import Speaker
from lib.providers.images import ImageRequest
from lib.providers.speech import VoiceSettings, Word
from lib.vsl import subtitles
from lib.vsl.captions import TALL_WIDTH, WIDTH, Cue, Passage, cues, shifted, timed
from lib.vsl.compose import join
from lib.vsl.documents import Told, transcript, words_json
from lib.vsl.ffmpeg import Ffmpeg, find
from lib.vsl.film import Clip, card, clips, film, poster
from lib.vsl.jobs import Job, Json
from lib.vsl.pipeline import Made, Step, StepFailed
from lib.vsl.plan import SHAPES, seed_of, size_of
from lib.vsl.plan import timed as timeline_of
from lib.vsl.sound import Voice, measure, mix
from lib.vsl.timeline import Timeline

MICRO = 1_000_000
MAX_PICTURE_BYTES = 20 * 1024 * 1024
MAX_SOUND_BYTES = 50 * 1024 * 1024
MAX_CLIP_BYTES = 100 * 1024 * 1024
RENDER_S = 280.0
"""Beyond any function's own end, which comes first and leaves the step to whoever goes on."""
PICTURE_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
SOUND_TYPES = frozenset({"audio/mpeg", "audio/wav", "audio/ogg", "audio/flac", "audio/mp4", "audio/webm"})

Fetch = Callable[..., Awaitable[tuple[bytes, str]]]
"""lib.data.remote.fetch_public."""
Open = Callable[[Job], Awaitable[MediaContext]]
"""For whom and on whose account a step is done; its account is settled here."""
Write = Callable[[Job], Awaitable[Made]]
"""The script of a job. Raises AppError."""

Tell = Callable[[Job, Mapping[str, Json]], Awaitable[Mapping[str, Any]]]
"""What is to be told of a job whose film is there: its manifest."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a studio works with."""

    assets: Assets
    pictures: Pictures
    speaker: Speaker
    write: Write
    tell: Tell
    open: Open
    fetch: Fetch


class Studio:
    """Does steps of any job. What it raises is StepFailed alone, and DataFailed where nothing can be kept."""

    def __init__(self, tools: Tools, folder: Path | None = None) -> None:
        self._tools = tools
        # What two frames have in common has one name, and is to be written by one of them.
        self._decoding = asyncio.Lock()
        self._folder = folder or Path(tempfile.gettempdir()) / "blueprint-vsl"

    async def do(self, job: Job, step: Step, results: Mapping[str, Json]) -> Made:
        """See pipeline.Do."""
        try:
            return await self._done(job, step, results)
        except DataFailed as error:
            if error.reason.startswith((*NOT_WELL, RESTING)):
                raise  # nothing can be kept now: whoever goes on does it
            raise StepFailed("upload_failed", "What was made could not be stored.") from error
        except RenderFailed as error:
            raise StepFailed(
                error.code, f"{error.message}.", retryable=error.reason in PASSING, provider="ffmpeg"
            ) from error
        except AppError as error:
            raise _failed(error) from error

    async def _done(self, job: Job, step: Step, results: Mapping[str, Json]) -> Made:
        kind, _, number = step.name.partition("/")
        of_a_frame = {"picture": self._picture, "narration": self._narration, "clip": self._clip}
        if kind in of_a_frame:
            return await of_a_frame[kind](job, int(number), results)
        if kind == "script":
            return await self._tools.write(job)
        if kind == "music":
            return await self._music(job)
        return await (self._film(job, results) if kind == "film" else self._manifest(job, results))

    async def instead(self, job: Job, step: Step, results: Mapping[str, Json], error: StepFailed) -> Made | None:
        """A card with the frame's headline for a picture that could not be had, unless the job is strict."""
        if not step.name.startswith("picture/") or job.request["strict"] or step.frame is None:
            return None
        if error.code in {"invalid_request", "not_found"}:
            return None  # a picture of one's own that is none is one's own to mend
        frame = results["script"]["frames"][step.frame]
        width, height = size_of(job.request)
        made = self._place(job) / f"card-{step.content_key[:24]}.png"
        deadline = asyncio.get_running_loop().time() + RENDER_S
        try:
            async with self._decoding:
                await card(self._ffmpeg(), frame["on_screen"], width, height, made, frame=step.frame, deadline=deadline)
        except RenderFailed:
            return None
        data = await asyncio.to_thread(made.read_bytes)
        about = {"width": width, "height": height, "part": "card"}
        asset = await self._keep(job, NewFile(data, "image/png", "image", about))
        return Made({**_file(asset), "width": width, "height": height, "degraded": True})

    def forget(self, job_id: str) -> None:
        """Remove this process's copies."""
        shutil.rmtree(self._folder / job_id, ignore_errors=True)

    async def _picture(self, job: Job, number: int, results: Mapping[str, Json]) -> Made:
        frame = results["script"]["frames"][number]
        if frame.get("image") is not None:
            asset = await self._own(job, frame["image"], PICTURE_TYPES, MAX_PICTURE_BYTES)
            return Made(_file(asset))
        request = job.request
        asked = ImageRequest(frame["image_prompt"], SHAPES[request["aspect"]], 1, seed_of(request, number))
        context = await self._tools.open(job)
        rendered = await _paid(
            context,
            self._tools.pictures.draw(
                job.user_id, asked, model=request["img_model"], style=request["img_style"], context=context
            ),
        )
        (asset,) = rendered.assets
        about = {name: asset.metadata[name] for name in ("width", "height") if name in asset.metadata}
        return _made(rendered, {**_file(asset), **about})

    async def _narration(self, job: Job, number: int, results: Mapping[str, Json]) -> Made:
        """The narration, and how long it really lasts: pictures follow that."""
        frame = results["script"]["frames"][number]
        text: str = frame["narration"]
        if frame.get("narration_audio") is not None:
            asset = await self._own(job, frame["narration_audio"], SOUND_TYPES, MAX_SOUND_BYTES)
            voice, rendered, wasted = await self._measured(job, asset, number), None, 0
        else:
            asset, voice, rendered, wasted = await self._read_aloud(job, number, text)
        told = tuple(_words(asset.audio))
        words, estimated = timed(text, told, voice.lasts_s)
        result = {
            **_file(asset),
            "lasts_s": voice.lasts_s,
            "text": text,
            "words": [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in words],
            "timing": "estimated" if estimated else "exact",
            "voice_id": asset.audio.voice_id if asset.audio else None,
            "provider": asset.provider,
            "model": asset.model,
        }
        return Made(result) if rendered is None else _made(rendered, result, wasted)

    async def _read_aloud(self, job: Job, number: int, text: str) -> tuple[Asset, Voice, Rendered, int]:
        """A reading that can be heard, its length, and what was paid for one that could not: it is read once more."""
        request, wasted = job.request, 0
        asked = ReadingRequest(
            text,
            voice_id=None,
            language=request["language"].partition("-")[0],
            settings=VoiceSettings(speed=request["voice_speed"]),
            usual_voice_id=request["voice_id"],
            usual_model=request["voice_model"],
        )
        for anew in (False, True):
            context = replace(await self._tools.open(job), anew=anew)
            rendered = await _paid(context, self._tools.speaker.speak(job.user_id, asked, context=context))
            (asset,) = rendered.assets
            try:
                return asset, await self._measured(job, asset, number), rendered, wasted
            except RenderFailed as error:
                wasted += _microusd(rendered)
                if anew or error.reason not in UNHEARD:
                    raise StepFailed(
                        error.code,
                        f"{error.message}.",
                        provider=rendered.provider if error.reason in UNHEARD else "ffmpeg",
                        retryable=error.reason in PASSING,
                        cost_microusd=wasted,
                    ) from error
        raise AssertionError

    async def _measured(self, job: Job, asset: Asset, number: int) -> Voice:
        path = await self._local(job, _file(asset), MAX_SOUND_BYTES)
        deadline = asyncio.get_running_loop().time() + RENDER_S
        async with self._decoding:
            return await measure(self._ffmpeg(), path, number, self._place(job), deadline)

    async def _music(self, job: Job) -> Made:
        return Made(_file(await self._own(job, job.request["music"], SOUND_TYPES, MAX_SOUND_BYTES)))

    async def _clip(self, job: Job, number: int, results: Mapping[str, Json]) -> Made:
        planned = await self._clips(job, results, only=number)
        deadline = asyncio.get_running_loop().time() + RENDER_S
        path = await film(self._ffmpeg(), planned[number], self._place(job), deadline)
        data = await asyncio.to_thread(path.read_bytes)
        asset = await self._keep(job, NewFile(data, "video/mp4", "video", {"part": "clip", "name": path.name}))
        return Made({**_file(asset), "name": path.name})

    async def _film(self, job: Job, results: Mapping[str, Json]) -> Made:
        """The clips one after another under their sound, and all that goes beside the video."""
        place, ffmpeg, request = self._place(job), self._ffmpeg(), job.request
        script, frames = results["script"], results["script"]["frames"]
        deadline = asyncio.get_running_loop().time() + RENDER_S
        narrations = [results[f"narration/{number}"] for number in range(len(frames))]
        line = timeline_of(narrations)
        paths = await asyncio.gather(*(self._local(job, each, MAX_SOUND_BYTES) for each in narrations))
        voices: list[Voice] = [
            await measure(ffmpeg, path, number, place, deadline) for number, path in enumerate(paths)
        ]
        music = await self._local(job, results["music"], MAX_SOUND_BYTES) if "music" in results else None
        sound = await mix(ffmpeg, voices, line, place, deadline, music)
        made = [
            await self._named(job, results[f"clip/{number}"], results[f"clip/{number}"]["name"], MAX_CLIP_BYTES)
            for number in range(len(frames))
        ]
        video = await join(ffmpeg, made, sound, place / "video.mp4", deadline, language=request["language"])
        first = await self._local(job, results["picture/0"], MAX_PICTURE_BYTES)
        width, height = size_of(request)
        still = await poster(ffmpeg, first, width, height, place / "poster.jpg", deadline)
        captions = captions_of(request, narrations, line)
        estimated = any(narration["timing"] == "estimated" for narration in narrations)
        words = [
            shifted([Word(*word) for word in narration["words"]], span.start_s)
            for narration, span in zip(narrations, line.spans, strict=True)
        ]
        karaoke = request["captions"]["style"] == "karaoke"
        told = [Told(frame["narration"], frame["alt"]) for frame in frames]
        texts = {
            "captions_vtt": (subtitles.webvtt(captions, karaoke=karaoke, estimated=estimated).encode(), "text/vtt"),
            "captions_srt": (subtitles.srt(captions).encode(), "application/x-subrip"),
            "transcript": (transcript(script["title"], request["language"], told, line).encode(), "text/html"),
            "words": (orjson.dumps(words_json(words, estimated=estimated)), "application/json"),
        }
        files = {
            "video": await self._read(video, "video/mp4"),
            "poster": await self._read(still, "image/jpeg"),
            "narration": await self._read(sound.path, "audio/mp4"),
            **texts,
        }
        kept = {name: await self._part(job, name, *file) for name, file in files.items()}
        return Made(
            {
                "files": {name: _file(asset) for name, asset in kept.items()},
                "duration_s": line.duration_s,
                "spans": [[span.start_s, span.end_s] for span in line.spans],
                "lufs": sound.lufs,
                "true_peak_db": sound.true_peak_db,
                "timing": "estimated" if estimated else "exact",
            }
        )

    async def _manifest(self, job: Job, results: Mapping[str, Json]) -> Made:
        data = orjson.dumps(await self._tools.tell(job, results), option=orjson.OPT_INDENT_2)
        return Made(_file(await self._part(job, "manifest", data, "application/json")))

    async def _clips(self, job: Job, results: Mapping[str, Json], *, only: int) -> Sequence[Clip]:
        """All clips as they are to be; the pictures that the one needs are here."""
        request, count = job.request, len(results["script"]["frames"])
        narrations = [results[f"narration/{number}"] for number in range(count)]
        line = timeline_of(narrations)
        width, height = size_of(request)
        needed = await self._local(job, results[f"picture/{only}"], MAX_PICTURE_BYTES)
        before = await self._local(job, results[f"picture/{max(only - 1, 0)}"], MAX_PICTURE_BYTES)
        pictures = [before if number == only - 1 else needed for number in range(count)]
        burns = request["captions"]["burn_in"]
        return await asyncio.to_thread(
            clips,
            pictures,
            line,
            width=width,
            height=height,
            motion=request["motion"],
            burned=captions_of(request, narrations, line) if burns else (),
            karaoke=request["captions"]["style"] == "karaoke",
        )

    async def _own(self, job: Job, source: str, types: frozenset[str], max_bytes: int) -> Asset:
        """Media of the owner's: an asset by its id, or a file by its address, which becomes one. Raises AppError."""
        if urlsplit(source).scheme:
            data, content_type = await self._tools.fetch(source, max_bytes=max_bytes, accept=types)
            return await self._keep(job, NewFile(data, content_type, kind_of(content_type), {"part": "own"}))
        asset = await self._tools.assets.find(job.user_id, source)
        if asset is None or asset.state != "ready" or asset.content_type not in types:
            raise NotFound("You have no such asset, or it is of another kind.")
        return asset

    async def _part(self, job: Job, name: str, data: bytes, content_type: str) -> Asset:
        """One of the finished files; the video alone stands in the owner's list by itself."""
        about: dict[str, Any] = {} if name == "video" else {"part": name}
        return await self._keep(job, NewFile(data, content_type, kind_of(content_type), about))

    async def _keep(self, job: Job, file: NewFile) -> Asset:
        return await self._tools.assets.store(job.user_id, file, bucket_id="vsl_assets", job_id=job.id)

    async def _read(self, path: Path, content_type: str) -> tuple[bytes, str]:
        return await asyncio.to_thread(path.read_bytes), content_type

    async def _local(self, job: Job, file: Json, max_bytes: int) -> Path:
        return await self._named(job, file, file["sha256"], max_bytes)

    async def _named(self, job: Job, file: Json, name: str, max_bytes: int) -> Path:
        """A file of the owner's, in this process's folder, under this name."""
        path = self._place(job) / name
        if not await asyncio.to_thread(path.exists):
            asset = await self._tools.assets.find(job.user_id, file["asset_id"])
            if asset is None:
                raise NotFound("A file that an earlier step made has been removed meanwhile.")
            data = await self._tools.assets.read(asset, max_bytes=max_bytes)
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise Unavailable("A file did not arrive whole.", code="data_unavailable")
            await asyncio.to_thread(_write_whole, path, data)
        return path

    def _place(self, job: Job) -> Path:
        place = self._folder / job.id
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return place

    @staticmethod
    def _ffmpeg() -> Ffmpeg:
        return Ffmpeg(find())


PASSING = frozenset({"killed", "deadline", "disk_full", "out_of_memory"})
"""Reasons why ffmpeg may fail once and not again."""
UNHEARD = frozenset({"unreadable", "empty"})
"""Reasons that lie in the sound itself."""


def captions_of(request: Mapping[str, Any], narrations: Sequence[Json], line: Timeline) -> tuple[Cue, ...]:
    """The video's captions, from the times of the narrations' words."""
    passages = [
        Passage(shifted([Word(*word) for word in narration["words"]], span.start_s), span.start_s, span.end_s)
        for narration, span in zip(narrations, line.spans, strict=True)
    ]
    width, height = size_of(request)
    return cues(passages, language=request["language"], width=TALL_WIDTH if height > width else WIDTH)


async def _paid(context: MediaContext, work: Awaitable[Rendered]) -> Rendered:
    """What comes of it; the account is settled however it ends."""
    account: Account = context.account
    try:
        return await work
    except AppError as error:
        raise _failed(error, cost_microusd=account.purchased_microusd or 0) from error
    finally:
        await asyncio.shield(account.settle())


def _made(rendered: Rendered, result: Json, wasted_microusd: int = 0) -> Made:
    cost = _microusd(rendered) + wasted_microusd
    return Made(result, cost, rendered.provider, rendered.model, rendered.cached)


def _microusd(rendered: Rendered) -> int:
    return 0 if rendered.cost_usd is None else round(rendered.cost_usd * MICRO)


def _failed(error: AppError, *, cost_microusd: int = 0) -> StepFailed:
    """What a job's owner is told of it; what may pass is tried again."""
    code = {"no_provider_available": "provider_unavailable", "content_refused": "content_blocked"}
    passing = isinstance(error, Unavailable) or error.status in {502, 503} or code.get(error.code) is not None
    refused = error.code == "content_refused" or isinstance(error, LimitReached)
    return StepFailed(
        code.get(error.code, error.code),
        error.message,
        retryable=passing and not refused,
        retry_after_s=error.retry_after_s,
        cost_microusd=cost_microusd,
    )


def _file(asset: Asset) -> Json:
    return {
        "asset_id": asset.id,
        "path": asset.path,
        "bucket_id": asset.bucket_id,
        "sha256": asset.sha256,
        "bytes": asset.bytes,
        "content_type": asset.content_type,
    }


def _words(audio: Audio | None) -> Sequence[Word]:
    if audio is None or audio.alignment is None:
        return ()
    from lib.providers.speech import Alignment  # noqa: PLC0415

    told = audio.alignment
    return tuple(Alignment(tuple(told["characters"]), tuple(told["starts_s"]), tuple(told["ends_s"])).words())


def _write_whole(path: Path, data: bytes) -> None:
    """So that nobody ever finds half of it."""
    part = path.with_name(f"{path.name}.{id(data)}.part")
    part.write_bytes(data)
    part.replace(path)

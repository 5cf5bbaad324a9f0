"""Speech, read once: who reads, what is kept of it, what it costs. And recordings without their noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace

from lib.data.assets import Asset, Assets, Audio, Claim, NewFile
from lib.errors import BrokenStream, FieldError, InvalidRequest, NotFound
from lib.media.audio import ISOLATED, duration_ms, longest_s
from lib.media.plan import Reader, ReadingRequest, Vendors, plan_isolation, plan_reading
from lib.media.rendering import MediaContext, Order, Rendered, Renderer
from lib.providers.base import Units
from lib.providers.catalog import SpeechRow
from lib.providers.speech import Alignment, Speech, SpeechProvider
from lib.router.attempt import Attempt
from lib.router.plan import Candidate

MAX_TOLD_CHARACTERS = 200
"""Of a text that was read, by which people know the clip."""
MAX_RECORDING_BYTES = 50 * 1024 * 1024


class Speaker:
    """Reads aloud by the vendors that are on."""

    def __init__(
        self,
        rows: Sequence[SpeechRow],
        on: Collection[str],
        provider: Callable[[str], SpeechProvider],
        renderer: Renderer,
        assets: Assets,
    ) -> None:
        """`provider` returns the adapter of a vendor that is on."""
        self._rows = rows
        self._on = on
        self._provider = provider
        self._renderer = renderer
        self._assets = assets

    async def speak(self, owner_id: str, request: ReadingRequest, *, context: MediaContext) -> Rendered:
        """The text as audio, with its times, as its owner's asset; the same again is what was read before.

        Raises AppError where there is no speech; cancelling it stops the vendor.
        """
        readers = {reader.route: reader for reader in plan_reading(request, self._rows, self._vendors(context))}

        def parameters(candidate: Candidate) -> Mapping[str, object]:
            asked = asdict(request.by(readers[candidate]))
            del asked["text"]
            return asked

        async def ask(attempt: Attempt, claim: Claim) -> Speech:
            del claim
            reader = readers[attempt.candidate]
            speech = await self._provider(reader.provider).speak(request.by(reader), reader.model)
            if not speech.audio:
                raise BrokenStream
            return speech

        def files(speech: Speech, by: Candidate) -> tuple[NewFile, ...]:
            audio = _told(speech, request, readers[by])
            asked = request.by(readers[by])
            metadata = {"format": asked.format, "prompt": request.text[:MAX_TOLD_CHARACTERS]}
            return (
                NewFile(
                    speech.audio, asked.content_type, "audio", metadata, audio, provider=by.provider, model=by.model.id
                ),
            )

        billed = Units("characters", len(request.text))
        order = Order(list(readers), parameters, {"text": request.text}, billed, ask, lambda _: billed, files)
        return await self._renderer.render(owner_id, order, _as_speech(context))

    async def enhance(self, owner_id: str, asset_id: str, *, context: MediaContext) -> Rendered:
        """A recording of its owner's without its noise, as a new asset. Raises AppError."""
        readers = plan_isolation(self._rows, self._vendors(context))
        recording = await self._recording(owner_id, asset_id)
        seconds = recording.audio.duration_ms / 1000 if recording.audio and recording.audio.duration_ms else None
        most = Units("seconds", seconds or longest_s(recording.bytes))

        async def ask(attempt: Attempt, claim: Claim) -> bytes:
            del claim
            data = await self._assets.read(recording, max_bytes=MAX_RECORDING_BYTES)
            return await self._provider(attempt.candidate.provider).isolate(data, recording.content_type)

        def billed(isolated: bytes) -> Units:
            return Units("seconds", seconds or duration_ms(isolated, ISOLATED) / 1000)

        def files(isolated: bytes, by: Candidate) -> tuple[NewFile, ...]:
            audio = Audio(duration_ms(isolated, ISOLATED), by.provider, None, None, None, None)
            told = {"enhanced": recording.id}
            return (NewFile(isolated, "audio/mpeg", "audio", told, audio, provider=by.provider, model=by.model.id),)

        inputs = {"recording": recording.sha256}
        order = Order([reader.route for reader in readers], lambda _: {}, inputs, most, ask, billed, files)
        return await self._renderer.render(owner_id, order, _as_speech(context))

    async def _recording(self, owner_id: str, asset_id: str) -> Asset:
        asset = await self._assets.find(owner_id, asset_id)
        if asset is None:
            raise NotFound("speech.enhance: you have no asset of this id.")
        if asset.kind != "audio" or asset.state != "ready":
            raise InvalidRequest(
                "speech.enhance must be a recording.", errors=(FieldError("speech.enhance", "must be a recording"),)
            )
        return asset

    def _vendors(self, context: MediaContext) -> Vendors:
        return Vendors(self._on, context.killed, context.fallback_order)


def _as_speech(context: MediaContext) -> MediaContext:
    return replace(context, subject=replace(context.subject, modality="speech"))


def _told(speech: Speech, request: ReadingRequest, reader: Reader) -> Audio:
    """What is known of a clip. A model of one language reads everything in it."""
    languages = reader.model.languages or ()
    language = request.language or (next(iter(languages)) if len(languages) == 1 else None)
    duration = duration_ms(speech.audio, request.format, speech.alignment)
    times = _times(speech.alignment)
    return Audio(duration, reader.provider, reader.voice_id, language, len(request.text), times)


def _times(alignment: Alignment | None) -> dict[str, object] | None:
    if alignment is None:
        return None
    return {"characters": alignment.characters, "starts_s": alignment.starts_s, "ends_s": alignment.ends_s}

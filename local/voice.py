"""The embedded voice: ElevenLabs' wire format over Piper, one American voice that reads English and nothing else.

A process of its own (`python -m local.voice [port]`), as every embedded engine is; and it has to be one: Piper is
licensed under the GPL, so nothing that is deployed may import this. https://elevenlabs.io/docs/api-reference
"""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.audio import CONTENT_TYPES, Encoder, joined
from local.images import serve
from local.isolation import NoRecording, isolate
from local.narrator import Narrator, Sentence, Times
from local.supabase.uploads import UploadError, incoming

VOICE, MODEL = "joe", "piper-joe-medium"
DEFAULT_FORMAT = "mp3_44100_128"
MAX_CHARACTERS = 5_000
MAX_BODY_BYTES = 64 * 1024
MAX_RECORDING_BYTES = 50 * 1024 * 1024
SPEEDS = (0.7, 1.2)


class VoiceSettings(BaseModel):
    """Of a voice that can only be faster or slower, the rest is accepted and has no effect."""

    model_config = ConfigDict(extra="ignore")

    speed: float | None = None


class Body(BaseModel):
    """What a text-to-speech request takes; what has no meaning for this voice has no effect."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    text: Annotated[str, Field(min_length=1)]
    model_id: str = MODEL
    language_code: str | None = None
    voice_settings: VoiceSettings | None = None


class Refused(Exception):
    """An answer in ElevenLabs' shape: `{"detail": {"status", "message"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.response = JSONResponse({"detail": {"status": code, "message": message}}, status)


@dataclass(frozen=True, slots=True)
class Order:
    """A checked request."""

    text: str
    speed: float
    format: str


class Service:
    """The voice's HTTP face; it reads one sentence at a time, whoever asked for it."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._turn = asyncio.Lock()

    async def convert(self, request: Request) -> Response:
        """POST /v1/text-to-speech/{voice_id}: the audio."""
        order = await _order(request)
        audio, _ = await self._whole(order)
        return Response(audio, media_type=CONTENT_TYPES[order.format])

    async def convert_with_times(self, request: Request) -> Response:
        """POST …/with-timestamps: the audio and the times of all characters."""
        order = await _order(request)
        audio, sentences = await self._whole(order)
        at = 0.0
        written, said = list[Times](), list[Times]()
        for sentence in sentences:
            written.append(sentence.written.later(at))
            said.append(sentence.said.later(at))
            at += len(sentence.samples) / self._narrator.rate
        return JSONResponse(_timed(audio, written, said))

    async def stream(self, request: Request) -> Response:
        """POST …/stream: the audio as it is made."""
        order, pieces = await self._begun(request)

        async def audio() -> AsyncGenerator[bytes, None]:
            async for piece, _, _ in pieces:
                yield piece

        return StreamingResponse(audio(), media_type=CONTENT_TYPES[order.format])

    async def stream_with_times(self, request: Request) -> Response:
        """POST …/stream/with-timestamps: a line of JSON per sentence, times from the beginning of all."""
        _, pieces = await self._begun(request)

        async def lines() -> AsyncGenerator[bytes, None]:
            async for audio, sentence, at in pieces:
                timed = _timed(audio, [sentence.written.later(at)], [sentence.said.later(at)])
                yield json.dumps(timed).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/json")

    async def _begun(self, request: Request) -> tuple[Order, AsyncGenerator[tuple[bytes, Sentence, float], None]]:
        order = await _order(request)
        reading = self._narrator.read(order.text, order.speed)
        first = await self._next(reading)
        if first is None:
            raise _nothing_to_say()
        return order, self._pieces(first, reading, Encoder(order.format, self._narrator.rate))

    async def _pieces(
        self, sentence: Sentence | None, reading: Iterator[Sentence], encoder: Encoder
    ) -> AsyncGenerator[tuple[bytes, Sentence, float], None]:
        """Each sentence encoded, with the time at which it begins."""
        at = 0.0
        while sentence is not None:
            following = await self._next(reading)
            yield encoder.feed(sentence.samples, last=following is None), sentence, at
            at += len(sentence.samples) / self._narrator.rate
            sentence = following

    async def _whole(self, order: Order) -> tuple[bytes, list[Sentence]]:
        reading, sentences = self._narrator.read(order.text, order.speed), list[Sentence]()
        while (sentence := await self._next(reading)) is not None:
            sentences.append(sentence)
        if not sentences:
            raise _nothing_to_say()
        encoder = Encoder(order.format, self._narrator.rate)
        samples = joined(sentence.samples for sentence in sentences)
        return await asyncio.to_thread(encoder.feed, samples, last=True), sentences

    async def _next(self, reading: Iterator[Sentence]) -> Sentence | None:
        async with self._turn:
            return await asyncio.to_thread(next, reading, None)


async def _order(request: Request) -> Order:
    body = await request.body()
    audio_format = request.query_params.get("output_format", DEFAULT_FORMAT)
    if request.path_params["voice_id"] != VOICE:
        raise Refused(404, "voice_not_found", f"The embedded engine has one voice: {VOICE}.")
    if audio_format not in CONTENT_TYPES:
        raise Refused(400, "invalid_output_format", f"The embedded engine makes {', '.join(CONTENT_TYPES)}.")
    if len(body) > MAX_BODY_BYTES:
        raise Refused(413, "max_character_limit_exceeded", f"At most {MAX_CHARACTERS} characters.")
    asked = Body.model_validate_json(body)
    speed = (asked.voice_settings and asked.voice_settings.speed) or 1.0
    if asked.model_id != MODEL:
        raise Refused(400, "model_not_found", f"The embedded engine has one model: {MODEL}.")
    if asked.language_code not in {None, "en"}:
        raise Refused(400, "unsupported_language", "The embedded voice reads English only.")
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise Refused(400, "invalid_voice_settings", f"speed is from {SPEEDS[0]} to {SPEEDS[1]}.")
    if len(asked.text) > MAX_CHARACTERS:
        raise Refused(400, "max_character_limit_exceeded", f"At most {MAX_CHARACTERS} characters.")
    return Order(asked.text, speed, audio_format)


def _nothing_to_say() -> Refused:
    return Refused(400, "input_text_empty", "There is nothing in this text that could be said.")


def _timed(audio: bytes, written: list[Times], said: list[Times]) -> dict[str, object]:
    return {
        "audio_base64": b64encode(audio).decode(),
        "alignment": _alignment(written),
        "normalized_alignment": _alignment(said),
    }


def _alignment(parts: list[Times]) -> dict[str, object]:
    return {
        "characters": [character for part in parts for character in part.characters],
        "character_start_times_seconds": [round(edge, 4) for part in parts for edge in part.edges[:-1]],
        "character_end_times_seconds": [round(edge, 4) for part in parts for edge in part.edges[1:]],
    }


async def voices(_: Request) -> Response:
    """GET /v1/voices."""
    voice = {
        "voice_id": VOICE,
        "name": "Joe",
        "category": "premade",
        "description": "Embedded demo voice, English only (Piper, joe-us, CC0).",
        "labels": {"language": "en", "accent": "american", "gender": "male"},
        "available_for_tiers": [],
        "high_quality_base_model_ids": [MODEL],
        "verified_languages": [{"language": "en", "model_id": MODEL, "locale": "en-US"}],
    }
    return JSONResponse({"voices": [voice]})


async def models(_: Request) -> Response:
    """GET /v1/models."""
    model = {
        "model_id": MODEL,
        "name": "Piper, joe-us, medium",
        "description": "Embedded demo model, English only.",
        "can_do_text_to_speech": True,
        **dict.fromkeys(
            ("can_be_finetuned", "can_do_voice_conversion", "can_use_style", "can_use_speaker_boost"), False
        ),
        "serves_pro_voices": False,
        "requires_alpha_access": False,
        "token_cost_factor": 0,
        "max_characters_request_free_user": MAX_CHARACTERS,
        "max_characters_request_subscribed_user": MAX_CHARACTERS,
        "maximum_text_length_per_request": MAX_CHARACTERS,
        "languages": [{"language_id": "en", "name": "English"}],
        "model_rates": {"character_cost_multiplier": 0},
        "concurrency_group": "standard",
    }
    return JSONResponse([model])


async def isolation(request: Request) -> Response:
    """POST /v1/audio-isolation: the recording with less noise (local/isolation.py), as MP3."""
    recording = bytearray()
    try:
        async for chunk in (await incoming(request)).chunks:
            recording += chunk
            if len(recording) > MAX_RECORDING_BYTES:
                raise Refused(413, "audio_too_large", f"At most {MAX_RECORDING_BYTES} bytes.")
        return Response(await isolate(bytes(recording)), media_type="audio/mpeg")
    except (UploadError, NoRecording):
        raise Refused(400, "invalid_audio", "This is no recording that can be read.") from None


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - as registered
    return error.response


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)  # noqa: S101 - as registered
    told = error.errors(include_url=False, include_context=False, include_input=False)
    return JSONResponse({"detail": [item | {"loc": ["body", *item["loc"]]} for item in told]}, 422)


def build(narrator: Narrator) -> Starlette:
    """The engine as an ASGI app."""
    service = Service(narrator)
    speech = "/v1/text-to-speech/{voice_id}"
    return Starlette(
        routes=[
            Route(speech, service.convert, methods=["POST"]),
            Route(f"{speech}/with-timestamps", service.convert_with_times, methods=["POST"]),
            Route(f"{speech}/stream", service.stream, methods=["POST"]),
            Route(f"{speech}/stream/with-timestamps", service.stream_with_times, methods=["POST"]),
            Route("/v1/voices", voices),
            Route("/v1/models", models),
            Route("/v1/audio-isolation", isolation, methods=["POST"]),
            Route("/v1/audio-isolation/stream", isolation, methods=["POST"]),
        ],
        exception_handlers={Refused: _refused, ValidationError: _invalid},
    )


if __name__ == "__main__":
    serve(build(Narrator()), int(sys.argv[1]) if len(sys.argv) > 1 else 0)

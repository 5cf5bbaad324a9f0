"""Speech from whoever speaks ElevenLabs' protocol, through ElevenLabs' SDK."""

from __future__ import annotations

import asyncio
import importlib
import time
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import orjson

from lib.errors import (
    BrokenStream,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    ModelUnavailable,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TimedOut,
)
from lib.providers.catalog import SpeechRow
from lib.providers.chat import error_for, retry_after
from lib.providers.speech import Alignment, Speech, SpeechModel, SpeechRequest, Voice
from lib.providers.transport import Loaded, lost, whole

if TYPE_CHECKING:
    import httpx

MAX_AUDIO_BYTES = 64 * 1024 * 1024
"""Forty minutes of MP3 at 192 kbit/s are 58 MB."""
_BY_CODE: dict[str, type[ProviderError]] = {
    "quota_exceeded": QuotaExhausted,  # a 401
    "payment_required": QuotaExhausted,
    "invalid_api_key": CredentialsRejected,
    "missing_permissions": CredentialsRejected,
    "voice_not_found": RequestRejected,  # a 404, but the model is there
    "model_not_found": ModelUnavailable,
    "max_character_limit_exceeded": ContextTooLong,
    "text_too_long": ContextTooLong,
    "content_against_policy": ContentRefused,
    "too_many_concurrent_requests": RateLimited,
    "system_busy": RateLimited,
}
"""By `detail.status` or `detail.code`: https://help.elevenlabs.io/hc/en-us/articles/19572237925521."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a call may take: whole, or of a stream until its first piece and between two of them."""

    speak_s: float = 120.0
    first_s: float = 15.0
    idle_s: float = 15.0
    voices_s: float = 10.0
    isolate_s: float = 120.0


class ElevenLabs:
    """One vendor through ElevenLabs' SDK: imported on first use and in a thread, never retrying by itself."""

    def __init__(
        self,
        row: SpeechRow,
        *,
        api_key: str | None,
        base_url: str,
        http: Callable[[], httpx.AsyncClient],
        deadlines: Deadlines | None = None,
    ) -> None:
        """`http` makes or returns the process's one HTTP client; it is called in a thread."""
        self.name = row.name
        self._row = row
        self._api_key = api_key
        self._base_url = base_url
        self._http = http
        self._deadlines = deadlines or Deadlines()
        self._client: Loaded[Any] = Loaded(self._load)

    async def speak(self, request: SpeechRequest, model: SpeechModel) -> Speech:
        """See SpeechProvider.speak."""
        client = await self._client.get()
        arguments = self._arguments(request, model, self._deadlines.speak_s)
        async with _call(self._deadlines.speak_s):
            answer: Any = await client.text_to_speech.convert_with_timestamps(**arguments)
        return _speech(answer.audio_base_64, answer.alignment, request.format)

    async def stream(self, request: SpeechRequest, model: SpeechModel) -> AsyncGenerator[Speech, None]:
        """See SpeechProvider.stream."""
        client = await self._client.get()
        arguments = self._arguments(request, model, self._deadlines.speak_s)
        begun = False
        async with aclosing(_lines(client.text_to_speech.with_raw_response, arguments)) as lines:
            while True:
                async with _call(self._deadlines.idle_s if begun else self._deadlines.first_s, begun=begun):
                    line = await anext(lines, None)
                if line is None:
                    break
                if line.strip():
                    yield _piece(line, request.format, first=not begun)
                    begun = True
        if not begun:
            raise BrokenStream

    async def voices(self) -> tuple[Voice, ...]:
        """See SpeechProvider.voices."""
        client = await self._client.get()
        async with _call(self._deadlines.voices_s):
            answer: Any = await client.voices.get_all(request_options=self._options(self._deadlines.voices_s))
        try:
            return tuple(map(_voice, answer.voices))
        except (AttributeError, TypeError) as error:
            raise BrokenStream from error

    async def isolate(self, audio: bytes, content_type: str) -> bytes:
        """See SpeechProvider.isolate."""
        client = await self._client.get()
        async with _call(self._deadlines.isolate_s):
            chunks: AsyncGenerator[bytes, None] = client.audio_isolation.convert(
                audio=("audio", audio, content_type), request_options=self._options(self._deadlines.isolate_s)
            )
            async with aclosing(chunks):
                isolated = await whole(chunks, MAX_AUDIO_BYTES)
        return _checked(isolated, "mp3_44100_128")

    def _arguments(self, request: SpeechRequest, model: SpeechModel, timeout_s: float) -> dict[str, Any]:
        """What the SDK is given; what is unset is left out, so that the voice's own settings hold."""
        voice = {name: value for name, value in asdict(request.settings).items() if value is not None}
        types: Any = importlib.import_module("elevenlabs.types")
        optional: dict[str, object] = {
            "language_code": request.language if model.takes_language else None,
            "voice_settings": types.VoiceSettings(**voice) if voice else None,
            "seed": request.seed,
            "previous_text": request.previous_text,
            "next_text": request.next_text,
        }
        return {
            "voice_id": request.voice_id,
            "text": request.text,
            "model_id": model.id,
            "output_format": request.format,
            "request_options": self._options(timeout_s),
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _options(self, timeout_s: float) -> dict[str, object]:
        headers = {} if self._row.keep_alive else {"additional_headers": {"connection": "close"}}
        return {"max_retries": 0, "timeout_in_seconds": timeout_s, **headers}

    def _load(self) -> Any:
        sdk: Any = importlib.import_module("elevenlabs.client")
        for part in ("types", "text_to_speech", "voices", "audio_isolation"):
            importlib.import_module(f"elevenlabs.{part}")  # or the first call would, on the event loop
        # Without a key the SDK would take one from the environment, whoever is called.
        client = sdk.AsyncElevenLabs(
            api_key=self._api_key or "none", base_url=self._base_url, httpx_client=self._http()
        )
        _ = client.text_to_speech, client.voices, client.audio_isolation
        return client


@asynccontextmanager
async def _call(deadline_s: float, *, begun: bool = False) -> AsyncGenerator[None, None]:
    """A call's deadline, and our names for what ends it: ProviderError leaves it, and cancellation."""
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except ProviderError:
        raise
    except TimeoutError as late:
        raise TimedOut from late
    except Exception as error:
        raise _translate(error, begun=begun) from error


async def _lines(raw: Any, arguments: Mapping[str, Any]) -> AsyncGenerator[str, None]:
    """A stream's lines, each a JSON object; the SDK's own reader leaves out those that it can't read."""
    async with raw.stream_with_timestamps(**arguments) as answer:
        lines: AsyncIterator[str] = answer._response.aiter_lines()  # noqa: SLF001 - see above
        async for line in lines:
            yield line


def _piece(line: str, audio_format: str, *, first: bool) -> Speech:
    try:
        piece = orjson.loads(line)
        audio, alignment = piece["audio_base64"], piece.get("alignment")
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise BrokenStream from error
    if first:
        return _speech(audio, alignment, audio_format)
    return Speech(_decoded(audio), _alignment(alignment))


def _speech(audio: Any, alignment: Any, audio_format: str) -> Speech:
    return Speech(_checked(_decoded(audio), audio_format), _alignment(alignment))


def _decoded(audio: Any) -> bytes:
    try:
        return b64decode(audio, validate=True)
    except (TypeError, ValueError) as error:
        raise BrokenStream from error


def _alignment(told: Any) -> Alignment | None:
    """The times, or BrokenStream where they go back or do not belong to as many characters: captions would lie."""
    if told is None:
        return None
    fields: Any = cast("Any", told if isinstance(told, Mapping) else vars(told))
    try:
        characters = tuple(map(str, fields["characters"]))
        starts = tuple(map(float, fields["character_start_times_seconds"]))
        ends = tuple(map(float, fields["character_end_times_seconds"]))
    except (LookupError, TypeError, ValueError) as error:
        raise BrokenStream from error
    ordered = all(a <= b for a, b in pairwise(starts)) and all(a <= b for a, b in zip(starts, ends, strict=False))
    if not len(characters) == len(starts) == len(ends) or not ordered or not all(map(isfinite, (*starts, *ends))):
        raise BrokenStream
    return Alignment(characters, starts, ends)


def _checked(audio: bytes, audio_format: str) -> bytes:
    """The audio, or BrokenStream where its first bytes are not what was asked for; raw samples have no sign to show."""
    codec = audio_format.partition("_")[0]
    fits = {
        "mp3": audio[:3] == b"ID3" or int.from_bytes(audio[:2], "big") & 0xFFE0 == 0xFFE0,  # noqa: PLR2004 - frame sync
        "wav": audio[:4] == b"RIFF" and audio[8:12] == b"WAVE",
        "opus": audio[:4] == b"OggS",
    }.get(codec, audio[:1] not in {b"{", b"<"})
    if not audio or not fits:
        raise BrokenStream
    return audio


def _voice(told: Any) -> Voice:
    languages: list[str] = [language.language for language in told.verified_languages or ()]
    given: dict[object, object] = told.labels or {}
    labels = {str(name): str(value) for name, value in given.items()}
    named = languages or ([labels["language"]] if "language" in labels else [])
    return Voice(str(told.voice_id), str(told.name), tuple(dict.fromkeys(named)), labels, told.preview_url)


def _translate(error: Any, *, begun: bool) -> Exception:
    """Our name for what the SDK or the HTTP client below it raised, by type, status and code."""
    core: Any = importlib.import_module("elevenlabs.core.api_error")
    if isinstance(error, core.ApiError):
        return _verdict(error.status_code, error.body, error.headers or {})
    if (failure := lost(error, begun=begun)) is not None:
        return failure
    # What the SDK could not read as the answer that it should be.
    return BrokenStream() if isinstance(error, ValueError | TypeError | LookupError | AttributeError) else error


def _verdict(status: int | None, body: Any, headers: Mapping[str, str]) -> ProviderError:
    try:
        codes: list[Any] = [body["detail"].get(name) for name in ("code", "status")]
    except (LookupError, TypeError, AttributeError):
        codes = []
    kind = next((_BY_CODE[code] for code in codes if isinstance(code, str) and code in _BY_CODE), None)
    if status is not None and status < 400:  # noqa: PLR2004 - a redirect, or a success that the SDK could not read
        return BrokenStream(status=status)
    if kind is None:
        return error_for(status, None, headers, time.time())
    return kind(status=status, retry_after_s=retry_after(headers.get("retry-after"), time.time()))

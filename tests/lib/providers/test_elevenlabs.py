"""The speech adapter over real sockets: what it asks for, what it takes for speech, and what failures are called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from lib.errors import (
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TimedOut,
)
from lib.outbound import Outbound
from lib.providers.catalog import SPEECH_ROWS
from lib.providers.elevenlabs import Deadlines, ElevenLabs
from lib.providers.speech import Alignment, Speech, SpeechModel, SpeechRequest, VoiceSettings
from tests.fakes.elevenlabs import FakeElevenLabs, alignment, audio, failure, lines, timed
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.fakes.web import Told, told

Result = TypeVar("Result")
ROW = next(row for row in SPEECH_ROWS if row.name == "elevenlabs")
FLASH, MULTILINGUAL, _ = ROW.models
TEXT = "Hello there, canary."
REQUEST = SpeechRequest(TEXT, "rachel")
MP3 = audio()


@pytest.fixture
def eleven(loop: LoopThread) -> Iterator[FakeElevenLabs]:
    """A fake ElevenLabs, whose requests all fitted its description."""
    fake = FakeElevenLabs(loop)
    yield fake
    fake.close()
    assert fake.violations == []


def over(
    eleven: FakeElevenLabs,
    work: Callable[[ElevenLabs], Coroutine[Any, Any, Result]],
    deadlines: Deadlines | None = None,
) -> Result:
    """Do this with the adapter over the fake."""

    async def do() -> Result:
        outbound = Outbound()
        try:
            return await work(
                ElevenLabs(ROW, api_key="key-of-eleven", base_url=eleven.url, http=outbound.httpx, deadlines=deadlines)
            )
        finally:
            await outbound.aclose()

    return asyncio.run(do())


def spoken(
    eleven: FakeElevenLabs,
    request: SpeechRequest = REQUEST,
    model: SpeechModel = FLASH,
    deadlines: Deadlines | None = None,
) -> Speech:
    """This, read aloud."""
    return over(eleven, lambda adapter: adapter.speak(request, model), deadlines)


def streamed(eleven: FakeElevenLabs, deadlines: Deadlines | None = None) -> list[Speech]:
    """The text, read aloud in pieces."""

    async def stream(adapter: ElevenLabs) -> list[Speech]:
        return [piece async for piece in adapter.stream(REQUEST, FLASH)]

    return over(eleven, stream, deadlines)


def test_spoken(eleven: FakeElevenLabs) -> None:
    """The text with its voice and settings; the audio with the times of its words."""
    settings = VoiceSettings(speed=1.1, stability=0.4)
    request = SpeechRequest(
        TEXT, "rachel", language="en", format="wav_24000", settings=settings, seed=5, previous_text="Before."
    )
    answer = spoken(eleven, request)
    assert answer.audio == audio("wav_24000")
    assert answer.alignment is not None
    assert [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in answer.alignment.words()] == [
        ("Hello", 0.0, 0.5),
        ("there,", 0.6, 1.2),
        ("canary.", 1.3, 2.0),
    ]
    (asked,) = eleven.asked
    assert asked.path == "/v1/text-to-speech/rachel/with-timestamps"
    assert asked.query == {"output_format": ["wav_24000"]}
    assert asked.headers["xi-api-key"] == "key-of-eleven"
    assert asked.json() == {
        "text": TEXT,
        "model_id": "eleven_flash_v2_5",
        "language_code": "en",
        "voice_settings": {"speed": 1.1, "stability": 0.4},
        "seed": 5,
        "previous_text": "Before.",
    }


def test_what_is_unset_is_not_sent(eleven: FakeElevenLabs) -> None:
    """The voice's own settings hold then; a model that can't be told the language is not told."""
    spoken(eleven, SpeechRequest(TEXT, "rachel", language="de"), MULTILINGUAL)
    assert eleven.asked[0].json() == {"text": TEXT, "model_id": "eleven_multilingual_v2"}


def test_streamed(eleven: FakeElevenLabs) -> None:
    """The pieces in order, their times from the beginning of all."""
    pieces = streamed(eleven)
    assert b"".join(piece.audio for piece in pieces) == MP3
    heard = [piece.alignment for piece in pieces if piece.alignment is not None]
    assert "".join(character for times in heard for character in times.characters) == TEXT
    assert heard[1].starts_s[0] == pytest.approx(len(TEXT) // 2 / 10)


FAILURES = [
    (failure(401, "invalid_api_key"), CredentialsRejected),
    (failure(401, "quota_exceeded"), QuotaExhausted),
    (failure(402, "payment_required"), QuotaExhausted),
    (failure(403, "missing_permissions"), CredentialsRejected),
    (failure(404, "voice_not_found"), RequestRejected),
    (failure(400, "model_not_found"), ModelUnavailable),
    (failure(400, "max_character_limit_exceeded"), ContextTooLong),
    (failure(400, "content_against_policy"), ContentRefused),
    (told({"detail": [{"loc": ["body", "text"], "msg": "canary", "type": "missing"}]}, 422), RequestRejected),
    (failure(429, "too_many_concurrent_requests", retry_after="3"), RateLimited),
    (failure(500, "x"), Overloaded),
    (Told(503, b"<html>canary"), Overloaded),
    (Told(200, b"not json"), BrokenStream),
    (Told(302, b"", {"location": "https://elsewhere.example/"}), BrokenStream),
]
each_failure = pytest.mark.parametrize(
    ("fault", "verdict"), FAILURES, ids=[f"{fault.status} {verdict.__name__}" for fault, verdict in FAILURES]
)


@each_failure
def test_failures(eleven: FakeElevenLabs, fault: Told, verdict: type[ProviderError]) -> None:
    """Each failure has its name by status and code, is not retried, and holds nothing that was sent."""
    eleven.script(fault)
    with pytest.raises(ProviderError) as caught:
        spoken(eleven)
    assert type(caught.value) is verdict
    assert "canary" not in str(caught.value)
    assert len(eleven.asked) == 1
    if verdict is RateLimited:
        assert caught.value.retry_after_s == 3


@each_failure
def test_failures_of_streams(eleven: FakeElevenLabs, fault: Told, verdict: type[ProviderError]) -> None:
    """The same where it was to be streamed."""
    eleven.script(fault)
    with pytest.raises(ProviderError) as caught:
        streamed(eleven)
    assert type(caught.value) is verdict


BACKWARDS = {"characters": ["a", "b"], "character_start_times_seconds": [1, 0], "character_end_times_seconds": [1, 1]}
UNEQUAL = {"characters": ["a", "b"], "character_start_times_seconds": [0], "character_end_times_seconds": [1, 1]}


NO_SPEECH: list[dict[str, Any]] = [
    {},
    {"audio_base64": ""},
    {"audio_base64": "!!!"},
    timed(TEXT, b'{"detail": "an error"}'),
    timed(TEXT, audio("wav_24000")),
    timed(TEXT, MP3) | {"alignment": BACKWARDS},
    timed(TEXT, MP3) | {"alignment": UNEQUAL},
    timed(TEXT, MP3) | {"alignment": {"characters": []}},
]


@pytest.mark.parametrize(
    "answer",
    NO_SPEECH,
    ids=["empty", "no bytes", "no base64", "json", "wav", "backwards", "unequal", "no times"],
)
def test_no_speech(eleven: FakeElevenLabs, answer: dict[str, Any]) -> None:
    """An answer without the audio that was asked for, or with times that can't be, is none."""
    eleven.script(told(answer), lines(answer))
    with pytest.raises(BrokenStream):
        spoken(eleven)
    with pytest.raises(BrokenStream):
        streamed(eleven)


def test_without_times(eleven: FakeElevenLabs) -> None:
    """The last piece of a stream may have none."""
    eleven.script(told({"audio_base64": timed("", MP3)["audio_base64"], "alignment": None}))
    assert spoken(eleven) == Speech(MP3)


def test_cut(eleven: FakeElevenLabs) -> None:
    """An answer that ends too early is no whole one, streamed or not; nor is a line that can't be read left out."""
    piece = timed("Hello", MP3)
    garbled = lines(piece)
    eleven.script(
        Told(200, told(piece).body, cut=100),
        lines(piece, piece, cut=len(lines(piece).body) + 10),
        Told(200, garbled.body + b"garbled\n" + garbled.body),
        Told(200, b"\n\n"),
    )
    with pytest.raises(BrokenStream):
        spoken(eleven)
    for _ in range(3):
        with pytest.raises(BrokenStream):
            streamed(eleven)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_silent(eleven: FakeElevenLabs, stream: bool) -> None:  # noqa: FBT001 - parametrised
    """Silence has an end, and the connection with it."""
    eleven.script(Told(gate=Gate()))
    deadlines = Deadlines(speak_s=0.3, first_s=0.3)
    with pytest.raises(TimedOut):
        streamed(eleven, deadlines) if stream else spoken(eleven, deadlines=deadlines)
    eleven.wait_for_leaving()
    assert len(eleven.asked) == 1


def test_silent_in_mid_stream(eleven: FakeElevenLabs) -> None:
    """So has silence after the first piece."""
    first = lines(timed("Hello", MP3)).body
    eleven.script(Told(200, first + first, cut=len(first), stall=Gate()))
    heard: list[Speech] = []

    async def listen(adapter: ElevenLabs) -> None:
        async for piece in adapter.stream(REQUEST, FLASH):
            heard.append(piece)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(TimedOut):
        over(eleven, listen, Deadlines(idle_s=0.3))
    assert len(heard) == 1
    eleven.wait_for_leaving()


def test_caller_leaves(eleven: FakeElevenLabs) -> None:
    """Cancelled, the connection is closed."""
    eleven.script(Told(gate=Gate()))

    async def leave(adapter: ElevenLabs) -> None:
        speaking = asyncio.create_task(adapter.speak(REQUEST, FLASH))
        await asyncio.to_thread(eleven.wait_for, 1)
        speaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await speaking
        await asyncio.to_thread(eleven.wait_for_leaving)

    over(eleven, leave)


def test_listener_leaves(eleven: FakeElevenLabs) -> None:
    """A stream that is closed early closes the connection."""
    first = lines(timed("Hello", MP3)).body
    eleven.script(Told(200, first + first, cut=len(first), stall=Gate()))

    async def leave(adapter: ElevenLabs) -> None:
        stream = adapter.stream(REQUEST, FLASH)
        assert (await anext(stream)).audio == MP3
        await stream.aclose()
        await asyncio.to_thread(eleven.wait_for_leaving)

    over(eleven, leave)


def test_voices(eleven: FakeElevenLabs) -> None:
    """The account's voices, with their languages."""
    (voice,) = over(eleven, lambda adapter: adapter.voices())
    assert (voice.id, voice.name, voice.languages) == ("rachel", "Rachel", ("en", "de"))
    assert voice.labels == {"accent": "american"}
    eleven.script(failure(401, "invalid_api_key"))
    with pytest.raises(CredentialsRejected):
        over(eleven, lambda adapter: adapter.voices())


def test_isolated(eleven: FakeElevenLabs) -> None:
    """A recording goes out as a file, and comes back without its noise; an error or no audio is none."""
    assert over(eleven, lambda adapter: adapter.isolate(b"RIFF-noisy", "audio/wav")) == MP3
    (asked,) = eleven.asked
    assert (asked.method, asked.path) == ("POST", "/v1/audio-isolation")
    assert b"RIFF-noisy" in asked.body
    assert b"audio/wav" in asked.body
    for fault, verdict in ((failure(401, "quota_exceeded"), QuotaExhausted), (Told(200, b""), BrokenStream)):
        eleven.script(fault)
        with pytest.raises(verdict):
            over(eleven, lambda adapter: adapter.isolate(b"x", "audio/wav"))


def test_nobody_there(eleven: FakeElevenLabs) -> None:
    """No connection: another vendor may be asked at once."""
    eleven.close()
    with pytest.raises(ConnectionFailed):
        spoken(eleven)
    with pytest.raises(ConnectionFailed):
        streamed(eleven)


def test_words() -> None:
    """Words are what stands between white space; times are those of their first and last character."""
    times = alignment("a  b\nc ")
    found = Alignment(
        tuple(times["characters"]),
        tuple(times["character_start_times_seconds"]),
        tuple(times["character_end_times_seconds"]),
    ).words()
    assert [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in found] == [
        ("a", 0.0, 0.1),
        ("b", 0.3, 0.4),
        ("c", 0.5, 0.6),
    ]

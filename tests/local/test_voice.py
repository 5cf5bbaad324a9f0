"""The embedded voice: the real engine, by ElevenLabs' own SDK and by our adapter, over the port that starts it."""

from __future__ import annotations

import io
import wave
from base64 import b64decode
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import av
import httpx
import numpy as np
import pytest
from elevenlabs.client import ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import VoiceSettings

from lib.app import App
from lib.errors import ProviderError, RequestRejected
from lib.providers.speech import Speech, SpeechRequest
from lib.settings import from_environ
from local.audio import CONTENT_TYPES, Encoder
from local.engine import Engine
from local.on_demand import OnDemand
from local.spelling import sentences
from tests.fakes.loop import LoopThread

_numpy: Any = np
"""Its overloads are partly untyped."""
TEXT = "Dr. Smith has been here, and it cost $5.50. Was it well-known?"
SAID = "doctor Smith has been here, and it cost five dollars and fifty cents. Was it well known?"


@pytest.fixture(scope="module")
def url(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which the engine starts with its first caller."""
    engine = OnDemand(Engine("local.voice", tmp_path_factory.mktemp("engine") / "voice.log"), "")
    yield loop.run(engine.start())
    loop.run(engine.stop())


@pytest.fixture
def sdk(url: str) -> Iterator[Any]:
    """ElevenLabs' SDK over the engine, with connections of its own."""
    with httpx.Client(timeout=60, headers={"connection": "close"}) as client:
        yield ElevenLabs(api_key="none", base_url=url, httpx_client=client)


def samples(file: bytes) -> tuple[int, Any]:
    """A WAV's rate and samples."""
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        return sound.getframerate(), _numpy.frombuffer(sound.readframes(sound.getnframes()), "<i2")


def decoded(file: bytes) -> Any:
    """The samples of a recording in any format, from -1 to 1."""
    with cast("Any", av).open(io.BytesIO(file)) as opened:
        return _numpy.concatenate([frame.to_ndarray().ravel() for frame in opened.decode(audio=0)])


def loudness(sound: Any) -> float:
    """Root mean square of 16-bit samples, from 0 to 1."""
    return float(_numpy.sqrt(_numpy.mean((sound / 32_768.0) ** 2)))


def test_spoken_with_times(sdk: Any) -> None:
    """Audio of the rate asked for, and every character of the text with the time at which it is heard."""
    answer = sdk.text_to_speech.convert_with_timestamps("joe", text=TEXT, output_format="wav_24000")
    rate, sound = samples(b64decode(answer.audio_base_64))
    assert rate == 24_000
    seconds = len(sound) / rate
    assert 3 < seconds < 10
    assert loudness(sound) > 0.02
    for alignment, text in ((answer.alignment, TEXT), (answer.normalized_alignment, None)):
        starts, ends = alignment.character_start_times_seconds, alignment.character_end_times_seconds
        assert len(alignment.characters) == len(starts) == len(ends)
        assert text is None or "".join(alignment.characters) == text
        assert starts[0] == 0
        assert all(start <= end for start, end in zip(starts, ends, strict=True))
        assert all(
            end == pytest.approx(start, abs=1e-3) for end, (_, start) in zip(ends, pairwise(starts), strict=False)
        )
        assert ends[-1] == pytest.approx(seconds, abs=0.01)


def test_words_are_heard_when_it_says(sdk: Any) -> None:
    """Within the words there is sound, and in the breath between the sentences none; no word is shorter than sound."""
    answer = sdk.text_to_speech.convert_with_timestamps(
        "joe", text="One two three. Four five six.", output_format="wav_22050"
    )
    rate, sound = samples(b64decode(answer.audio_base_64))
    alignment = answer.alignment
    starts, ends = alignment.character_start_times_seconds, alignment.character_end_times_seconds
    edges = list(zip(alignment.characters, starts, ends, strict=True))
    text = "".join(alignment.characters)

    def heard(begin: float, end: float) -> float:
        return loudness(sound[int(begin * rate) : int(end * rate)])

    for word in ("One", "two", "three", "Four", "five", "six"):
        place = text.index(word)
        begin, end = edges[place][1], edges[place + len(word) - 1][2]
        assert 0.1 < end - begin < 0.8
        assert heard(begin, end) > 0.02
    breath = text.index(" Four")
    assert heard(edges[breath][2] - 0.15, edges[breath][2]) < 0.01


@pytest.mark.parametrize("audio_format", ["pcm_16000", "wav_44100", "mp3_44100_128", "mp3_22050_32"])
def test_formats(sdk: Any, audio_format: str) -> None:
    """Each format is what its name says, whole and streamed, and lasts as long."""
    seconds: list[float] = []
    for method in (sdk.text_to_speech.convert, sdk.text_to_speech.stream):
        sound = b"".join(method("joe", text="It has been said. Twice.", output_format=audio_format))
        codec, rate, *kbits = audio_format.split("_")
        if codec == "mp3":
            assert sound[0] == 0xFF
            seconds.append(len(sound) * 8 / 1000 / int(kbits[0]))
        else:
            raw = sound[44:] if codec == "wav" else sound
            assert codec == "pcm" or sound[24:28] == int(rate).to_bytes(4, "little")
            seconds.append(len(raw) / 2 / int(rate))
            assert loudness(_numpy.frombuffer(raw, "<i2")) > 0.02
    assert all(1 < each < 4 for each in seconds)


def test_streamed_with_times(sdk: Any) -> None:
    """A piece per sentence, each with its part of the text, the times going on."""
    pieces = list(sdk.text_to_speech.stream_with_timestamps("joe", text=TEXT, output_format="pcm_22050"))
    assert ["".join(piece.alignment.characters) for piece in pieces] == [TEXT[:44], TEXT[44:]]
    assert "".join("".join(piece.normalized_alignment.characters) for piece in pieces).replace(".W", ". W") == SAID
    at = 0.0
    for piece in pieces:
        assert piece.alignment.character_start_times_seconds[0] == pytest.approx(at, abs=1e-3)
        at += len(b64decode(piece.audio_base_64)) / 2 / 22_050
        assert piece.alignment.character_end_times_seconds[-1] == pytest.approx(at, abs=1e-3)


def test_speed(sdk: Any) -> None:
    """A faster voice is done sooner."""
    lengths: list[int] = []
    for speed in (0.7, 1.2):
        settings = VoiceSettings(speed=speed)
        sound = sdk.text_to_speech.convert("joe", text=TEXT, output_format="pcm_8000", voice_settings=settings)
        lengths.append(len(b"".join(sound)))
    assert 1.4 < lengths[0] / lengths[1] < 2.1  # 1.71, give or take the breaths and the voice's own variation


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"voice_id": "rachel"}, 404, "voice_not_found"),
        ({"model_id": "eleven_v3"}, 400, "model_not_found"),
        ({"language_code": "de"}, 400, "unsupported_language"),
        ({"output_format": "opus_48000_32"}, 400, "invalid_output_format"),
        ({"voice_settings": VoiceSettings(speed=3)}, 400, "invalid_voice_settings"),
        ({"text": "x" * 5_001}, 400, "max_character_limit_exceeded"),
        ({"text": "?! \u2014 ..."}, 400, "input_text_empty"),
        ({"text": ""}, 422, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused(sdk: Any, changed: dict[str, Any], status: int, code: str | None) -> None:
    """What it can't do it says, in ElevenLabs' shape."""
    with pytest.raises(ApiError) as caught:
        sdk.text_to_speech.convert_with_timestamps(**{"voice_id": "joe", "text": "Hello.", **changed})
    detail = caught.value.body["detail"]
    assert caught.value.status_code == status
    assert detail[0]["loc"] == ["body", "text"] if code is None else detail["status"] == code


def test_lists(sdk: Any) -> None:
    """One voice and one model, both English."""
    (voice,) = sdk.voices.get_all().voices
    (model,) = sdk.models.list()
    assert (voice.voice_id, voice.labels["language"]) == ("joe", "en")
    assert (model.model_id, [language.language_id for language in model.languages]) == ("piper-joe-medium", ["en"])


def test_adapter(loop: LoopThread, url: str) -> None:
    """The catalogue's row `local` leads there: speech with times, in pieces, its voices, and no isolation."""

    async def use() -> None:
        app = App(from_environ({"LOCAL_VOICE_BASE_URL": url}))
        try:
            provider = app.speech_provider("local")
            row = app.settings.speakers
            assert list(row) == ["local"]
            (voice,) = await provider.voices()
            assert voice.languages == ("en",)
            from lib.providers.catalog import SPEECH_ROWS  # noqa: PLC0415 - short

            model = SPEECH_ROWS[1].models[0]
            request = SpeechRequest(TEXT, SPEECH_ROWS[1].voice, language="en", format="wav_22050")
            whole = await provider.speak(request, model)
            assert whole.alignment is not None
            assert [word.text for word in whole.alignment.words()] == TEXT.split()
            pieces: list[Speech] = [piece async for piece in provider.stream(request, model)]
            assert len(pieces) == 2
            with pytest.raises(RequestRejected):
                await provider.speak(SpeechRequest("Hallo.", "joe", language="de"), model)
            with pytest.raises(ProviderError) as caught:
                await provider.isolate(b"RIFF", "audio/wav")
            assert (type(caught.value), caught.value.status) == (RequestRejected, 400)
        finally:
            await app.aclose()

    loop.run(use(), timeout_s=120)


def test_isolation_takes_noise_out(sdk: Any) -> None:
    """A voice in noise comes back with the noise well below what it was, and the voice about as loud."""
    answer = sdk.text_to_speech.convert_with_timestamps("joe", text=TEXT, output_format="wav_44100")
    _, voice = samples(b64decode(answer.audio_base_64))
    rate, second = 44_100, 44_100
    silence = _numpy.zeros(second)
    hiss = _numpy.random.default_rng(7).normal(0, 0.01, 2 * second + len(voice))
    noisy = _numpy.concatenate([silence, voice / 32_768, silence]) + hiss
    recording = Encoder(f"wav_{rate}", rate).feed(noisy.astype("float32"), last=True)
    clean = b"".join(sdk.audio_isolation.convert(audio=("audio", recording, "audio/wav")))
    sound = decoded(clean)
    assert abs(len(sound) - len(noisy)) < 0.2 * rate
    assert loudness(sound[second // 2 : second] * 32_768) < loudness(noisy[second // 2 : second] * 32_768) / 3
    spoken = slice(second, second + len(voice))
    assert loudness(sound[spoken] * 32_768) == pytest.approx(loudness(noisy[spoken] * 32_768), rel=0.35)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$1", "one dollar"),
        ("$5.50", "five dollars and fifty cents"),
        ("\u00a31,200", "one thousand two hundred pounds"),
        ("$2 million", "two million dollars"),
        ("$3.5bn", "three point five billion dollars"),
        ("15%", "fifteen percent"),
        ("the 21st", "the twenty first"),
        ("in 1999, in 2026", "in nineteen ninety nine in twenty twenty six"),
        ("at 9:05 or 10:00", "at nine oh five or ten o'clock"),
        ("5-10 km", "five to ten km"),
        ("24/7", "twenty four seven"),
        ("3.25", "three point two five"),
        ("Mr. Dr. e.g. etc.", "mister doctor for example et cetera"),
        ("it\u2019s A4 & example.com", "it's A four and example dot com"),
        ("12345678901234567", "one two three four five six seven eight nine zero one two three four five six seven"),
        ("[[h@l@U]] <break/>", "h at l at U break"),
        ("\u2014 ... !", ""),
    ],
)
def test_spelling(text: str, said: str) -> None:
    """Numbers, money, times and abbreviations are said in words; signs that mean nothing aloud are not."""
    assert " ".join(word for sentence in sentences(text) for token in sentence for word in token.said) == said


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("Dr. Smith came.", 1),
        ("At 9 a.m. It began.", 2),
        ("A title\nA line", 2),
        ("a " * 150, 3),
    ],
)
def test_sentences(text: str, count: int) -> None:
    """A sentence ends at its stop or its line, not at an abbreviation, and not never."""
    assert len(list(sentences(text))) == count


def test_every_format_is_known() -> None:
    """No format is promised that can't be made."""
    from local.audio import Encoder  # noqa: PLC0415 - beside its use

    for audio_format in CONTENT_TYPES:
        assert len(Encoder(audio_format, 22_050).feed(np.zeros(22_050, np.float32), last=True)) > 1_000

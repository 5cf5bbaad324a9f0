"""Who draws and who reads: pure functions of the catalogue and the request."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lib.errors import InvalidRequest, NoProvider
from lib.media.audio import duration_ms, longest_s
from lib.media.plan import ReadingRequest, Vendors, plan_isolation, plan_pictures, plan_reading
from lib.media.styles import STYLES, styled
from lib.providers.catalog import IMAGE_ROWS, SPEECH_ROWS, ImageRow, SpeechRow
from lib.providers.images import ImageModel, ImageRequest
from lib.providers.speech import Alignment, SpeechModel
from local.drawing import title_of

A = ImageRow("a", "A", "A_URL", (ImageModel("a/one"), ImageModel("a/two")), key_var="A_KEY")
B = ImageRow("b", "B", "B_URL", (ImageModel("b/one", max_images=1),), key_var="B_KEY")
DEMO = ImageRow("demo", "Demo", "DEMO_URL", (ImageModel("demo/one"),), demo=True)
PAINTERS = (A, B, DEMO)
DRAW = ImageRequest("A lighthouse")

C = SpeechRow("c", "C", "C_URL", (SpeechModel("c1", 100), SpeechModel("c2", 10)), voice="carol", key_var="C_KEY")
D = SpeechRow(
    "d", "D", "D_URL", (SpeechModel("d1", 20, frozenset({"en"})),), voice="dave", key_var="D_KEY", codecs=("mp3",)
)
EMBEDDED = SpeechRow("e", "E", "E_URL", (SpeechModel("e1", 50, frozenset({"en"})),), voice="eve", demo=True)
READERS = (C, D, EMBEDDED)


def painters(vendors: Vendors, request: ImageRequest = DRAW, model: str | None = None) -> list[str]:
    """The models, in order."""
    return [painter.model.id for painter in plan_pictures(request, model, PAINTERS, vendors)]


def readers(request: ReadingRequest, on: str = "c d", rows: Sequence[SpeechRow] = READERS) -> list[tuple[str, str]]:
    """Models and voices, in order."""
    return [(reader.model.id, reader.voice_id) for reader in plan_reading(request, rows, Vendors(on.split()))]


@pytest.mark.parametrize(
    ("vendors", "expected"),
    [
        (Vendors(["a", "b", "demo"]), ["a/one", "b/one"]),
        (Vendors(["a", "b"], fallback_order=("b", "a")), ["b/one", "a/one"]),
        (Vendors(["a", "b"], fallback_order=("b",)), ["b/one", "a/one"]),
        (Vendors(["a", "b"], killed={"a"}), ["b/one"]),
        (Vendors(["demo"]), ["demo/one"]),
    ],
)
def test_order(vendors: Vendors, expected: list[str]) -> None:
    """Those that are on, as the fallback order has them; the embedded engine where no other is on."""
    assert painters(vendors) == expected


@pytest.mark.parametrize("vendors", [Vendors([]), Vendors(["a"], {"a"}), Vendors(["a", "demo"], {"a"})])
def test_nobody(vendors: Vendors) -> None:
    """Whoever is killed leaves nobody in its place: the embedded engine does not step forward."""
    with pytest.raises(NoProvider):
        painters(vendors)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("a/two", ["a/two", "b/one"]), ("a/newer", ["a/newer", "a/newer"]), ("demo/one", ["a/one", "b/one"])],
)
def test_operators_model(model: str, expected: list[str]) -> None:
    """A model is for who offers it; one that nobody is known to offer is asked of hosted vendors."""
    assert painters(Vendors(["a", "b", "demo"]), model=model) == expected


def test_too_many_pictures() -> None:
    """A vendor that draws fewer at once is left out; where all do, the caller is told."""
    assert painters(Vendors(["a", "b"]), ImageRequest("x", count=4)) == ["a/one"]
    with pytest.raises(InvalidRequest) as caught:
        painters(Vendors(["b"]), ImageRequest("x", count=4))
    assert [error.path for error in caught.value.errors] == ["image.count"]


def test_readers_and_their_voices() -> None:
    """Each has a voice of its own; the caller's is the same for all, the operator's for hosted ones."""
    assert readers(ReadingRequest("Hi")) == [("c1", "carol"), ("d1", "dave")]
    assert readers(ReadingRequest("Hi", voice_id="x", usual_voice_id="y")) == [("c1", "x"), ("d1", "x")]
    assert readers(ReadingRequest("Hi", usual_voice_id="y", usual_model="c2")) == [("c2", "y"), ("d1", "y")]
    assert readers(ReadingRequest("Hi", usual_voice_id="y", usual_model="new"), "e") == [("e1", "eve")]


@pytest.mark.parametrize(
    ("request_", "on", "expected"),
    [
        (ReadingRequest("x" * 21), "c d", ["c1"]),
        (ReadingRequest("Hallo", language="de"), "c d", ["c1"]),
        (ReadingRequest("Hi", format="wav_44100"), "c d", ["c1"]),
    ],
    ids=["length", "language", "format"],
)
def test_who_can_not_is_left_out(request_: ReadingRequest, on: str, expected: list[str]) -> None:
    """Too long a text, a language or a format that a vendor has not: the next one reads."""
    assert [model for model, _ in readers(request_, on)] == expected


@pytest.mark.parametrize(
    ("request_", "on", "path", "code"),
    [
        (ReadingRequest("x" * 101), "c d", "speech.text", "context_length_exceeded"),
        (ReadingRequest("Hallo", language="de"), "e", "speech.language", "capability_missing"),
        (ReadingRequest("Hi", format="opus_48000_64"), "d", "speech.format", "capability_missing"),
        (ReadingRequest("Hi", voice_id="carol"), "e", "speech.voice_id", "capability_missing"),
    ],
)
def test_nobody_can(request_: ReadingRequest, on: str, path: str, code: str) -> None:
    """The caller is told which field nobody can meet."""
    with pytest.raises(InvalidRequest) as caught:
        readers(request_, on)
    assert (caught.value.errors[0].path, caught.value.code) == (path, code)


def test_isolation() -> None:
    """Only who can isolate is asked."""
    deaf = SpeechRow("f", "F", "F_URL", (SpeechModel("f1", 5),), voice="x", isolates=False)
    assert [reader.provider for reader in plan_isolation((deaf, C), Vendors(["c", "f"]))] == ["c"]
    with pytest.raises(NoProvider):
        plan_isolation((deaf,), Vendors(["f"]))


@pytest.mark.parametrize("style", STYLES)
def test_styles(style: str) -> None:
    """A style's words follow the prompt: the embedded engine finds the name, and keeps them out of the title."""
    prompt = styled("A quiet lighthouse", style)
    assert prompt.startswith(f"A quiet lighthouse\nStyle: {style}, ")
    assert title_of(prompt) == "Quiet lighthouse"


def test_styles_of_ones_own() -> None:
    """Other words stand as they are, and without a style the prompt does."""
    assert styled("A cat", "ink on paper") == "A cat\nStyle: ink on paper."
    assert styled("A cat", None) == "A cat"


def test_durations() -> None:
    """By the format's own rate, or by the times of the text where the codec tells nothing."""
    assert duration_ms(bytes(16_000), "mp3_44100_128") == 1000
    assert duration_ms(bytes(44 + 88_200), "wav_44100") == 1000
    assert duration_ms(b"x", "opus_48000_64", Alignment(("a",), (0.0,), (1.5,))) == 1500
    assert duration_ms(b"x", "opus_48000_64") == 0
    assert longest_s(4_000) == 1


def test_catalogue_has_the_usual_models() -> None:
    """What we ship reads and draws with nothing but a key."""
    assert plan_pictures(DRAW, None, IMAGE_ROWS, Vendors(["fal", "local"]))[0].model.id == "fal-ai/flux/schnell"
    assert plan_reading(ReadingRequest("Hi"), SPEECH_ROWS, Vendors(["elevenlabs"]))[0].model.id == "eleven_flash_v2_5"

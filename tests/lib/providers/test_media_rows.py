"""The rows of speech and pictures: what turns them on, and that a new one needs nothing besides itself."""

from __future__ import annotations

import pytest

from lib.app import App
from lib.providers.catalog import IMAGE_ROWS, SPEECH_ROWS, ImageRow, SpeechRow
from lib.providers.images import ImageModel
from lib.providers.speech import SpeechModel
from lib.settings import from_environ, variables

SPEECH = SpeechRow(
    "acme", "Acme", "ACME_BASE_URL", (SpeechModel("acme-1", 100),), "anna", "ACME_KEY", "https://a.example"
)
IMAGES = ImageRow("acme", "Acme", "ACME_BASE_URL", (ImageModel("acme/draw"),), "ACME_KEY", "https://a.example")


@pytest.mark.parametrize(
    ("environ", "speakers", "painters"),
    [
        ({}, [], []),
        ({"ELEVENLABS_API_KEY": "k"}, ["elevenlabs"], []),
        ({"FAL_KEY": "k"}, [], ["fal"]),
        (
            {"LOCAL_VOICE_BASE_URL": "http://127.0.0.1:9", "LOCAL_IMAGES_BASE_URL": "http://127.0.0.1:8"},
            ["local"],
            ["local"],
        ),
        ({"FAL_KEY": "k", "LOCAL_IMAGES_BASE_URL": "http://127.0.0.1:8"}, [], ["fal", "local"]),
    ],
)
def test_on(environ: dict[str, str], speakers: list[str], painters: list[str]) -> None:
    """A key turns a vendor on, an address the embedded stand-in; the parts say which, by name."""
    settings = from_environ(environ)
    assert (list(settings.speakers), list(settings.painters)) == (speakers, painters)
    parts = {part.name: part for part in settings.parts}
    assert (parts["speech"].on, parts["images"].on) == (bool(speakers), bool(painters))
    assert (parts["speech"].needs, parts["images"].needs) == (("ELEVENLABS_API_KEY",), ("FAL_KEY",))


def test_base_urls() -> None:
    """Each has its own variable, and both may stand in for the vendor."""
    settings = from_environ(
        {
            "ELEVENLABS_API_KEY": "k",
            "ELEVENLABS_BASE_URL": "http://e.test/",
            "FAL_KEY": "k",
            "FAL_BASE_URL": "http://f.test",
        }
    )
    assert settings.speakers["elevenlabs"].base_url == "http://e.test"
    assert settings.painters["fal"].base_url == "http://f.test"
    assert from_environ({"FAL_KEY": "k"}).painters["fal"].base_url == "https://queue.fal.run"


def test_new_vendor_is_one_row() -> None:
    """Its variables, its secret and its adapter follow from the row."""
    names = {variable.name for variable in variables(speech_rows=(SPEECH,), image_rows=(IMAGES,))}
    assert {"ACME_KEY", "ACME_BASE_URL"} <= names
    environ = {"ACME_KEY": "k", "NEXT_PUBLIC_ACME_KEY": "x"}
    settings = from_environ(environ, speech_rows=(SPEECH,), image_rows=(IMAGES,))
    assert settings.exposed == ("NEXT_PUBLIC_ACME_KEY",)
    app = App(settings, speech_rows=(SPEECH,), image_rows=(IMAGES,))
    assert app.speech_provider("acme") is app.speech_provider("acme")
    assert (app.speech_provider("acme").name, app.image_provider("acme").name) == ("acme", "acme")


def test_names_are_unique() -> None:
    """Within a kind."""
    for rows in (SPEECH_ROWS, IMAGE_ROWS):
        assert len({row.name for row in rows}) == len(rows)
        assert all(len({model.id for model in row.models}) == len(row.models) for row in rows)

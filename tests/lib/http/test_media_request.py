"""What may be asked beside text, and what is said of what may not."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from lib.control.parameters import Parameters
from lib.errors import InvalidRequest
from lib.http.generate_request import read_generate_request
from lib.http.media_request import FORMATS
from lib.providers.speech import CONTENT_TYPES

HI = {"prompt": "Hi"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({**HI, "outputs": ["image", "image"]}, "outputs"),
        ({**HI, "image": {}}, "image"),
        ({**HI, "speech": {}}, "speech"),
        ({"outputs": ["image"]}, "prompt"),
        ({"outputs": ["speech"]}, "prompt"),
        ({"outputs": ["text", "speech"], "speech": {"text": "Hi"}}, "prompt"),
        ({"outputs": ["image", "speech"], "speech": {"text": "Hi"}}, "prompt"),
        *(
            ({**HI, "outputs": ["image"], "image": image}, f"image.{path}")
            for image, path in (
                ({"colour": 1}, "colour"),
                ({"prompt": " "}, "prompt"),
                ({"prompt": "x" * 4001}, "prompt"),
                ({"style": "cubism"}, "style"),
                ({"size": "huge"}, "size"),
                ({"size": {"width": 63, "height": 64}}, "size.width"),
                ({"size": {"width": 64, "height": 2049}}, "size.height"),
                ({"size": {"width": 64}}, "size.height"),
                ({"count": 0}, "count"),
                ({"count": 5}, "count"),
                ({"seed": -1}, "seed"),
            )
        ),
        *(
            ({**HI, "outputs": ["speech"], "speech": speech}, f"speech.{path}")
            for speech, path in (
                ({"speed": 1}, "speed"),
                ({"text": ""}, "text"),
                ({"text": "x" * 40_001}, "text"),
                ({"voice_id": "a/b"}, "voice_id"),
                ({"language": "english"}, "language"),
                ({"format": "pcm_16000"}, "format"),
                ({"enhance": "1"}, "enhance"),
                ({"enhance": str(uuid4()), "text": "Hi"}, "text"),
                ({"enhance": str(uuid4()), "voice_id": "joe"}, "voice_id"),
            )
        ),
        ({**HI, "outputs": ["image"], "cache": "no"}, "cache"),
    ],
)
def test_refused(body: dict[str, Any], path: str) -> None:
    """Each fault is named by its field."""
    with pytest.raises(InvalidRequest) as caught:
        read_generate_request(body)
    assert [error.path for error in caught.value.errors] == [path]


@pytest.mark.parametrize(
    ("body", "writes"),
    [
        (HI, True),
        ({**HI, "outputs": ["image"]}, False),
        ({"outputs": ["image"], "image": {"prompt": "x"}}, False),
        ({**HI, "outputs": ["speech"]}, True),
        ({"outputs": ["speech"], "speech": {"text": "x"}}, False),
        ({"outputs": ["speech"], "speech": {"enhance": str(uuid4())}}, False),
        ({**HI, "outputs": ["text", "speech"], "speech": {"text": "x"}}, True),
    ],
)
def test_whether_a_model_writes(body: dict[str, Any], *, writes: bool) -> None:
    """Only for an answer in words, and for speech without words of its own."""
    assert read_generate_request(body).writes_text is writes


def test_picture_of_the_last_question() -> None:
    """A conversation is drawn from what the user said last, in either style of messages."""
    told = [{"role": "user", "content": "A cat"}, {"role": "assistant", "content": "Here."}]
    last = {"role": "user", "parts": [{"type": "text", "text": "Now a dog"}]}
    body = read_generate_request({"messages": [*told, last], "outputs": ["image"]})
    assert body.question() == "Now a dog"
    assert read_generate_request({"messages": told, "outputs": ["image"]}).question() == "A cat"


def test_parameters_of_the_operator() -> None:
    """The caller's words come before the operator's."""
    body = read_generate_request({**HI, "outputs": ["speech"], "speech": {"voice_id": "own"}})
    assert body.speech is not None
    request = body.speech.request("Hi", Parameters(voice_id="usual", voice_language="de", voice_speed=1.1))
    assert (request.voice_id, request.usual_voice_id, request.language) == ("own", "usual", "de")
    assert request.settings.speed == 1.1


def test_formats_can_be_kept() -> None:
    """Every format that may be asked for has a type that the bucket takes."""
    assert {CONTENT_TYPES[name.partition("_")[0]] for name in FORMATS} == {"audio/mpeg", "audio/wav", "audio/ogg"}

"""What POST /api/vsl takes, and what a job is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import InvalidRequest
from lib.vsl.brief import planned, read_brief, request_hash
from tests.lib.vsl.briefs import EXAMPLES, LAMP, Parameters, brief, job_request

PICTURE = "https://pictures.example/lamp.jpg"
ASSET = "0191d0a0-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"colour": "red"}, "colour", "unknown field"),
        ({"product": None}, "product", "is missing: there is no script either"),
        ({"product": " \u202e\n "}, "product", "must say something"),
        ({"facts": [{"id": "a", "text": "b", "weight": 1}]}, "facts[0].weight", "unknown field"),
        ({"facts": [{"id": "a", "text": "b"}, {"id": "a", "text": "c"}]}, "facts[1].id", "must be no other fact's id"),
        ({"language": "de"}, "language", "must be en or pt, unless you send a script of your own"),
        ({"script": {"title": "A"}}, "script", "needs either text or frames"),
        ({"script": {"text": "A.", "frames": [{"narration": "A."}]}}, "script", "needs either text or frames"),
        ({"script": {"frames": [{"beat": "hook"}]}}, "script.frames[0].narration", "is missing"),
        ({"script": {"frames": [{"narration": "A."}]}, "frames": 3}, "frames", "has no place beside script.frames"),
        ({"script": {"frames": [{"narration": "…"}]}}, "script.frames[0].narration", "must say something"),
        ({"script": {"text": "---\n\U0001f600"}}, "script.text", "must say something"),
        ({"music": "http://a.example/b.mp3"}, "music", "must be an https address"),
        ({"music": "song.mp3"}, "music", "must be the id of an asset or an https address"),
        ({"webhook_url": "https://10.0.0.1/x"}, "webhook_url", "must be a public address"),
        ({"webhook_url": "https://localhost/x"}, "webhook_url", "must be a public address"),
        ({"webhook_url": "https://127.1/x"}, "webhook_url", "must be a public address"),
        ({"webhook_url": "https://exa mple.com/x"}, "webhook_url", "must be an https address"),
        ({"webhook_url": "https://[::1]/x"}, "webhook_url", "must be a public address"),
        ({"webhook_url": "https://printer.local/x"}, "webhook_url", "must be a public address"),
        ({"webhook_url": "https://user:word@a.example/x"}, "webhook_url", "must be an https address"),
    ],
)
def test_refused(fields: dict[str, Any], path: str, message: str) -> None:
    """A field that is wrong is named by its path, and why."""
    with pytest.raises(InvalidRequest) as refused:
        brief(**fields)
    assert [(error.path, error.message) for error in refused.value.errors] == [(path, message)]


@pytest.mark.parametrize("name", ["frames", "duration_s", "voice_speed", "budget_usd", "seed"])
@pytest.mark.parametrize("value", [-1, 10_000_000_000, "1", True])
def test_numbers_out_of_range(name: str, value: object) -> None:
    """Numbers have their range, and are numbers."""
    with pytest.raises(InvalidRequest) as refused:
        brief(**{name: value})
    assert [error.path for error in refused.value.errors] == [name]


def test_what_was_sent_is_not_repeated() -> None:
    """An error names places and rules, never the values."""
    with pytest.raises(InvalidRequest) as refused:
        brief(tone=["canary"], aspect="canary", metadata={"a": 1})
    assert "canary" not in refused.value.message + str(refused.value.errors)


@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_no_object(value: object) -> None:
    """The body must be an object."""
    with pytest.raises(InvalidRequest):
        read_brief(value)


def test_own_media() -> None:
    """Pictures, narrations and music of one's own come by asset id or https address."""
    frame = {"narration": "Hello there, you.", "image": PICTURE, "narration_audio": ASSET.upper()}
    request = job_request(script={"frames": [frame]}, music=ASSET)
    (made,) = request["script"]["frames"]
    assert (made["image"], made["narration_audio"], request["music"]) == (PICTURE, ASSET, ASSET)


def test_text_is_told_plainly() -> None:
    """Control characters, marks of direction and line breaks are no part of what is said; letters and emoji are."""
    assert brief(product=" Caf\u0065\u0301\u202e\tA\u200bB\x07 \U0001f525\n").product == "Café AB \U0001f525"


def test_empty_forms_fields() -> None:
    """A form sends what was left empty."""
    assert brief(offer="", guarantee="  ", audience="").offer is None


def test_parameters_fill_in() -> None:
    """The request's own wishes stand before the parameters', those before defaults."""
    usual = Parameters("joe", "flash", 0.9, "papercut", "flux")
    assert (
        brief(voice_speed=1.1).request(usual).items()
        >= {
            "voice_id": "joe",
            "voice_model": "flash",
            "voice_speed": 1.1,
            "img_style": "papercut",
            "img_model": "flux",
        }.items()
    )
    assert job_request()["voice_speed"] == 1.0


def test_only_what_decides_the_video() -> None:
    """Equal videos have equal requests, whatever else was said with them; another word makes another."""
    told = brief(budget_usd=1.0, webhook_url="https://a.example/x", metadata={"a": "b"}, reuse=False, estimate=True)
    assert told.request(Parameters()) == job_request()
    assert request_hash(job_request()) == request_hash(job_request(product=" Brasa  solar lantern"))
    assert request_hash(job_request()) != request_hash(job_request(tone="dry"))


def test_requests_are_json() -> None:
    """A job's request goes through a row and comes back the same."""
    request = job_request(script="One. Two.", facts=LAMP["facts"])
    assert json.loads(json.dumps(request)) == request


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("hook", "problem", "solution", "proof", "offer", "cta")),
        ({"facts": []}, ("hook", "problem", "solution", "offer", "cta")),
        ({"facts": LAMP["facts"][:1], "offer": None}, ("hook", "problem", "solution", "cta")),
        ({"frames": 2}, ("hook", "solution")),
        (
            {"duration_s": 240, "guarantee": None},
            ("hook", "problem", "agitation", "story", "solution", "proof", "offer", "cta"),
        ),
    ],
)
def test_planned(fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    """One frame per beat by default; proof, offer and guarantee only where the brief has them."""
    request = job_request(**fields)
    assert planned(request) == expected
    assert request["frames"] == len(expected)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples(file: Path) -> None:
    """The samples are briefs of six frames."""
    assert len(planned(read_brief(json.loads(file.read_text())).request(Parameters()))) == 6


HOSTILE = st.text(max_size=80) | st.sampled_from(
    ["' \" % \\", "</c> --> {\\an8}", "\u202e\u2066", "\U0001f468\u200d\U0001f469", "a\n\nb", "{name}"]
)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_fault_49_hostile_brief(product: str, fact: str, script: str) -> None:
    """Any text is a brief or a named error; what is taken is one line without marks of direction."""
    body = {"product": product, "facts": [{"id": "a", "text": fact}], "script": script}
    try:
        told = read_brief(body)
    except InvalidRequest as refused:
        told, paths = None, {error.path for error in refused.errors}
    else:
        paths = set[str]()
    assert paths <= {"product", "facts[0].text", "script.text"}
    if told is None:
        return
    assert told.product is not None
    for text in (told.product, told.facts[0].text):
        assert text == " ".join(text.split())
        assert not set(text) & set("\u202e\u2066\u200d\n\x00")

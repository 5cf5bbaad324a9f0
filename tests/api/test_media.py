"""Pictures and speech through POST /api/generate: vendors as fakes, the database and the files real."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.studio import ALL, DRAW, READ, Studio
from tests.api.test_money import counters, settled, wait_until
from tests.conftest import KEY_HEADER, Serve, hosted_over
from tests.fakes.elevenlabs import audio, failure
from tests.fakes.vendor import Gate, Vendor, words
from tests.fakes.vendor import failure as refusal
from tests.fakes.web import Told, told


def by_kind(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """An answer's assets."""
    return {asset["kind"]: asset for asset in answer["assets"]}


def test_the_whole_flow(studio: Studio) -> None:
    """The text is written, drawn and read aloud; all is kept, signed, paid for and on record."""
    studio.text.script(words("Hello", " world."))
    answer = studio.made({**ALL, "image": {"style": "papercut"}})
    assert answer["text"] == "Hello world."
    assets = by_kind(answer)
    assert (assets["image"]["provider"], assets["audio"]["provider"]) == ("fal", "elevenlabs")
    assert httpx.get(assets["image"]["url"]).content == studio.fal.pictures[0]
    assert httpx.get(assets["audio"]["url"]).content == audio()
    submitted = next(asked for asked in studio.fal.asked if asked.method == "POST").json()
    assert submitted["prompt"].startswith("A lighthouse.\nStyle: papercut, ")
    assert studio.voice.asked[-1].json()["text"] == "Hello world."
    assert assets["audio"]["duration_ms"] == len(audio()) * 8 // 128
    (row,) = studio.project.sql("select voice_id, characters, alignment ->> 'characters' from public.audio_assets")
    assert (row[0], row[1], json.loads(row[2])) == ("21m00Tcm4TlvDq8ikWAM", 12, list("Hello world."))
    assert settled(studio.project, 3)
    spent = round(answer["cost_usd"] * 1_000_000)
    assert counters(studio.project)["key"] == (1, 0, spent)
    text_cost = spent - 3000 - 600
    assert text_cost > 0
    assert wait_until(lambda: len(studio.events()) == 3)
    assert studio.events() == [
        ("image", "fal", "ok", 1.0, "megapixels", 3000),
        ("speech", "elevenlabs", "ok", 12.0, "characters", 600),
        ("text", "groq", "ok", None, None, text_cost),
    ]


def test_asked_again_it_costs_nothing(studio: Studio) -> None:
    """What was paid for is found by its content: no vendor is called, and the same asset comes back."""
    first, again = studio.made(DRAW), studio.made(DRAW)
    assert (first["assets"][0]["cached"], again["assets"][0]["cached"]) == (False, True)
    assert again["assets"][0]["id"] == first["assets"][0]["id"]
    assert again["assets"][0]["url"] == first["assets"][0]["url"]
    assert (again["cost_usd"], studio.fal.count("submit")) == (0, 1)
    other = studio.made({**DRAW, "image": {"prompt": "A lighthouse", "size": "square"}})
    assert (other["assets"][0]["cached"], studio.fal.count("submit")) == (False, 2)


def test_made_anew(studio: Studio) -> None:
    """`cache: false` pays again."""
    studio.made(READ)
    assert studio.made({**READ, "cache": False})["assets"][0]["cached"] is False
    assert len(studio.voice.asked) == 2


def test_given_text_and_prompt_need_no_model(studio: Studio) -> None:
    """Reading a text and drawing a prompt call nobody who writes."""
    answer = studio.made({**DRAW, **READ, "outputs": ["image", "speech"]})
    assert sorted(by_kind(answer)) == ["audio", "image"]
    assert (answer["text"], studio.text.requests) == (None, [])
    assert studio.voice.asked[0].json()["text"] == "Good evening."


def test_speech_without_words_of_its_own_reads_what_is_written(studio: Studio) -> None:
    """The text is written first, though nobody asked to see it."""
    studio.text.script(words("Hello", " world."))
    answer = studio.made({"prompt": "Hi", "outputs": ["speech"], "stream": False})
    assert (answer["text"], studio.voice.asked[0].json()["text"]) == ("Hello world.", "Hello world.")


def test_stream_has_text_first_and_files_as_they_are_ready(studio: Studio) -> None:
    """A picture that is ready does not wait for the text's end; the speech, made of the text, comes after it."""
    gate = Gate()
    studio.text.script(words("Hello", gate, " world."))
    body = {**ALL, "stream": True}
    seen: list[dict[str, Any]] = []
    url = f"{studio.url}/api/generate"
    with httpx.stream("POST", url, json=body, headers=KEY_HEADER, timeout=30) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                seen.append(json.loads(line.removeprefix("data: ")))
            if seen and seen[-1]["type"] == "file":
                gate.open()
    kinds = [(chunk["type"], chunk.get("mediaType")) for chunk in seen]
    assert kinds == [
        *[("start", None), ("start-step", None), ("text-start", None), ("text-delta", None)],
        *[("file", "image/jpeg"), ("text-delta", None), ("text-end", None), ("file", "audio/mpeg")],
        *[("finish-step", None), ("finish", None)],
    ]
    told_of = seen[-1]["messageMetadata"]["assets"]
    assert [asset["url"] for asset in told_of] == [chunk["url"] for chunk in seen if chunk["type"] == "file"]


def test_stream_keeps_a_kept_picture_back_until_there_is_text(studio: Studio) -> None:
    """A picture that is there at once still comes after the first word."""
    studio.made({**DRAW, "image": {"prompt": "A lighthouse."}})
    gate = Gate()
    studio.text.script(words(gate, "Hello"))
    body = {**ALL, "outputs": ["text", "image"], "stream": True}
    threading.Timer(0.3, gate.open).start()
    with httpx.stream("POST", f"{studio.url}/api/generate", json=body, headers=KEY_HEADER, timeout=30) as answer:
        types = [json.loads(line[6:])["type"] for line in answer.iter_lines() if line.startswith("data: {")]
    assert types.index("text-delta") < types.index("file")
    assert studio.fal.count("submit") == 1


def test_stream_of_files_alone(studio: Studio) -> None:
    """Without text there are the files, then the end."""
    chunks = studio.chunks({**DRAW, **READ, "outputs": ["image", "speech"]})
    types = [chunk["type"] for chunk in chunks]
    assert types == ["start", "start-step", "file", "file", "finish-step", "finish"]


@pytest.mark.parametrize("output", ["image", "speech"])
def test_partial_success(studio: Studio, output: str) -> None:
    """What works is given, what does not is named; what was not made is not billed."""
    studio.text.script(words("Hello."))
    if output == "image":
        studio.fal.faults = [("submit", Told(401))]
    else:
        studio.voice.script(failure(401, "invalid_api_key"))
    answer = studio.made(ALL)
    assert answer["text"] == "Hello."
    assert list(by_kind(answer)) == (["audio"] if output == "image" else ["image"])
    assert [(error["output"], error["code"]) for error in answer["errors"]] == [(output, "no_provider_available")]
    assert settled(studio.project, 3)


def test_picture_without_text(studio: Studio) -> None:
    """A text that fails takes with it what was to read it, but not the picture."""
    studio.text.script(refusal(401, "invalid_api_key"))
    answer = studio.made(ALL)
    assert (answer["text"], list(by_kind(answer))) == (None, ["image"])
    told_of = [(error["output"], error["code"]) for error in answer["errors"]]
    assert told_of == [("text", "no_provider_available"), ("speech", "nothing_to_read")]


def test_nothing_works(studio: Studio) -> None:
    """An answer of which nothing is left is an error with the status of what went wrong."""
    studio.fal.faults = [("submit", Told(402))]
    answer = studio.post(DRAW)
    assert (answer.status_code, answer.json()["code"]) == (503, "no_provider_available")
    assert "FAL" not in answer.text
    assert "quota_exhausted" in answer.text


def test_budget_is_held_before_a_vendor_is_called(studio: Studio) -> None:
    """Whoever can't pay for the picture gets the text, and nobody draws."""
    studio.project.sql("update public.limits set microusd_per_day = 2900 where (scope, subject) = ('key', 'each')")
    studio.text.script(words("Hello."))
    answer = studio.made({**ALL, "outputs": ["text", "image"], "max_tokens": 16})
    assert [error["code"] for error in answer["errors"]] == ["budget_exceeded"]
    assert studio.fal.asked == []


def test_plain_text_has_no_form_for_files(studio: Studio) -> None:
    """422 before anything is asked of anybody."""
    body = {name: value for name, value in ALL.items() if name != "stream"}
    answer = studio.post(body, accept="text/plain")
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "outputs")
    assert (studio.text.requests, studio.fal.asked) == ([], [])


def test_without_a_project(serve: Serve, vendor: Vendor) -> None:
    """Pictures and speech need a place to be kept in; the answer names the variables."""
    url = serve(hosted_over(groq=vendor))
    answer = httpx.post(f"{url}/api/generate", json=ALL, headers=KEY_HEADER)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")
    assert "SUPABASE_URL" in answer.text
    assert vendor.requests == []


def test_who_leaves_stops_the_vendors(studio: Studio) -> None:
    """The picture is withdrawn at fal, the voice's connection is closed, and both may be billed."""
    waiting = told({"status": "IN_QUEUE", "queue_position": 1}, 202)
    studio.fal.faults = [("status", waiting)] * 200
    studio.voice.script(Told(gate=Gate()))
    parts = {**DRAW, **READ, "outputs": ["image", "speech"]}
    with httpx.Client(timeout=0.8, headers=KEY_HEADER) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{studio.url}/api/generate", json=parts)
    studio.voice.wait_for_leaving()
    assert wait_until(lambda: studio.fal.count("cancel") == 1)
    assert settled(studio.project, 3)
    assert wait_until(lambda: len(studio.events()) == 2)
    assert studio.events() == [
        ("image", "fal", "cancelled", 1.0, "megapixels", 3000),
        ("speech", "elevenlabs", "cancelled", 13.0, "characters", 650),
    ]


def test_stopped_by_its_caller(studio: Studio) -> None:
    """DELETE ends what is under way, and what was ready is kept."""
    studio.fal.faults = [("status", told({"status": "IN_QUEUE", "queue_position": 1}, 202))] * 200
    body = {**DRAW, **READ, "outputs": ["image", "speech"], "stream": True}
    seen: list[dict[str, Any]] = []
    with httpx.stream("POST", f"{studio.url}/api/generate", json=body, headers=KEY_HEADER, timeout=30) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            seen.append(json.loads(line[6:]))
            if seen[-1]["type"] == "file":
                stop = httpx.delete(f"{studio.url}/api/generate/{answer.headers['x-request-id']}", headers=KEY_HEADER)
                assert stop.status_code == 202
    assert [chunk["type"] for chunk in seen] == ["start", "start-step", "file", "message-metadata", "abort"]
    assert wait_until(lambda: studio.fal.count("cancel") == 1)


def test_the_same_key_the_same_answer(studio: Studio) -> None:
    """An Idempotency-Key gives the very same answer, paid once, also where nothing is to be kept."""
    body, key = {**READ, "cache": False}, str(uuid4())
    first = studio.post(body, **{"idempotency-key": key})
    again = studio.post(body, **{"idempotency-key": key})
    assert (first.content, again.headers["idempotent-replayed"]) == (again.content, "true")
    assert len(studio.voice.asked) == 1


def test_a_guest_gets_an_account(studio: Studio) -> None:
    """Files belong to somebody: a guest's to the anonymous user that it becomes, and stays."""
    with httpx.Client(base_url=studio.url, timeout=30) as guest:
        first = guest.post("/api/generate", json=DRAW)
        assert first.status_code == 200, first.text
        assert "session=" in first.headers["set-cookie"]
        again = guest.post("/api/generate", json=DRAW)
    assert again.json()["assets"][0]["cached"] is True
    owners = studio.project.sql("select distinct user_id::text from public.assets")
    users = studio.project.sql("select id::text from auth.users where is_anonymous")
    assert owners == users


def test_enhanced_recording(studio: Studio) -> None:
    """One's own recording comes back without its noise, as a new asset; asked again, it is the same."""
    recording = studio.made(READ)["assets"][0]
    body = {"outputs": ["speech"], "speech": {"enhance": recording["id"]}, "stream": False}
    first, again = studio.made(body), studio.made(body)
    assert first["assets"][0]["id"] != recording["id"]
    assert (first["assets"][0]["content_type"], first["cost_usd"] > 0) == ("audio/mpeg", True)
    assert (again["assets"][0]["cached"], again["assets"][0]["id"]) == (True, first["assets"][0]["id"])
    assert [asked.path for asked in studio.voice.asked].count("/v1/audio-isolation") == 1


def test_enhancing_what_is_not_ones_own(studio: Studio) -> None:
    """Others' recordings are not there; a picture is no recording."""
    enhance = {"outputs": ["speech"], "stream": False}
    gone = studio.post({**enhance, "speech": {"enhance": str(uuid4())}})
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    drawn = studio.made(DRAW)["assets"][0]["id"]
    refused = studio.post({**enhance, "speech": {"enhance": drawn}})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "speech.enhance")
    with httpx.Client(base_url=studio.url, timeout=30) as guest:
        mine = studio.made(READ)["assets"][0]["id"]
        other = guest.post("/api/generate", json={**enhance, "speech": {"enhance": mine}})
    assert other.status_code == 404
    assert not any(asked.path == "/v1/audio-isolation" for asked in studio.voice.asked)

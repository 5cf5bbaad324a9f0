"""/api/vsl: vendors as fakes, the database, the files and ffmpeg real. The films are short and small."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import av
import httpx
import pytest

from tests.api.studio import Studio
from tests.conftest import KEY_HEADER, OPERATOR_KEY, Serve, hosted_over
from tests.fakes.elevenlabs import failure
from tests.fakes.fal import FakeFal
from tests.fakes.vendor import Vendor

VSL = "/api/vsl"
JSON = {**KEY_HEADER, "accept": "application/json"}
FRAMES = [
    {"narration": "Dark nights.", "on_screen": "Dark", "image_prompt": "a dark lake", "alt": "A lake at night"},
    {"narration": "Lumen shines.", "on_screen": "Light", "image_prompt": "a lamp", "alt": "A lamp"},
]
BRIEF = {"product": "Lumen", "script": {"title": "Lumen", "frames": FRAMES}, "aspect": "1:1", "motion": False}


def begin(studio: Studio, body: dict[str, Any] = BRIEF, **headers: str) -> httpx.Response:
    """Ask for a film."""
    return httpx.post(f"{studio.url}{VSL}", json=body, headers={**JSON, **headers}, timeout=60)


def job_of(studio: Studio, id_: str, *, within_s: float = 60) -> dict[str, Any]:
    """The job, once it is over."""
    until = time.monotonic() + within_s
    while True:
        job = httpx.get(f"{studio.url}{VSL}/{id_}", headers=JSON, timeout=30).json()
        if job["status"] in {"succeeded", "failed", "canceled"}:
            return job
        assert time.monotonic() < until, job
        time.sleep(0.1)


def made(studio: Studio, body: dict[str, Any] = BRIEF) -> dict[str, Any]:
    """The job of a film that is asked for, once it is over."""
    answer = begin(studio, body)
    assert answer.status_code in {200, 202}, answer.text
    return job_of(studio, answer.json()["id"])


def submissions(fal: FakeFal) -> list[str]:
    """The prompts that were paid for."""
    return [asked.json()["prompt"] for asked in fal.asked if asked.method == "POST"]


def readings(studio: Studio) -> list[str]:
    """The texts that were paid for."""
    return [asked.json()["text"] for asked in studio.voice.asked if asked.method == "POST"]


def test_a_whole_film(studio: Studio) -> None:
    """From a script of one's own to an MP4 that decodes, with captions, a transcript, and the bill."""
    answer = begin(studio)
    assert (answer.status_code, answer.headers["location"]) == (202, f"{VSL}/{answer.json()['id']}")
    job = job_of(studio, answer.json()["id"])
    assert (job["status"], job["percent"], job.get("error")) == ("succeeded", 100, None)
    files = job["result"]["files"]
    assert set(files) == {
        "video",
        "poster",
        "narration",
        "captions_vtt",
        "captions_srt",
        "transcript",
        "words",
        "manifest",
    }
    film = httpx.get(f"{studio.url}{VSL}/{job['id']}/video", headers=JSON, follow_redirects=True)
    with av.open(BytesIO(film.content), "r") as container:
        streams = [(stream.type, stream.codec_context.name) for stream in container.streams]
        assert streams == [("video", "h264"), ("audio", "aac")]
        assert (container.streams.video[0].width, container.streams.video[0].height) == (720, 720)
        shown = sum(1 for _ in container.decode(video=0))
    assert abs(shown / 25 - job["result"]["duration_s"]) < 0.05
    manifest = httpx.get(files["manifest"]["url"]).json()
    assert (manifest["schema"], manifest["id"], manifest["degraded"]) == ("vsl.manifest/1", job["id"], False)
    assert (manifest["width"], manifest["height"], manifest["duration_s"]) == (720, 720, job["result"]["duration_s"])
    assert (manifest["video"]["sha256"], manifest["video"]["bytes"]) == (
        hashlib.sha256(film.content).hexdigest(),
        len(film.content),
    )
    assert manifest["cost_usd"] == {"total": job["cost_usd"], "script": 0, "images": 0.006, "narration": 0.00125}
    assert [(each["narration"], each["alt"]) for each in manifest["frames"]] == [
        (each["narration"], each["alt"]) for each in FRAMES
    ]
    assert manifest["frames"][0]["end_s"] == manifest["frames"][1]["start_s"]
    captions = httpx.get(files["captions_vtt"]["url"]).text
    assert captions.startswith("WEBVTT")
    assert [word for word in ("Dark", "nights.", "Lumen", "shines.") if word not in captions] == []
    # Two pictures of a megapixel at 0.003 $, and 25 characters at 0.05 $ per thousand.
    assert round(job["cost_usd"] * 1_000_000) == 2 * 3_000 + (25 * 50)
    assert {step["status"] for step in job["steps"]} == {"done"}


def test_the_same_again_is_the_same_job(studio: Studio) -> None:
    """While it is made and afterwards; nothing is paid twice."""
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(begin, [studio] * 10))
    (id_,) = {answer.json()["id"] for answer in answers}
    job_of(studio, id_)
    again = begin(studio)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, id_, "succeeded")
    assert (len(submissions(studio.fal)), len(readings(studio))) == (2, 2)


def test_one_changed_sentence_alone_is_spoken_again(studio: Studio) -> None:
    """Its picture stays, and so does everything of the other frame."""
    made(studio)
    changed = {**BRIEF, "script": {"title": "Lumen", "frames": [FRAMES[0], {**FRAMES[1], "narration": "It shines."}]}}
    job = made(studio, changed)
    assert job["status"] == "succeeded"
    assert (len(submissions(studio.fal)), readings(studio)[2:]) == (2, ["It shines."])
    assert round(job["cost_usd"] * 1_000_000) == 10 * 50
    anew = {step["name"] for step in job["steps"] if not step["cached"]}
    assert anew >= {"narration/1", "film"}
    assert anew.isdisjoint({"picture/0", "picture/1", "narration/0"})


def test_events_until_the_end(studio: Studio) -> None:
    """A UI message stream: progress that never falls, files as they come, the result last."""
    answer = begin(studio, accept="text/event-stream")
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    percents = [chunk["data"]["percent"] for chunk in chunks if chunk["type"] == "data-vsl-progress"]
    assert percents == sorted(percents)
    kinds = [chunk["mediaType"] for chunk in chunks if chunk["type"] == "file"]
    assert sorted(kinds) == ["audio/mpeg", "audio/mpeg", "image/jpeg", "image/jpeg", "text/vtt", "video/mp4"]
    assert [chunk["type"] for chunk in chunks[-3:]] == ["data-vsl-result", "finish-step", "finish"]
    replayed = httpx.get(f"{studio.url}{VSL}/{chunks[0]['messageId']}/stream", headers=KEY_HEADER, timeout=30)
    assert '"data-vsl-result"' in replayed.text


def test_an_estimate_pays_nothing(studio: Studio) -> None:
    """By stage, from the same prices; there is no job afterwards."""
    told = begin(studio, {**BRIEF, "estimate": True}).json()
    assert (told["stages"]["frames"]["images"], told["stages"]["narration"]["characters"]) == (2, 25)
    assert told["total_usd"] == pytest.approx(0.006 + 0.00125)
    assert httpx.get(f"{studio.url}{VSL}", headers=JSON).json() == {"jobs": []}
    assert (submissions(studio.fal), readings(studio)) == ([], [])


def test_a_script_alone(studio: Studio) -> None:
    """`stop_after`: nothing is drawn or read; what comes back may be sent as the script."""
    job = made(studio, {**BRIEF, "stop_after": "script"})
    assert (job["status"], job["percent"], len(job["frames"])) == ("succeeded", 100, 2)
    assert (submissions(studio.fal), readings(studio)) == ([], [])
    again = made(studio, {**BRIEF, "script": job["result"]["script"]})
    assert (again["status"], len(submissions(studio.fal))) == ("succeeded", 2)


def test_a_refused_picture_is_a_card_unless_strict(studio: Studio) -> None:
    """The film says that it is degraded; where it must not be, the job fails and names the frame."""
    studio.fal.unsafe = True
    job = made(studio, {**BRIEF, "budget_usd": 1})
    assert (job["status"], job["degraded"], job["frames"][0]["picture"]["degraded"]) == ("succeeded", True, True)
    strict = made(studio, {**BRIEF, "strict": True})
    assert strict["status"] == "failed"
    assert (strict["error"]["code"], strict["error"]["stage"]) == ("content_blocked", "frames")
    assert strict["error"]["frame"] in {0, 1}


def test_a_voice_that_fails_is_tried_again_by_hand(studio: Studio) -> None:
    """The job names stage and frame; after /retry the failed step alone is done, and it ends."""
    studio.voice.script(failure(400, "invalid_request"), failure(400, "invalid_request"))
    job = made(studio)
    assert (job["status"], job["error"]["stage"], job["error"]["frame"] in {0, 1}) == ("failed", "narration", True)
    assert httpx.post(f"{studio.url}{VSL}/{job['id']}/retry", headers=JSON).status_code == 202
    assert job_of(studio, job["id"])["status"] == "succeeded"
    assert len(submissions(studio.fal)) == 2
    assert httpx.post(f"{studio.url}{VSL}/{job['id']}/retry", headers=JSON).status_code == 409


def test_an_idempotency_key(studio: Studio) -> None:
    """With another brief under it, it is refused."""
    first = begin(studio, BRIEF, **{"idempotency-key": "a"})
    assert begin(studio, BRIEF, **{"idempotency-key": "a"}).json()["id"] == first.json()["id"]
    other = begin(studio, {**BRIEF, "seed": 3}, **{"idempotency-key": "a"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_nobody_sees_anothers(studio: Studio) -> None:
    """Not with a key that may do more, and not to cancel or delete."""
    id_ = begin(studio).json()["id"]
    other = {"authorization": f"Bearer {OPERATOR_KEY}", "accept": "application/json"}
    url = f"{studio.url}{VSL}/{id_}"
    answers = [
        httpx.get(url, headers=other),
        httpx.get(f"{url}/video", headers=other),
        httpx.post(f"{url}/cancel", headers=other),
        httpx.post(f"{url}/retry", headers=other),
        httpx.delete(url, headers=other),
        httpx.get(f"{studio.url}{VSL}/not-an-id", headers=JSON),
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert job_of(studio, id_)["status"] == "succeeded"


def test_deleted_with_its_files(studio: Studio) -> None:
    """Job, rows and files are gone; what is asked for again is made again."""
    job = made(studio)
    url = f"{studio.url}{VSL}/{job['id']}"
    assert httpx.delete(url, headers=JSON).status_code == 204
    assert httpx.get(url, headers=JSON).status_code == 404
    assert studio.project.sql("select count(*) from public.vsl_steps") == [(0,)]
    assert studio.project.sql("select count(*) from public.assets where bucket_id = 'vsl_assets'") == [(0,)]
    assert studio.project.sql("select count(*) from storage.objects where bucket_id = 'vsl_assets'") == [(0,)]
    assert made(studio)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "product"),
        ({**BRIEF, "aspect": "4:3"}, "aspect"),
        ({**BRIEF, "wat": 1}, "wat"),
        ({**BRIEF, "webhook_url": "http://example.com"}, "webhook_url"),
        ({**BRIEF, "webhook_url": "https://127.0.0.1/x"}, "webhook_url"),
        ({**BRIEF, "music": "file:///etc/passwd"}, "music"),
    ],
)
def test_a_brief_that_does_not_fit(studio: Studio, body: dict[str, Any], path: str) -> None:
    """422 names the field."""
    answer = begin(studio, body)
    assert answer.status_code == 422
    assert [error["path"] for error in answer.json()["errors"]] == [path]


def test_without_a_project(serve: Serve, vendor: Vendor) -> None:
    """503 names the variables; the worker wants its secret."""
    url = serve(hosted_over(groq=vendor))
    answer = httpx.post(f"{url}{VSL}", json=BRIEF, headers=JSON)
    assert (answer.status_code, "SUPABASE_URL" in answer.json()["detail"]) == (503, True)
    assert httpx.get(f"{url}{VSL}/worker").status_code == 503

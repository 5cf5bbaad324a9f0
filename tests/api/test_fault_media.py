"""Pictures and speech while their vendors or the file store fail: rows 42, 45 and 48 of the matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.studio import DRAW, READ, Studio
from tests.api.test_money import settled, wait_until
from tests.fakes.elevenlabs import failure
from tests.fakes.fal import REQUEST_ID, picture
from tests.fakes.web import Told, told

KEY = "key-of"
CANARY = "canary-of-a-message"


def rows(studio: Studio) -> list[tuple[Any, ...]]:
    """What is kept: rows, and files."""
    return [
        *studio.project.sql("select path from public.assets"),
        *studio.project.sql("select name from storage.objects"),
    ]


def refused(studio: Studio, body: dict[str, Any]) -> dict[str, Any]:
    """A call of which nothing becomes: nothing is kept or held, and nothing of the vendor's words or keys is told."""
    answer = studio.post(body)
    assert answer.status_code >= 400, answer.text
    assert CANARY not in answer.text
    assert KEY not in answer.text
    assert rows(studio) == []
    assert settled(studio.project, 2)
    return answer.json()


FAL: list[tuple[str, Told, str, int, int]] = [
    ("submit", told({"detail": CANARY}, 401), "no_provider_available", 1, 0),
    ("submit", told({"detail": CANARY}, 402), "no_provider_available", 1, 0),
    ("submit", told({"detail": [{"msg": CANARY, "type": "x"}]}, 422), "request_rejected", 1, 0),
    ("submit", told({"detail": [{"msg": CANARY, "type": "content_policy_violation"}]}, 422), "content_refused", 1, 0),
    ("submit", told({"detail": CANARY}, 429, retry_after="60"), "no_provider_available", 1, 0),
    ("submit", Told(200, b'{"request_id": "lost"}', cut=5), "no_provider_available", 1, 3000),
    (
        "result",
        told({"detail": [{"msg": CANARY, "type": "content_policy_violation"}]}, 422),
        "content_refused",
        1,
        3000,
    ),
]


@pytest.mark.parametrize(
    ("step", "fault", "code", "submitted", "spent"),
    FAL,
    ids=["401", "402", "422", "policy", "429", "answer lost", "refused later"],
)
def test_fault_42_picture_fails(studio: Studio, step: Any, fault: Told, code: str, submitted: int, spent: int) -> None:
    """A picture that fails has a code; it is never submitted twice, and what fal may bill for it is booked."""
    studio.fal.faults = [(step, fault)]
    assert refused(studio, DRAW)["code"] == code
    assert studio.fal.count("submit") == submitted
    assert wait_until(lambda: len(studio.events()) == 1)
    assert (studio.events()[0][5], studio.events()[0][3] is not None) == (spent, spent > 0)


def test_fault_42_unsafe_picture(studio: Studio) -> None:
    """A picture that is flagged unsafe is refused content: never stored, though it is paid for."""
    studio.fal.unsafe = True
    assert refused(studio, DRAW)["code"] == "content_refused"
    assert studio.fal.count("file") == 0
    assert wait_until(lambda: [event[5] for event in studio.events()] == [3000])


@pytest.mark.parametrize(
    "data", [b"", b"<html>sorry</html>", picture()[:20], b"GIF89a"], ids=["0", "html", "cut", "gif"]
)
def test_fault_42_no_picture(studio: Studio, data: bytes) -> None:
    """What is no picture is not kept; the retry looks at what was submitted, and does not submit again."""
    studio.fal.pictures = [data]
    assert refused(studio, DRAW)["code"] == "no_provider_available"
    assert studio.fal.count("submit") == 1


def test_fault_42_server_errors_are_looked_past(studio: Studio) -> None:
    """5xx while looking costs a look: the request is still the same, and its picture arrives."""
    studio.fal.faults = [("status", Told(503)), ("result", Told(500)), ("file", Told(200, picture(), cut=10))]
    assert studio.made(DRAW)["assets"][0]["kind"] == "image"
    assert studio.fal.count("submit") == 1


def test_fault_42_looked_for_before_asked_again(studio: Studio) -> None:
    """Where a picture could not be fetched, the next call collects what was submitted then, and pays no second one."""
    studio.fal.pictures = [b""]
    refused(studio, DRAW)
    studio.fal.pictures = [picture()]
    assert studio.made(DRAW)["assets"][0]["cached"] is False
    assert studio.fal.count("submit") == 1
    assert studio.fal.asked[-1].path.startswith("/files/")
    assert any(asked.path.endswith(REQUEST_ID) for asked in studio.fal.asked)
    assert wait_until(lambda: sorted(event[5] for event in studio.events()) == [0, 0, 3000])


VOICE: list[tuple[Callable[[], Told], str, int]] = [
    (lambda: failure(401, "invalid_api_key"), "no_provider_available", 0),
    (lambda: failure(401, "quota_exceeded"), "no_provider_available", 0),
    (lambda: failure(422, "invalid"), "request_rejected", 0),
    (lambda: failure(404, "voice_not_found"), "request_rejected", 0),
    (lambda: failure(400, "content_against_policy"), "content_refused", 0),
    (lambda: failure(429, "too_many_concurrent_requests", retry_after="60"), "no_provider_available", 0),
]


@pytest.mark.parametrize(("fault", "code", "spent"), VOICE, ids=["401", "quota", "422", "voice", "policy", "429"])
def test_fault_42_speech_fails(studio: Studio, fault: Callable[[], Told], code: str, spent: int) -> None:
    """Speech that fails has a code, and costs nothing where the vendor said no."""
    studio.voice.script(fault())
    assert refused(studio, READ)["code"] == code
    assert len(studio.voice.asked) == 1
    assert wait_until(lambda: [event[5] for event in studio.events()] == [spent])


@pytest.mark.parametrize(
    "fault",
    [Told(200, b'{"audio_base64": "aaaa"}', cut=9), told({"audio_base64": "", "alignment": None}), told({}), Told(500)],
    ids=["cut", "no audio", "no answer", "5xx"],
)
def test_fault_42_speech_mended(studio: Studio, fault: Told) -> None:
    """An answer that is cut, empty or none is asked for once more; both calls are on record."""
    studio.voice.script(fault)
    assert studio.made(READ)["assets"][0]["kind"] == "audio"
    assert len(studio.voice.asked) == 2
    assert wait_until(lambda: len(studio.events()) == 2)


def test_fault_45_upload_fails(studio: Studio) -> None:
    """Where the file can't be stored there is no row either; what was paid is booked, and asking again works."""
    size = "update storage.buckets set file_size_limit = %s where id = 'generated'"
    studio.project.sql(size, 10)
    assert refused(studio, DRAW)["code"] == "data_unavailable"
    studio.project.sql(size, 50_000_000)
    (asset,) = studio.made(DRAW)["assets"]
    assert httpx.get(asset["url"]).content == picture()
    assert wait_until(lambda: sorted(event[5] for event in studio.events()) == [0, 3000])
    assert studio.fal.count("submit") == 1


def test_fault_45_row_fails(studio: Studio) -> None:
    """Where the row can't be written the file is taken away by the sweeper, once nobody can be at work on it."""
    studio.project.sql("alter table public.assets add constraint nothing check (bytes < 0) not valid")
    answer = studio.post(READ)
    assert (answer.status_code, answer.json()["code"]) == (503, "data_unavailable")
    assert (len(rows(studio)), studio.project.sql("select * from public.assets")) == (1, [])
    studio.project.sql("alter table storage.objects disable trigger update_objects_updated_at")
    studio.project.sql("update storage.objects set updated_at = now() - interval '1 day'")
    headers = {"authorization": "Bearer cron-secret-0123456789"}
    report = httpx.get(f"{studio.url}/api/health?run=1", headers=headers, timeout=60).json()
    assert report["tasks"]["leftover assets"]["ok"] is True
    assert rows(studio) == []


ELSEWHERE = [
    *("http://169.254.169.254/latest/meta-data", "https://127.0.0.1/x", "https://[::1]/x", "https://2130706433/x"),
    *("file:///etc/passwd", "https://fal.media.evil.example/x", "https://user@fal.media/x", "https://fal.media:8443/x"),
    *("http://fal.media/x", "ftp://fal.media/x", "//fal.media/x", "https://evil.example/fal.media", ""),
]


@pytest.mark.parametrize("link", ELSEWHERE)
def test_fault_48_picture_elsewhere(studio: Studio, link: str) -> None:
    """A result that names a place that is not fal's is not followed, wherever it leads."""
    canary = httpx.URL(studio.voice.url)
    studio.fal.links = [link.replace("127.0.0.1", f"127.0.0.1:{canary.port}")]
    assert refused(studio, DRAW)["code"] == "no_provider_available"
    assert (studio.fal.count("file"), studio.voice.asked) == (0, [])


def test_fault_48_redirected_picture(studio: Studio) -> None:
    """Nor is a redirect from fal's own host."""
    studio.fal.faults = [("file", Told(302, b"", {"location": f"{studio.voice.url}/x"}))] * 20
    assert refused(studio, DRAW)["code"] == "no_provider_available"
    assert studio.voice.asked == []

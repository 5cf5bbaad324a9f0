"""GET /api/voices: rows of the database, brought up to date from the vendor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.api.studio import Studio
from tests.conftest import KEY_HEADER, OPERATOR_KEY, Serve, hosted_over
from tests.fakes.elevenlabs import VOICE, failure
from tests.fakes.vendor import Vendor
from tests.fakes.web import told

OPERATOR = {"authorization": f"Bearer {OPERATOR_KEY}"}


def voices(studio: Studio, query: str = "") -> list[dict[str, Any]]:
    """What a caller is shown."""
    answer = httpx.get(f"{studio.url}/api/voices{query}", headers=KEY_HEADER, timeout=15)
    assert answer.status_code == 200, answer.text
    return answer.json()["voices"]


def refresh(studio: Studio) -> dict[str, Any]:
    """What an operator is told of reading them anew."""
    return httpx.post(f"{studio.url}/api/voices", headers=OPERATOR, timeout=15).json()["synced"]


def yesterday(studio: Studio) -> None:
    """As if all had been read two days ago."""
    studio.project.sql("update public.voices set synced_at = now() - interval '2 days'")


def test_read_from_the_vendor_once_a_day(studio: Studio) -> None:
    """The first who asks has them read, the others get rows; a day later they are read again."""
    rachel = {
        "provider": "elevenlabs",
        "id": "rachel",
        "name": "Rachel",
        "language": "en",
        "languages": ["en", "de"],
        "labels": {"accent": "american"},
        "preview_url": "https://storage.example/rachel.mp3",
    }
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(voices, [studio] * 4)) == [[rachel]] * 4
    asked = len(studio.voice.asked)
    assert voices(studio) == [rachel]
    assert len(studio.voice.asked) == asked
    yesterday(studio)
    voices(studio)
    assert len(studio.voice.asked) == asked + 1


def test_by_language(studio: Studio) -> None:
    """Who speaks it, and who does not say what they speak."""
    plain = {**VOICE, "voice_id": "plain", "name": "Plain", "verified_languages": None, "labels": {}}
    studio.voice.script(told({"voices": [VOICE, plain]}))
    assert [voice["id"] for voice in voices(studio, "?language=de")] == ["plain", "rachel"]
    assert [voice["id"] for voice in voices(studio, "?language=fr")] == ["plain"]


def test_what_is_gone_is_removed_and_what_is_silent_is_kept(studio: Studio) -> None:
    """A voice that the vendor lists no more goes; where the vendor fails, or lists nothing, all stay."""
    studio.voice.script(told({"voices": [{**VOICE, "voice_id": "old", "name": "Old"}]}))
    assert [voice["id"] for voice in voices(studio)] == ["old"]
    assert refresh(studio) == {"elevenlabs": 1}
    assert [voice["id"] for voice in voices(studio)] == ["rachel"]
    studio.voice.script(failure(401, "invalid_api_key"), told({"voices": []}))
    assert refresh(studio) == {"elevenlabs": "credentials_rejected"}
    assert refresh(studio) == {"elevenlabs": 0}
    assert [voice["id"] for voice in voices(studio)] == ["rachel"]


def test_cron_reads_them(studio: Studio) -> None:
    """The daily task says how many there are."""
    headers = {"authorization": "Bearer cron-secret-0123456789"}
    report = httpx.get(f"{studio.url}/api/health?run=1", headers=headers, timeout=60).json()
    assert report["tasks"]["voices"] == {"ok": True, "report": {"elevenlabs": 1}}
    assert studio.project.sql("select id, languages from public.voices") == [("rachel", ["en", "de"])]


def test_only_operators_ask_anew(studio: Studio) -> None:
    """Everyone else would have the vendor called at will."""
    refused = httpx.post(f"{studio.url}/api/voices", headers=KEY_HEADER)
    assert (refused.status_code, studio.voice.asked) == (403, [])


def test_without_a_project(serve: Serve, vendor: Vendor) -> None:
    """The answer names the variables."""
    answer = httpx.get(f"{serve(hosted_over(groq=vendor))}/api/voices", headers=KEY_HEADER)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")
    assert "SUPABASE_URL" in answer.text

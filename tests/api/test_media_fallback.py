"""Where a vendor of pictures or of speech fails, the next one serves: the whole path, over two hosted vendors each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from lib.app import App
from lib.providers.catalog import IMAGE_ROWS, SPEECH_ROWS
from lib.router import completion
from lib.settings import from_environ
from lib.telemetry import cost
from local.server import Site
from tests.api.conftest import over
from tests.api.studio import DRAW, READ
from tests.api.test_money import settled, wait_until
from tests.conftest import ACCESS, KEY_HEADER, ROOT, served_site
from tests.fakes.elevenlabs import FakeElevenLabs, failure
from tests.fakes.fal import FakeFal
from tests.fakes.loop import LoopThread
from tests.fakes.web import Told, told
from tests.local.supabase.conftest import Project

SECOND = {"fal": "fal-too", "elevenlabs": "elevenlabs-too"}


@dataclass
class Pairs:
    """The product over two vendors of each kind, the first of which fails as a test says."""

    url: str
    project: Project
    fals: tuple[FakeFal, FakeFal]
    voices: tuple[FakeElevenLabs, FakeElevenLabs]

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of an answer."""
        answer = httpx.post(f"{self.url}/api/generate", json=body, headers=KEY_HEADER, timeout=15)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self) -> list[tuple[Any, ...]]:
        """The calls on record: vendor, outcome and cost."""
        return self.project.sql(
            "select provider, outcome, cost_microusd from public.inference_events order by created_at, attempt"
        )


@pytest.fixture
def pairs(supabase: Project, loop: LoopThread, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pairs]:
    """See Pairs; the second vendors cost what the first ones do."""
    known = {second: first for first, second in SECOND.items()}
    real = cost._media_rate  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no argument has the prices

    def rate(unit: str, provider: str, model: str) -> Decimal | None:
        return real(unit, known.get(provider, provider), model)

    monkeypatch.setattr(cost, "_media_rate", rate)
    monkeypatch.setattr(completion, "RETRY_S", 0.02)
    images = (IMAGE_ROWS[0], replace(IMAGE_ROWS[0], name="fal-too", key_var="FAL2_KEY", base_url_var="FAL2_BASE_URL"))
    speech = (
        SPEECH_ROWS[0],
        replace(SPEECH_ROWS[0], name="elevenlabs-too", key_var="ELEVEN2_API_KEY", base_url_var="ELEVEN2_BASE_URL"),
    )
    fals, voices = (FakeFal(loop), FakeFal(loop)), (FakeElevenLabs(loop), FakeElevenLabs(loop))
    environ = {**ACCESS, **over(supabase)}
    for row, fake in zip((*images, *speech), (*fals, *voices), strict=True):
        environ[row.key_var or ""] = f"key-of-{row.name}-0123456789"
        environ[row.base_url_var] = fake.url
    settings = from_environ(environ, speech_rows=speech, image_rows=images)
    app = App(settings, speech_rows=speech, image_rows=images)
    with ExitStack() as running:
        for fake in (*fals, *voices):
            running.callback(fake.close)
        yield Pairs(running.enter_context(served_site(Site(ROOT, app), loop)), supabase, fals, voices)
    assert [fake.violations for fake in (*fals, *voices)] == [[], [], [], []]


@pytest.mark.parametrize("status", [401, 402, 429, 503])
def test_the_second_vendor_draws(pairs: Pairs, status: int) -> None:
    """The first is asked and says no; the second draws, is paid, and what it drew is found again without a call."""
    first, second = pairs.fals
    first.faults = [("submit", told({"detail": "no"}, status))] * 5
    (asset,) = pairs.post(DRAW)["assets"]
    assert (asset["kind"], asset["provider"], asset["cached"]) == ("image", "fal-too", False)
    assert (first.count("submit"), second.count("submit")) == (1, 1)
    assert wait_until(lambda: len(pairs.events()) == 2)
    assert [event[0] for event in pairs.events()] == ["fal", "fal-too"]
    assert [event[1] == "ok" for event in pairs.events()] == [False, True]
    assert [event[2] for event in pairs.events()] == [0, 3000]
    (again,) = pairs.post(DRAW)["assets"]
    assert (again["id"], again["cached"]) == (asset["id"], True)
    assert (first.count("submit"), second.count("submit")) == (1, 1)
    assert settled(pairs.project, 3)
    assert pairs.project.sql("select sum(spent_microusd) from public.usage_counters where scope = 'total'") == [(3000,)]


def test_what_the_first_may_have_drawn_is_on_record(pairs: Pairs) -> None:
    """Where the first vendor's answer to a submission is lost, it may be at work, and bill it: both are booked."""
    first, second = pairs.fals
    first.faults = [("submit", Told(200, b'{"request_id": "lost"}', cut=5))]
    pairs.post(DRAW)
    assert (first.count("submit"), second.count("submit")) == (1, 1)
    assert wait_until(lambda: [event[2] for event in pairs.events()] == [3000, 3000])


def test_the_second_vendor_reads(pairs: Pairs) -> None:
    """The same for speech."""
    first, second = pairs.voices
    first.script(failure(401, "quota_exceeded"))
    (asset,) = pairs.post(READ)["assets"]
    assert (asset["kind"], asset["provider"]) == ("audio", "elevenlabs-too")
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert wait_until(lambda: len(pairs.events()) == 2)
    refused, read = pairs.events()
    assert (refused[0], refused[2], read[0], read[1]) == ("elevenlabs", 0, "elevenlabs-too", "ok")
    assert read[2] > 0
    assert pairs.post(READ)["assets"][0]["cached"] is True
    assert (len(first.asked), len(second.asked)) == (1, 1)

"""The product over fakes of a vendor of text, of pictures and of speech, and a real project."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import KEY_HEADER
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.fal import FakeFal
from tests.fakes.vendor import Vendor
from tests.local.supabase.conftest import Project

ALL = {"prompt": "A lighthouse.", "outputs": ["text", "image", "speech"], "stream": False}
DRAW = {"outputs": ["image"], "image": {"prompt": "A lighthouse"}, "stream": False}
READ = {"outputs": ["speech"], "speech": {"text": "Good evening."}, "stream": False}


@dataclass
class Studio:
    """The product over fakes of all three vendors and a real project."""

    url: str
    project: Project
    text: Vendor
    fal: FakeFal
    voice: FakeElevenLabs

    def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        """One answer for the holder of a key."""
        return httpx.post(f"{self.url}/api/generate", json=body, headers={**KEY_HEADER, **headers}, timeout=15)

    def made(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON of an answer that is given."""
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def chunks(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The events of a UI message stream."""
        answer = self.post({**body, "stream": True}, accept="*/*")
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        return [json.loads(line) for line in lines]

    def events(self) -> list[tuple[Any, ...]]:
        """The calls on record."""
        query = "select modality, provider, outcome, units, unit, cost_microusd from public.inference_events order by 1"
        return self.project.sql(query)

"""ElevenLabs at the network's edge: what it answers, by its published description (tests/specs/)."""

from __future__ import annotations

import json
from base64 import b64encode
from itertools import accumulate
from typing import Any

import numpy as np

from local.audio import Encoder
from tests.fakes.loop import LoopThread
from tests.fakes.openapi import violations
from tests.fakes.web import Asked, Told, Web, told

SPEC = "elevenlabs-tts.openapi.json"
SPEECH = "/v1/text-to-speech/{voice_id}"
VOICE = {
    "voice_id": "rachel",
    "name": "Rachel",
    "category": "premade",
    "labels": {"accent": "american"},
    "available_for_tiers": [],
    "high_quality_base_model_ids": [],
    "preview_url": "https://storage.example/rachel.mp3",
    "verified_languages": [{"language": "en", "model_id": "m"}, {"language": "de", "model_id": "m"}],
}


def audio(audio_format: str = "mp3_44100_128") -> bytes:
    """Half a second of a tone."""
    tone = 0.3 * np.sin(np.arange(11_025) * 2 * np.pi * 440 / 22_050)
    return Encoder(audio_format, 22_050).feed(tone.astype(np.float32), last=True)


def alignment(text: str, begin: float = 0.0) -> dict[str, Any]:
    """A tenth of a second for each character."""
    edges = list(accumulate([0.1] * len(text), initial=begin))
    return {
        "characters": list(text),
        "character_start_times_seconds": edges[:-1],
        "character_end_times_seconds": edges[1:],
    }


def timed(text: str, sound: bytes, begin: float = 0.0) -> dict[str, Any]:
    """Audio and times."""
    return {
        "audio_base64": b64encode(sound).decode(),
        "alignment": alignment(text, begin),
        "normalized_alignment": None,
    }


def lines(*pieces: dict[str, Any], cut: int | None = None) -> Told:
    """A stream with times."""
    body = b"".join(json.dumps(piece).encode() + b"\n" for piece in pieces)
    return Told(200, body, {"content-type": "application/json"}, cut=cut)


def failure(status: int, code: str, **headers: str) -> Told:
    """An error in the shape that ElevenLabs gives it."""
    return told({"detail": {"status": code, "message": "canary-of-a-message"}}, status, **headers)


class FakeElevenLabs(Web):
    """The service; bodies that don't fit the description are collected in `violations`."""

    def __init__(self, loop: LoopThread) -> None:
        super().__init__(loop, self._answer)
        self.violations: list[str] = []

    def _answer(self, asked: Asked) -> Told:
        if asked.path == "/v1/voices":
            return told({"voices": [VOICE]})
        if asked.path == "/v1/audio-isolation":
            return Told(200, audio(), {"content-type": "audio/mpeg"})
        parts = asked.path.split("/")
        self.violations += violations("/".join([SPEECH, *parts[4:]]), asked.json(), SPEC)
        text = asked.json()["text"]
        audio_format = asked.query["output_format"][0]
        if parts[4:] == ["with-timestamps"]:
            return told(timed(text, audio(audio_format)))
        assert parts[4:] == ["stream", "with-timestamps"]
        half = len(text) // 2
        sound = audio(audio_format)
        return lines(timed(text[:half], sound[:999]), timed(text[half:], sound[999:], half / 10))

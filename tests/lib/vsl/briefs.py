"""Requests for tests of the script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.vsl.brief import Brief, read_brief

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "lib" / "vsl" / "honesty"
EXAMPLES = sorted((ROOT / "examples" / "vsl").glob("*.json"))
LAMP: dict[str, Any] = {
    "product": "Brasa solar lantern",
    "audience": "people who camp far from a socket",
    "offer": "Two lanterns for $59, shipping included",
    "guarantee": "Send it back within 30 days and we refund you",
    "cta": {"text": "Order your Brasa", "url": "https://www.brasa.example/order"},
    "facts": [
        {"id": "light", "text": "Burns 40 hours on one charge"},
        {"id": "weight", "text": "Weighs 310 grams"},
        {"id": "sun", "text": "Charges in 6 hours of sun"},
        {"id": "origin", "text": "Designed in Porto by Ana Reis"},
    ],
}


@dataclass(frozen=True)
class Parameters:
    """The runtime parameters, as far as a brief asks for them."""

    voice_id: str | None = None
    voice_model: str | None = None
    voice_speed: float | None = None
    img_style: str | None = None
    img_model: str | None = None


def brief(**fields: Any) -> Brief:
    """The lantern's, with other fields; None takes one away."""
    told = {**LAMP, **fields}
    return read_brief({name: value for name, value in told.items() if value is not None})


def job_request(**fields: Any) -> dict[str, Any]:
    """What a job is made of."""
    return brief(**fields).request(Parameters())


@dataclass(frozen=True)
class Sentence:
    """One of the corpus: whether it lies about its product, and how."""

    text: str
    lie: str | None
    language: str
    brief: dict[str, Any]


def corpus() -> list[Sentence]:
    """All sentences, each with the brief that it is held against."""
    found: list[Sentence] = []
    for file in sorted(CORPUS.glob("*.jsonl")):
        first, *rows = map(json.loads, file.read_text().splitlines())
        told: dict[str, Any] = first["brief"]
        found += [Sentence(row["text"], row["lie"], told["language"], told) for row in rows]
    return found

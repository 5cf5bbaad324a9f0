"""What speech and pictures cost: every model we offer has a price, and unknown is never zero."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from lib.providers.catalog import IMAGE_ROWS, SPEECH_ROWS
from lib.telemetry.cost import image_price, isolation_price, speech_price

PRICES = json.loads((Path(__file__).parents[3] / "lib/telemetry/prices.json").read_text())["media"]
ROWS = [(unit, *each) for unit in ("characters", "audio_minutes", "megapixels") for each in PRICES[unit].items()]


@pytest.mark.parametrize(("provider", "model"), [(row.name, each.id) for row in SPEECH_ROWS for each in row.models])
def test_every_voice_has_a_price(provider: str, model: str) -> None:
    """Hosted models cost something for each character, the embedded one nothing."""
    price = speech_price(provider, model, 500)
    assert price is not None
    assert (price > 0) is (provider != "local")
    assert speech_price(provider, model, 1_000) == price * 2
    assert speech_price(provider, model, 0) == 0


@pytest.mark.parametrize(("provider", "model"), [(row.name, each.id) for row in IMAGE_ROWS for each in row.models])
def test_every_picture_has_a_price(provider: str, model: str) -> None:
    """Hosted models cost something for each megapixel begun, the embedded one nothing."""
    price = image_price(provider, model, [(1_024, 1_024)])
    assert price is not None
    assert (price > 0) is (provider != "local")
    assert image_price(provider, model, [(512, 512)]) == price
    assert image_price(provider, model, [(1_024, 1_025)]) == price * 2
    assert image_price(provider, model, [(1_024, 1_024), (1_920, 1_080)]) == price * 3
    assert image_price(provider, model, []) == 0


def test_figures() -> None:
    """The vendors' own: dollars for a thousand characters, a minute, a megapixel."""
    assert speech_price("elevenlabs", "eleven_flash_v2_5", 1_000) == Decimal("0.05")
    assert speech_price("elevenlabs", "eleven_v3", 1_000) == Decimal("0.1")
    assert isolation_price("elevenlabs", 30) == Decimal("0.06")
    assert image_price("fal", "fal-ai/flux/schnell", [(1_024, 576)]) == Decimal("0.003")


def test_unknown() -> None:
    """No price is None, never zero."""
    assert speech_price("elevenlabs", "eleven_v9", 10) is None
    assert speech_price("nobody", "x", 10) is None
    assert isolation_price("nobody", 10) is None
    assert image_price("fal", "fal-ai/unheard-of", [(1, 1)]) is None


@pytest.mark.parametrize(("unit", "provider", "rows"), ROWS)
def test_each_price_has_a_date_and_a_source(unit: str, provider: str, rows: dict[str, dict[str, str]]) -> None:
    """So that it can be checked."""
    for model, row in rows.items():
        assert date.fromisoformat(row["as_of"]) <= date(2026, 11, 22), (unit, provider, model)
        assert row["source"]

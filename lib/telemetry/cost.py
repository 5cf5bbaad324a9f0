"""What calls cost: tokens by genai-prices where it keeps the vendor, all else by our dated prices.json, or unknown."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, cast

from lib.providers.base import Units, Usage

GENAI_PRICES_ID = {"groq": "groq", "xai": "x-ai"}
"""Our names of the vendors that genai-prices keeps, and its names for them."""

FLAT = {"input_mtok", "cache_read_mtok", "output_mtok"}
"""What genai-prices calls the rates of text, where there are no others."""

log = logging.getLogger("costs")
MEGAPIXEL = 1_048_576
_MILLION = Decimal(1_000_000)
_LISTED = {"characters": ("characters", 1000), "megapixels": ("megapixels", 1), "seconds": ("audio_minutes", 60)}
"""What prices.json calls the units, and of how many its prices are."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars per million tokens: the same for every token, at any time."""

    input: Decimal
    cached: Decimal
    output: Decimal

    def price(self, usage: Usage) -> Decimal:
        """The price of `usage`."""
        fresh = usage.input_tokens - usage.cached_tokens
        return (self.input * fresh + self.cached * usage.cached_tokens + self.output * usage.output_tokens) / _MILLION


class Costs:
    """Prices a call. genai-prices (2 MB of data) is imported once, in a thread: see `warm`."""

    def __init__(self) -> None:
        self._loading: asyncio.Future[Any] | None = None
        self._rates: dict[tuple[str, str], Rates] = {}

    def warm(self, provider: str) -> None:
        """Begin to load what a price of this provider needs, without waiting for it."""
        if provider in GENAI_PRICES_ID:
            self._load()

    async def usd(self, provider: str, model: str, usage: Usage) -> Decimal | None:
        """The price of `usage` in US dollars, or None where it is unknown: unknown is never zero."""
        if usage == Usage(0, 0):
            return Decimal(0)
        if provider not in GENAI_PRICES_ID:
            return own_price(provider, model, usage)
        rates = self._rates.get((provider, model))
        if rates is not None and usage.cached_tokens <= usage.input_tokens:
            return rates.price(usage)
        try:
            genai_prices = await asyncio.shield(self._load())
        except Exception:  # noqa: BLE001 - an answer is not lost for want of its price
            log.warning("genai_prices can't be loaded: costs are unknown")
            return None
        price = _kept_price(genai_prices, GENAI_PRICES_ID[provider], model, usage)
        if price is None:
            return None
        if (rates := flat_rates(price)) is not None:
            self._rates[provider, model] = rates
        return price.total_price

    async def saved_usd(self, provider: str, model: str, usage: Usage) -> Decimal | None:
        """What `usage` would have cost more without its cached tokens, or None where their price is unknown."""
        if not usage.cached_tokens:
            return Decimal(0)
        cost = await self.usd(provider, model, usage)
        uncached = await self.usd(provider, model, replace(usage, cached_tokens=0))
        if cost is None or uncached is None or (cost == uncached > 0):
            return None  # no difference: the list has no price for cached tokens, not one that saves nothing
        return uncached - cost

    def _load(self) -> asyncio.Future[Any]:
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.ensure_future(asyncio.to_thread(_load_prices))
        return self._loading


def _load_prices() -> Any:
    """Import genai-prices and, by pricing something, its data and what else it would only then import."""
    genai_prices = importlib.import_module("genai_prices")
    _kept_price(genai_prices, "groq", "openai/gpt-oss-20b", Usage(1, 1))
    return genai_prices


def own_price(provider: str, model: str, usage: Usage) -> Decimal | None:
    """Price by prices.json (per million tokens, cached input at the input price), or None where it has no row."""
    price = _own_prices().get(provider, {}).get(model)
    if price is None:
        return None
    return (price["input"] * usage.input_tokens + price["output"] * usage.output_tokens) / _MILLION


def worst_case_usd(provider: str, model: str, usage: Usage) -> Decimal:
    """The most that `usage` can cost, at once and without genai-prices: for money that is held before it is spent.

    By prices.json: its own price, else its ceiling (the dearest tier that genai-prices knows); a model that neither
    knows counts as a dear one.
    """
    own = own_price(provider, model, usage)
    if own is not None:
        return own
    ceilings = _ceilings()
    price = ceilings.get(provider, {}).get(model) or ceilings[""][""]
    return (price["input"] * usage.input_tokens + price["output"] * usage.output_tokens) / _MILLION


def speech_price(provider: str, model: str, characters: int) -> Decimal | None:
    """What reading so many characters costs, white space included, or None where it is unknown."""
    rate = _media_rate("characters", provider, model)
    return None if rate is None else rate * characters / 1000


def isolation_price(provider: str, seconds: float) -> Decimal | None:
    """What taking the noise out of so many seconds of audio costs, or None where it is unknown."""
    rate = _media_rate("audio_minutes", provider, "audio_isolation")
    return None if rate is None else rate * Decimal(str(seconds)) / 60


def image_price(provider: str, model: str, sizes: Iterable[tuple[int, int]]) -> Decimal | None:
    """What pictures of these widths and heights cost, or None where it is unknown.

    fal bills megapixels begun, of each picture; it quotes 1024 x 1024 as one, so that one has 2^20 pixels here.
    """
    rate = _media_rate("megapixels", provider, model)
    return None if rate is None else rate * billed_megapixels(sizes)


def billed_megapixels(sizes: Iterable[tuple[int, int]]) -> int:
    """The megapixels begun of pictures of these widths and heights: see image_price."""
    return sum(-(-width * height // MEGAPIXEL) for width, height in sizes)


def units_price(provider: str, model: str, units: Units) -> Decimal | None:
    """What so many units cost, or None where it is unknown."""
    listed, per = _LISTED[units.unit]
    rate = _media_rate(listed, provider, model)
    return None if rate is None else rate * Decimal(str(units.amount)) / per


def worst_units_usd(provider: str, model: str, units: Units) -> Decimal:
    """The most that so many units can cost: a model without a price counts as the dearest of its kind."""
    known = units_price(provider, model, units)
    if known is not None:
        return known
    listed, per = _LISTED[units.unit]
    rows = _prices()["media"][listed].values()
    dearest = max(Decimal(row["usd"]) for models in rows for row in models.values())
    return dearest * Decimal(str(units.amount)) / per


def flat_rates(price: Any) -> Rates | None:
    """The rates of a genai-prices calculation, or None where they differ with the prompt's length or the time of day.

    It takes twenty times as long to calculate as three products do.
    """
    rates = cast("dict[str, Any]", vars(price.model_price))
    told = {name: rate for name, rate in rates.items() if rate is not None}
    is_always_so = price.model.prices is price.model_price and all(isinstance(rate, Decimal) for rate in told.values())
    if not is_always_so or not {"input_mtok", "output_mtok"} <= told.keys() <= FLAT:
        return None
    return Rates(told["input_mtok"], told.get("cache_read_mtok", told["input_mtok"]), told["output_mtok"])


def _kept_price(genai_prices: Any, provider: str, model: str, usage: Usage) -> Any:
    """genai-prices' calculation, or None where it knows no price or the counts contradict one another."""
    try:
        return genai_prices.calc_price(
            genai_prices.Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cached_tokens,
            ),
            model,
            provider_id=provider,
        )
    except (LookupError, ValueError):
        return None


def _media_rate(unit: str, provider: str, model: str) -> Decimal | None:
    row = _prices()["media"][unit].get(provider, {}).get(model)
    return None if row is None else Decimal(row["usd"])


_Prices = dict[str, dict[str, dict[str, Decimal]]]
"""By provider and model: `input` and `output`."""


@cache
def _own_prices() -> _Prices:
    return _as_decimals(_prices()["models"])


@cache
def _ceilings() -> _Prices:
    return _as_decimals(_prices()["ceilings"])


@cache
def _prices() -> Any:
    return json.loads((Path(__file__).parent / "prices.json").read_text(), parse_float=Decimal)


def _as_decimals(rows: dict[str, dict[str, dict[str, Any]]]) -> _Prices:
    return {
        provider: {model: {side: Decimal(row[side]) for side in ("input", "output")} for model, row in models.items()}
        for provider, models in rows.items()
    }

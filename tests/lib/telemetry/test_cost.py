"""What tokens cost: every model we offer has a price, and unknown is never zero."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import genai_prices
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.providers.base import Usage
from lib.providers.catalog import EMBEDDING_ROWS, ROWS
from lib.telemetry.cost import GENAI_PRICES_ID, Costs, flat_rates, own_price, worst_case_usd

ROOT = Path(__file__).parents[3]
PRICES = json.loads((ROOT / "lib/telemetry/prices.json").read_text())
OWN = [(provider, model) for provider, models in PRICES["models"].items() for model in models]
OFFERED = [(row.name, model.id) for row in (*ROWS, *EMBEDDING_ROWS) for model in row.models]


def usd(provider: str, model: str, *usages: Usage) -> list[Decimal | None]:
    """The prices of these usages."""

    async def price() -> list[Decimal | None]:
        costs = Costs()
        return [await costs.usd(provider, model, usage) for usage in usages]

    return asyncio.run(price())


@pytest.mark.parametrize(("provider", "model"), OFFERED)
def test_every_model_has_a_price(provider: str, model: str) -> None:
    """What is in the catalogue can be priced: hosted models cost something, the embedded one nothing."""
    price, double, free = usd(provider, model, Usage(1_000_000, 1_000_000), Usage(2_000_000, 2_000_000), Usage(0, 0))
    assert price is not None
    assert (price > 0) is (provider != "local")
    assert double is not None
    assert double >= price  # not twice: long prompts may have a price of their own
    assert free == 0


@settings(max_examples=15)
@pytest.mark.parametrize(("provider", "model"), OFFERED)
@given(st.builds(Usage, *[st.integers(0, 10**7)] * 4))
def test_any_usage(provider: str, model: str, usage: Usage) -> None:
    """Whatever was counted, also where the counts contradict one another, the price is a sum or unknown."""
    (price,) = usd(provider, model, usage)
    assert price is None or (price.is_finite() and price >= 0)


@settings(max_examples=30)
@pytest.mark.parametrize(("provider", "model"), [offer for offer in OFFERED if offer[0] in GENAI_PRICES_ID])
@given(st.builds(Usage, *[st.integers(0, 10**7)] * 2, st.integers(0, 10**6)))
def test_shortcut(provider: str, model: str, usage: Usage) -> None:
    """The second price of a model, which may take the shortcut, is what genai-prices would say, to the last digit."""
    first, again = usd(provider, model, Usage(1, 1), usage)
    (calculated,) = usd(provider, model, usage)
    assert first is not None
    assert again == calculated


def test_no_shortcut_where_rates_differ() -> None:
    """A rate that depends on the prompt's length or on the day is never taken for one that does not."""
    known = {
        (provider, model): flat_rates(
            genai_prices.calc_price(genai_prices.Usage(input_tokens=1, output_tokens=1), model, provider_id=provider)
        )
        for provider, model in [("groq", "openai/gpt-oss-20b"), ("x-ai", "grok-4.7"), ("x-ai", "grok-4.20")]
    }
    assert [rates is not None for rates in known.values()] == [True, False, False]


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("nobody", "openai/gpt-oss-120b"),
        ("", ""),
        ("groq", "no-such-model"),
        ("xai", "no-such-model"),
        ("xai", ""),
        ("deepinfra", "no-such-model"),
        ("deepinfra", "openai/gpt-oss-20b"),
        ("local", "openai/gpt-oss-20b"),
        ("acme", "acme-1"),
    ],
)
def test_unknown_is_not_zero(provider: str, model: str) -> None:
    """A provider or model without a price has an unknown cost, unless there was nothing to pay for."""
    assert usd(provider, model, Usage(7, 3), Usage(7, 0), Usage(0, 3)) == [None, None, None]
    assert usd(provider, model, Usage(0, 0)) == [0]


def test_cached_tokens_are_cheaper() -> None:
    """Where a vendor gives a discount for tokens that it had cached, it is taken into account."""
    fresh, half, cached = usd("groq", "openai/gpt-oss-20b", *(Usage(1000, 0, number) for number in (0, 500, 1000)))
    assert fresh is not None
    assert half is not None
    assert cached is not None
    assert 0 < cached < half < fresh


@pytest.mark.parametrize(("provider", "model"), OFFERED)
def test_what_cached_tokens_save(provider: str, model: str) -> None:
    """It is the difference to the price without them, where their price is known; none cached have saved nothing."""

    async def saved(usage: Usage) -> Decimal | None:
        return await Costs().saved_usd(provider, model, usage)

    cached, fresh = Usage(10_000, 10, 8_000), Usage(10_000, 10)
    less, full = usd(provider, model, cached, fresh)
    got = asyncio.run(saved(cached))
    assert less is not None
    assert full is not None
    assert got == (None if less == full > 0 else full - less)
    assert (got is None) is (provider == "deepinfra" or model == "qwen/qwen3.8-27b")
    assert asyncio.run(saved(fresh)) == 0


def test_what_is_saved_at_an_unknown_price() -> None:
    """Nothing is known of what a model's cached tokens save where the model has no price."""
    costs = Costs()
    assert asyncio.run(costs.saved_usd("groq", "no-such-model", Usage(7, 3, 5))) is None
    assert asyncio.run(costs.saved_usd("groq", "no-such-model", Usage(7, 3))) == 0


def test_own_price() -> None:
    """Our own prices are per million tokens of each side, exact to the last digit."""
    assert own_price("deepinfra", "openai/gpt-oss-120b", Usage(1_000_000, 0)) == Decimal("0.039")
    assert own_price("deepinfra", "openai/gpt-oss-120b", Usage(0, 1_000_000)) == Decimal("0.17")
    assert own_price("deepinfra", "openai/gpt-oss-120b", Usage(1, 1)) == Decimal("0.000000209")


@pytest.mark.parametrize(("provider", "model"), OWN)
def test_own_prices_are_well_formed(provider: str, model: str) -> None:
    """Each price is a number of dollars, with its date and source; and is needed: the catalogue offers the model."""
    row = PRICES["models"][provider][model]
    assert set(row) == {"input", "output", "as_of", "source"}
    assert all(0 <= Decimal(str(row[side])) < 1000 for side in ("input", "output"))
    assert date.fromisoformat(row["as_of"]) <= date.fromisoformat(PRICES["as_of"])
    assert row["source"].strip()
    assert (provider, model) in OFFERED
    assert provider not in GENAI_PRICES_ID


def test_prices_say_their_unit() -> None:
    """The file says what its numbers mean."""
    assert PRICES["unit"] == "USD per million tokens"


def test_prices_are_loaded_once_for_all() -> None:
    """Calls that end together wait for one import, and a head start changes nothing."""

    async def price() -> list[Decimal | None]:
        costs = Costs()
        costs.warm("groq")
        costs.warm("nobody")
        return await asyncio.gather(*(costs.usd("groq", "openai/gpt-oss-20b", Usage(1000, 1000)) for _ in range(50)))

    assert len(set(asyncio.run(price()))) == 1


WATCHED = """
import asyncio, sys, threading
from lib.providers.base import Usage
from lib.telemetry.cost import Costs

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("genai_prices"):
            print(name, threading.current_thread() is threading.main_thread())

async def price():
    assert await Costs().usd("groq", "openai/gpt-oss-20b", Usage(1, 1)) is not None

sys.meta_path.insert(0, Watch())
asyncio.run(price())
"""


def test_prices_are_loaded_in_a_thread() -> None:
    """Neither the package nor its two megabytes of data are imported on the event loop's thread."""
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = dict(line.split() for line in done.stdout.splitlines())
    assert {"genai_prices", "genai_prices.data"} <= set(loaded)
    assert [name for name, on_the_loop in loaded.items() if on_the_loop == "True"] == []


@pytest.mark.parametrize(("provider", "model"), OFFERED)
@given(st.integers(0, 2 * 10**6), st.integers(0, 10**6))
def test_worst_case(provider: str, model: str, read: int, written: int) -> None:
    """What is held before a call is never less than what it then costs."""
    usage = Usage(read, written)
    (price,) = usd(provider, model, usage)
    assert price is not None
    assert worst_case_usd(provider, model, usage) >= price


def test_worst_case_of_the_unknown() -> None:
    """A model that nobody knows is held for like a dear one."""
    assert worst_case_usd("xai", "grok-99", Usage(10**6, 10**6)) == 20

"""Asks vendors for their list of models: whether they take our key, still offer our models, and at our prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import orjson

from lib.errors import ServiceFailed
from lib.exchange import Exchange
from lib.providers.catalog import Row
from lib.settings import VendorAccess

TIMEOUT_S = 8.0
MAX_BYTES = 4 * 1024 * 1024
PREFIX = {"openai": "", "groq": "/openai/v1"}
"""What each SDK puts between its base URL and a path."""
OK, REJECTED = 200, {401, 403}
XAI_PER_USD = 10_000
"""xAI tells prices in hundredths of a cent per million tokens."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a vendor's list says. `code` is why there is none; None where there is one.

    `prices`: dollars per million tokens by model and side (`input`, `output`), where the vendor tells them.
    """

    code: str | None = None
    models: frozenset[str] = frozenset()
    prices: Mapping[tuple[str, str], Decimal] = field(default_factory=dict[tuple[str, str], Decimal])


async def listed(exchange: Exchange, row: Row, access: VendorAccess) -> Listed:
    """The vendor's list. Never raises."""
    url = f"{access.base_url}{PREFIX[row.sdk]}{row.models_path}"
    headers = {"authorization": f"Bearer {access.api_key or 'none'}", "accept": "application/json"}
    try:
        reply = await exchange("GET", url, headers, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES)
        body: Any = orjson.loads(reply.body) if reply.status == OK else {}
    except ServiceFailed as error:
        return Listed(error.code)
    except orjson.JSONDecodeError:
        return Listed("unreadable")
    if reply.status != OK:
        return Listed("credentials_rejected" if reply.status in REJECTED else f"http_{reply.status}")
    return read_list(body)


def read_list(body: object) -> Listed:
    """OpenAI's list of models, with the prices that DeepInfra (`metadata`) and xAI (`language-models`) put there."""
    told = _object(body)
    entries = told.get("data", told.get("models"))
    if not isinstance(entries, list):
        return Listed("unreadable")
    models: set[str] = set()
    prices: dict[tuple[str, str], Decimal] = {}
    for each in cast("list[Any]", entries):
        entry = _object(each)
        if not isinstance(entry.get("id"), str):
            continue
        aliases = entry.get("aliases")
        names = [entry["id"], *(cast("list[Any]", aliases) if isinstance(aliases, list) else [])]
        models.update(name for name in names if isinstance(name, str))
        for side, price in _prices(entry):
            prices.update({(name, side): price for name in names if isinstance(name, str)})
    return Listed(models=frozenset(models), prices=prices)


def _object(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _prices(entry: Mapping[str, Any]) -> list[tuple[str, Decimal]]:
    told = _object(_object(entry.get("metadata")).get("pricing"))
    found = [("input", told.get("input_tokens"), 1), ("output", told.get("output_tokens"), 1)]
    found += [
        ("input", entry.get("prompt_text_token_price"), XAI_PER_USD),
        ("output", entry.get("completion_text_token_price"), XAI_PER_USD),
    ]
    prices: list[tuple[str, Decimal]] = []
    for side, value, per in found:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                prices.append((side, Decimal(str(value)) / per))
            except InvalidOperation:
                continue
    return prices

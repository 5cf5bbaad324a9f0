"""Vercel's Edge Config (now also named Global Config): what is decided without a redeploy, in one read for all of it.

The protocol is that of Vercel's own client, npm's @vercel/edge-config: `GET {store}/items?version=1` with a bearer
token and If-None-Match; 304 means unchanged, 404 without `x-edge-config-digest` that there is no such store. Writing
goes through Vercel's REST API.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeAlias, cast

import orjson

from lib.control.kept import BUDGET_S, TIMEOUT_S, Kept
from lib.errors import ServiceFailed
from lib.exchange import Exchange, Reply
from lib.settings import StoreAccess

Items: TypeAlias = Mapping[str, object]
SDK = "ai-integration-blueprint"
WRITE_TIMEOUT_S = 10.0
DIGEST = "x-edge-config-digest"
OK, UNCHANGED, UNAUTHORIZED, MISSING, TOO_MANY = 200, 304, 401, 404, 429
NONE: Items = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All items at one moment. `version` changes with any of them; `error` is why they could not be read anew."""

    items: Items
    version: str | None = None
    age_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    items: Items
    version: str
    etag: str | None


class EdgeConfig:
    """The items of one or several stores, kept by the process."""

    def __init__(
        self,
        stores: Sequence[StoreAccess],
        exchange: Exchange,
        *,
        freshness_s: float,
        budget_s: float = BUDGET_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Where two stores hold an item of the same name, the first one's counts."""
        self._exchange = exchange
        self._kept = [
            Kept(
                "Edge Config",
                partial(self._read, store),
                freshness_s=freshness_s,
                budget_s=budget_s,
                clock=clock,
            )
            for store in stores
        ]
        self._merged: tuple[list[_Read | None], Items] = ([], NONE)

    async def snapshot(self) -> Snapshot:
        """What to answer a request by. Never raises; waits `budget_s` at most, and only for what is stale."""
        if not self._kept:
            return Snapshot(NONE)
        stale = [kept for kept in self._kept if kept.is_stale]
        if stale:
            await self._exchange.ready()
            await asyncio.gather(*(kept.current() for kept in stale))
        reads = [kept.value for kept in self._kept]
        ages = [kept.age_s for kept in self._kept if kept.age_s is not None]
        return Snapshot(
            items=self._items(reads),
            version="+".join(read.version for read in reads if read) or None,
            age_s=max(ages, default=None),
            error=next((kept.error for kept in self._kept if kept.error), None),
        )

    async def renew(self) -> None:
        """After an answer: read again what will soon be too old."""
        await asyncio.gather(*(kept.renew() for kept in self._kept))

    def _items(self, reads: list[_Read | None]) -> Items:
        if reads != self._merged[0]:
            merged: dict[str, object] = {}
            for read in reversed(reads):
                merged |= read.items if read else NONE
            self._merged = (reads, MappingProxyType(merged))
        return self._merged[1]

    async def _read(self, store: StoreAccess, held: _Read | None) -> _Read:
        headers = {
            "authorization": f"Bearer {store.token}",
            "x-edge-config-sdk": SDK,
            "cache-control": "stale-if-error=604800",
        }
        if held is not None and held.etag is not None:
            headers["if-none-match"] = held.etag
        reply = await self._exchange("GET", f"{store.url}/items?version=1", headers, timeout_s=TIMEOUT_S)
        if reply.status == UNCHANGED and held is not None:
            return held
        if reply.status == MISSING and DIGEST in reply.headers:
            return _Read(NONE, reply.headers[DIGEST], None)
        if reply.status != OK:
            raise ServiceFailed(_refusal(reply.status))
        return _parsed(reply)


def _parsed(reply: Reply) -> _Read:
    try:
        items = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        raise ServiceFailed("invalid_json") from error
    if not isinstance(items, dict):
        raise ServiceFailed("not_an_object")
    etag = reply.headers.get("etag")
    version = reply.headers.get(DIGEST) or hashlib.sha256(reply.body).hexdigest()
    return _Read(MappingProxyType(cast("dict[str, object]", items)), version, etag)


def _refusal(status: int) -> str:
    known = {UNAUTHORIZED: "unauthorized", MISSING: "store_missing", TOO_MANY: "rate_limited"}
    return known.get(status, f"http_{status}")


def item_of(items: Items, mark: Literal["feature_gates", "commitId"], key: str | None) -> Mapping[str, object] | None:
    """The item that Statsig (`feature_gates`) or Hypertune (`commitId`) keeps in the store, known by its shape.

    Both integrations name theirs in EXPERIMENTATION_CONFIG_ITEM_KEY, so `key` is looked at first, then all others.
    An item may be an object or the same as a string of JSON.
    """
    named = named_item(items, mark, key)
    return None if named is None else named[1]


def named_item(items: Items, mark: str, key: str | None) -> tuple[str, Mapping[str, object]] | None:
    """The same with its name."""
    for name in sorted(items, key=lambda name: (name != key, name)):
        value = items[name]
        if isinstance(value, str) and mark in value:
            value = unpacked(value)
        if isinstance(value, Mapping) and mark in value:
            return name, cast("Mapping[str, object]", value)
    return None


def unpacked(text: str | bytes) -> object:
    """The JSON value; None where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


class Writer:
    """Changes a store through Vercel's REST API: PATCH /v1/edge-config/{id}/items. A Hobby plan has 100 in a month."""

    def __init__(
        self, exchange: Exchange, *, api_url: str, store_id: str, token: str, team_id: str | None = None
    ) -> None:
        self._exchange = exchange
        self._url = f"{api_url}/v1/edge-config/{store_id}"
        self._query = f"?teamId={team_id}" if team_id else ""
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    async def items(self) -> Items:
        """All items as they stand, which readers may not see yet. Raises ServiceFailed."""
        found = unpacked((await self._call("GET", "items")).body)
        entries = cast("list[object]", found) if isinstance(found, list) else [None]
        if not all(isinstance(entry, dict) and "key" in entry for entry in entries):
            raise ServiceFailed("invalid_json")
        return {str(entry["key"]): entry.get("value") for entry in cast("list[dict[str, object]]", entries)}

    async def write(self, items: Items) -> None:
        """Make or replace these items, and read each back. Raises ServiceFailed.

        Readers see the change within about ten seconds.
        """
        operations = [{"operation": "upsert", "key": key, "value": value} for key, value in items.items()]
        await self._call("PATCH", "items", orjson.dumps({"items": operations}))
        for key, value in items.items():
            reply = await self._call("GET", f"item/{key}")
            stored = unpacked(reply.body)
            if not isinstance(stored, dict) or cast("dict[str, object]", stored).get("value") != value:
                raise ServiceFailed("not_as_written")

    async def _call(self, method: str, path: str, body: bytes | None = None) -> Reply:
        url = f"{self._url}/{path}{self._query}"
        reply = await self._exchange(method, url, self._headers, body, timeout_s=WRITE_TIMEOUT_S)
        if reply.status != OK:
            raise ServiceFailed(_refusal(reply.status))
        return reply

"""Where Statsig's specs come from: an item of the Edge Config, or Statsig's own network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import orjson

from lib.control.edge_config import EdgeConfig, Items, item_of
from lib.control.kept import TIMEOUT_S, Kept
from lib.control.specs import MARK
from lib.errors import ServiceFailed
from lib.exchange import Exchange

MAX_SPECS_BYTES = 8 * 1024 * 1024
FIRST_WAIT_S = 1.0
"""How long the first request of a process waits for Statsig: without an Edge Config near by there is nothing else."""
OK, UNCHANGED = 200, 304


@dataclass(frozen=True, slots=True, eq=False)
class Specs:
    """A specs document, in either layout. `version` names it in events; each object is one version."""

    document: Mapping[str, object]
    version: str


class Source(Protocol):
    """Somewhere that specs come from."""

    part: str
    """The part of the product, as /api/health names it."""

    @property
    def error(self) -> str | None:
        """Why they can't be read now; the last good ones may hold all the same."""
        ...

    @property
    def age_s(self) -> float | None:
        """Seconds since the specs were last known to be current; None where they never were."""
        ...

    async def specs(self) -> Specs | None:
        """The specs to answer a request by, None where there are none; the same object until they change."""
        ...

    async def renew(self) -> None:
        """After an answer: read again what will soon be too old."""
        ...


class EdgeConfigItem:
    """The item that Statsig's Vercel integration writes into an Edge Config."""

    part = "edge config"

    def __init__(self, edge_config: EdgeConfig, key: str | None) -> None:
        """`key` is the item's, as far as it is known."""
        self.error: str | None = None
        self.age_s: float | None = None
        self._edge_config = edge_config
        self._key = key
        self._items: Items | None = None
        self._specs: Specs | None = None

    async def specs(self) -> Specs | None:
        """See Source. The version is the store's: it changes with any item."""
        snapshot = await self._edge_config.snapshot()
        self.error, self.age_s = snapshot.error, snapshot.age_s
        if snapshot.items is not self._items:
            item = item_of(snapshot.items, MARK, self._key)
            self._specs = None if item is None else Specs(item, snapshot.version or "")
            self._items = snapshot.items
        return self._specs

    async def renew(self) -> None:
        """See Source."""
        await self._edge_config.renew()


class StatsigNetwork:
    """Statsig's CDN: `GET {cdn_url}/v2/download_config_specs/{secret}.json`, as its own engine asks for it."""

    part = "statsig"

    def __init__(self, exchange: Exchange, *, cdn_url: str, secret: str, freshness_s: float) -> None:
        self._exchange = exchange
        self._url = f"{cdn_url}/v2/download_config_specs/{secret}.json"
        self._headers = {"statsig-api-key": secret, "accept": "application/json"}
        self._etag: str | None = None
        self._kept: Kept[Specs] = Kept("Statsig", self._read, freshness_s=freshness_s, first_wait_s=FIRST_WAIT_S)

    @property
    def error(self) -> str | None:
        """See Source."""
        return self._kept.error

    @property
    def age_s(self) -> float | None:
        """See Source."""
        return self._kept.age_s

    async def specs(self) -> Specs | None:
        """See Source. The version is the time of the last edit."""
        if self._kept.is_stale:
            await self._exchange.ready()
        return await self._kept.current()

    async def renew(self) -> None:
        """See Source."""
        await self._kept.renew()

    async def _read(self, held: Specs | None) -> Specs:
        headers = {**self._headers, **({"if-none-match": self._etag} if held and self._etag else {})}
        reply = await self._exchange("GET", self._url, headers, timeout_s=TIMEOUT_S, max_bytes=MAX_SPECS_BYTES)
        if reply.status == UNCHANGED and held is not None:
            return held
        if reply.status != OK:
            raise ServiceFailed(f"http_{reply.status}")
        try:
            document = orjson.loads(reply.body)
        except orjson.JSONDecodeError as error:
            raise ServiceFailed("invalid_json") from error
        if not isinstance(document, dict):
            raise ServiceFailed("not_an_object")
        specs = cast("dict[str, object]", document)
        if held is not None and specs.get("has_updates") is False:
            return held
        if MARK not in specs:
            raise ServiceFailed("specs_unreadable")
        self._etag = reply.headers.get("etag")
        return Specs(specs, f"statsig-{specs.get('time', 0)}")

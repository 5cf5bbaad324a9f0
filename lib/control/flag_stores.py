"""Where a gate's share is kept while a rollout moves it: at Statsig, or in the Edge Config that requests read.

A store is asked anew each time and read back after each write. Neither vendor has a conditional write, so what a raise
depends on is asked right before it: first `still`, then the store itself, last, since a rollback by another driver and
somebody's hand both show there first. What is written in the moment between is lost, unless reading back shows it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast
from urllib.parse import quote

import orjson

from lib.control.edge_config import Writer, named_item, unpacked
from lib.control.specs import MARK, Json, percentage_for, rollout_rule, same_share, share_in, share_of, with_share
from lib.errors import ServiceFailed
from lib.exchange import Exchange, Reply

Still: TypeAlias = Callable[[], Awaitable[bool]]
TIMEOUT_S = 10.0
API_VERSION = "20240601"
LONGEST_REST_S = 900.0
"""The longer of the windows over which Statsig counts changes: 100 in ten seconds, 900 in fifteen minutes."""
READ_ONLY = {"completedAutomatedRollouts", "pendingAutomatedRollouts"}
OK, UNAUTHORIZED, MISSING, TOO_MANY = 200, 401, 404, 429
REFUSED = {400, 403, 409, 422}


@dataclass(frozen=True, slots=True)
class AtVersion:
    """A Still: that a rollout's row is at this version. A store in the same database can see to that by itself."""

    version: int
    ask: Still

    async def __call__(self) -> bool:
        """Whether it is."""
        return await self.ask()


class FlagStore(Protocol):
    """Holds gates whose share can be moved.

    Both raise ServiceFailed. Of the gate: gate_missing, gate_disabled, rule_missing, rule_ambiguous, specs_unreadable,
    item_missing. Of the store: unauthorized, rate_limited, http_NNN, timeout and the like.
    """

    name: str
    """For status and log."""

    async def share(self, gate: str) -> float:
        """What share of callers the gate lets in now, 0 to 1, read from the store itself; 0 of a disabled gate."""
        ...

    async def set_share(
        self, gate: str, share: float, *, expected: float | None = None, still: Still | None = None
    ) -> None:
        """Write it and read it back; with `expected` only if the store holds that, with `still` only if that says so.

        Raises also: changed_meanwhile (either condition fails, nothing was written), review_required, share_unfit
        (outside 0 to 1, or finer than a hundredth of a percent), not_as_written.
        """
        ...


class StatsigConsole:
    """A FlagStore: the project itself, through Statsig's Console API. It asks for two requests less than a second."""

    name = "statsig"

    def __init__(self, exchange: Exchange, api_url: str, key: str, *, clock: Callable[[], float] = time.time) -> None:
        """`key` is a Console API key, not the server secret."""
        self._exchange = exchange
        self._url = f"{api_url}/console/v1"
        self._headers = {
            "statsig-api-key": key,
            "statsig-api-version": API_VERSION,
            "content-type": "application/json",
            # Without it a key of the Console API goes past the reviews that the project's people have to pass.
            "x-respect-review-settings": "true",
        }
        self._clock = clock
        self._rests: dict[str, float] = {}

    async def share(self, gate: str) -> float:
        """See FlagStore."""
        return share_in(await self._gate(gate))

    async def set_share(
        self, gate: str, share: float, *, expected: float | None = None, still: Still | None = None
    ) -> None:
        """See FlagStore."""
        await allowed(still)
        spec = await self._gate(gate)
        _as_expected(share_in(spec), expected)
        rule = {name: value for name, value in rollout_rule(spec).items() if name not in READ_ONLY}
        # The id changes with the percentage, so it is never kept; and one that is out of date finds no rule.
        path = f"{_gate_path(gate)}/rules/{quote(str(rule.get('id')), safe='')}"
        body = orjson.dumps({**rule, "passPercentage": percentage_for(spec, share)})
        reply = await self._call("PATCH", path, body)
        if reply.status == MISSING:
            raise ServiceFailed("changed_meanwhile")
        if reply.status in REFUSED and await self._needs_review(spec):
            raise ServiceFailed("review_required")
        _succeeded(reply)
        after = await self._gate(gate)
        if not same_share(share_in(after), share):
            raise ServiceFailed("review_required" if await self._needs_review(after) else "not_as_written")

    async def _gate(self, gate: str) -> Json:
        reply = await self._call("GET", _gate_path(gate))
        if reply.status == MISSING:
            raise ServiceFailed("gate_missing")
        return _data(_succeeded(reply))

    async def _needs_review(self, spec: Mapping[str, object]) -> bool:
        """Whether the gate, or the project for all of its gates, asks for one. Statsig's refusals have no codes."""
        own = spec.get("reviewSettings")
        if isinstance(own, dict) and cast("Json", own).get("requiredReview") is True:
            return True
        try:
            settings = _data(_succeeded(await self._call("GET", "settings/reviews")))
        except ServiceFailed:
            return False
        return settings.get("is_config_review_required") is True

    async def _call(self, method: str, path: str, body: bytes | None = None) -> Reply:
        if self._clock() < self._rests.get(method, 0.0):
            raise ServiceFailed("rate_limited")
        reply = await self._exchange(method, f"{self._url}/{path}", self._headers, body, timeout_s=TIMEOUT_S)
        if reply.status == TOO_MANY:
            self._rests[method] = self._clock() + _rest_s(reply)
            raise ServiceFailed("rate_limited")
        return reply


@dataclass(frozen=True, slots=True)
class _Item:
    writer: Writer
    name: str
    document: Mapping[str, object]
    is_text: bool


class EdgeConfigStore:
    """A FlagStore: the specs in an Edge Config, for projects in which nothing else writes them."""

    name = "edge config"

    def __init__(self, writers: Sequence[Writer], key: str | None) -> None:
        """`writers` of the stores that requests read, in that order; `key`: where the specs are expected."""
        self._writers = writers
        self._key = key

    async def share(self, gate: str) -> float:
        """See FlagStore."""
        return _share((await self._item()).document, gate)

    async def set_share(
        self, gate: str, share: float, *, expected: float | None = None, still: Still | None = None
    ) -> None:
        """See FlagStore. All of the item is replaced."""
        await allowed(still)
        item = await self._item()
        _as_expected(_share(item.document, gate), expected)
        changed = with_share(item.document, gate, share)
        await item.writer.write({item.name: orjson.dumps(changed).decode() if item.is_text else changed})

    async def _item(self) -> _Item:
        """The specs of the first store that has any, as for requests."""
        for writer in self._writers:
            items = await writer.items()
            named = named_item(items, MARK, self._key)
            if named is not None:
                name, document = named
                return _Item(writer, name, document, is_text=isinstance(items[name], str))
        raise ServiceFailed("item_missing")


async def allowed(still: Still | None) -> None:
    """Raises ServiceFailed where what a write depends on no longer holds."""
    if still is not None and not await still():
        raise ServiceFailed("changed_meanwhile")


def _as_expected(share: float, expected: float | None) -> None:
    if expected is not None and not same_share(share, expected):
        raise ServiceFailed("changed_meanwhile")


def _gate_path(gate: str) -> str:
    return f"gates/{quote(gate, safe='')}"


def _succeeded(reply: Reply) -> Reply:
    if reply.status == UNAUTHORIZED:
        raise ServiceFailed("unauthorized")
    if not OK <= reply.status < 300:  # noqa: PLR2004 - HTTP's word for success
        raise ServiceFailed(f"http_{reply.status}")
    return reply


def _data(reply: Reply) -> Json:
    """What Statsig wraps every answer's value in."""
    whole = unpacked(reply.body)
    data = cast("Json", whole).get("data") if isinstance(whole, dict) else None
    if not isinstance(data, dict):
        raise ServiceFailed("invalid_json")
    return cast("Json", data)


def _rest_s(reply: Reply) -> float:
    told = reply.headers.get("retry-after", "")
    return min(float(told), LONGEST_REST_S) if re.fullmatch(r"[0-9]{1,6}", told) else 0.0


def _share(document: Mapping[str, object], gate: str) -> float:
    share = share_of(document, gate)
    if share is None:
        raise ServiceFailed("gate_missing")
    return share

"""The one place where the parts are put together. Each is made on first use and then kept."""

from __future__ import annotations

import importlib.util
import logging
import sys
from functools import cache, cached_property
from typing import TYPE_CHECKING, cast

from lib import settings as environment
from lib.control.flags import Flags
from lib.http.access import Access
from lib.outbound import Outbound
from lib.providers.base import TextProvider
from lib.providers.catalog import ROWS, Row
from lib.providers.openai_compatible import OpenAICompatible
from lib.router.router import Router
from lib.settings import Settings
from lib.telemetry.cost import Costs
from lib.telemetry.events import Recorder

if TYPE_CHECKING:
    from types import ModuleType

    import httpx

_TALKATIVE_LOGGERS = ("openai", "groq", "httpx", "httpcore", "aiohttp")
"""At INFO they log every request, at DEBUG the whole prompt."""
_VERCELS_SDK = ("vercel", "vercel.cache", "vercel.cache.cache_build", "vercel.cache.context", "vercel.headers")


class App:
    """The product's parts over one set of settings."""

    def __init__(self, settings: Settings, rows: tuple[Row, ...] = ROWS) -> None:
        self.settings = settings
        self._rows = {row.name: row for row in rows}
        self._adapters: dict[str, TextProvider] = {}
        self._outbound = Outbound()
        for name in _TALKATIVE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)

    @cached_property
    def access(self) -> Access:
        """Who is calling."""
        return Access(self.settings)

    @cached_property
    def flags(self) -> Flags:
        """Which provider a caller is assigned to."""
        return Flags(self.settings.provider_flag)

    @cached_property
    def router(self) -> Router:
        """get_completion."""
        return Router(tuple(self._rows.values()), frozenset(self.settings.vendors), self.text_provider)

    @cached_property
    def costs(self) -> Costs:
        """Prices."""
        return Costs()

    @cached_property
    def recorder(self) -> Recorder:
        """The events of every call."""
        return Recorder(self.costs, region=self.settings.region, deployment=self.settings.deployment)

    def text_provider(self, name: str) -> TextProvider:
        """The adapter of a provider that is on."""
        if name not in self._adapters:
            row, access = self._rows[name], self.settings.vendors[name]
            self._adapters[name] = OpenAICompatible(
                row, api_key=access.api_key, base_url=access.base_url, poster=self._outbound.poster
            )
        return self._adapters[name]

    def http(self) -> httpx.AsyncClient:
        """The process's HTTP client, for SDKs. Imports its engine at the first call: use a thread."""
        return self._outbound.httpx()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._outbound.aclose()


@cache
def current() -> App:
    """The app of this process, over its environment."""
    settle_whether_there_is_vercels_sdk()
    return App(environment.load())


def settle_whether_there_is_vercels_sdk() -> None:
    """Where the package `vercel` is not installed, remember that it is not.

    Vercel's runtime looks for parts of it five times per request, each time in every folder on the path: a fifth of
    what a request costs. A None among the loaded modules is Python's own way to say that there is no such module.
    """
    if importlib.util.find_spec("vercel") is None:
        cast("dict[str, ModuleType | None]", sys.modules).update(dict.fromkeys(_VERCELS_SDK))

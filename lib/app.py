"""The one place where the parts are put together. Each is made on first use and then kept."""

from __future__ import annotations

import logging
from functools import cache, cached_property
from typing import TYPE_CHECKING

from lib import settings as environment
from lib.control.flags import Flags
from lib.http.access import Access
from lib.outbound import Outbound
from lib.providers.base import TextProvider
from lib.providers.catalog import EMBEDDING_ROWS, ROWS, EmbeddingRow, Row
from lib.providers.embeddings import EmbeddingProvider
from lib.providers.openai_compatible import OpenAICompatible
from lib.providers.openai_embeddings import OpenAIEmbeddings
from lib.router.attempt import Policy
from lib.router.embeddings import EmbeddingRouter
from lib.router.health import Health
from lib.router.router import Router
from lib.settings import Settings
from lib.telemetry.cost import Costs
from lib.telemetry.events import Recorder

if TYPE_CHECKING:
    import httpx

_TALKATIVE_LOGGERS = ("openai", "groq", "httpx", "httpcore", "aiohttp")
"""At INFO they log every request, at DEBUG the whole prompt."""


class App:
    """The product's parts over one set of settings.

    `policy` is what requests begin with: handlers replace what their request decides. `health` is the providers'.
    """

    def __init__(
        self,
        settings: Settings,
        rows: tuple[Row, ...] = ROWS,
        policy: Policy | None = None,
        health: Health | None = None,
        embedding_rows: tuple[EmbeddingRow, ...] = EMBEDDING_ROWS,
    ) -> None:
        self.settings = settings
        self.policy = policy or Policy()
        self._health = health or Health()
        self._rows = {row.name: row for row in rows}
        self._embedding_rows = {row.name: row for row in embedding_rows}
        self._adapters: dict[str, TextProvider] = {}
        self._outbound = Outbound()
        self._embedding_adapters: dict[str, EmbeddingProvider] = {}
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
        on = frozenset(self.settings.vendors)
        return Router(tuple(self._rows.values()), on, self.text_provider, self._health)

    @cached_property
    def embedding_router(self) -> EmbeddingRouter:
        """get_embeddings; lib/embeddings.py puts its calls on record."""
        rows = tuple(self._embedding_rows.values())
        return EmbeddingRouter(rows, frozenset(self.settings.embedders), self.embedding_provider)

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

    def embedding_provider(self, name: str) -> EmbeddingProvider:
        """The adapter of a vendor of embeddings that is on."""
        if name not in self._embedding_adapters:
            row, access = self._embedding_rows[name], self.settings.embedders[name]
            self._embedding_adapters[name] = OpenAIEmbeddings(
                row, api_key=access.api_key, base_url=access.base_url, http=self.http
            )
        return self._embedding_adapters[name]

    def http(self) -> httpx.AsyncClient:
        """The process's HTTP client, for SDKs. Imports its engine at the first call: use a thread."""
        return self._outbound.httpx()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._outbound.aclose()


@cache
def current() -> App:
    """The app of this process, over its environment."""
    return App(environment.load())

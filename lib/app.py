"""The one place where the parts are put together. Each is made on first use and then kept."""

from __future__ import annotations

import logging
from functools import cache, cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from threading import Lock
from typing import TYPE_CHECKING

from lib import settings as environment
from lib.control.flags import Flags
from lib.http.access import Access
from lib.providers.base import TextProvider
from lib.providers.catalog import ROWS, Row
from lib.providers.groq import Groq
from lib.providers.openai_compatible import OpenAICompatible
from lib.router.attempt import Policy
from lib.router.health import Health
from lib.router.router import Router
from lib.settings import Settings
from lib.telemetry.cost import Costs
from lib.telemetry.events import Recorder

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 120.0
"""An outer net only: the router's deadlines are shorter."""

_ADAPTERS = {"openai": OpenAICompatible, "groq": Groq}
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
        *,
        policy: Policy | None = None,
        health: Health | None = None,
    ) -> None:
        self.settings = settings
        self.policy = policy or Policy()
        self._health = health or Health()
        self._rows = {row.name: row for row in rows}
        self._adapters: dict[str, TextProvider] = {}
        self._http: httpx.AsyncClient | None = None
        self._http_lock = Lock()
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
            adapter = _ADAPTERS[row.sdk]
            self._adapters[name] = adapter(row, api_key=access.api_key, base_url=access.base_url, http=self.http)
        return self._adapters[name]

    def http(self) -> httpx.AsyncClient:
        """The process's one HTTP client, shared by the SDKs. Imports its engine at the first call: use a thread."""
        with self._http_lock:
            if self._http is None:
                import httpx  # noqa: PLC0415 - only who calls a vendor pays for the import
                import httpx_aiohttp  # noqa: PLC0415

                self._http = httpx_aiohttp.HttpxAiohttpClient(
                    timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                    # Compressed, few bytes could unfold into gigabytes; and cookies would travel with other calls.
                    headers={"accept-encoding": "identity"},
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                    limits=httpx.Limits(max_connections=1000, keepalive_expiry=30.0),
                )
            return self._http

    async def aclose(self) -> None:
        """Close what is open."""
        if self._http is not None:
            await self._http.aclose()


@cache
def current() -> App:
    """The app of this process, over its environment."""
    return App(environment.load())

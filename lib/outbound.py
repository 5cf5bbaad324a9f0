"""How we call others: one pool of connections per process, as an aiohttp session and, over it, as an httpx client.

Nothing is imported before it is needed. No cookie is kept, no redirect followed, nothing compressed is asked for;
proxies come from the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY).
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp
    import httpx

    Post: TypeAlias = Callable[[bytes, Mapping[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]]

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 120.0
"""An outer net only, for SDKs and for who waits for a connection: who calls sets shorter deadlines."""
MAX_CONNECTIONS = 1000
KEEP_ALIVE_S = 30.0
# Compressed, few bytes could unfold into gigabytes.
HEADERS = {"accept-encoding": "identity", "user-agent": "ai-integration-blueprint"}


class Outbound:
    """The process's connections. Everything is made at its first use, and belongs to the event loop that runs then."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None
        self._httpx: httpx.AsyncClient | None = None
        self._lock = Lock()

    async def poster(self, url: str, headers: Mapping[str, str]) -> Post:
        """What sends a body to this address: made once, then called as `async with post(body, more_headers)`.

        The body of the answer is not read, whatever its status. Only connecting has a deadline here: set one.
        """
        session = await self.session()
        from multidict import CIMultiDict  # noqa: PLC0415 - comes with aiohttp
        from yarl import URL  # noqa: PLC0415

        post = partial(session.post, URL(url), proxy=proxy_for(url), allow_redirects=False)
        usual = CIMultiDict(headers)
        return lambda body, more: post(data=body, headers=CIMultiDict({**headers, **more}) if more else usual)

    async def session(self) -> aiohttp.ClientSession:
        """The connections themselves: who uses them names the proxy (`proxy_for`) and follows no redirect."""
        await asyncio.to_thread(self._load)
        return self._open()

    def httpx(self) -> httpx.AsyncClient:
        """The same connections behind httpx's interface, for SDKs. Imports at the first call: use a thread."""
        self._load()
        with self._lock:
            if self._httpx is None:
                self._httpx = _httpx_over(self._open)
            return self._httpx

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _load(self) -> None:
        """Import the engine and read the certificates: too slow for the event loop's thread."""
        importlib.import_module("aiohttp")
        with self._lock:
            self._tls = self._tls or tls_context()

    def _open(self) -> aiohttp.ClientSession:
        """The session; on the event loop's thread, after `_load`."""
        if self._session is None:
            import aiohttp  # noqa: PLC0415

            assert self._tls is not None  # noqa: S101 - for the type checker
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S),
                headers=HEADERS,
                auto_decompress=False,
                # Cookies would travel with other calls.
                cookie_jar=aiohttp.DummyCookieJar(),
                # None for reading: it would be set anew for every piece that arrives.
                timeout=aiohttp.ClientTimeout(connect=READ_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
            )
        return self._session


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this address, or None."""
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import; the engine does it anyway

    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = str(parts.hostname) if parts.port is None else f"{parts.hostname}:{parts.port}"
    if not proxy or proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _httpx_over(session: Callable[[], aiohttp.ClientSession]) -> httpx.AsyncClient:
    import httpx  # noqa: PLC0415
    import httpx_aiohttp  # noqa: PLC0415

    class Client(httpx_aiohttp.HttpxAiohttpClient):
        """Every connection, by way of a proxy or not, is the session's."""

        def _init_transport(self, *_: Any, **__: Any) -> httpx.AsyncBaseTransport:
            # What verifies certificates is the session's; making another is slow.
            return httpx_aiohttp.AiohttpTransport(client=session, verify=False)

        def _init_proxy_transport(self, proxy: httpx.Proxy, *_: Any, **__: Any) -> httpx.AsyncBaseTransport:
            return httpx_aiohttp.AiohttpTransport(client=session, verify=False, proxy=proxy)

    return Client(
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        headers=HEADERS,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def tls_context() -> ssl.SSLContext:
    """Verifies servers by SSL_CERT_FILE or SSL_CERT_DIR where they are set, else by certifi's list, as httpx does."""
    import certifi  # noqa: PLC0415

    # OpenSSL reads these variables itself; where they say nothing it names the paths it was built with.
    found = ssl.get_default_verify_paths()
    if found.cafile not in {None, found.openssl_cafile}:
        return ssl.create_default_context(cafile=found.cafile)
    if found.capath not in {None, found.openssl_capath}:
        return ssl.create_default_context(capath=found.capath)
    return ssl.create_default_context(cafile=certifi.where())

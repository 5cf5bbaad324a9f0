"""Files that callers name by URL, fetched from the public internet and from nowhere else.

A URL is a way to have us connect to what only we can reach: other machines of our network, the platform's metadata. So
a host is resolved once, every address that it has must be public, and the connection goes to just those addresses: a
name that means something else a moment later (DNS rebinding) changes nothing. Proxies of the environment are not used:
they would resolve it again. OWASP, Server Side Request Forgery Prevention; the address registries are IANA's.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from lib.data.content import content_type_of
from lib.errors import FieldError, InvalidRequest, PayloadTooLarge
from lib.outbound import CONNECT_TIMEOUT_S, HEADERS, tls_context

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.abc import ResolveResult

TIMEOUT_S = 20.0
MAX_URL = 2048
MAX_REDIRECTS = 3
MAX_ADDRESSES = 8
REDIRECTS = {301, 302, 303, 307, 308}
OK = 200
HTTPS = 443

_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # public by its number, and every Azure machine's own host
        ),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID and other protocols
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "2620:4f:8000::/48",
            "3fff::/20",
            "5f00::/16",
        ),
    )
)
_ISATAP = 0x5EFE
_NAME = re.compile(r"(?=.{1,253}\.?$)([a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?\.?")
"""A host with a domain: its last label begins with a letter, or it might be read as a number (WHATWG URL 4.3)."""
_UNFIT = re.compile(r"[\x00-\x20\x7f\\]|[^\x00-\x7f]")

Resolve = Callable[[str], Awaitable[Sequence[str]]]


async def _resolve(host: str) -> Sequence[str]:
    """The addresses that the system's resolver knows."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, and holds no other address that might not."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv4Address):
        return found.is_global and not any(found in network for network in _NOT_PUBLIC_4)
    return found.is_global and found in _PUBLIC_6 and not _is_special(found)


def _is_special(address: IPv6Address) -> bool:
    hidden = int(address) >> 32 & 0xFFFF
    return address.scope_id is not None or hidden == _ISATAP or any(address in network for network in _NOT_PUBLIC_6)


@cache
def _tls() -> ssl.SSLContext:
    """Made once; in a thread: reading the certificates takes long, and so does what is imported for it."""
    import_module("aiohttp")
    return tls_context()


@dataclass(frozen=True, slots=True)
class Network:
    """What a fetch goes by; tests put a network of their own in its place."""

    resolve: Resolve = _resolve
    is_public: Callable[[str], bool] = is_public
    ports: frozenset[int] = frozenset({HTTPS})
    tls: Callable[[], ssl.SSLContext] = _tls


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL that may be asked for: the host as it is written in certificates."""

    url: str
    host: str
    port: int


async def fetch_public(
    url: str,
    *,
    max_bytes: int,
    accept: frozenset[str],
    timeout_s: float = TIMEOUT_S,
    network: Network | None = None,
) -> tuple[bytes, str]:
    """A file of one of the types `accept`, and its type: by its content, whatever the server calls it.

    Raises InvalidRequest, PayloadTooLarge; nothing of either tells what there is behind an address.
    """
    network = network or Network()
    target = _target(url, network.ports)
    try:
        async with asyncio.timeout(timeout_s):
            addresses = await _addresses(target.host, network)
            await asyncio.to_thread(network.tls)
            async with _session(addresses, network) as session:
                data = await _download(session, target, max_bytes, network)
    except TimeoutError as error:
        raise _refused("did not answer in time", code="url_unreachable") from error
    except OSError as error:
        raise _refused("could not be reached", code="url_unreachable") from error
    found = content_type_of(data)
    if found is None or found not in accept:
        raise _refused(f"is no {' or '.join(sorted(accept))}", code="content_type_not_supported")
    return data, found


def _target(url: str, ports: frozenset[int]) -> _Target:
    """The parts of a URL, which must be an https URL in every reading. Raises InvalidRequest."""
    if len(url) > MAX_URL:
        raise _refused(f"has more than {MAX_URL} characters")
    if _UNFIT.search(url):
        raise _refused("must be written in ASCII: no spaces, no backslashes, names of hosts in Punycode")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), HTTPS if parts.port is None else parts.port
    except ValueError as error:
        raise _refused("is no URL") from error
    if parts.scheme != "https" or not parts.netloc:
        raise _refused("must begin with https://")
    if "@" in parts.netloc:
        raise _refused("must not hold a name or password")
    if port not in ports:
        raise _refused("must not name a port")
    if not (_is_address(host) or _NAME.fullmatch(host)):
        raise _refused("must name a public host")
    return _Target(url, host, port)


def _is_address(host: str) -> bool:
    """Whether this is an IP address in its usual form: neither octal, nor hexadecimal, nor shortened."""
    try:
        return str(ip_address(host)) == host
    except ValueError:
        return False


async def _addresses(host: str, network: Network) -> Sequence[str]:
    """The addresses of a host. All must be public: one that is not shows what the name is for."""
    addresses = [host] if _is_address(host) else list(dict.fromkeys(await network.resolve(host)))
    if not addresses or not all(network.is_public(address) for address in addresses):
        raise _refused("must name a public host")
    return addresses[:MAX_ADDRESSES]


def _session(addresses: Sequence[str], network: Network) -> ClientSession:
    """Connections to these addresses, whatever the host is called."""
    import aiohttp  # noqa: PLC0415 - on first use
    from aiohttp.abc import AbstractResolver  # noqa: PLC0415

    class Pinned(AbstractResolver):
        """Knows these addresses alone."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            del family
            return [
                {
                    "hostname": host,
                    "host": address,
                    "port": port,
                    "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                    "proto": 0,
                    "flags": socket.AI_NUMERICHOST,
                }
                for address in addresses
            ]

        async def close(self) -> None:
            """Nothing is open."""

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=network.tls(), resolver=Pinned(), use_dns_cache=False, force_close=True),
        headers=HEADERS,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S),
    )


async def _download(session: ClientSession, target: _Target, max_bytes: int, network: Network) -> bytes:
    import aiohttp  # noqa: PLC0415 - on first use
    from yarl import URL  # noqa: PLC0415

    url = target.url
    try:
        for _ in range(MAX_REDIRECTS + 1):
            asked = URL(url, encoded=True)
            if (asked.host, asked.port) != (target.host, target.port):  # it is read in two ways
                raise _refused("must name a public host")
            async with session.get(asked, allow_redirects=False) as response:
                if response.status not in REDIRECTS:
                    return await _body(response, max_bytes)
                # No further than to the same host, whose addresses are known.
                url = urljoin(url, response.headers.get("location", ""))
                aimed = _target(url, network.ports)
                if (aimed.host, aimed.port) != (target.host, target.port):
                    raise _refused("leads elsewhere: name the place that it leads to", code="url_redirects")
    except aiohttp.ClientError as error:
        raise _refused("could not be reached", code="url_unreachable") from error
    raise _refused("leads from place to place", code="url_redirects")


async def _body(response: ClientResponse, max_bytes: int) -> bytes:
    if response.status != OK:
        raise _refused("did not answer with a file", code="url_unreachable")
    too_large = PayloadTooLarge(f"The file at this URL has more than {max_bytes} bytes.", code="file_too_large")
    if (response.content_length or 0) > max_bytes:
        raise too_large
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > max_bytes:
            raise too_large
    return bytes(data)


def _refused(why: str, code: str = "url_not_allowed") -> InvalidRequest:
    return InvalidRequest(f"The URL {why}.", code=code, errors=(FieldError("url", why),))

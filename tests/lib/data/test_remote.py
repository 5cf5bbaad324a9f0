"""Files by URL: from the public internet alone, however an address is written and whatever a name turns into."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lib.data import remote
from lib.data.remote import Network, fetch_public, is_public
from lib.errors import InvalidRequest, PayloadTooLarge
from tests.fakes.loop import LoopThread

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(100)
PICTURES = frozenset({"image/png", "image/jpeg"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For files.test, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "files.test")])
    now = datetime.now(UTC)
    alternatives = [x509.DNSName("files.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


class Canary:
    """A server that must not be reached: it counts connections, before a byte is said, on each address of this host."""

    def __init__(self, loop: LoopThread) -> None:
        self.connections = 0
        with socket.create_server(("", 0)) as free:
            self.port: int = free.getsockname()[1]
        every = "0.0.0.0"  # noqa: S104 - one address that it does not listen on would prove nothing
        hosts = [every, "::"] if socket.has_ipv6 else [every]
        self.server = loop.run(asyncio.start_server(self._count, hosts, self.port))

    async def _count(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.fixture
def canary(loop: LoopThread) -> Iterator[Canary]:
    """One canary."""
    bird = Canary(loop)
    yield bird
    loop.loop.call_soon_threadsafe(bird.server.close)


NAMES: dict[str, tuple[str, ...]] = {
    "loopback.test": ("127.0.0.1",),
    "loopback6.test": ("::1",),
    "private.test": ("10.0.0.8",),
    "metadata.google.internal": ("169.254.169.254",),
    "two-faced.test": ("93.184.215.14", "127.0.0.1"),
    "mapped.test": ("::ffff:127.0.0.1",),
    "wildcard.127.0.0.1.nip.io": ("127.0.0.1",),
    "zone.test": ("fe80::1%lo",),
    "nobody.test": (),
}
"""What names lead to, in these tests. Others are asked of the system, which knows localhost and numbers."""


async def resolve(host: str) -> Sequence[str]:
    """The addresses of a name."""
    if host in NAMES:
        return NAMES[host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ["127.0.0.1"]  # what is no name here may be one that is ours elsewhere
    return [str(each[4][0]) for each in found]


HOSTS = {
    "loopback": "127.0.0.1",
    "another loopback": "127.8.9.10",
    "this host": "0.0.0.0",  # noqa: S104 - as callers write it
    "localhost": "localhost",
    "localhost with a dot": "localhost.",
    "localhost in capitals": "LOCALHOST",
    "a name below localhost": "files.localhost",
    "decimal": "2130706433",
    "decimal beyond 32 bits": "6425673729",
    "octal": "0177.0.0.1",
    "octal with zeros": "00000177.0.0.1",
    "hexadecimal": "0x7f.0.0.1",
    "hexadecimal in one": "0x7f000001",
    "hexadecimal in one, with a dot": "0x7f000001.",
    "mixed": "0x7f.1",
    "short": "127.1",
    "shorter": "0",
    "three parts": "127.0.1",
    "loopback with a dot": "127.0.0.1.",
    "zeros in front": "127.000.000.001",
    "escaped": "127%2e0%2e0%2e1",
    "IPv6 loopback": "[::1]",
    "IPv6 loopback, written out": "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "IPv6 this host": "[::]",
    "IPv6 with a zone": "[fe80::1%25lo]",
    "v4-mapped": "[::ffff:127.0.0.1]",
    "v4-mapped in hexadecimal": "[::ffff:7f00:1]",
    "v4-compatible": "[::127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64, local": "[64:ff9b:1::7f00:1]",
    "6to4": "[2002:7f00:1::1]",
    "Teredo": "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "ISATAP": "[2606:4700::5efe:7f00:1]",
    "unique local": "[fd00:ec2::254]",
    "site-local": "[fec0::1]",
    "link-local IPv6": "[fe80::1]",
    "multicast IPv6": "[ff02::1]",
    "documentation IPv6": "[2001:db8::1]",
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.1.1",
    "CGNAT": "100.64.0.1",
    "metadata of AWS, GCP and Azure": "169.254.169.254",
    "metadata of ECS tasks": "169.254.170.2",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "host of Azure": "168.63.129.16",
    "metadata in decimal": "2852039166",
    "metadata by name": "metadata.google.internal",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "benchmarking": "198.18.0.1",
    "documentation": "203.0.113.1",
    "6to4 relays": "192.88.99.1",
    "name that leads home": "loopback.test",
    "name that leads home by IPv6": "loopback6.test",
    "name that leads into a network": "private.test",
    "name with one public address": "two-faced.test",
    "name of a v4-mapped address": "mapped.test",
    "name of an address with a zone": "zone.test",
    "name of anybody's address": "wildcard.127.0.0.1.nip.io",
    "name of nobody": "nobody.test",
    "name without a domain": "gateway",
    "IDN, circled digits": "①②⑦.⓪.⓪.①",
    "IDN, circled letters": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "IDN, full-width dots": "127。0。0。1",
    "IDN, in Punycode": "xn--localhost-9za.",
    "soft hyphen": "local\u00adhost",
}
URLS = {
    "http": "http://127.0.0.1:{port}/a.png",
    "file": "file:///etc/passwd",
    "file with a host": "file://127.0.0.1:{port}/a.png",
    "ftp": "ftp://127.0.0.1:{port}/a.png",
    "gopher": "gopher://127.0.0.1:{port}/_GET",
    "data": "data:image/png;base64,iVBORw0KGgo=",
    "no scheme": "//127.0.0.1:{port}/a.png",
    "no host": "https:///127.0.0.1:{port}/a.png",
    "one slash": "https:/127.0.0.1:{port}/a.png",
    "credentials": "https://name:word@127.0.0.1:{port}/a.png",
    "a public host as credentials": "https://example.com@127.0.0.1:{port}/a.png",
    "a public host before a fragment": "https://127.0.0.1:{port}#@example.com/a.png",
    "two at signs": "https://a@127.0.0.1:{port}@example.com/a.png",
    "backslash": "https://127.0.0.1:{port}\\@example.com/a.png",
    "backslashes for slashes": "https:\\\\127.0.0.1:{port}/a.png",
    "space in front": " https://127.0.0.1:{port}/a.png",
    "tab within": "https://127.0.\t0.1:{port}/a.png",
    "line break within": "https://127.0.0.1:{port}/a.png\r\nhost: example.com",
    "zero byte": "https://127.0.0.1\x00.example.com:{port}/a.png",
    "port beyond all": "https://example.com:99999/a.png",
    "port that is none": "https://example.com:{port}x/a.png",
    "another port": "https://example.com:22/a.png",
    "open bracket": "https://[::1:{port}/a.png",
    "longer than any": "https://127.0.0.1:{port}/" + "a" * 3000,
    "nothing": "",
}
VARIANTS = {**{name: f"https://{host}:{{port}}/a.png" for name, host in HOSTS.items()}, **URLS}


def refusal(loop: LoopThread, url: str, network: Network, *, most: int = 1000) -> InvalidRequest:
    """How a URL is refused."""
    with pytest.raises(InvalidRequest) as caught:
        loop.run(fetch_public(url, max_bytes=most, accept=PICTURES, timeout_s=5, network=network))
    return caught.value


def test_the_table_is_as_long_as_it_says() -> None:
    """No two variants are the same."""
    assert len(set(VARIANTS.values())) == len(VARIANTS) >= 90


@pytest.mark.parametrize("variant", VARIANTS)
def test_fault_48_url_variants(loop: LoopThread, canary: Canary, variant: str) -> None:
    """Of 90 ways to name by URL what is not public none connects, and the refusal tells nothing of what is there."""
    network = Network(resolve=resolve, ports=frozenset({443, canary.port}))
    error = refusal(loop, VARIANTS[variant].format(port=canary.port), network)
    assert (error.code, canary.connections) == ("url_not_allowed", 0)


@pytest.mark.parametrize(
    "variant", ["loopback", "another loopback", "this host", "IPv6 loopback", "v4-mapped in hexadecimal"]
)
def test_the_canary_sings(loop: LoopThread, canary: Canary, variant: str) -> None:
    """Were every address public, they would connect: so the tests above can fail."""
    if not socket.has_ipv6 and "IPv6" in variant:
        pytest.skip("this host has no IPv6")
    network = Network(resolve, lambda _address: True, frozenset({canary.port}))
    host = {"v4-mapped in hexadecimal": "mapped.test"}.get(variant, HOSTS[variant])
    error = refusal(loop, f"https://{host}:{canary.port}/", network)
    assert error.code == "url_unreachable"
    assert canary.connections >= 1


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.215.14", "100.63.255.255", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"],
)
def test_what_is_public(address: str) -> None:
    """The internet, up to the edges of what is not."""
    assert is_public(address)
    assert not is_public(f"{address}%1")
    assert not is_public("not an address")


@dataclass
class Site:
    """What files.test serves, over TLS, on 127.0.0.1, and the network in which that is a public host."""

    port: int = 0
    head: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
    body: bytes = PNG
    heads: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])
    answers: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    trusted: Path | None = None
    first: list[bytes] = field(default_factory=list[bytes])
    silent: bool = False

    @property
    def url(self) -> str:
        """Of a picture."""
        return f"https://files.test:{self.port}/a.png?x=1"

    @property
    def network(self) -> Network:
        """127.0.0.1 is public in it, and nothing else."""
        return Network(self._resolve, lambda address: address == "127.0.0.1", frozenset({self.port}), self._tls)

    async def _resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if self.answers else ["127.0.0.1"]

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=None if self.trusted is None else str(self.trusted))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.silent:
                await reader.read()
            if self.first:
                writer.write(self.first.pop(0))
            else:
                writer.write((self.head % len(self.body) if b"%d" in self.head else self.head) + self.body)
            await writer.drain()
        writer.close()


@pytest.fixture
def site(loop: LoopThread, certificate: Path) -> Iterator[Site]:
    """It runs."""
    made = Site(trusted=certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = loop.run(asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context))
    made.port = server.sockets[0].getsockname()[1]
    yield made
    loop.loop.call_soon_threadsafe(server.close)


def fetched(loop: LoopThread, site: Site, *, most: int = 1000) -> tuple[bytes, str]:
    """What is fetched from it."""
    return loop.run(fetch_public(site.url, max_bytes=most, accept=PICTURES, timeout_s=5, network=site.network))


def test_a_public_file(loop: LoopThread, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes, its type by them, nothing of ours sent along, no proxy asked."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    site.head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n"
    assert fetched(loop, site) == (PNG, "image/png")
    (head,) = site.heads
    assert head.startswith("GET /a.png?x=1 HTTP/1.1\r\n")
    assert not {"cookie", "authorization", "referer"} & {line.partition(":")[0].lower() for line in head.splitlines()}


def test_fault_48_dns_rebinding(loop: LoopThread, site: Site, canary: Canary) -> None:
    """A host is resolved once; what its name means a moment later (DNS rebinding) is never asked."""
    site.answers = [["127.0.0.1"], ["::1"], ["::1"]]
    site.head = b"HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: %d\r\n\r\n"
    assert refusal(loop, site.url, site.network).code == "url_redirects"
    assert (site.asked, len(site.heads), canary.connections) == (["files.test"], remote.MAX_REDIRECTS + 1, 0)


REDIRECTS = {
    "another host": "https://other.test:{port}/a.png",
    "loopback": "https://127.0.0.1:{canary}/a.png",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "http": "http://files.test:{port}/a.png",
    "another port": "https://files.test:{canary}/a.png",
    "a file": "file:///etc/passwd",
    "no scheme": "//127.0.0.1:{canary}/a.png",
    "credentials": "https://files.test:{port}@127.0.0.1:{canary}/a.png",
}


@pytest.mark.parametrize("where", REDIRECTS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_fault_48_redirects(loop: LoopThread, site: Site, canary: Canary, where: str, status: int) -> None:
    """A URL that leads to another host, port or scheme is not followed."""
    location = REDIRECTS[where].format(port=site.port, canary=canary.port)
    site.head = f"HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: %d\r\n\r\n".encode()
    assert refusal(loop, site.url, site.network).code in {"url_redirects", "url_not_allowed"}
    assert (len(site.heads), canary.connections) == (1, 0)


def test_a_redirect_within(loop: LoopThread, site: Site) -> None:
    """To another path of the same host is."""
    site.first = [b"HTTP/1.1 301 Moved\r\nlocation: b.png\r\ncontent-length: 0\r\n\r\n"]
    assert fetched(loop, site) == (PNG, "image/png")
    assert [head.split()[1] for head in site.heads] == ["/a.png?x=1", "/b.png"]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
    ],
)
def test_a_file_that_is_too_large(loop: LoopThread, site: Site, head: bytes) -> None:
    """Whether its length is told or not."""
    site.head = head
    with pytest.raises(PayloadTooLarge) as caught:
        fetched(loop, site, most=len(PNG) - 1)
    assert caught.value.code == "file_too_large"
    assert b"9999" in head or fetched(loop, site, most=len(PNG))[0] == PNG


@pytest.mark.parametrize(
    ("head", "body", "code"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n", PNG, "url_unreachable"),
        (b"HTTP/1.1 206 Partial\r\ncontent-length: %d\r\n\r\n", PNG, "url_unreachable"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", PNG, "url_unreachable"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"", "url_unreachable"),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", b"", "url_redirects"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", b"", "content_type_not_supported"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", b"<html>", "content_type_not_supported"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", b"ID3\x04 sound", "content_type_not_supported"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n",
            gzip.compress(PNG, mtime=0),
            "content_type_not_supported",
        ),
    ],
)
def test_what_is_no_such_file(loop: LoopThread, site: Site, head: bytes, body: bytes, code: str) -> None:
    """By its status and its content."""
    site.head, site.body = head, body
    assert refusal(loop, site.url, site.network).code == code


def test_who_keeps_silent_is_left(loop: LoopThread, site: Site) -> None:
    """In time, however slowly it says something."""
    site.silent = True
    with pytest.raises(InvalidRequest) as caught:
        loop.run(fetch_public(site.url, max_bytes=10, accept=PICTURES, timeout_s=0.2, network=site.network))
    assert (caught.value.code, len(site.heads)) == ("url_unreachable", 1)


def test_who_has_no_certificate_is_not_asked(loop: LoopThread, site: Site) -> None:
    """A name that is led to another's machine has no certificate there."""
    site.trusted = None
    assert refusal(loop, site.url, site.network).code == "url_unreachable"
    assert site.heads == []

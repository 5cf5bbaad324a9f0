"""The one pool of connections, behind both of its faces, over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import certifi
import httpx
import pytest

from lib.outbound import Outbound
from tests.conftest import require

Face = Callable[[Outbound, str], Awaitable[int]]
"""Posts to an address; returns the answer's status."""


async def by_post(outbound: Outbound, url: str) -> int:
    """As the adapters do."""
    post = await outbound.poster(url, {"content-type": "application/json"})
    async with post(b"{}", {}) as response:
        await response.read()
        return response.status


async def by_httpx(outbound: Outbound, url: str) -> int:
    """As an SDK does."""
    client = await asyncio.to_thread(outbound.httpx)
    return (await client.post(url, content=b"{}")).status_code


FACES = pytest.mark.parametrize("face", [by_post, by_httpx])


class Server:
    """Answers every request with 302 and a cookie; keeps the heads that it got, by connection."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
                await reader.readexactly(2)
                writer.write(
                    b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
                )
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def running(context: ssl.SSLContext | None = None) -> AsyncGenerator[tuple[Outbound, Server]]:
    """A server, and connections to it."""
    server, outbound = Server(), Outbound()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.url = f"{'https' if context else 'http'}://localhost:{listening.sockets[0].getsockname()[1]}"
    try:
        yield outbound, server
    finally:
        await outbound.aclose()
        listening.close()


@FACES
def test_neither_redirects_nor_cookies_nor_compression(face: Face) -> None:
    """A redirect is an answer like any other; a cookie that a server sets goes nowhere; nothing compressed is taken."""

    async def test() -> None:
        async with running() as (outbound, server):
            assert [await face(outbound, server.url), await face(outbound, server.url)] == [302, 302]
            assert [head.splitlines()[0] for head in server.heads] == ["post / http/1.1"] * 2
            assert ["cookie" in head for head in server.heads] == [False, False]
            assert ["accept-encoding: identity\r\n" in head for head in server.heads] == [True, True]

    asyncio.run(test())


def test_both_faces_share_the_connections() -> None:
    """What one has used the other uses again."""

    async def test() -> None:
        async with running() as (outbound, server):
            for face in (by_post, by_httpx, by_httpx, by_post):
                await face(outbound, server.url)
            assert (server.connections, len(server.heads)) == (1, 4)

    asyncio.run(test())


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # httpx-aiohttp gives aiohttp proxy_auth
@FACES
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_proxy(monkeypatch: pytest.MonkeyPatch, face: Face, variable: str) -> None:
    """The proxy that the environment names is used, with its name and password, but not for the hosts left out."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    async def test() -> None:
        async with running() as (outbound, server):
            monkeypatch.setenv(variable, server.url.replace("//", "//name:word@"))
            monkeypatch.setenv("no_proxy", "localhost")
            await face(outbound, "http://vendor.invalid/v1")
            first, *headers = server.heads[0].splitlines()
            assert first == "post http://vendor.invalid/v1 http/1.1"
            assert f"proxy-authorization: basic {b64encode(b'name:word').decode().lower()}" in headers
            await face(outbound, f"{server.url}/direct")
            assert server.heads[1].startswith("post /direct ")

    asyncio.run(test())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody has signed, with its key, in one file."""
    if shutil.which("openssl") is None:
        require("REQUIRE_RUNTIME", "openssl is needed to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", file, "-out", f"{file}.crt"]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@FACES
@pytest.mark.parametrize("trusted", [True, False])
def test_certificates_are_verified(
    monkeypatch: pytest.MonkeyPatch, certificate: Path, face: Face, *, trusted: bool
) -> None:
    """Who can't show a certificate that is trusted here is not spoken to; SSL_CERT_FILE says what is trusted."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt" if trusted else certifi.where())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def test() -> None:
        async with running(context) as (outbound, server):
            if trusted:
                assert await face(outbound, server.url) == 302
            else:
                with pytest.raises((aiohttp.ClientError, httpx.HTTPError)):
                    await face(outbound, server.url)
            assert len(server.heads) == trusted

    asyncio.run(test())


def test_what_is_trusted_by_default(monkeypatch: pytest.MonkeyPatch, certificate: Path) -> None:
    """Without the two variables it is certifi's list, on any machine."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    monkeypatch.setattr(certifi, "where", lambda: f"{certificate}.crt")

    async def test() -> None:
        async with running(context) as (outbound, server):
            assert await by_post(outbound, server.url) == 302

    asyncio.run(test())

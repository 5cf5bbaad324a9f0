"""Whoever wants to know that a letter has ended is told so: signed, by https, at public hosts, until it is heard."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lib import letters as owners
from lib.app import App
from lib.data.remote import Network, is_public, post_public
from lib.ids import uuid7
from lib.settings import from_environ
from lib.vsl.webhook import MOST_ATTEMPTS
from tests.api.conftest import over
from tests.conftest import ACCESS
from tests.fakes.loop import LoopThread
from tests.incidents import later
from tests.lib.data.test_remote import certificate
from tests.local.supabase.conftest import Project, uid

__all__ = ["certificate"]

SECRET = ACCESS["SESSION_SECRET"]


@dataclass
class Receiver:
    """hooks.test over TLS: answers with these statuses, then 204; keeps what it was sent."""

    certificate: Path
    port: int = 0
    statuses: list[int] = field(default_factory=list[int])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])
    address: str = "127.0.0.1"

    @property
    def network(self) -> Network:
        """In which its address is public, and no other that is not."""

        async def resolve(_host: str) -> Sequence[str]:
            return [self.address]

        def tls() -> ssl.SSLContext:
            context = ssl.create_default_context(cafile=str(self.certificate))
            context.check_hostname = False  # the certificate is of another name
            return context

        return Network(
            resolve, lambda address: address == "127.0.0.1" or is_public(address), frozenset({self.port}), tls
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        assert first == "POST /done?x=1 HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if self.statuses else 204
        writer.write(f"HTTP/1.1 {status} X\r\nlocation: https://127.0.0.1/\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
def receiver(loop: LoopThread, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """It listens."""
    made = Receiver(certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = loop.run(asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context))
    made.port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(owners, "post_public", partial(post_public, network=made.network))
    yield made
    loop.loop.call_soon_threadsafe(server.close)


@dataclass
class Desk:
    """An app that tells owners, and a job of one."""

    app: App
    project: Project
    loop: LoopThread
    job_id: str = ""

    def over(self, url: str) -> None:
        """A job that has ended."""
        letters = self.app.letters
        assert letters is not None
        owner, self.job_id = uid(self.project.user()), uuid7()
        created = letters.jobs.create(
            self.job_id,
            owner_id=owner,
            caller_kind="user",
            request={"product": "Lumen"},
            request_hash=hashlib.sha256(self.job_id.encode()).hexdigest(),
            budget_microusd=None,
            webhook_url=url,
        )
        self.loop.run(created)
        assert self.tell() == 0, "it has not ended yet"
        assert self.loop.run(letters.jobs.cancel(owner, self.job_id)) == "canceled"

    def tell(self) -> int:
        """How many were told."""
        letters = self.app.letters
        assert letters is not None
        return self.loop.run(letters.tell_owners())

    def state(self) -> tuple[str, int]:
        """Of the webhook, and how often it was tried."""
        return self.project.sql("select webhook_state, webhook_attempts from public.vsl_jobs")[0]


@pytest.fixture
def desk(supabase: Project, loop: LoopThread) -> Iterator[Desk]:
    """See Desk."""
    app = App(from_environ({**ACCESS, **over(supabase)}))
    yield Desk(app, supabase, loop)
    loop.run(app.aclose())


def check(receiver: Receiver, desk: Desk, number: int) -> dict[str, Any]:
    """A message's body, once its signature has been found to hold, as the specification says to check it."""
    headers, body = receiver.got[number]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == f"msg_{desk.job_id}_canceled"
    assert "authorization" not in headers
    return json.loads(body)


def test_told_once(receiver: Receiver, desk: Desk) -> None:
    """Signed, with what has ended and how; never again afterwards."""
    desk.over(f"https://hooks.test:{receiver.port}/done?x=1")
    assert desk.tell() == 1
    told = check(receiver, desk, 0)
    assert (told["type"], told["data"]) == ("vsl.canceled", {"id": desk.job_id, "status": "canceled", "cost_usd": 0.0})
    later(desk.project, 3600)
    assert (desk.tell(), len(receiver.got), desk.state()) == (0, 1, ("sent", 1))


def test_told_again_until_heard(receiver: Receiver, desk: Desk) -> None:
    """An error, or a redirect, which is not followed: again later, as the same message, and no sooner than it says."""
    receiver.statuses = [500, 302]
    desk.over(f"https://hooks.test:{receiver.port}/done?x=1")
    assert (desk.tell(), desk.tell(), len(receiver.got)) == (0, 0, 1)
    later(desk.project, 61)
    assert (desk.tell(), desk.tell(), len(receiver.got)) == (0, 0, 2)
    later(desk.project, 61 + 121)
    assert (desk.tell(), desk.state()) == (1, ("sent", 3))
    bodies = {check(receiver, desk, number)["data"]["id"] for number in range(3)}
    assert (bodies, len({headers["webhook-id"] for headers, _ in receiver.got})) == ({desk.job_id}, 1)


def test_given_up(receiver: Receiver, desk: Desk) -> None:
    """After five times in vain nobody is called any more."""
    receiver.statuses = [503] * 20
    desk.over(f"https://hooks.test:{receiver.port}/done?x=1")
    for hours in range(10):
        later(desk.project, 3600 * hours)
        assert desk.tell() == 0
    assert (len(receiver.got), desk.state()) == (MOST_ATTEMPTS, ("failed", MOST_ATTEMPTS))


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::1"])
def test_public_hosts_alone(receiver: Receiver, desk: Desk, address: str) -> None:
    """A name that leads into a network by the time it is called is not called."""
    receiver.address = address
    desk.over(f"https://hooks.test:{receiver.port}/done?x=1")
    assert (desk.tell(), receiver.got, desk.state()) == (0, [], ("due", 1))


def test_https_alone(receiver: Receiver, desk: Desk) -> None:
    """Whatever stands in a row: nothing is sent in the open."""
    desk.over(f"http://hooks.test:{receiver.port}/done?x=1")
    assert (desk.tell(), receiver.got) == (0, [])


def test_instances_do_not_tell_twice(receiver: Receiver, desk: Desk) -> None:
    """Ten at once: one tells."""
    desk.over(f"https://hooks.test:{receiver.port}/done?x=1")
    letters = desk.app.letters
    assert letters is not None

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(letters.tell_owners() for _ in range(10)))

    assert (sum(desk.loop.run(all_at_once())), len(receiver.got)) == (1, 1)

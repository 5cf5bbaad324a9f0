"""Assets over the real gateway and Postgres: what is paid for is made once, whoever asks and whoever dies."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from lib.app import App
from lib.data import assets as under_test
from lib.data.assets import Assets, Audio, Claim, Generated, Made, Make, NewFile, generation_key
from lib.data.files import FOR_EVER, Files
from lib.errors import DataFailed, NoProvider, NotFound, Overloaded, Unavailable
from lib.settings import SupabaseAccess, from_environ
from local.postgres import Postgres
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Clock, Project, served

Result = TypeVar("Result")
PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR picture"


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module: each has an owner of its own."""
    with (
        copied(postgres, f"assets_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


class Instance:
    """What one process of the product has: its connections, its flights, its links."""

    def __init__(self, project: Project, loop: LoopThread) -> None:
        self.app = App(
            from_environ(
                {
                    "SUPABASE_URL": project.url,
                    "SUPABASE_SECRET_KEY": SECRET,
                    "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE,
                }
            )
        )
        assert self.app.assets is not None
        self.assets = self.app.assets
        self._loop = loop

    def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do it on the loop."""

        async def done() -> Result:
            return await work()

        return self._loop.run(done())


@pytest.fixture
def start(project: Project, loop: LoopThread) -> Iterator[Callable[[], Instance]]:
    """Makes instances; their connections are closed afterwards."""
    running: list[Instance] = []

    def make() -> Instance:
        running.append(Instance(project, loop))
        return running[-1]

    yield make
    for each in running:
        loop.run(each.app.aclose())


@pytest.fixture
def owner(project: Project) -> str:
    """A user."""
    user_id = str(uuid4())
    project.sql("insert into auth.users (id) values (%s)", user_id)
    return user_id


def test_smoke(project: Project, start: Callable[[], Instance], owner: str) -> None:
    """T."""
    one = start()
    calls = 0

    async def make(claim: Claim) -> Made:
        nonlocal calls
        calls += 1
        await claim.note("fal", "flux", "r1")
        return Made((NewFile(PICTURE, "image/png", "image", provider="fal", model="flux", audio=Audio(12)),), key)

    key = generation_key(owner, "fal", "flux", {}, {"prompt": "x"})
    first = one.run(lambda: one.assets.generated(owner, [key], make, wait_s=10))
    again = one.run(lambda: one.assets.generated(owner, [key], make, wait_s=10))
    assert (first.cached, again.cached, calls) == (False, True, 1)
    assert first.assets == again.assets
    link = one.run(lambda: one.assets.link(first.assets[0]))
    assert httpx.get(link.url).content == PICTURE
    other = start()
    assert other.run(lambda: other.assets.link(other.run and first.assets[0])) == link

"""Users that the server makes for holders of API keys, in the real gateway over the real database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from uuid import uuid4

import pytest
from starlette.requests import Request

from lib.app import App
from lib.errors import Unavailable
from lib.http.auth import Auth, Caller
from lib.settings import from_environ
from local.postgres import Postgres
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import Clock, Project, served, supabase

CALL = Request({"type": "http", "scheme": "http", "server": ("x.example", 80), "path": "/", "headers": []})


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"accounts_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


def play(project: Project, work: Callable[[Auth, Caller], Awaitable[None]], **environ: str) -> Caller:
    """Do something with access to the project, for a holder of a key whom it has never seen; return the holder."""
    holder = Caller(str(uuid4()), "key", "user", name="web")

    async def run() -> None:
        app = App(from_environ({**supabase(project.url), **environ}))
        try:
            await work(app.auth, holder)
        finally:
            await app.aclose()

    asyncio.run(run())
    return holder


def users(project: Project, holder: Caller) -> list[tuple[object, ...]]:
    """The rows of auth.users with a holder's id: address and what only the server can write."""
    return project.sql("select email, raw_app_meta_data ->> 'api_key' from auth.users where id = %s", holder.id)


def test_a_key_s_holder_has_one_user(project: Project) -> None:
    """Whoever makes it, how often, and however many at once: other processes may be as fast."""

    async def work(auth: Auth, holder: Caller) -> None:
        accounts = auth.users.accounts
        await asyncio.gather(*(accounts.ensure_user(holder.id, "web") for _ in range(5)))
        await accounts.ensure_user(holder.id, "web")
        assert await auth.with_account(CALL, holder) is holder

    holder = play(project, work)
    assert users(project, holder) == [(f"{holder.id}@keys.invalid", "web")]


def test_a_key_s_holder_comes_back(project: Project) -> None:
    """After its user was removed by its wish, what then has to belong to it has somebody to belong to."""

    async def work(auth: Auth, holder: Caller) -> None:
        await auth.with_account(CALL, holder)
        await auth.users.accounts.remove(holder.id)
        assert users(project, holder) == []
        auth.user_is_gone(holder)
        await auth.with_account(CALL, holder)

    assert len(users(project, play(project, work))) == 1


def test_who_could_not_be_made_is_tried_again(project: Project) -> None:
    """With a key of ours that the project refuses nobody passes for known: the next request fails as well."""

    async def work(auth: Auth, holder: Caller) -> None:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await auth.with_account(CALL, holder)

    assert users(project, play(project, work, SUPABASE_SECRET_KEY="sb_secret_wrong")) == []

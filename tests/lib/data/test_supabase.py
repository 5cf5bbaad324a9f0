"""Rows through the vendor's client and functions by plain HTTP, over the real gateway and Postgres."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from lib.app import App
from lib.data.supabase import Supabase, run
from lib.errors import DataFailed
from lib.settings import SupabaseAccess, from_environ
from local.postgres import Postgres
from tests.conftest import ROOT
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.fakes.web import Told, Web, told
from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Clock, Project, served, token, uid

Result = TypeVar("Result")


class Data:
    """The product's access to a project, on the loop on which its connections live."""

    def __init__(self, url: str, loop: LoopThread) -> None:
        self._app = App(from_environ({}))
        self._loop = loop
        access = SupabaseAccess(url, SECRET, PUBLISHABLE)
        self.supabase = Supabase(access, self._app.exchange, self._app.http)

    def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do it on the loop."""

        async def done() -> Result:
            return await work()

        return self._loop.run(done())

    def failure(self, work: Callable[[], Awaitable[object]]) -> DataFailed:
        """How it fails."""
        with pytest.raises(DataFailed) as caught:
            self.run(work)
        return caught.value

    def close(self) -> None:
        """Close the connections."""
        self._loop.run(self._app.aclose())


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"data_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


@pytest.fixture
def data(project: Project, loop: LoopThread) -> Iterator[Data]:
    """The product's access to it."""
    made = Data(project.url, loop)
    yield made
    made.close()


def asset(user_id: str) -> dict[str, Any]:
    """A row of assets."""
    return {
        "user_id": user_id,
        "kind": "image",
        "bucket_id": "generated",
        "path": f"{user_id}/{uuid4()}.png",
        "content_type": "image/png",
        "bytes": 1,
        "sha256": "0" * 64,
    }


def test_rpc(data: Data) -> None:
    """A function's value comes back, whatever its type."""
    supabase = data.supabase
    assert data.run(lambda: supabase.rpc("expire_reservations", {})) == 0
    assert data.run(lambda: supabase.rpc("record_events", {"p_events": []}))["inserted"] == 0


def test_failures_of_rpc(data: Data) -> None:
    """Why it failed is told by code, to us alone."""
    supabase = data.supabase
    canary = "canary-0123456789"
    reserve = {
        "p_reservation_id": str(uuid4()),
        "p_caller_kind": canary,
        "p_caller_id": str(uuid4()),
        "p_microusd": 1,
    }
    for function, arguments, reason in (
        ("reserve", reserve, "22023"),
        ("no_such_function", {canary: 1}, "PGRST202"),
        ("settle", {"p_reservation_id": canary, "p_actual_microusd": 1}, "22P02"),
    ):
        error = data.failure(lambda: supabase.rpc(function, arguments))  # noqa: B023 - called at once
        assert (error.reason, error.status, error.code) == (reason, 503, "data_unavailable")
        assert canary not in error.message + repr(error)


def test_rpc_needs_no_sdk(project: Project) -> None:
    """Who only calls a function waits for no SDK's import."""
    program = f"""
import asyncio, sys
from lib.app import App
from lib.settings import from_environ
app = App(from_environ({{"SUPABASE_URL": {project.url!r}, "SUPABASE_SECRET_KEY": {SECRET!r},
    "SUPABASE_PUBLISHABLE_KEY": {PUBLISHABLE!r}}}))
async def main():
    print(await app.supabase.rpc("expire_reservations", {{}}))
    await app.aclose()
asyncio.run(main())
print(*{{"supabase", "postgrest", "jwt"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


def test_users_see_their_own_rows(project: Project, data: Data) -> None:
    """Policies decide what a user's client sees; the server's writes, and sees all; no client is another's."""
    users = [project.user(), project.user()]
    rows = [asset(uid(user)) for user in users]

    async def work() -> list[list[str]]:
        server = await data.supabase.as_server()
        await run(server.table("assets").insert(rows).execute())
        seen: list[list[str]] = []
        for client in [*[await data.supabase.as_user(token(user)) for user in users], server]:
            answer: Any = await run(client.table("assets").select("path").execute())
            seen.append([row["path"] for row in answer.data])
        return seen

    seen = data.run(work)
    assert seen[:2] == [[row["path"]] for row in rows]
    assert {row["path"] for row in rows} <= set(seen[2])


def test_users_write_nothing(project: Project, data: Data) -> None:
    """A user's client may not write, and the refusal keeps its code."""
    user = project.user()

    async def work() -> object:
        client = await data.supabase.as_user(token(user))
        return await run(client.table("assets").insert(asset(uid(user))).execute())

    assert data.failure(work).reason == "42501"


def test_rows_of_an_owner(project: Project, data: Data) -> None:
    """Callers with a key see by the one function that filters by owner."""
    mine, theirs = uid(project.user()), uid(project.user())

    async def work() -> list[dict[str, Any]]:
        server = await data.supabase.as_server()
        await run(server.table("assets").insert([asset(mine), asset(theirs), asset(mine)]).execute())
        return await data.supabase.rows_of(mine, "assets", "user_id")

    assert data.run(work) == [{"user_id": mine}] * 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (told({"code": "57014", "message": "canary"}, 500), "57014"),
        (told({"code": "a b\n", "message": "canary"}, 500), "http_500"),
        (Told(502, b"<html>canary"), "http_502"),
        (told(["canary"], 503), "http_503"),
        (Told(200, b"{}", cut=1), "connection_failed"),
    ],
    ids=str,
)
def test_troubles(loop: LoopThread, answer: Told, reason: str) -> None:
    """Nothing is asked twice, and of what was answered only a code is kept."""
    web = Web(loop, lambda _: answer)
    data = Data(web.url, loop)
    error = data.failure(lambda: data.supabase.rpc("settle", {}))
    assert (error.reason, len(web.asked)) == (reason, 1)
    assert "canary" not in str(error) + repr(error)

    async def read() -> object:
        return await run((await data.supabase.as_server()).table("assets").select("*").execute())

    data.failure(read)
    assert len(web.asked) == 2
    data.close()
    web.close()

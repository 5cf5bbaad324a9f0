"""The operator's link: once, within an hour, kept by nobody."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lib.app import App
from lib.settings import from_environ
from local.operator_link import PATH, OperatorLink
from local.postgres import Postgres
from local.server import Site
from tests.conftest import ACCESS, ROOT, served_site
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import Clock, Project, served, supabase
from tests.local.test_server import Start, start

__all__ = ["start"]


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"operator_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


class Run:
    """A run of the site with its link."""

    def __init__(self, project: Project, loop: LoopThread, stack: ExitStack) -> None:
        self.now = 0.0
        app = App(from_environ({**ACCESS, **supabase(project.url)}))
        link = OperatorLink(app, lambda: self.now)
        self.url = stack.enter_context(served_site(Site(ROOT, app, {PATH: link}), loop))
        self.link = f"{self.url}{link.url(1).removeprefix('http://localhost:1')}"
        self.again = link.url(1)


@pytest.fixture
def run(project: Project, loop: LoopThread) -> Iterator[Run]:
    """A run."""
    with ExitStack() as stack:
        yield Run(project, loop, stack)


def who(run: Run, answer: httpx.Response) -> Any:
    """The caller that an answer's cookies make."""
    return httpx.get(f"{run.url}/api/session", cookies=dict(answer.cookies)).json()


def test_once(run: Run) -> None:
    """Who opens it first is the operator, and led to the page without the token; the second is refused."""
    answer = httpx.get(run.link)
    assert (answer.status_code, answer.headers["location"], answer.headers["cache-control"]) == (303, "/", "no-store")
    caller = who(run, answer)
    assert (caller["kind"], caller["role"]) == ("user", "operator")
    second = httpx.get(run.link)
    assert (second.status_code, second.headers.get_list("set-cookie")) == (403, [])
    assert who(run, answer) == caller


def test_two_at_once(run: Run) -> None:
    """Of several who open it at the same moment one is let in."""
    barrier = threading.Barrier(5)

    def open_it(_: int) -> int:
        barrier.wait()
        return httpx.get(run.link).status_code

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(open_it, range(5))) == [303, 403, 403, 403, 403]


def test_an_hour(run: Run) -> None:
    """It ends after an hour."""
    run.now = 3600
    assert httpx.get(run.link).status_code == 403
    run.now = 3599
    assert httpx.get(run.link).status_code == 303


@pytest.mark.parametrize("token", ["", "x", "é", "%00", "A" * 43])
def test_made_up(run: Run, token: str) -> None:
    """Nothing else opens it, and trying does not use it up; neither does looking at its head."""
    assert httpx.get(f"{run.url}{PATH}", params={"token": token}).status_code == 403
    assert httpx.head(run.link).status_code == 405
    assert httpx.get(run.link).status_code == 303


def test_the_next_run_has_the_same_operator(project: Project, loop: LoopThread, run: Run) -> None:
    """One user, however many links; a link is forgotten once it is told."""
    first = who(run, httpx.get(run.link))
    with ExitStack() as stack:
        other = Run(project, loop, stack)
        assert who(other, httpx.get(other.link)) == first
    assert run.again.endswith("token=")


def test_make_run_prints_it(start: Start) -> None:
    """`make run` prints a link that works, on its output alone."""
    server = start()
    assert server.process.stdout is not None
    lines = iter(server.process.stdout.readline, "")
    (link,) = next(
        found for line in lines if (found := re.findall(r"http://localhost:\d+/operator\?token=\S{43}", line))
    )
    answer = httpx.get(link, timeout=30)
    session = f"{link.partition(PATH)[0]}/api/session"
    assert httpx.get(session, cookies=dict(answer.cookies), timeout=30).json()["role"] == "operator"
    kept = [file for file in (ROOT / ".local").rglob("*.log") if link[-43:] in file.read_text(errors="replace")]
    assert kept == []

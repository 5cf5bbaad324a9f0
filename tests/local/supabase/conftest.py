"""A gateway over a database of its own, with the tables of schema.sql, on a real socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from supabase import create_client
from supabase.lib.client_options import SyncClientOptions

from local.postgres import OWNER, Postgres
from local.supabase.gateway import gateway
from tests.database import Database, copied
from tests.fakes.asgi import serving
from tests.fakes.loop import LoopThread

SCHEMA = Path(__file__).parent / "schema.sql"
PUBLISHABLE = "sb_publishable_for_tests"
SECRET = "sb_secret_for_tests"
PASSWORD = "correct horse"
Supabase = Any
"""The vendor's client, which declares its results too loosely for a strict checker."""


@dataclass
class Clock:
    """The time by which tokens expire: it stands still at the beginning of the tests, unless moved."""

    start: float = field(default_factory=time.time)
    offset: float = 0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.start + self.offset


def supabase(url: str) -> dict[str, str]:
    """The variables that turn a project on."""
    return {"SUPABASE_URL": url, "SUPABASE_SECRET_KEY": SECRET, "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE}


@dataclass(frozen=True)
class Project:
    """A running gateway."""

    url: str
    database: Database
    folder: Path
    http: httpx.Client
    clock: Clock = field(default_factory=Clock)

    def client(self, key: str = PUBLISHABLE) -> Supabase:
        """The vendor's client, unmodified, signed in as nobody."""
        options = SyncClientOptions(
            auto_refresh_token=False, persist_session=False, httpx_client=self.http, postgrest_client_retry=False
        )
        return create_client(self.url, key, options)

    def admin(self) -> Supabase:
        """The client of a server, with the secret key."""
        return self.client(SECRET)

    def user(self, email: str | None = None) -> Supabase:
        """A client signed in as a new user."""
        client = self.client()
        client.auth.sign_up({"email": email or f"{uuid4()}@mail.test", "password": PASSWORD})
        return client

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says past all policies."""
        with self.database.connect() as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def send(
        self, method: str, path: str, *, token: str | None = None, key: str = SECRET, **options: Any
    ) -> httpx.Response:
        """A plain request, with the secret key unless told otherwise."""
        headers = {"apikey": key, "authorization": f"Bearer {token or key}", **options.pop("headers", {})}
        return self.http.request(method, f"{self.url}{path}", headers=headers, **options)


def token(client: Supabase) -> str:
    """The access token of a client that is signed in."""
    return client.auth.get_session().access_token


def uid(client: Supabase) -> str:
    """The id of a client's user."""
    return client.auth.get_session().user.id


def claims_of(access_token: str) -> dict[str, Any]:
    """The claims, unchecked."""
    return jwt.decode(access_token, options={"verify_signature": False})


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of a module: each uses users and rows of its own."""
    with copied(postgres, f"gateway_{uuid4().hex}") as database:
        with psycopg.connect(database.conninfo(user=OWNER), autocommit=True) as connection:
            connection.execute(SCHEMA.read_bytes())
        clock = Clock()
        with served(database, tmp_path_factory.mktemp("gateway"), loop, clock) as running:
            yield running


@contextmanager
def served(database: Database, folder: Path, loop: LoopThread, clock: Clock) -> Generator[Project]:
    """A gateway that runs."""

    def make(url: str) -> Any:
        return gateway(database, folder, url, SECRET, PUBLISHABLE, clock)

    with serving(make, loop) as url, httpx.Client(timeout=30) as http:
        yield Project(url, database, folder, http, clock)


@pytest.fixture
def clock(project: Project) -> Iterator[Callable[[float], None]]:
    """Moves the time by which tokens expire; afterwards it is back."""

    def move(seconds: float) -> None:
        project.clock.offset += seconds

    yield move
    project.clock.offset = 0

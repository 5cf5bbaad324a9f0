"""What the tests of the database share: sessions, and a clock that they set."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.database import DATABASE_URL, Database, Elsewhere, copied


class Session:
    """A connection that may do anything, to a database whose clock stands where it is set."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection = connection

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a query returns. One that fails undoes nothing but itself."""
        with self.connection.transaction():
            cursor = self.connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: object) -> Any:
        """The one value that a query returns."""
        ((value,),) = self.rows(query, *parameters)
        return value

    def insert(self, table: str, **row: object) -> None:
        """Insert a row into a table of `public`."""
        columns = sql.SQL(", ").join(map(sql.Identifier, row))
        values = sql.SQL(", ").join([sql.Placeholder()] * len(row))
        query = sql.SQL("insert into {} ({}) values ({})").format(sql.Identifier("public", table), columns, values)
        with self.connection.transaction():
            self.connection.execute(query, list(row.values()))

    def call(self, function: str, **arguments: object) -> Any:
        """What a function of `public` returns, called by the names of its arguments as the Data API does."""
        named = ", ".join(f"p_{name} => %s" for name in arguments)
        return self.value(f"select public.{function}({named})", *arguments.values())

    def set_clock(self, now: datetime) -> None:
        """From now on it is this time."""
        self.rows(
            "create or replace function private.now() returns timestamptz language sql volatile set search_path = '' "
            f"as $$ select timestamptz '{now.isoformat()}' $$"
        )


def wait_until_blocked(session: Session, thread: threading.Thread) -> None:
    """Return when another session of this database waits for a lock, in that thread."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while not session.value(query):
        assert thread.is_alive(), "it did not wait for anything"


@pytest.fixture(scope="session")
def shared_database(request: pytest.FixtureRequest) -> Iterator[Database | Elsewhere]:
    """A database in which nothing is ever committed."""
    if url := os.environ.get(DATABASE_URL):
        yield Elsewhere(url)
        return
    with copied(request.getfixturevalue("postgres"), "shared") as database:
        yield database


@pytest.fixture
def session(shared_database: Database | Elsewhere) -> Iterator[Session]:
    """A superuser's session. All that it did is undone afterwards, what it created or dropped included."""
    with shared_database.connect() as connection, connection.transaction(force_rollback=True):
        yield Session(connection)


@pytest.fixture
def committed(database: Database) -> Iterator[Session]:
    """A superuser's session in a database of this test's own, for tests with other sessions beside it."""
    with database.connect() as connection:
        yield Session(connection)

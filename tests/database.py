"""A real Postgres for tests, with the product's migrations: one server per run, one database of its own per test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from local.postgres import OWNER, SUPERUSER, Postgres

ROOT = Path(__file__).parent.parent
MIGRATIONS = ROOT / "supabase" / "migrations"
DATABASE_URL = "TEST_DATABASE_URL"
"""The variable that names a database to run tests/db against, in place of one of our own."""
UNSAFE_BUT_QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the server."""

    postgres: Postgres
    name: str

    def conninfo(self, *, user: str = SUPERUSER) -> str:
        """How libpq reaches it."""
        return self.postgres.conninfo(user=user, dbname=self.name)

    def connect(self, *, user: str = SUPERUSER) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit."""
        return psycopg.connect(self.conninfo(user=user), autocommit=True)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A database that is migrated already and not ours to copy: of `supabase start`, say."""

    url: str

    def connect(self, *, user: str = SUPERUSER) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit."""
        return psycopg.connect(make_conninfo(self.url, user=user), autocommit=True)


@contextmanager
def reachable_folder() -> Generator[Path]:
    """An empty folder that the service account can enter, unlike pytest's own when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="blueprint-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def served(migrations: Path = MIGRATIONS) -> Generator[Postgres]:
    """A server whose database `postgres` is migrated, and is the template of others."""
    with reachable_folder() as folder, Postgres(folder / "postgres", settings=UNSAFE_BUT_QUICK) as postgres:
        postgres.migrate(migrations)
        yield postgres


@contextmanager
def copied(postgres: Postgres, name: str) -> Generator[Database]:
    """A fresh copy of the migrated database."""
    with psycopg.connect(postgres.conninfo(dbname="template1"), autocommit=True) as admin:
        admin.execute(f'create database "{name}" template postgres strategy wal_log owner {OWNER}'.encode())
        try:
            yield Database(postgres, name)
        finally:
            admin.execute(f'drop database "{name}" with (force)'.encode())

"""The database's functions for code under test: called by name as the Data API does, on the real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from lib.errors import DataFailed
from tests.database import Database


class Direct:
    """An Rpc over one connection; `refuse` makes it fail as an unreachable project does."""

    def __init__(self, database: Database) -> None:
        self._connection = database.connect()
        self._turn = asyncio.Lock()
        self.refuse = False
        self.refuse_next: set[str] = set()
        """Functions that fail once."""
        self.calls: list[str] = []

    async def __call__(self, function: str, arguments: Mapping[str, object], *, timeout_s: float = 2.0) -> Any:
        """See Rpc."""
        del timeout_s
        self.calls.append(function)
        if self.refuse or function in self.refuse_next:
            self.refuse_next.discard(function)
            raise DataFailed("connection_failed")
        values = [Jsonb(value) if isinstance(value, dict) else value for value in arguments.values()]
        named = ", ".join(f"{name} => %s" for name in arguments)
        async with self._turn:
            return await asyncio.to_thread(self._call, f"select public.{function}({named})", values)

    def _call(self, query: str, values: list[object]) -> Any:
        try:
            row = self._connection.execute(query.encode(), values).fetchone()
        except psycopg.Error as error:
            raise DataFailed(error.sqlstate or "unknown") from error
        return None if row is None else row[0]

    def run(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Anything, as the superuser."""
        cursor = self._connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def user(self) -> str:
        """A new user's id."""
        user_id = str(uuid4())
        self.run("insert into auth.users (id) values (%s)", user_id)
        return user_id

    def forget_leases(self) -> None:
        """As if a minute had gone by: whoever drove is taken for dead."""
        self.run("update public.vsl_jobs set lease_until = now() - interval '1 second' where lease_until is not null")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

"""Transactions on the embedded Postgres, each as somebody: that the policies decide is what this gateway is for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[TupleRow]
CONNECTIONS = 8
"""Per pool; a transaction beyond that waits."""

# What PostgREST sets before each request, the settings of the role included (statement_timeout, say): these would else
# only count for who logs in as that role.
IMPERSONATE: LiteralString = """
select set_config('role', %(role)s, true),
       set_config('request.jwt.claims', %(claims)s, true),
       set_config('search_path', '"public", "extensions"', true),
       set_config('transaction_read_only', %(read_only)s, true),
       (select count(set_config(split_part(setting, '=', 1), split_part(setting, '=', 2), true))
          from pg_roles, unnest(rolconfig) as setting
         where rolname = %(role)s and setting not like 'search_path=%%')
"""


class Reachable(Protocol):
    """A database that can be reached as various logins, such as `local.postgres.Postgres`."""

    def conninfo(self, *, user: str) -> str:
        """How libpq reaches it as this login."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the role for Postgres and the claims for the policies."""

    role: str
    claims: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def user_id(self) -> str | None:
        """The user, where it is one."""
        return self.claims.get("sub")


ANONYMOUS = Caller("anon", {"role": "anon"})
SERVICE = Caller("service_role", {"role": "service_role"})


class Database:
    """Pools of connections, opened with `open` and closed with `close`."""

    def __init__(self, server: Reachable) -> None:
        self._callers = _pool(server.conninfo(user="authenticator"))
        self._auth = _pool(server.conninfo(user="supabase_auth_admin"))

    async def open(self) -> None:
        """Connect. Raises PoolTimeout where there is no Postgres."""
        await self._callers.open(wait=True)
        await self._auth.open(wait=True)

    async def close(self) -> None:
        """Disconnect."""
        await self._callers.close()
        await self._auth.close()

    @asynccontextmanager
    async def as_caller(self, caller: Caller, *, read_only: bool = False) -> AsyncGenerator[Connection]:
        """A transaction in which Postgres holds us for the caller; rolled back where an exception leaves it."""
        async with self._callers.connection() as connection:
            await become(connection, caller, read_only=read_only)
            yield connection

    @asynccontextmanager
    async def as_auth_admin(self) -> AsyncGenerator[Connection]:
        """A transaction as the owner of users and sessions; rolled back where an exception leaves it."""
        async with self._auth.connection() as connection:
            yield connection


async def become(connection: Connection, caller: Caller, *, read_only: bool = False) -> None:
    """Have Postgres hold us for this caller for the rest of the transaction, or until we become another."""
    claims = orjson.dumps(caller.claims).decode()
    settings = {"role": caller.role, "claims": claims, "read_only": "on" if read_only else "off"}
    await connection.execute(IMPERSONATE, settings)


def _pool(conninfo: str) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(conninfo, connection_class=Connection, min_size=1, max_size=CONNECTIONS, open=False)

"""Who may do what, found out by trying: each caller, each verb, each table of the catalogue, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, LiteralString
from uuid import UUID, uuid5

import psycopg
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

Connection = psycopg.Connection[tuple[Any, ...]]
Verb = Literal["select", "insert", "update", "delete"]
Reach = Literal["none", "own", "all"]
VERBS: tuple[Verb, ...] = ("select", "insert", "update", "delete")
SPACE = UUID("5f5f5f5f-0000-4000-8000-000000000000")


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Whom the Data API speaks for: a role, and the claims of the token."""

    name: str
    role: LiteralString
    claims: Mapping[str, Any]

    @property
    def id(self) -> UUID:
        """The user, or for a role without one whatever it might claim to be."""
        return uuid5(SPACE, self.name)


def _user(name: str, **claims: object) -> Caller:
    return Caller(name, "authenticated", {"sub": str(uuid5(SPACE, name)), "role": "authenticated", **claims})


USERS = (
    _user("guest", is_anonymous=True),
    _user("user A", is_anonymous=False),
    _user("user B", is_anonymous=False),
    _user("operator", is_anonymous=False, app_metadata={"role": "operator"}),
    # Anyone may write their own user_metadata: it must not make a difference.
    _user("impostor", is_anonymous=False, user_metadata={"role": "operator"}),
)
CALLERS = (
    Caller("anon", "anon", {"role": "anon"}),
    *USERS,
    Caller("service", "service_role", {"role": "service_role"}),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the catalogue; `parent` where it is a partition."""

    schema: str
    name: str
    parent: str | None
    has_rls: bool

    def __str__(self) -> str:
        """As one says it."""
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """For a statement."""
        return sql.Identifier(self.schema, self.name)


def tables(connection: Connection) -> list[Table]:
    """Every table and partition that is ours, or holds what is ours."""
    rows = connection.execute(
        """
        select n.nspname, c.relname, parent.relname, c.relrowsecurity
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        left join pg_inherits i on i.inhrelid = c.oid
        left join pg_class parent on parent.oid = i.inhparent
        where c.relkind in ('r', 'p', 'f', 'v', 'm')
          and (n.nspname in ('public', 'private')
               or c.oid in ('storage.buckets'::regclass, 'storage.objects'::regclass))
        order by 1, 2
        """
    )
    return [Table(*row) for row in rows]


def buckets(connection: Connection) -> list[tuple[str, bool]]:
    """Every bucket, and whether it is public."""
    return [(name, public) for name, public in connection.execute("select id, public from storage.buckets order by 1")]


Row = Mapping[str, object]
MakeRow = Callable[[UUID, int], Row]
"""A row that this user could call its own, the nth of it."""


def become(connection: Connection, caller: Caller) -> None:
    """Take a caller's place until the transaction ends, as PostgREST does."""
    connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(caller.claims)])
    # The Storage API sets it; without it the answer would be the trigger's, not the policy's.
    connection.execute("select set_config('storage.allow_delete_query', 'true', true)")
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(caller.role)))


class Prober:
    """Tries the verbs on a table in which each of USERS has a row: number 0 of `make_row`."""

    def __init__(self, connection: Connection, table: Table, make_row: MakeRow, key: str) -> None:
        """`key` is a column by which the rows can be told apart. The rows are inserted here."""
        self._connection = connection
        self._table = table
        self._make_row = make_row
        self._key = key
        self._users = {str(make_row(user.id, 0)[key]): user for user in USERS}
        for user in USERS:
            connection.execute(*self._insertion(make_row(user.id, 0)))

    def reach(self, caller: Caller, verb: Verb) -> Reach:
        """Whose rows a caller can select, insert, update or delete."""
        match verb:
            case "select":
                users = self._tried(caller, *self._rows())
            case "insert":
                rows = {user: self._make_row(user.id, 1) for user in USERS}
                users = {user for user, row in rows.items() if self._tried(caller, *self._insertion(row), new=True)}
            case "update":
                users = self._tried(caller, *self._change())
            case "delete":
                users = self._tried(caller, sql.SQL("delete from {}").format(self._table.identifier), [])
        if not users:
            return "none"
        if users == {caller}:
            return "own"
        assert users == set(USERS), f"{verb} on {self._table} lets {caller.name} reach {[user.name for user in users]}"
        return "all"

    def _tried(
        self, caller: Caller, statement: sql.Composed, values: list[object], *, new: bool = False
    ) -> set[Caller]:
        """Whose rows a caller's statement returns, or else changes; then it is undone."""
        with self._connection.transaction(force_rollback=True):
            before = self._state()
            try:
                with self._connection.transaction():
                    become(self._connection, caller)
                    cursor = self._connection.execute(statement, values)
                    returned = cursor.fetchall() if cursor.description else None
            except InsufficientPrivilege:
                return set()
            self._connection.execute("reset role")
            changed = before ^ self._state() if returned is None else set(returned)
        keys = {str(row[0]) for row in changed}
        return {caller} if new and keys else {self._users[key] for key in keys & self._users.keys()}

    def _state(self) -> set[tuple[Any, ...]]:
        """Every row with its version."""
        query = sql.SQL("select {}, xmin::text, ctid::text from {}")
        return set(self._connection.execute(query.format(sql.Identifier(self._key), self._table.identifier)).fetchall())

    def _rows(self) -> tuple[sql.Composed, list[object]]:
        return sql.SQL("select {} from {}").format(sql.Identifier(self._key), self._table.identifier), []

    def _insertion(self, row: Row) -> tuple[sql.Composed, list[object]]:
        columns = sql.SQL(", ").join(map(sql.Identifier, row))
        places = sql.SQL(", ").join([sql.Placeholder()] * len(row))
        query = sql.SQL("insert into {} ({}) values ({})").format(self._table.identifier, columns, places)
        return query, list(row.values())

    def _change(self) -> tuple[sql.Composed, list[object]]:
        # No WHERE and no RETURNING: they would ask for the right to select as well.
        column, value = list(self._make_row(USERS[0].id, 0).items())[-1]
        query = sql.SQL("update {} set {} = %s").format(self._table.identifier, sql.Identifier(column))
        return query, [value]

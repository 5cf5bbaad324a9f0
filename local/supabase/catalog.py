"""What Postgres's catalogue says of the exposed schema. Asked anew in each request, so that it is never out of date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from local.supabase.database import Connection
from local.supabase.statements import SCHEMA, Function

TABLE: LiteralString = """
select array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped),
       array(select attname::text
               from pg_index i, unnest(i.indkey) with ordinality as k(attnum, n) join pg_attribute a using (attnum)
              where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid
              order by n)
  from pg_class c
 where relnamespace = %(schema)s::regnamespace and relname = %(name)s and relkind in ('r', 'p', 'v', 'm', 'f')
"""
FUNCTIONS: LiteralString = """
select array(select format_type(type, null) from unnest(proargtypes) with ordinality as a(type, n) order by n),
       coalesce(proargnames, '{}'),
       coalesce(proargmodes::text[], '{}'),
       pronargdefaults,
       proretset,
       typtype = 'c' or prorettype = 'record'::regtype or coalesce(proargmodes::text[] && '{t,b,o}', false),
       prorettype = 'void'::regtype
  from pg_proc join pg_type t on t.oid = prorettype
 where pronamespace = %(schema)s::regnamespace and proname = %(name)s and prokind = 'f' and provariadic = 0
   and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
"""


@dataclass(frozen=True, slots=True)
class Table:
    """What a mutation needs to know of a table or view: all columns, and those of the primary key in its order."""

    columns: frozenset[str]
    key: tuple[str, ...]


async def table(connection: Connection, name: str) -> Table | None:
    """The table of this name."""
    cursor = await connection.execute(TABLE, {"schema": SCHEMA, "name": name})
    row = await cursor.fetchone()
    return Table(frozenset(row[0]), tuple(row[1])) if row else None


async def functions(connection: Connection, name: str) -> list[Function]:
    """The functions of this name that can be called with named arguments."""
    cursor = await connection.execute(FUNCTIONS, {"schema": SCHEMA, "name": name})
    found: list[Function] = []
    async for types, names, modes, defaults, returns_set, returns_rows, returns_nothing in cursor:
        # Modes are there only where some argument comes out; in, inout and out are i, b and o, columns t.
        going_in = [name for name, mode in zip(names, modes or "i" * len(names), strict=True) if mode in "ib"]
        if all(going_in) and len(going_in) == len(types):
            arguments = dict(zip(going_in, types, strict=True))
            found.append(Function(name, arguments, defaults, returns_set, returns_rows, returns_nothing))
    return found

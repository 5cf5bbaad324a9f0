"""Applies supabase/migrations, and records them as the Supabase CLI does, so that both can work on one database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg

# As the CLI makes it.
HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
"""
LOCK = 0x6D696772
TOKEN = re.compile(
    r"""
    --[^\n]*                            # a comment
    | /\*.*?\*/
    | (?P<dollar>\$\w*\$).*?(?P=dollar) # a text: between dollars, escaped, plain; or a quoted name
    | \b[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | ;
    """,
    re.DOTALL | re.VERBOSE,
)


class MigrationError(Exception):
    """A migration failed, and nothing of it was kept; the message names file and line."""


def apply(connection: psycopg.Connection[Any], folder: Path) -> list[str]:
    """Apply what the database has not recorded, in the order of versions, each in one transaction; return the versions.

    The connection is in autocommit. Two at once: the second waits, and then finds nothing to do. Raises MigrationError.
    """
    done: list[str] = []
    connection.execute("select pg_advisory_lock(%s)", [LOCK])
    try:
        connection.execute(HISTORY)
        recorded = {
            version for (version,) in connection.execute("select version from supabase_migrations.schema_migrations")
        }
        for file in sorted(folder.glob("*.sql")):
            version, _, name = file.stem.partition("_")
            if version not in recorded:
                _apply(connection, file, version, name)
                done.append(version)
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [LOCK])
    return done


def _apply(connection: psycopg.Connection[Any], file: Path, version: str, name: str) -> None:
    text = file.read_text()
    try:
        with connection.transaction():
            connection.execute(text.encode())
            connection.execute(
                "insert into supabase_migrations.schema_migrations (version, name, statements) values (%s, %s, %s)",
                [version, name, statements(text)],
            )
    except psycopg.Error as error:
        position = int(error.diag.statement_position or 0)
        where = f"{file}:{text.count(chr(10), 0, position) + 1}" if position else str(file)
        raise MigrationError(f"{where}: {error.diag.message_primary or error}") from error


def statements(text: str) -> list[str]:
    """The statements of an SQL text, without their semicolons."""
    out: list[str] = []
    start = 0
    for match in TOKEN.finditer(text):
        if match[0] == ";":
            out.append(text[start : match.start()].strip())
            start = match.end()
    return [statement for statement in [*out, text[start:].strip()] if statement]

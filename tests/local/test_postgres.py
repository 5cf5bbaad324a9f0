"""The embedded Postgres: starts, keeps what it holds, and comes back after whatever was done to it."""

from __future__ import annotations

from tests.database import Database


def test_a_database_of_its_own(database: Database) -> None:
    """A test's database carries what Supabase brings along."""
    with database.connect(user="postgres") as connection:
        rows = connection.execute("select rolname from pg_roles where rolbypassrls order by rolname").fetchall()
    assert [name for (name,) in rows] == ["postgres", "service_role", "supabase_admin"]

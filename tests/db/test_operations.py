"""Scheduled jobs, retention, and the end of an account."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database import ROOT, Database
from tests.db.conftest import Session
from tests.db.test_access import cell
from tests.db.test_events import event
from tests.db.test_limits import counted, reserve

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def at_noon(session: Session) -> Session:
    """A session at noon."""
    session.set_clock(NOON)
    return session


def test_one_run_at_a_time(at_noon: Session) -> None:
    """The second is told that there is one; after its end the next begins. Other jobs are not in the way."""
    first = at_noon.call("start_cron_run", job="rollup")
    assert at_noon.call("start_cron_run", job="rollup") is None
    assert at_noon.call("start_cron_run", job="retention") is not None
    assert at_noon.call("finish_cron_run", id=first, outcome="ok", report=Jsonb({"rows": 3})) is True
    assert at_noon.call("finish_cron_run", id=first, outcome="error", report=Jsonb({})) is False
    assert at_noon.call("start_cron_run", job="rollup") is not None
    rows = at_noon.rows("select outcome, report, finished_at from public.cron_runs where job = 'rollup' order by id")
    assert rows == [("ok", {"rows": 3}, NOON), ("running", {}, None)]


def test_a_run_that_died_is_lost_and_the_next_begins(at_noon: Session) -> None:
    """When its lease is over, not before; and what it still reports comes too late."""
    first = at_noon.call("start_cron_run", job="rollup", lease_s=60)
    at_noon.set_clock(NOON + timedelta(seconds=59))
    assert at_noon.call("start_cron_run", job="rollup") is None
    at_noon.set_clock(NOON + timedelta(seconds=60))
    assert at_noon.call("start_cron_run", job="rollup") is not None
    assert at_noon.call("finish_cron_run", id=first, outcome="ok", report=Jsonb({})) is False
    assert at_noon.rows("select outcome from public.cron_runs order by id") == [("lost",), ("running",)]


@pytest.mark.parametrize("is_dead", [False, True])
def test_many_crons_at_once(database: Database, committed: Session, *, is_dead: bool) -> None:
    """One of them runs, also where the one before has died."""
    if is_dead:
        committed.call("start_cron_run", job="rollup", lease_s=0)
    started: list[int | None] = []

    def start() -> None:
        with database.connect() as connection:
            started.append(Session(connection).call("start_cron_run", job="rollup"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 8
    assert len([run for run in started if run is not None]) == 1


def fill(session: Session, age: timedelta) -> None:
    """A row of each kind, so old."""
    session.set_clock(NOON - age)
    session.call("ensure_event_partitions", days_ahead=0)
    session.call("record_events", events=Jsonb([event(NOON - age)]))
    settled = uuid4()
    reserve(session, 1, reservation_id=settled)
    session.call("settle", reservation_id=settled, actual_microusd=1)
    session.call("claim_idempotency_key", owner_id=uuid4(), route="r", key="k", request_hash="h")
    session.insert("stop_requests", request_id=uuid4(), user_id=uuid4(), created_at=NOON - age)
    run = session.call("start_cron_run", job="rollup")
    session.call("finish_cron_run", id=run, outcome="ok", report=Jsonb({}))
    session.set_clock(NOON)


PRUNED = {"incidents", "webhook_deliveries"}
"""By prune_incidents: tests/db/test_incidents.py."""
KEPT = {
    "inference_events": timedelta(days=90),
    "usage_counters": timedelta(days=400),
    "reservations": timedelta(days=7),
    "idempotency_keys": timedelta(days=1),
    "stop_requests": timedelta(hours=1),
    "cron_runs": timedelta(days=30),
}


def test_retention(at_noon: Session) -> None:
    """Each table keeps what is as old as it says, and loses what is a day older."""
    kept = dict(at_noon.rows("select table_name, keep from private.retention"))
    assert {table: keep for table, keep in kept.items() if table not in PRUNED} == {**KEPT, **TRIMMED}
    for table, keep in KEPT.items():
        # A minute less for those who count by the minute: at the very moment they are over.
        for age in (keep - timedelta(minutes=1), keep + DAY):
            fill(at_noon, age)
        report = at_noon.call("apply_retention")
        assert report[table if table != "inference_events" else "inference_events_partitions"] >= 1
        ages = {
            "inference_events": "select created_at from public.inference_events",
            "usage_counters": "select day::timestamp at time zone 'UTC' from public.usage_counters",
            "reservations": "select ended_at from public.reservations",
            "idempotency_keys": "select created_at from public.idempotency_keys",
            "stop_requests": "select created_at from public.stop_requests",
            "cron_runs": "select started_at from public.cron_runs",
        }
        oldest = min(age for (age,) in at_noon.rows(ages[table]))
        assert NOON - keep - DAY < oldest <= NOON - keep + timedelta(minutes=1)
        assert set(at_noon.call("apply_retention").values()) == {0}


TRIMMED = {
    "inference_rollup_5m": timedelta(days=100),
    "inference_rollup_1h": timedelta(days=400),
    "feedback": timedelta(days=90),
}


def test_telemetry_is_trimmed(at_noon: Session) -> None:
    """Rollups and feedback of before are gone, those of an hour less are kept."""
    for ages in (timedelta(hours=-1), timedelta(hours=1)):
        for table, keep in TRIMMED.items():
            at = NOON - keep - ages
            if table == "feedback":
                at_noon.insert(table, request_id=uuid4(), thumb=1, created_at=at)
            else:
                at_noon.insert(table, **{**cell(uuid4(), 0), "bucket_start": at})
    assert at_noon.call("trim_telemetry") == dict.fromkeys(TRIMMED, 1)
    assert at_noon.call("trim_telemetry") == dict.fromkeys(TRIMMED, 0)
    for table in TRIMMED:
        assert at_noon.value(f"select count(*) from public.{table}") == 1  # noqa: S608 - a name of ours


def test_retention_spares_what_is_held(at_noon: Session) -> None:
    """Money that is still held is not forgotten, however old; nor is a run that goes on."""
    reserve(at_noon, 5, lifetime_s=10**8)
    at_noon.call("start_cron_run", job="rollup", lease_s=10**8)
    at_noon.set_clock(NOON + 365 * DAY)
    at_noon.call("apply_retention")
    assert at_noon.value("select count(*) from public.reservations") == 1
    assert at_noon.value("select count(*) from public.cron_runs") == 1


def test_old_events_in_the_net_go_as_well(at_noon: Session) -> None:
    """Where a partition was never made."""
    at_noon.call("record_events", events=Jsonb([event(NOON - 91 * DAY), event(NOON - 89 * DAY)]))
    at_noon.call("apply_retention")
    assert at_noon.rows("select created_at from public.inference_events") == [(NOON - 89 * DAY,)]


def make_user(session: Session) -> UUID:
    """A user with a bit of everything."""
    user = uuid4()
    session.rows("insert into auth.users (id) values (%s)", user)
    for number, bucket in enumerate(("generated", "vsl_assets")):
        path = f"{user}/{number}.png"
        asset = uuid4()
        session.insert(
            "assets",
            id=asset,
            user_id=user,
            kind="audio",
            bucket_id=bucket,
            path=path,
            content_type="audio/mpeg",
            bytes=1,
            sha256="0" * 64,
        )
        session.insert("audio_assets", asset_id=asset, duration_ms=1)
        session.rows("insert into storage.objects (bucket_id, name) values (%s, %s)", bucket, path)
    events = [event(NOON - n * DAY, user_id=str(user), metadata={"name": "Ada"}, cost_microusd=5) for n in (0, 1)]
    session.call("record_events", events=Jsonb(events))
    session.call("claim_idempotency_key", owner_id=user, route="r", key="k", request_hash="h")
    session.insert("stop_requests", request_id=uuid4(), user_id=user, created_at=NOON)
    session.insert("limits", scope="user", subject=str(user), requests_per_minute=100)
    done = uuid4()
    reserve(session, 100, user, reservation_id=done)
    session.call("settle", reservation_id=done, actual_microusd=30)
    return user


def everything(session: Session) -> dict[str, Any]:
    """The whole database, as text by table."""
    names = [
        name
        for (name,) in session.rows(
            "select oid::regclass::text from pg_class where relkind in ('r', 'p') and not relispartition "
            "and relnamespace in ('public'::regnamespace, 'private'::regnamespace)"
        )
    ]
    return {name: session.rows(f"select to_jsonb(t)::text from {name} t order by 1") for name in names}  # noqa: S608


def test_an_account_is_forgotten(at_noon: Session) -> None:
    """Nothing names the user any more, files are listed for removal, and the sums are what they were."""
    user, other = make_user(at_noon), make_user(at_noon)
    total = counted(at_noon, "total")
    others = {name: [row for row in rows if str(other) in row[0]] for name, rows in everything(at_noon).items()}
    answer = at_noon.call("forget_user", user_id=user)
    assert answer == {
        "events": 2,
        "assets": 2,
        "files": [
            {"bucket_id": "generated", "path": f"{user}/0.png"},
            {"bucket_id": "vsl_assets", "path": f"{user}/1.png"},
        ],
    }
    left = everything(at_noon)
    assert {name for name, rows in left.items() if str(user) in str(rows)} == set()
    assert "Ada" not in str([row for row in left["inference_events"] if str(other) not in row[0]])
    assert {name: [row for row in rows if str(other) in row[0]] for name, rows in left.items()} == others
    assert counted(at_noon, "total") == total
    # The events of one person stay together, so that an experiment still counts them as one.
    assert len(at_noon.rows("select distinct user_id from public.inference_events")) == 2
    assert at_noon.value("select sum(cost_microusd)::int from public.inference_events") == 20


def test_forgetting_can_be_repeated_until_the_files_are_gone(at_noon: Session) -> None:
    """A removal that failed half-way is gone on with: the list is of what lies there."""
    user = make_user(at_noon)
    at_noon.call("forget_user", user_id=user)
    at_noon.rows("select set_config('storage.allow_delete_query', 'true', true)")
    at_noon.rows("delete from storage.objects where name = %s", f"{user}/0.png")
    answer = at_noon.call("forget_user", user_id=user)
    assert answer == {"events": 0, "assets": 0, "files": [{"bucket_id": "vsl_assets", "path": f"{user}/1.png"}]}


def test_what_still_runs_settles_after_its_user_is_forgotten(at_noon: Session) -> None:
    """Its money was spent, whoever it was."""
    user = make_user(at_noon)
    running = uuid4()
    reserve(at_noon, 50, user, reservation_id=running)
    at_noon.call("forget_user", user_id=user)
    assert at_noon.call("settle", reservation_id=running, actual_microusd=40)["settled"] is True
    assert counted(at_noon, "total")[1:] == (0, 70)
    assert str(user) not in str(everything(at_noon))


def test_deleting_the_user_takes_the_rest_along(at_noon: Session) -> None:
    """Even where nobody asked to forget: assets hang on auth.users."""
    user = make_user(at_noon)
    at_noon.rows("delete from auth.users where id = %s", user)
    assert (
        at_noon.value("select count(*) from public.assets")
        == at_noon.value("select count(*) from public.audio_assets")
        == 0
    )


def test_nothing_is_held_for_a_user_who_was_removed(at_noon: Session) -> None:
    """Whoever removed it, and as a guest too; a key goes on. What is known of the user is an id, for eight days."""
    user, other = make_user(at_noon), make_user(at_noon)
    at_noon.rows("delete from auth.users where id = %s", user)
    before = everything(at_noon)
    for kind in ("user", "guest"):
        assert reserve(at_noon, 1, user, kind) == {"allowed": False, "reason": "user_removed"}
    assert everything(at_noon) == before
    assert reserve(at_noon, 1, user, "key")["allowed"] is reserve(at_noon, 1, other)["allowed"] is True
    at_noon.set_clock(NOON + timedelta(days=8, seconds=1))
    at_noon.rows("delete from auth.users where id = %s", other)
    assert at_noon.rows("select id from private.removed_users") == [(other,)]


@pytest.mark.parametrize(
    "path",
    [
        "{other}/1.png",
        "1.png",
        "{user}",
        "{user}x/1.png",
        "/{user}/1.png",
        "{user}/../{other}/1.png",
        "{user}//1.png",
        "{user}/./1.png",
        "{user}/",
    ],
)
def test_an_asset_lies_in_its_owners_folder(at_noon: Session, path: str) -> None:
    """Whatever the server might be made to write."""
    user, other = make_user(at_noon), uuid4()
    with pytest.raises(psycopg.errors.CheckViolation):
        at_noon.insert(
            "assets",
            user_id=user,
            kind="image",
            bucket_id="generated",
            path=path.format(user=user, other=other),
            content_type="image/png",
            bytes=1,
            sha256="0" * 64,
        )


def test_the_same_generation_is_stored_once(at_noon: Session) -> None:
    """Per owner; several generations may share one file."""
    first, second = make_user(at_noon), make_user(at_noon)
    for user, key in ((first, "a"), (first, "b"), (second, "a"), (first, None), (first, None)):
        at_noon.insert(
            "assets",
            user_id=user,
            kind="image",
            bucket_id="generated",
            path=f"{user}/x.png",
            content_type="image/png",
            bytes=1,
            sha256="0" * 64,
            generation_key=key,
        )
    with pytest.raises(psycopg.errors.UniqueViolation):
        at_noon.insert(
            "assets",
            user_id=first,
            kind="image",
            bucket_id="generated",
            path=f"{first}/y.png",
            content_type="image/png",
            bytes=1,
            sha256="1" * 64,
            generation_key="a",
        )


def test_the_page_on_the_database_names_everything(session: Session) -> None:
    """docs/database.md: each table, function and bucket, and how long what is kept."""
    page = (ROOT / "docs" / "database.md").read_text()
    names = [
        name
        for (name,) in session.rows(
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
            "and not relispartition union all "
            "select proname::text from pg_proc where pronamespace = 'public'::regnamespace union all "
            "select id from storage.buckets"
        )
    ]
    assert [name for name in names if f"`{name}`" not in page and f"`{name}(" not in page] == []
    kept = session.rows("select table_name, keep::text from private.retention")
    assert [
        f"{table}: {keep}"
        for table, keep in kept
        if not any(
            f"`{table}`" in line and keep.replace("24:00:00", "24 hours").replace("01:00:00", "1 hour") in line
            for line in page.splitlines()
        )
    ] == []

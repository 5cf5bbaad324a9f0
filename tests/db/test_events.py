"""Inference events: recorded once, in the partition of their day, whatever the order and the hour."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.database import Database
from tests.db.conftest import Session, wait_until_blocked

TODAY = datetime(2027, 3, 10, 23, 59, 59, tzinfo=UTC)
DAY = timedelta(days=1)
PLACES = "select tableoid::regclass::text from public.inference_events order by created_at"


def event(created_at: datetime = TODAY, **changes: object) -> dict[str, Any]:
    """An event as the functions send it."""
    return {
        "id": str(uuid4()),
        "created_at": created_at.isoformat(),
        "request_id": str(uuid4()),
        "caller_kind": "key",
        "route": "/api/generate",
        "provider": "groq",
        "model": "openai/gpt-oss-20b",
        "outcome": "ok",
        "latency_ms": 12.5,
        **changes,
    }


def record(session: Session, *events: object) -> dict[str, Any]:
    """Send a batch."""
    return session.call("record_events", events=Jsonb(list(events)))


def test_a_batch_sent_again_changes_nothing(session: Session) -> None:
    """created_at is the event's own, so the same event is the same row, also beside new ones."""
    first, second = event(), event(attempt=2)
    assert record(session, first, second) == {"inserted": 2, "duplicates": 0, "rejected": []}
    assert record(session, second, first, event()) == {"inserted": 1, "duplicates": 2, "rejected": []}
    assert session.value("select count(*) from public.inference_events") == 3


def test_every_column_arrives(session: Session) -> None:
    """What is sent is what is stored; what no column is called is ignored."""
    sent = event(
        attempt=3,
        kind="fallback",
        user_id=str(uuid4()),
        modality="speech",
        error_code="rate_limited",
        finish_reason="stop",
        ttft_ms=0.1,
        input_tokens=1,
        output_tokens=2,
        cached_tokens=3,
        reasoning_tokens=4,
        units=1.5,
        unit="seconds",
        estimated=True,
        cost_microusd=2**40,
        cached_saving_microusd=7,
        fallback_from="xai",
        experiment="feature_ai_provider",
        experiment_arm="groq",
        gate="groq_r1_v_production",
        gate_arm="treatment",
        rollout_id="r1",
        rollout_share=0.05,
        config_version="42",
        cold_start=True,
        region="fra1",
        deployment="dpl_1",
        metadata={"a": [1, None]},
    )
    record(session, {**sent, "event": "ai_inference"})
    (stored,) = session.rows("select to_jsonb(e) from public.inference_events e")[0]
    assert {**stored, "created_at": datetime.fromisoformat(stored["created_at"])} == {**sent, "created_at": TODAY}


@pytest.mark.parametrize(
    ("change", "code", "constraint"),
    [
        ({"outcome": "fine"}, "23514", "inference_events_outcome_check"),
        ({"cost_microusd": -1}, "23514", "inference_events_cost_microusd_check"),
        ({"cost_microusd": "1e400"}, "22P02", ""),
        ({"cost_microusd": 10**30}, "22003", ""),
        ({"latency_ms": None}, "23502", ""),
        ({"latency_ms": "NaN"}, "23514", "inference_events_latency_ms_check"),
        ({"units": "Infinity", "unit": "seconds"}, "23514", "inference_events_units_check"),
        ({"id": "no uuid"}, "22P02", ""),
        ({"created_at": None}, "23502", ""),
        ({"created_at": "yesterday week"}, "22007", ""),
        ({"units": 1}, "23514", "inference_events_check"),
    ],
)
def test_a_bad_event_does_not_cost_the_others(
    session: Session, change: dict[str, object], code: str, constraint: str
) -> None:
    """It is named by its place in the batch and a code, never by its text."""
    answer = record(session, event(), event() | change, event())
    assert answer == {
        "inserted": 2,
        "duplicates": 0,
        "rejected": [{"index": 1, "code": code, "constraint": constraint}],
    }


@pytest.mark.parametrize("batch", [{}, "text", 1, None])
def test_what_is_no_batch_is_an_error(session: Session, batch: object) -> None:
    """Rather than a loss that nobody counts."""
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        session.call("record_events", events=Jsonb(batch))


def test_an_event_lies_in_the_partition_of_its_utc_day(session: Session) -> None:
    """To the last millisecond of one, and the first of the next; a leap day is a day."""
    session.set_clock(datetime(2028, 2, 28, 12, tzinfo=UTC))
    session.call("ensure_event_partitions")
    midnight = datetime(2028, 2, 29, tzinfo=UTC)
    record(session, *(event(midnight + offset) for offset in (-timedelta(milliseconds=1), timedelta(0), DAY)))
    names = ["inference_events_20280228", "inference_events_20280229", "inference_events_20280301"]
    assert [name for (name,) in session.rows(PLACES)] == names


def test_partitions_are_made_fourteen_days_ahead(session: Session) -> None:
    """From yesterday, for clocks that go behind, and over the change of a year; what is there already is left alone."""
    session.set_clock(datetime(2027, 12, 31, 23, 59, 59, 999000, tzinfo=UTC))
    made = session.call("ensure_event_partitions")["made"]
    assert made == [str((datetime(2027, 12, 30, tzinfo=UTC) + n * DAY).date()) for n in range(16)]
    assert session.call("ensure_event_partitions") == {"made": [], "moved": 0, "left_in_default": 0}
    session.set_clock(datetime(2028, 1, 1, tzinfo=UTC))
    assert session.call("ensure_event_partitions")["made"] == ["2028-01-15"]


def test_a_missed_day_is_made_up_for(session: Session) -> None:
    """While the net holds a row of a day, its partition can't be made the plain way: rows are moved, none is lost."""
    late = [event(TODAY - n * DAY) for n in (0, 0, 3, 200)]
    record(session, *late, event(TODAY + 100 * DAY))
    assert {name for (name,) in session.rows(PLACES)} == {"inference_events_default"}
    with pytest.raises(psycopg.errors.CheckViolation, match="would be violated"):
        session.rows(
            "create table public.plain partition of public.inference_events "
            "for values from ('2027-03-10 00:00+00') to ('2027-03-11 00:00+00')"
        )
    session.set_clock(TODAY)
    answer = session.call("ensure_event_partitions")
    assert answer["made"][:2] == ["2027-03-07", "2027-03-09"]
    # What is older than events are kept, or further ahead than partitions are made, stays where it is, and is counted.
    assert (answer["moved"], answer["left_in_default"]) == (3, 2)
    assert [name for (name,) in session.rows(PLACES)] == [
        "inference_events_default",
        "inference_events_20270307",
        "inference_events_20270310",
        "inference_events_20270310",
        "inference_events_default",
    ]
    assert record(session, *late) == {"inserted": 0, "duplicates": 4, "rejected": []}


def test_a_partition_made_late_has_all_that_the_others_have(session: Session) -> None:
    """Keys, indexes, checks and row level security of the parent; no rights of its own, no identity column."""
    session.set_clock(TODAY)
    session.call("ensure_event_partitions")
    shape = """
        select c.relrowsecurity, c.relacl::text,
          (select array_agg(definition order by definition)
           from pg_index, regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* USING', '') as definition
           where indrelid = c.oid),
          (select array_agg(definition order by definition)
           from pg_constraint, pg_get_constraintdef(oid) as definition where conrelid = c.oid),
          (select count(*) from pg_attribute where attrelid = c.oid and attidentity <> '')
        from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where i.inhparent = 'public.inference_events'::regclass
    """
    shapes = {repr(row) for row in session.rows(shape)}
    assert len(shapes) == 1
    assert "PRIMARY KEY (created_at, request_id, attempt)" in shapes.pop()


def test_two_crons_at_once(database: Database, committed: Session) -> None:
    """Both end well, and each partition was made by one of them."""
    committed.set_clock(TODAY)
    record(committed, event())
    made: list[str] = []

    def ensure() -> None:
        with database.connect() as connection:
            made.extend(Session(connection).call("ensure_event_partitions")["made"])

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 16


def test_writers_do_not_wait_for_a_new_partition(database: Database, committed: Session) -> None:
    """An event is recorded while a transaction that makes a partition is still open; afterwards both are there."""
    committed.set_clock(TODAY)
    committed.call("ensure_event_partitions")
    with database.connect() as maker, database.connect() as writer:
        writer.execute("set lock_timeout = '2s'")
        with maker.transaction():
            maker.execute("select public.ensure_event_partitions(15)")
            assert record(Session(writer), event())["inserted"] == 1
    assert committed.value(PLACES) == "inference_events_20270310"


def test_an_event_that_comes_in_meanwhile_is_moved_as_well(database: Database, committed: Session) -> None:
    """One that is being written into the net while its partition is made: waited for, then taken along."""
    committed.set_clock(TODAY)
    committed.rows("alter function private.add_event_partition set lock_timeout = '30s'")
    answers: list[dict[str, Any]] = []

    def ensure() -> None:
        with database.connect() as connection:
            answers.append(Session(connection).call("ensure_event_partitions"))

    maker = threading.Thread(target=ensure)
    with database.connect() as writer, writer.transaction():
        record(Session(writer), event(TODAY - DAY))  # whose partition is the first to be made
        maker.start()
        wait_until_blocked(committed, maker)
    maker.join()
    assert [(answer["moved"], answer["left_in_default"]) for answer in answers] == [(1, 0)]


def test_a_partition_that_must_wait_gives_up(database: Database, committed: Session) -> None:
    """It does not queue behind who holds the net for long, or all would queue behind it: the next run does it."""
    committed.set_clock(TODAY)
    with database.connect() as holder, holder.transaction():
        holder.execute("select 1 from public.inference_events_default")
        committed.rows("alter function private.add_event_partition set lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            committed.call("ensure_event_partitions")
    assert len(committed.call("ensure_event_partitions")["made"]) == 16

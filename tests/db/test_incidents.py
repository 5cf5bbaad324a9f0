"""Incidents as rows: one open per fingerprint, whatever comes in which order; leases; retention."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from lib.incidents.watch import expected_migrations
from tests.database import Database
from tests.db.conftest import Session

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PRINT, OTHER = "v1:0123456789abcdef", "v1:fedcba9876543210"
SUBJECT = "deploy:prj_1:production"


@pytest.fixture
def at_noon(session: Session) -> Session:
    """A session at noon."""
    session.set_clock(NOON)
    return session


def observe(session: Session, at: datetime = NOON, print_: str = PRINT, **more: object) -> Any:
    """One occurrence."""
    given = {"kind": "deploy", "subject": SUBJECT, "title": "Failed", "evidence": Jsonb({"at": at.isoformat()}), **more}
    return session.call("observe_incident", fingerprint=print_, at=at, **given)


def resolve(session: Session, at: datetime = NOON, subject: str = SUBJECT) -> Any:
    """A recovery."""
    return session.call("resolve_incidents", subject=subject, at=at)


def claim(session: Session, id_: int, *, creates: bool = True, **more: object) -> Any:
    """Claim it under a new name; its name, and what was answered."""
    owner = str(uuid4())
    return owner, session.call("claim_incident", id=id_, owner=owner, creates=creates, **more)


def told(session: Session, id_: int, number: int) -> None:
    """GitHub has an issue of this number for it."""
    owner, _ = claim(session, id_)
    session.call("record_incident", id=id_, owner=owner, changes=Jsonb({"issue_number": number, "told": "open"}))


def states(session: Session, print_: str = PRINT) -> list[str]:
    """The states of a fingerprint's rows, oldest first."""
    return [
        state
        for (state,) in session.rows("select state from public.incidents where fingerprint = %s order by id", print_)
    ]


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_fault_40_events_in_any_order(at_noon: Session, order: tuple[int, ...]) -> None:
    """Failed, well, failed, well: by their own time it is over, in whatever order they arrive."""
    times = [NOON - timedelta(minutes=40 - 10 * number) for number in range(4)]
    for number in order:
        if number % 2:
            resolve(at_noon, times[number])
        else:
            observe(at_noon, times[number])
    assert set(states(at_noon)) <= {"resolved"}


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_fault_40_the_last_event_counts(at_noon: Session, order: tuple[int, ...]) -> None:
    """Failed, well, failed: in whatever order they arrive, it is open in the end, once."""
    times = [NOON - timedelta(minutes=40 - 10 * number) for number in range(3)]
    for number in order:
        if number % 2:
            resolve(at_noon, times[number])
        else:
            observe(at_noon, times[number])
    assert states(at_noon) == ["open"]


def test_fault_40_stale_error_does_not_reopen(at_noon: Session) -> None:
    """What failed before the subject was known to be well opens nothing and reopens nothing."""
    observe(at_noon, NOON - HOUR)
    resolve(at_noon, NOON - MINUTE)
    assert observe(at_noon, NOON - 2 * MINUTE) == {"outcome": "stale"}
    assert observe(at_noon, NOON - MINUTE, OTHER) == {"outcome": "stale"}
    assert (states(at_noon), states(at_noon, OTHER)) == (["resolved"], [])


def test_clock_that_runs_ahead(at_noon: Session) -> None:
    """An event from the future counts as one of now: it must not outlive its recovery."""
    observe(at_noon, NOON + DAY)
    at_noon.set_clock(NOON + MINUTE)
    assert len(resolve(at_noon, NOON + MINUTE)["ids"]) == 1


def test_evidence_is_the_latest(at_noon: Session) -> None:
    """Counted are all, shown is what failed last by its own time."""
    for minutes in (10, 2, 5):
        row = observe(at_noon, NOON - minutes * MINUTE)["incident"]
    assert (row["occurrences"], row["evidence"]["at"]) == (3, (NOON - 2 * MINUTE).isoformat())
    assert row["first_seen"] == (NOON - 10 * MINUTE).isoformat()


def test_fault_41_regression(at_noon: Session) -> None:
    """Within 30 days the same row is opened again, with its issue; later a new one that remembers it."""
    id_ = observe(at_noon)["incident"]["id"]
    told(at_noon, id_, 7)
    resolve(at_noon)
    at_noon.set_clock(NOON + 29 * DAY)
    again = observe(at_noon, NOON + 29 * DAY)
    assert (again["outcome"], again["incident"]["id"], again["incident"]["flapping"]) == ("reopened", id_, False)
    resolve(at_noon, NOON + 29 * DAY)
    at_noon.set_clock(NOON + 60 * DAY)
    new = observe(at_noon, NOON + 60 * DAY)
    assert (new["outcome"], new["incident"]["issue_number"], new["incident"]["previous_issue"]) == ("opened", None, 7)
    assert states(at_noon) == ["resolved", "open"]


def back_and_over(session: Session, now: datetime, print_: str) -> int:
    """Fail and be well again at this time; how many incidents that ended."""
    session.set_clock(now)
    observe(session, now, print_, subject=print_)
    return len(resolve(session, now, print_)["ids"])


def test_fault_41_flapping(at_noon: Session) -> None:
    """Back for the third time within a day, it is not ended by being well any more; spread over days, it is."""
    for flapping, step in ((True, HOUR), (False, 13 * HOUR)):
        print_ = PRINT if flapping else OTHER
        ended = [back_and_over(at_noon, NOON + number * step, print_) for number in range(4)]
        assert ended == [1, 1, 1, 0 if flapping else 1]


def test_human_is_respected(at_noon: Session) -> None:
    """Closed by hand, what was on its way counts without reopening; muted, nothing ever reopens it."""
    id_ = observe(at_noon, NOON - HOUR)["incident"]["id"]
    told(at_noon, id_, 7)
    at_noon.call("human_on_incident", id=id_, state="closed", muted=False)
    at_noon.set_clock(NOON + 5 * MINUTE)
    assert observe(at_noon, NOON + 5 * MINUTE)["outcome"] == "counted"
    at_noon.set_clock(NOON + 11 * MINUTE)
    assert observe(at_noon, NOON + 11 * MINUTE)["outcome"] == "reopened"
    at_noon.call("human_on_incident", id=id_, state="closed", muted=True)
    at_noon.set_clock(NOON + 400 * DAY)
    counted = observe(at_noon, NOON + 400 * DAY)
    assert (counted["outcome"], counted["incident"]["occurrences"], states(at_noon)) == ("counted", 4, ["resolved"])


def test_who_reopens_an_issue_wants_it_open(at_noon: Session) -> None:
    """It does not close by itself a moment later."""
    id_ = observe(at_noon, NOON - HOUR)["incident"]["id"]
    told(at_noon, id_, 7)
    at_noon.call("human_on_incident", id=id_, state="closed", muted=False)
    row = at_noon.call("human_on_incident", id=id_, state="open", muted=False)
    assert (row["state"], row["told"], resolve(at_noon)["ids"]) == ("open", "open", [])


def test_lease(at_noon: Session) -> None:
    """One at a time; after its lease another, who has to look first; a number is never lost, a lease never stolen."""
    id_ = observe(at_noon)["incident"]["id"]
    first, got = claim(at_noon, id_)
    assert (got["outcome"], got["look_first"], claim(at_noon, id_)[1]) == ("claimed", False, {"outcome": "busy"})
    at_noon.set_clock(NOON + timedelta(seconds=90))
    second, got = claim(at_noon, id_)
    assert (got["outcome"], got["look_first"]) == ("claimed", True)
    late = at_noon.call("record_incident", id=id_, owner=first, changes=Jsonb({"issue_number": 3, "told": "open"}))
    assert (late["issue_number"], late["lease_owner"]) == (3, second)
    assert at_noon.call("record_incident", id=id_, owner=first, changes=Jsonb({"told": "closed"})) is None
    done = at_noon.call("record_incident", id=id_, owner=second, changes=Jsonb({"retry_after_s": 60}))
    assert (done["lease_owner"], claim(at_noon, id_)[1]) == (None, {"outcome": "busy"})


def test_hourly_cap(at_noon: Session) -> None:
    """Ten new issues within an hour, then no more, said once; a creation begun counts; the roll-up is not capped."""
    ids = [observe(at_noon, print_=f"v1:{number:016x}")["incident"]["id"] for number in range(12)]
    outcomes = [claim(at_noon, id_)[1] for id_ in ids]
    assert [each["outcome"] for each in outcomes] == ["claimed"] * 10 + ["capped"] * 2
    assert (outcomes[10]["first"], claim(at_noon, ids[10])[1]["first"]) == (True, False)
    rollup = observe(at_noon, print_=OTHER, kind="rollup")["incident"]["id"]
    assert claim(at_noon, rollup)[1]["outcome"] == "claimed"
    at_noon.set_clock(NOON + HOUR)
    assert claim(at_noon, ids[10])[1]["outcome"] == "claimed"


def test_recovery_by_traffic(at_noon: Session) -> None:
    """Quiet for 30 minutes and 20 calls of this provider that went well: neither alone ends it."""
    wanted = Jsonb({"quiet_s": 1800, "successes": 20, "provider": "groq", "model": None})
    id_ = observe(at_noon, NOON - HOUR, recovers=wanted)["incident"]["id"]

    def well(count: int, provider: str) -> None:
        events = [
            {
                "id": str(uuid4()),
                "created_at": (NOON - MINUTE).isoformat(),
                "request_id": str(uuid4()),
                "attempt": 1,
                "kind": "first",
                "user_id": str(uuid4()),
                "caller_kind": "key",
                "route": "/api/generate",
                "modality": "text",
                "provider": provider,
                "model": "m",
                "outcome": "ok",
                "latency_ms": 1,
                "input_tokens": 1,
                "output_tokens": 1,
                "cached_tokens": 0,
                "reasoning_tokens": 0,
                "estimated": False,
                "cold_start": False,
            }
            for _ in range(count)
        ]
        assert at_noon.call("record_events", events=Jsonb(events))["inserted"] == count

    well(20, "xai")
    well(19, "groq")
    assert at_noon.call("recover_incidents") == []
    well(1, "groq")
    at_noon.set_clock(NOON - 31 * MINUTE)
    assert at_noon.call("recover_incidents") == []
    at_noon.set_clock(NOON)
    assert at_noon.call("recover_incidents") == [id_]


def test_delivery_counts_once(at_noon: Session) -> None:
    """However often it is accepted and processed; who died on the way leaves it to the next, a minute later."""
    assert [at_noon.call("accept_delivery", source="vercel", delivery_id="a", facts=Jsonb({})) for _ in range(2)] == [
        "accepted",
        "duplicate",
    ]
    assert at_noon.call("pending_deliveries") == []
    at_noon.set_clock(NOON + 61 * timedelta(seconds=1))
    assert [each["delivery_id"] for each in at_noon.call("pending_deliveries")] == ["a"]
    assert at_noon.call("pending_deliveries") == []
    outcomes = [observe(at_noon, source="vercel", delivery_id="a")["outcome"] for _ in range(2)]
    assert outcomes == ["opened", "duplicate"]
    at_noon.set_clock(NOON + HOUR)
    assert at_noon.call("accept_delivery", source="vercel", delivery_id="a", facts=Jsonb({})) == "duplicate"


def test_many_at_once(database: Database) -> None:
    """Eight sessions, a hundred occurrences each, some recoveries between: one row, and every occurrence counted."""

    def work() -> None:
        with database.connect() as connection:
            session = Session(connection)
            for _ in range(100):
                observe(session, datetime.now(UTC) + HOUR)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.connect() as connection:
        assert Session(connection).rows("select state, occurrences from public.incidents") == [("open", 800)]


def test_turns(at_noon: Session) -> None:
    """One per minute and job."""
    assert [at_noon.call("take_turn", job="a", every_s=60) for _ in range(2)] == [True, False]
    assert at_noon.call("take_turn", job="b", every_s=60)
    at_noon.set_clock(NOON + MINUTE)
    assert at_noon.call("take_turn", job="a", every_s=60)


def test_prune(at_noon: Session) -> None:
    """Old deliveries and incidents that are over go; open and muted ones stay."""
    for number in range(3):
        observe(at_noon, NOON, f"v1:{number:016x}", subject=str(number))
    at_noon.call("accept_delivery", source="vercel", delivery_id="a", facts=Jsonb({}))
    resolve(at_noon, NOON, "0")
    resolve(at_noon, NOON, "1")
    at_noon.rows("update public.incidents set muted = true where subject = '1'")
    at_noon.set_clock(NOON + 401 * DAY)
    assert at_noon.call("prune_incidents") == {"webhook_deliveries": 1, "incidents": 1}
    assert sorted(subject for (subject,) in at_noon.rows("select subject from public.incidents")) == ["1", "2"]


def test_migrations_are_listed(at_noon: Session) -> None:
    """What the code was written for is what the database has."""
    assert tuple(at_noon.call("applied_migrations")) == expected_migrations()

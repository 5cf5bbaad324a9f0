"""Handing over what a guest did to the user whom it has become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.errors import InvalidParameterValue
from psycopg.types.json import Jsonb

from tests.db.conftest import Session

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def at_noon(session: Session) -> Session:
    """A session at noon."""
    session.set_clock(NOON)
    return session


def user(session: Session) -> UUID:
    """A user."""
    user_id = uuid4()
    session.rows("insert into auth.users (id, is_anonymous) values (%s, true)", user_id)
    return user_id


def record(session: Session, user_id: UUID, caller_kind: str = "guest") -> None:
    """An event of this caller."""
    event: dict[str, Any] = {
        "id": str(uuid4()),
        "request_id": str(uuid4()),
        "created_at": NOON.isoformat(),
        "user_id": str(user_id),
        "caller_kind": caller_kind,
        "route": "/api/generate",
        "provider": "local",
        "model": "m",
        "outcome": "ok",
        "latency_ms": 1,
    }
    assert session.call("record_events", events=Jsonb([event]))["inserted"] == 1


def reserve(session: Session, guest: UUID, microusd: int = 100) -> tuple[UUID, Any]:
    """Ask for money."""
    reservation_id = uuid4()
    answer = session.call(
        "reserve", reservation_id=reservation_id, caller_kind="guest", caller_id=guest, microusd=microusd
    )
    return reservation_id, answer


def used(session: Session, caller: UUID) -> list[tuple[Any, ...]]:
    """Requests in this minute, on this day, money held and spent."""
    query = "select minute_requests, requests, reserved_microusd, spent_microusd from usage_counters where subject = %s"
    return session.rows(query.replace("from ", "from public."), str(caller))


def adopt(session: Session, guest: UUID, user_id: UUID) -> Any:
    """Hand it over."""
    return session.call("adopt_guest", guest_id=guest, user_id=user_id)


def test_rows_go_over_once(at_noon: Session) -> None:
    """The guest's events and idempotency keys become the user's, nobody else's do, and a second call finds none."""
    guest, other, mine = uuid4(), uuid4(), user(at_noon)
    for caller in (guest, guest, other):
        record(at_noon, caller)
    record(at_noon, guest, "key")
    claim = {"route": "/api/generate", "request_hash": "x"}
    for owner, key in ((guest, "a"), (guest, "b"), (mine, "b"), (other, "a")):
        at_noon.call("claim_idempotency_key", owner_id=owner, key=key, **claim)
    assert adopt(at_noon, guest, mine) == {"events": 2, "idempotency_keys": 1}
    assert adopt(at_noon, guest, mine) == {"events": 0, "idempotency_keys": 0}
    counts = "select user_id, count(*) from public.inference_events group by 1"
    assert dict(at_noon.rows(counts)) == {mine: 2, other: 1, guest: 1}
    assert at_noon.call("claim_idempotency_key", owner_id=mine, key="a", **claim)["outcome"] == "running"


def test_a_new_name_renews_no_limit(at_noon: Session) -> None:
    """What the guest used today counts for the user; what it still holds is settled where it was reserved."""
    guest, mine = uuid4(), user(at_noon)
    spent, _ = reserve(at_noon, guest)
    held, _ = reserve(at_noon, guest, 30)
    at_noon.call("settle", reservation_id=spent, actual_microusd=70)
    adopt(at_noon, guest, mine)
    assert (used(at_noon, guest), used(at_noon, mine)) == ([(0, 0, 30, 0)], [(2, 2, 0, 70)])
    at_noon.call("settle", reservation_id=held, actual_microusd=20)
    assert (used(at_noon, guest), used(at_noon, mine)) == ([(0, 0, 0, 20)], [(2, 2, 0, 70)])
    adopt(at_noon, guest, mine)
    assert (used(at_noon, guest), used(at_noon, mine)) == ([(0, 0, 0, 0)], [(2, 2, 0, 90)])
    for _ in range(8):
        assert reserve(at_noon, mine, 0)[1]["allowed"] is True
    assert reserve(at_noon, mine, 0)[1]["reason"] == "rate_limited"


def test_usage_of_another_minute(at_noon: Session) -> None:
    """Only requests of the same minute add up to a minute's."""
    guest, mine = uuid4(), user(at_noon)
    reserve(at_noon, guest)
    at_noon.set_clock(NOON + timedelta(minutes=1))
    reserve(at_noon, mine)
    adopt(at_noon, guest, mine)
    assert used(at_noon, mine) == [(1, 2, 100, 0)]


def test_nobody_takes_over_a_user(at_noon: Session) -> None:
    """Neither may a user's rows be handed over, nor a guest's to nobody."""
    mine, theirs = user(at_noon), user(at_noon)
    record(at_noon, theirs)
    for guest, heir in ((theirs, mine), (uuid4(), uuid4()), (mine, mine)):
        with pytest.raises(InvalidParameterValue):
            adopt(at_noon, guest, heir)
    assert at_noon.rows("select user_id from public.inference_events") == [(theirs,)]

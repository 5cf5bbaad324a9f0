"""Idempotency keys and stop requests: one does the work, the others get its answer; nobody stops another's."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.database import Database
from tests.db.conftest import Session

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)
KEY: dict[str, object] = {"owner_id": uuid4(), "route": "/api/generate", "key": "my-key"}


@pytest.fixture
def at_noon(session: Session) -> Session:
    """A session at noon."""
    session.set_clock(NOON)
    return session


def claim(session: Session, request_hash: str = "hash", **changes: object) -> Any:
    """Ask for the right to do the work."""
    return session.call("claim_idempotency_key", **(KEY | changes), request_hash=request_hash)


def complete(session: Session, attempt: int, response: object = None, status: int = 200) -> bool:
    """Leave the answer."""
    return session.call("complete_idempotency_key", **KEY, attempt=attempt, status=status, response=Jsonb(response))


def test_the_first_works_and_the_others_get_its_answer(at_noon: Session) -> None:
    """While it works they are told when to come back; then its status and answer, to the letter."""
    assert claim(at_noon) == {"outcome": "claimed", "attempt": 1}
    at_noon.set_clock(NOON + timedelta(seconds=1.5))
    assert claim(at_noon) == {"outcome": "running", "retry_after_s": 299}
    answer = {"text": 'a "b" \\ é 😀', "cost_usd": 0.1, "list": [1, None]}
    assert complete(at_noon, 1, answer, 201) is True
    assert claim(at_noon) == {"outcome": "done", "status": 201, "response": answer}


def test_a_key_is_of_one_owner_and_one_route(at_noon: Session) -> None:
    """Others may choose the same."""
    claims = (claim(at_noon), claim(at_noon, owner_id=uuid4()), claim(at_noon, route="/api/vsl"))
    assert [answer["outcome"] for answer in claims] == ["claimed"] * 3


@pytest.mark.parametrize("is_done", [False, True])
def test_another_request_under_the_same_key_is_refused(at_noon: Session, *, is_done: bool) -> None:
    """Running or done: it never gets the answer to another question."""
    claim(at_noon)
    if is_done:
        complete(at_noon, 1)
    assert claim(at_noon, "another hash") == {"outcome": "mismatch"}


def test_who_died_is_taken_over_from(at_noon: Session) -> None:
    """When the lease is over, the next one works; what the first still says comes too late."""
    claim(at_noon)
    at_noon.set_clock(NOON + timedelta(seconds=300))
    assert claim(at_noon) == {"outcome": "claimed", "attempt": 2}
    assert complete(at_noon, 1, "late") is False
    assert at_noon.call("release_idempotency_key", **KEY, attempt=1) is False
    assert complete(at_noon, 2, "good") is True
    assert complete(at_noon, 2, "again") is False
    assert claim(at_noon)["response"] == "good"


def test_a_failure_may_be_given_back(at_noon: Session) -> None:
    """Then the request can be repeated at once, also with another body."""
    claim(at_noon)
    assert at_noon.call("release_idempotency_key", **KEY, attempt=1) is True
    assert claim(at_noon, "another hash") == {"outcome": "claimed", "attempt": 1}


@pytest.mark.parametrize(
    ("after", "outcome"), [(timedelta(hours=24, seconds=-1), "done"), (timedelta(hours=24), "claimed")]
)
def test_an_answer_is_kept_for_a_day(at_noon: Session, after: timedelta, outcome: str) -> None:
    """Also where nobody has cleared it away yet."""
    claim(at_noon)
    complete(at_noon, 1)
    at_noon.set_clock(NOON + after)
    assert claim(at_noon)["outcome"] == outcome


def test_fifty_at_once(database: Database) -> None:
    """One of them works."""
    outcomes: Counter[str] = Counter()

    def ask() -> None:
        with database.connect() as connection:
            for _ in range(5):
                outcomes[claim(Session(connection))["outcome"]] += 1

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"claimed": 1, "running": 49}


def test_takeover_by_many_at_once(database: Database, committed: Session) -> None:
    """After a crash, too, one of them works."""
    claim(committed)
    committed.rows("update public.idempotency_keys set lease_until = now() - interval '1 second' where true")
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        with database.connect() as connection:
            answers.append(claim(Session(connection)))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer for answer in answers if answer["outcome"] == "claimed"] == [{"outcome": "claimed", "attempt": 2}]


def test_a_generation_is_stopped_by_its_own_caller_alone(session: Session) -> None:
    """For others it is not there; one that has ended can't be stopped."""
    request, owner, stranger = uuid4(), uuid4(), uuid4()
    session.call("reserve", reservation_id=request, caller_kind="user", caller_id=owner, microusd=1)
    assert session.call("request_stop", request_id=request, caller_id=stranger) is None
    assert session.call("stops_among", request_ids=[request]) == []
    for _ in range(2):
        assert session.call("request_stop", request_id=request, caller_id=owner) == "stopping"
    assert session.call("stops_among", request_ids=[request, uuid4()]) == [
        {"request_id": str(request), "caller_id": str(owner)}
    ]
    session.call("settle", reservation_id=request, actual_microusd=1)
    assert session.call("request_stop", request_id=request, caller_id=owner) == "ended"
    assert session.call("request_stop", request_id=uuid4(), caller_id=owner) is None
    assert session.call("stops_among") == []

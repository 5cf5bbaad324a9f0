"""What a rollout counts, against the same counted in Python; and the row that moves by compare-and-set."""

from __future__ import annotations

import random
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.db.conftest import Session

GATE = "g"
BEGAN = datetime(2027, 3, 10, 10, tzinfo=UTC)
ALLOWED = {"ttft": 1.5, "latency": 2.0, "cost": 3.0}
CUTS = [float(10 * number) for number in range(1, 16)]
BASELINE: dict[str, Any] = {
    "requests": 500,
    "error_rate": 0.01,
    "ttft": {"threshold": 120.0, "cuts": CUTS},
    "latency": {"threshold": 130.0, "cuts": CUTS},
    "cost": {"threshold": 40.0, "cuts": CUTS},
}


def row(version: int, **changes: object) -> dict[str, Any]:
    """A rollout's row."""
    return {
        "gate": GATE,
        "rollout_id": "r1",
        "status": "stage",
        "stage": 1,
        "share": 0.1,
        "in_store": 0.1,
        "since": BEGAN.timestamp(),
        "version": version,
        "reason": None,
        "baseline": BASELINE,
        "settled": False,
        "announced": False,
        "params": {"allowances": ALLOWED},
        **changes,
    }


def drawn(seed: int) -> random.Random:
    """Chance that is the same each time."""
    return random.Random(seed)  # noqa: S311 - made-up events


def save(session: Session, version: int, kind: str = "started", **changes: object) -> bool:
    """Whether it was taken."""
    return session.call("save_rollout", row=Jsonb(row(version, **changes)), kind=kind, words="", evidence=Jsonb({}))


@pytest.fixture
def began(session: Session) -> Session:
    """A rollout under way at this time."""
    assert save(session, 1)
    session.rows("update public.rollouts set began_at = %s", BEGAN)
    return session


def call(chance: random.Random, user: UUID, request: UUID, attempt: int, at: datetime) -> dict[str, Any]:
    """One call of a request."""
    outcome = chance.choice(["ok", "ok", "ok", "error", "timeout", "interrupted", "cancelled"])
    return {
        "id": str(uuid4()),
        "created_at": at.isoformat(),
        "request_id": str(request),
        "attempt": attempt,
        "kind": "first" if attempt == 1 else chance.choice(["fallback", "hedge"]),
        "user_id": str(user),
        "caller_kind": "guest",
        "route": "/api/generate",
        "provider": "local",
        "model": "m",
        "outcome": outcome,
        "error_code": chance.choice(["server_error", "request_rejected"]) if outcome == "error" else None,
        "ttft_ms": chance.choice([None, chance.uniform(1, 200)]) if outcome != "error" else None,
        "latency_ms": chance.uniform(1, 200),
        "cost_microusd": chance.choice([None, chance.randint(0, 100)]),
    }


def request_of(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """What the calls made of their request, by the letter of lib/control/guardrails.py."""

    def failed(each: dict[str, Any]) -> bool:
        return each["outcome"] in {"error", "timeout", "interrupted"} and each["error_code"] != "request_rejected"

    ttft = None
    waited = 0.0
    for each in calls:
        if each["ttft_ms"] is not None:
            ttft = waited + each["ttft_ms"]
            break
        waited += each["latency_ms"] if each["kind"] != "hedge" else 0
    latency = None
    if any(each["outcome"] == "ok" for each in calls):
        one_by_one = sum(each["latency_ms"] for each in calls if each["outcome"] != "cancelled")
        latency = max(one_by_one, *(each["latency_ms"] for each in calls))
    costs = [each["cost_microusd"] for each in calls]
    return {
        "errors": failed(calls[0]) or failed(calls[-1]),
        "ttft": ttft,
        "latency": latency,
        "cost": None if None in costs else sum(costs),
    }


def counted(requests: list[tuple[UUID, float, bool, dict[str, Any]]]) -> dict[tuple[Any, ...], int]:
    """The same counters, one user's first event after the other."""
    seen: set[tuple[Any, ...]] = set()
    counts: dict[tuple[Any, ...], int] = {}

    def count(user: UUID, what: str, share: float, *, treated: bool, bucket: int = 0) -> None:
        key = (user, what, share if what == "seen" else None)
        if key not in seen:
            seen.add(key)
            cell = (what, share, treated, bucket)
            counts[cell] = counts.get(cell, 0) + 1

    for user, share, treated, request in requests:
        count(user, "seen", share, treated=treated)
        if request["errors"]:
            count(user, "errors", share, treated=treated)
        for what in ("ttft", "latency", "cost"):
            value, allowed = request[what], ALLOWED[what] if treated else 1.0
            if value is not None and value > BASELINE[what]["threshold"] * allowed:
                count(user, what, share, treated=treated)
            if value is not None and what != "cost":
                count(user, f"{what}_rank", share, treated=treated, bucket=bisect_right(CUTS, value / allowed))
    return counts


def test_counts(began: Session) -> None:
    """Whatever comes in, in batches, twice and with retries: the sums are those of each user's first events."""
    chance = drawn(7)
    users = [uuid4() for _ in range(60)]
    treated = {user: chance.random() < 0.4 for user in users}
    requests: list[tuple[UUID, float, bool, dict[str, Any]]] = []
    batches: list[list[dict[str, Any]]] = []
    for number in range(300):
        user, request, share = chance.choice(users), uuid4(), 0.1 if number < 150 else 0.25
        at = BEGAN + timedelta(seconds=number)
        calls = [call(chance, user, request, attempt, at) for attempt in range(1, chance.choice([2, 2, 3, 4]))]
        arm = "treatment" if treated[user] else "control"
        batches.append([{**each, "gate": GATE, "gate_arm": arm, "rollout_share": share} for each in calls])
        requests.append((user, share, treated[user], request_of(calls)))
    for number, batch in enumerate(batches):
        began.call("record_events", events=Jsonb(batch))
        if number % 7 == 0:
            began.call("record_events", events=Jsonb(batch))
    look = began.call("look_at_rollout", gate=GATE)
    found = {(what, share, is_treated, bucket): users for what, share, is_treated, bucket, users in look["counts"]}
    assert found == counted(requests)
    assert began.value("select count(*) from public.inference_events where rollout_id is distinct from 'r1'") == 0


def test_what_counts_nowhere(began: Session) -> None:
    """Callers the gate was not asked for, at no share, without a user, of another gate, from before it began."""
    good = {"gate": GATE, "gate_arm": "treatment", "rollout_share": 0.1}
    cases: list[dict[str, Any]] = [
        {},
        good | {"rollout_share": None},
        good | {"user_id": None},
        good | {"gate": "other"},
        good | {"created_at": (BEGAN - timedelta(hours=1)).isoformat()},
        good | {"rollout_share": 0},
    ]
    chance = drawn(8)
    for case in cases:
        event = call(chance, uuid4(), uuid4(), 1, BEGAN + timedelta(seconds=1)) | case
        began.call("record_events", events=Jsonb([{key: value for key, value in event.items() if value is not None}]))
    assert began.call("look_at_rollout", gate=GATE)["counts"] == []


def test_baseline(session: Session) -> None:
    """The control's requests before the first stage are what is frozen, as soon as there are enough."""
    save(session, 1, status="baseline", stage=-1, share=0, in_store=0, baseline=None)
    session.rows("update public.rollouts set began_at = %s", BEGAN)
    for number in range(100):
        event = {
            **call(drawn(number), uuid4(), uuid4(), 1, BEGAN + timedelta(seconds=number)),
            "outcome": "ok",
            "error_code": None,
            "ttft_ms": number + 1.0,
            "latency_ms": 2 * (number + 1.0),
            "cost_microusd": 10 * (number + 1),
            "gate": GATE,
            "gate_arm": "control",
            "rollout_share": 0,
        }
        assert session.call("look_at_rollout", gate=GATE, baseline_requests=100)["baseline"] is None
        session.call("record_events", events=Jsonb([event]))
    baseline = session.call("look_at_rollout", gate=GATE, baseline_requests=100)["baseline"]
    assert (baseline["requests"], baseline["error_rate"]) == (100, 0)
    assert baseline["ttft"]["threshold"] == pytest.approx(95.05)
    assert baseline["cost"]["threshold"] == pytest.approx(901)
    assert baseline["latency"]["cuts"] == pytest.approx([2 * (1 + 99 * k / 16) for k in range(1, 16)])


def test_compare_and_set(session: Session) -> None:
    """A version is saved once, and in order, with what happened."""
    assert [save(session, version) for version in (1, 1, 3, 2, 2)] == [True, False, False, True, False]
    assert session.value("select array_agg(version order by id) from public.rollout_events") == [1, 2]


def test_shares(session: Session) -> None:
    """A share is set if it is what was expected, over the same specs, and the rollout has not moved on."""

    def set_share(share: float, **conditions: object) -> bool:
        return session.call("set_flag_share", gate=GATE, share=share, over=0.0, **conditions)

    assert not set_share(0.1, expected=0.2)
    assert set_share(0.1, expected=0.0)
    assert set_share(0.2, expected=0.1)
    save(session, 1)
    assert not set_share(0.3, expected=0.2, version=2)
    assert set_share(0.3, expected=0.2, version=1)
    assert not session.call("set_flag_share", gate=GATE, share=0.5, over=0.7, expected=0.3)
    assert session.call("set_flag_share", gate=GATE, share=0.0, over=0.7)
    assert session.call("flag_shares") == {GATE: {"share": 0.0, "over": 0.7}}


def test_due(began: Session) -> None:
    """One caller per time is told of the rollouts under way; those that are over are told of to nobody."""
    assert began.call("due_rollouts", every_s=60) == [GATE]
    assert began.call("due_rollouts", every_s=60) == []
    assert began.call("due_rollouts", every_s=0) == [GATE]
    save(began, 2, "rolled_back", status="rolled_back", announced=True, settled=True)
    assert began.call("due_rollouts", every_s=0) == []


def test_forgotten_when_over(began: Session) -> None:
    """Who was counted is kept for as long as it matters; the sums stay."""
    event = call(drawn(9), uuid4(), uuid4(), 1, BEGAN + timedelta(seconds=1))
    began.call("record_events", events=Jsonb([event | {"gate": GATE, "gate_arm": "control", "rollout_share": 0.1}]))
    assert began.call("trim_rollouts") == 0
    save(began, 2, "rolled_back", status="rolled_back")
    assert began.call("trim_rollouts") > 0
    assert began.call("look_at_rollout", gate=GATE)["counts"] != []

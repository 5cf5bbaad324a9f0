"""Rollouts that drive themselves: real flags, a real database, users who come; and what people may do about it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import httpx
import pytest

from lib.app import App
from lib.control.flag_stores import FlagStore, Still
from lib.control.flags import GATE
from lib.control.parameters import Parameters
from lib.data.circuit import Rpc
from lib.errors import Conflict
from lib.rollouts import Rollouts, params_of
from tests.api.conftest import over
from tests.conftest import OPERATOR_KEY, ROOT, USER_KEY, served_site
from tests.fakes.github import GitHub
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import Project
from tests.rollouts import Config, Crowd, app_over, kinds

OPERATOR = {"authorization": f"Bearer {OPERATOR_KEY}"}


@pytest.fixture
def config(loop: LoopThread) -> Iterator[Config]:
    """The Edge Config."""
    config = Config(loop)
    yield config
    config.web.close()


@pytest.fixture
def github(loop: LoopThread) -> Iterator[GitHub]:
    """A repository."""
    github = GitHub(loop)
    yield github
    github.close()
    assert github.violations == []


@pytest.fixture
def app(supabase: Project, config: Config, github: GitHub, loop: LoopThread) -> Iterator[App]:
    """An instance of the product."""
    app = app_over({**over(supabase), **github.environ}, config)
    yield app
    loop.run(app.aclose())


def history(supabase: Project) -> list[tuple[Any, ...]]:
    """What happened: kind, status, share."""
    return supabase.sql("select kind, status, share from public.rollout_events order by id")


async def fresh(app: App, share: float) -> None:
    """Until this instance's flags let in that share."""
    assert app.flag_store is not None
    assert await app.flag_store.share(GATE) == pytest.approx(share)
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        for number in range(200):
            flag = await app.flags.provider(f"probe-{number}")
            if flag.gate_share is not None:
                if flag.gate_share == pytest.approx(share):
                    return
                break
        await asyncio.sleep(0.1)
    raise AssertionError(f"the flags never let in {share}")


async def drive(app: App, crowd: Crowd, *, rounds: int, users: int = 600) -> Any:
    """Users come, and the rollout ticks; until it is over."""
    rollouts = app.rollouts
    assert rollouts is not None
    state = await rollouts.tick(GATE)
    for _ in range(rounds):
        if state.status in {"rolled_back", "done"}:
            break
        await fresh(app, state.share)
        await crowd.come(users)
        await asyncio.sleep(1.05)  # the dwell time
        state = await rollouts.tick(GATE)
    return state


def test_a_healthy_candidate_comes_to_everybody(app: App, supabase: Project, loop: LoopThread) -> None:
    """One stage after the other, none skipped, and then it is done; the flags follow."""

    async def run() -> None:
        assert app.rollouts is not None
        await app.rollouts.order(GATE, "start")
        crowd = Crowd(app, 1)
        state = await drive(app, crowd, rounds=30)
        assert state.status == "done"
        await fresh(app, 1.0)

    loop.run(run(), 120)
    shares = [share for kind, _, share in history(supabase) if kind == "promoted"]
    assert shares == [0.1, 0.5, 1.0]


def test_fault_25_a_breach_goes_to_zero(app: App, supabase: Project, github: GitHub, loop: LoopThread) -> None:
    """A candidate that begins to fail in mid-rollout is back at 0, with the evidence in one issue."""

    async def run() -> None:
        assert app.rollouts is not None
        await app.rollouts.order(GATE, "start")
        crowd = Crowd(app, 2)
        while (await drive(app, crowd, rounds=1)).share < 0.1:
            pass
        crowd.treated_errors = 0.6
        state = await drive(app, crowd, rounds=10)
        assert (state.status, state.reason, state.share) == ("rolled_back", "breach", 0.0)
        await fresh(app, 0.0)
        # Ticks go on, and nothing follows from them.
        before = history(supabase)
        await app.rollouts.tick(GATE)
        assert history(supabase) == before

    loop.run(run(), 120)
    assert kinds(history(supabase))[-1] == "rolled_back"
    # What proved it is on record too.
    ((highest,),) = supabase.sql("select max((log_e ->> 'errors')::double precision) from public.rollout_readings")
    assert highest >= math.log(250)
    (issue,) = github.issues
    assert "rolled back" in issue["title"]
    assert GATE in issue["body"]
    assert "| errors |" in issue["body"]


def test_by_hand(app: App, config: Config, loop: LoopThread) -> None:
    """A share set by hand wins and pauses; resuming goes on from there."""

    async def run() -> None:
        assert app.rollouts is not None
        await app.rollouts.order(GATE, "start")
        crowd = Crowd(app, 3)
        await drive(app, crowd, rounds=1)
        config.set_by_hand(0.3)
        await asyncio.sleep(1.1)  # the Edge Config's freshness
        await app.edge_config.snapshot()
        state = await app.rollouts.tick(GATE)
        assert (state.status, state.reason, state.share) == ("paused", "set_by_hand", 0.3)
        await fresh(app, 0.3)
        shown = await app.rollouts.order(GATE, "resume")
        assert (shown["status"], shown["percent"]) == ("stage", 30)

    loop.run(run(), 120)


def test_store_out_of_reach(app: App, config: Config, supabase: Project, github: GitHub, loop: LoopThread) -> None:
    """It holds, an incident says so, and it goes on by itself; meanwhile nobody is let in on outdated specs."""

    async def run() -> None:
        assert app.rollouts is not None
        await app.rollouts.order(GATE, "start")
        crowd = Crowd(app, 4)
        await drive(app, crowd, rounds=2)
        config.down = True
        await asyncio.sleep(2.2)  # freshness and a second
        state = await app.rollouts.tick(GATE)
        assert (state.status, state.reason) == ("hold", "store_unreachable")
        flags = [await app.flags.provider(f"user-{number}") for number in range(300)]
        assert {flag.gate for flag in flags} == {None}
        config.down = False
        await asyncio.sleep(1.1)
        await fresh(app, state.share)
        assert (await app.rollouts.tick(GATE)).status == "stage"

    loop.run(run(), 120)
    assert len(github.issues) == 1
    assert kinds(history(supabase))[-2:] == ["held", "went_on"]


def test_two_drivers_at_once(app: App, supabase: Project, config: Config, loop: LoopThread) -> None:
    """Of two instances that tick at the same time, one's step counts each time."""
    other = app_over(over(supabase), config)

    async def run() -> None:
        assert app.rollouts is not None
        assert other.rollouts is not None
        await app.rollouts.order(GATE, "start")
        crowd = Crowd(app, 5)
        for _ in range(4):
            await crowd.come(300)
            await asyncio.sleep(1.05)
            await asyncio.gather(*(each.rollouts.tick(GATE) for each in (app, other, app, other) if each.rollouts))
            await fresh(app, (await app.rollouts.tick(GATE)).share)
        await other.aclose()

    loop.run(run(), 120)
    versions = [version for (version,) in supabase.sql("select version from public.rollout_events order by id")]
    assert versions == list(range(1, len(versions) + 1))
    shares = [share for kind, _, share in history(supabase) if kind == "promoted"]
    assert shares == sorted(set(shares))


def test_one_of_many_orders_at_once_counts(app: App, supabase: Project, loop: LoopThread) -> None:
    """The others are told that they came too late, not that something failed."""

    async def run() -> list[object]:
        rollouts = app.rollouts
        assert rollouts is not None
        return await asyncio.gather(*(rollouts.order(GATE, "start") for _ in range(6)), return_exceptions=True)

    answers = loop.run(run())
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert {type(answer) for answer in answers} == {dict, Conflict}
    assert supabase.sql("select count(*) from public.rollout_events where kind = 'started'") == [(1,)]


class Mortal:
    """The writes of a driver, the last of which it does not survive."""

    def __init__(self, app: App, lives: int) -> None:
        assert app.supabase is not None
        assert app.flag_store is not None
        self.name = "database"
        self._rpc = app.supabase.rpc
        self._store = app.flag_store
        self._lives = lives

    def _writes(self) -> None:
        if self._lives == 0:
            raise KilledError
        self._lives -= 1

    async def __call__(self, function: str, arguments: Mapping[str, object], *, timeout_s: float = 5.0) -> Any:
        """See Rpc."""
        if function == "save_rollout":
            self._writes()
        return await self._rpc(function, arguments, timeout_s=timeout_s)

    async def share(self, gate: str) -> float:
        """See FlagStore."""
        return await self._store.share(gate)

    async def set_share(
        self, gate: str, share: float, *, expected: float | None = None, still: Still | None = None
    ) -> None:
        """See FlagStore."""
        self._writes()
        await self._store.set_share(gate, share, expected=expected, still=still)


class KilledError(Exception):
    """Nothing of the driver is left."""


@pytest.mark.parametrize("lives", range(5))
@pytest.mark.parametrize("way", ["back", "up"])
def test_dies_between_two_writes(
    app: App, supabase: Project, github: GitHub, loop: LoopThread, way: str, lives: int
) -> None:
    """Wherever it dies, the store never holds more than the row allows, and the next driver brings it to the end."""
    frozen = {"threshold": 1e9, "cuts": [float(number) for number in range(1, 16)]}
    baseline = {"requests": 500, "error_rate": 0.01, "ttft": frozen, "latency": frozen, "cost": frozen}
    parameters = Parameters(rollout_stages=(10, 50, 100), rollout_dwell_s=1, rollout_fewest_users=1)

    def driver(rpc: Rpc, store: FlagStore) -> Rollouts:
        return Rollouts(rpc, store, lambda: settled(parameters), app.incidents, lambda: settled(1.0))

    async def run() -> None:
        assert app.supabase is not None
        assert app.flag_store is not None
        await app.flag_store.set_share(GATE, 0.1)
        row = {
            "gate": GATE,
            "rollout_id": "r1",
            "status": "stage",
            "stage": 0,
            "share": 0.1,
            "in_store": 0.1,
            "since": time.time() - 3600,
            "version": 1,
            "reason": None,
            "baseline": baseline,
            "settled": False,
            "announced": False,
            "params": asdict(params_of(parameters, cost=1.0)),
        }
        given = {"p_row": row, "p_kind": "started", "p_words": "", "p_evidence": {}}
        assert await app.supabase.rpc("save_rollout", given)
        counts = {"back": [("errors", True, 40), ("seen", True, 100), ("seen", False, 900)]}
        counts["up"] = [(what, False, 400) for what in ("errors", "ttft", "latency", "cost")]
        counts["up"] += [("seen", True, 100), ("seen", False, 900)]
        for what, treated, users in counts[way]:
            supabase.sql("insert into private.rollout_counts values ('r1', %s, 0.1, %s, 0, %s)", what, treated, users)
        supabase.sql("update public.rollouts set began_at = now() - interval '2 hours'")
        await Crowd(app, 7).come(5)  # telemetry is alive
        mortal = Mortal(app, lives)
        with suppress(KilledError):
            await driver(mortal, mortal).tick(GATE)
        ((allowed,),) = supabase.sql("select share from public.rollouts")
        held = await app.flag_store.share(GATE)
        assert held <= allowed or held == 0.1
        heir = driver(app.supabase.rpc, app.flag_store)
        state = await heir.tick(GATE)
        assert (state.status, state.share) == (("rolled_back", 0.0) if way == "back" else ("stage", 0.5))
        assert await app.flag_store.share(GATE) == pytest.approx(state.share)

    loop.run(run(), 60)
    happened = [kind for kind, *_ in history(supabase) if kind in {"promoted", "rolled_back"}]
    assert happened == ["rolled_back" if way == "back" else "promoted"]
    assert len(github.issues) == (1 if way == "back" else 0)


async def settled(value: Any) -> Any:
    """It is known."""
    return value


def test_endpoint(app: App, loop: LoopThread) -> None:
    """Operators alone; what the state does not allow is a conflict, in words."""
    from local.server import Site  # noqa: PLC0415 - as tests of served apps do

    with served_site(Site(ROOT, app), loop) as site:
        url = f"{site}/api/rollout"
        user = {"authorization": f"Bearer {USER_KEY}"}
        assert httpx.get(url, headers=user).status_code == 403
        assert httpx.post(url, headers=user, json={"action": "start"}).status_code == 403
        shown = httpx.get(url, headers=OPERATOR).json()
        assert (shown["status"], shown["percent"], shown["words"]) == ("idle", 0, "Not started.")
        refused = httpx.post(url, headers=OPERATOR, json={"action": "pause"})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert "not started" in refused.json()["detail"]
        assert httpx.post(url, headers=OPERATOR, json={"action": "plan"}).status_code == 409
        assert httpx.post(url, headers=OPERATOR, json={"action": "explode"}).status_code == 422
        kill = httpx.post(url, headers=OPERATOR, json={"action": "start", "gate": "kill_groq"})
        assert (kill.status_code, kill.json()["code"]) == (409, "conflict")
        assert httpx.get(url, headers=OPERATOR, params={"gate": "a\0b"}).status_code == 422
        assert httpx.get(url, headers=OPERATOR, params={"gates": "a"}).status_code == 422
        started = httpx.post(url, headers=OPERATOR, json={"action": "start"}).json()
        assert (started["status"], started["stages"]) == ("baseline", [10, 50, 100])
        assert httpx.post(url, headers=OPERATOR, json={"action": "start"}).status_code == 409
        panel = httpx.get(f"{site}/api/dashboard/rollout", headers=OPERATOR).json()
        assert [row["decision"] for row in panel["rows"]] == ["started"]
        assert panel["rollouts"][0]["status"] == "baseline"

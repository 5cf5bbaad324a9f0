"""Experiments are analysed on a schedule, from real rows, and the dashboard shows what was kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lib.app import App
from lib.control.flags import EXPERIMENT
from lib.data.rollups import catch_up
from lib.ids import uuid7
from local.server import Site
from tests.api.conftest import over
from tests.conftest import OPERATOR_KEY, ROOT, served_site
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import Project
from tests.rollouts import Config, app_over

OPERATOR = {"authorization": f"Bearer {OPERATOR_KEY}"}


@pytest.fixture
def config(loop: LoopThread) -> Iterator[Config]:
    """The Edge Config."""
    config = Config(loop)
    yield config
    config.web.close()


@pytest.fixture
def app(supabase: Project, config: Config, loop: LoopThread) -> Iterator[App]:
    """An instance of the product."""
    app = app_over(over(supabase), config)
    yield app
    loop.run(app.aclose())


async def filled(app: App, users: dict[str, int], failing: str) -> None:
    """So many users of each arm with two requests each, of which `failing`'s fail every other time."""
    assert app.supabase is not None
    batch: list[dict[str, Any]] = []
    for arm, count in users.items():
        for number in range(2 * count):
            failed = arm == failing and number % 4 == 0
            batch.append(
                {
                    "id": uuid7(),
                    "request_id": uuid7(),
                    "created_at": (datetime.now(UTC) - timedelta(minutes=40)).isoformat(),
                    "user_id": str(uuid4()) if number % 2 == 0 else batch[-1]["user_id"],
                    "caller_kind": "guest",
                    "route": "/api/generate",
                    "provider": "local",
                    "model": "m",
                    "outcome": "error" if failed else "ok",
                    "latency_ms": 100 + number,
                    "experiment": EXPERIMENT,
                    "experiment_arm": arm,
                }
            )
    answer = await app.supabase.rpc("record_events", {"p_events": batch}, timeout_s=30)
    assert answer["rejected"] == []
    await catch_up(app.supabase.rpc, 60.0)


@pytest.fixture
def url(app: App, loop: LoopThread) -> Iterator[str]:
    """The instance, served."""
    with served_site(Site(ROOT, app), loop) as url:
        yield url


def analyses(url: str) -> list[dict[str, Any]]:
    """What the dashboard shows."""
    return httpx.get(f"{url}/api/dashboard/arms?range=24h", headers=OPERATOR).json()["analyses"]


def test_what_the_cron_finds(app: App, url: str, loop: LoopThread) -> None:
    """Intervals, the sample ratio, and a verdict that an arm is worse; for both periods, and the same again."""
    loop.run(filled(app, {"groq": 170, "deepinfra": 165, "xai": 165}, failing="xai"))
    assert app.experiments is not None
    assert loop.run(app.experiments.run(), 120) == {EXPERIMENT: 500}
    (found,) = analyses(url)
    result = found["result"]
    assert result["sample_ratio"]["ok"]
    assert {each["arm"]: each["status"] for each in result["verdicts"]} == {"deepinfra": "keep looking", "xai": "worse"}
    worse = [each for each in result["differences"] if each["clear"] == "worse"]
    assert {(each["arm"], each["measure"]) for each in worse} >= {("xai", "error_rate")}
    assert (result["control"], result["warnings"]) == ("groq", [])
    loop.run(app.experiments.run(), 120)
    assert analyses(url)[0]["result"] == result


def test_broken_assignment(app: App, url: str, loop: LoopThread) -> None:
    """Users who are spread otherwise than the specs say make no verdict."""
    loop.run(filled(app, {"groq": 40, "deepinfra": 40, "xai": 200}, failing="xai"))
    assert app.experiments is not None
    loop.run(app.experiments.run(), 120)
    (found,) = analyses(url)
    assert not found["result"]["sample_ratio"]["ok"]
    assert {each["status"] for each in found["result"]["verdicts"]} == {"broken"}


def test_shares_that_cannot_be_read(app: App, url: str, config: Config, loop: LoopThread) -> None:
    """They are not guessed: no sample ratio, no verdict, and why."""
    config.items["statsig"]["dynamic_configs"][0]["rules"][0]["passPercentage"] = 50
    loop.run(filled(app, {"groq": 20, "deepinfra": 20}, failing=""))
    assert app.experiments is not None
    loop.run(app.experiments.run(), 120)
    (found,) = analyses(url)
    result = found["result"]
    assert (result["sample_ratio"], result["verdicts"], len(result["warnings"])) == (None, [], 1)
    assert [arm["users"] for arm in result["arms"]] == [20, 20]


def test_beside_traffic(app: App, supabase: Project, loop: LoopThread) -> None:
    """Once in five minutes over all instances; nothing where nobody was assigned."""
    loop.run(filled(app, {"groq": 20, "deepinfra": 20, "xai": 20}, failing=""))
    assert app.experiments is not None
    loop.run(app.experiments.keep_up(), 60)
    assert supabase.sql("select count(*) from public.experiment_results") == [(2,)]
    supabase.sql("delete from public.experiment_results")
    other = app_over(over(supabase), Config(loop))
    assert other.experiments is not None
    loop.run(other.experiments.keep_up(), 60)
    loop.run(other.aclose())
    assert supabase.sql("select count(*) from public.experiment_results") == [(0,)]

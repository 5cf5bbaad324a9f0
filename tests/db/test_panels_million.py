"""A week of a million requests: what the rollups tell against the same counted from each event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.rows import dict_row

from benchmarks.dashboard import fill
from lib.data.panels import PANELS, RANGES, arguments, period
from tests.database import copied
from tests.db.conftest import Session
from tests.db.test_panels import HALF_A_BUCKET, NOW

pytestmark = pytest.mark.slow

COUNT = 1_000_000
CALLS = """
create table public.counted as
select created_at, outcome, cost_microusd, output_tokens, attempt, kind,
  row_number() over whole = 1 as is_answer,
  case when outcome = 'ok' and row_number() over whole = 1 then latency_ms end as own_ms,
  case when outcome = 'ok' and row_number() over whole = 1 then ttft_ms end as ttft_ms,
  case when outcome = 'ok' and row_number() over whole = 1 then sum(latency_ms) over (partition by request_id) end
    as waited_ms
from public.inference_events
window whole as (partition by request_id order by (outcome = 'ok') desc, attempt desc)
"""
"""Each call, and of those that answered how long that took them and the request: of made-up calls none is cancelled
beside another."""
TOTALS = """
select
  count(*) filter (where is_answer) as requests,
  count(*) as calls,
  count(*) filter (where is_answer and outcome = 'error') as failed,
  count(*) filter (where is_answer and outcome = 'ok' and kind = 'fallback') as rescued,
  sum(output_tokens) as output_tokens,
  sum(cost_microusd) as cost_microusd,
  count(*) filter (where cost_microusd is null) as unpriced,
  percentile_disc(0.5) within group (order by ttft_ms) as ttft_p50_ms,
  percentile_disc(0.95) within group (order by waited_ms) as latency_p95_ms,
  percentile_disc(0.5) within group (order by output_tokens / (own_ms - ttft_ms) * 1000) as tokens_per_second
from public.counted where created_at >= %s and created_at < %s
"""
BY_STEP = """
select date_bin(%s, created_at, '2000-01-01T00:00:00Z') as at, count({0}) as requests,
  percentile_disc(array[0.5, 0.95, 0.99]) within group (order by {0}) as quantiles
from public.counted where created_at >= %s and created_at < %s and {0} is not null group by 1 order by 1
"""
MEASURED = ("ttft_p50_ms", "latency_p95_ms", "tokens_per_second")


@pytest.fixture(scope="module")
def million(postgres: Any) -> Iterator[Session]:
    """A database with a week of them, the same each time, rolled up."""
    with copied(postgres, "million") as database, database.connect() as connection:
        session = Session(connection)
        session.set_clock(NOW)
        connection.execute("select setseed(0.5)")
        fill(connection, COUNT, NOW)
        connection.execute(CALLS)
        yield session


def told(session: Session, which: str, name: str) -> list[dict[str, Any]]:
    """What a panel answers an operator."""
    given = {key.removeprefix("p_"): value for key, value in arguments(name, NOW, {}, None).items()}
    return session.call(PANELS[which].function or "", **given)


def off(value: float, exact: float) -> bool:
    """Whether a quantile is further off than the middle of a bucket is from its ends, and rounding adds."""
    return abs(value - exact) > exact * (HALF_A_BUCKET + 1e-9) + 0.00501


def test_every_event_is_there(million: Session) -> None:
    """A first call of each request, and a second where the first failed."""
    (firsts, failed, seconds), *_ = million.rows(
        "select count(*) filter (where attempt = 1), count(*) filter (where outcome = 'error'), "
        "count(*) filter (where attempt = 2) from public.inference_events"
    )
    assert firsts == COUNT
    assert failed == seconds > COUNT / 50


@pytest.mark.parametrize("name", RANGES)
def test_totals(million: Session, name: str) -> None:
    """To the last call and the last millionth of a dollar; quantiles within half a bucket."""
    with million.connection.cursor(row_factory=dict_row) as cursor:
        exact = cursor.execute(TOTALS, period(name, NOW)).fetchone()
    assert exact is not None
    tiles = {row["metric"]: row["value"] for row in told(million, "tiles", name)}
    assert [(key, tiles[key], exact[key]) for key in MEASURED if off(tiles[key], exact[key])] == []
    assert {key: tiles[key] for key in exact if key not in MEASURED} == {
        key: value for key, value in exact.items() if key not in MEASURED
    }
    assert exact["requests"] > 0


@pytest.mark.parametrize(("which", "column"), [("latency", "waited_ms"), ("ttft", "ttft_ms")])
@pytest.mark.parametrize("name", ["24h", "7d"])
def test_quantiles(million: Session, which: str, column: str, name: str) -> None:
    """Of each step none is further off than half a bucket: 2.2 %."""
    begin, end = period(name, NOW)
    exact = million.rows(BY_STEP.format(column), RANGES[name].step, begin, end)
    rows = told(million, which, name)
    assert [(row["at"], row["requests"]) for row in rows] == [
        (at.strftime("%Y-%m-%dT%H:%M:%S.000Z"), requests) for at, requests, _ in exact
    ]
    pairs = [
        (row[key], true)
        for row, (_, _, quantiles) in zip(rows, exact, strict=True)
        for key, true in zip(("p50_ms", "p95_ms", "p99_ms"), quantiles, strict=True)
        if key in row
    ]
    assert len(pairs) >= 2 * len(rows) > 0
    assert [pair for pair in pairs if off(*pair)] == []

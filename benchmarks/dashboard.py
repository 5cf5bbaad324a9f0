"""`make bench-dashboard`: how long the panels, a rollup step and a guardrail's query take over many events.

A week of made-up events in the embedded Postgres, as it is configured for tests. EVENTS=1000000 for fewer.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from lib.data.panels import PANELS, arguments
from tests.database import served

Connection = psycopg.Connection[tuple[Any, ...]]
LIMITS_S = {"7d": 0.5, "24h": 0.1, "1h": math.inf, "5m": math.inf}
STEP_S, GUARDRAIL_S, QUANTILE = 0.1, 0.05, 0.045
CHUNK = 500_000
COLUMNS = """created_at, request_id, attempt, id, kind, user_id, caller_kind, route, modality, provider, model, outcome,
  error_code, ttft_ms, latency_ms, input_tokens, output_tokens, cached_tokens, reasoning_tokens, estimated,
  cost_microusd, fallback_from, experiment, experiment_arm, cold_start, metadata"""
FIRST = f"""
insert into public.inference_events ({COLUMNS})
select %(now)s - i * (interval '7 days' / %(count)s), gen_random_uuid(), 1, gen_random_uuid(), 'first',
  md5('user ' || i %% 50000)::uuid, 'user', case when i %% 5 = 0 then '/v1/chat/completions' else '/api/generate' end,
  'text', arm, arm || '-' || i %% 2,
  case when chance < 0.025 then 'error' when chance < 0.035 then 'cancelled' else 'ok' end,
  case when chance < 0.025 then (array['rate_limited', 'overloaded', 'connection_failed'])[1 + i %% 3] end,
  case when chance > 0.1 then 80 + 400 * random() end, 500 + exp(6 + 1.5 * random()), 100 + i %% 300, 50 + i %% 200,
  i %% 3 * 20, 0, false, case when i %% 50 > 0 then 100 + i %% 500 end, null, 'feature_ai_provider', arm, false, '{{}}'
from (
  select i, (array['groq', 'deepinfra', 'xai'])[1 + i %% 3] as arm, random() as chance
  from generate_series(%(first)s::integer, %(last)s::integer) as i
) as made
"""  # noqa: S608 - the columns above
SECOND = f"""
insert into public.inference_events ({COLUMNS})
select created_at + interval '1 ms', request_id, 2, gen_random_uuid(), 'fallback', user_id, caller_kind, route,
  modality, case when provider = 'groq' then 'xai' else 'groq' end, 'stand-in', 'ok', null, 200,
  900 * (1 + random()), 100, 100, 0, 0, false, 150, provider, experiment, experiment_arm, false, '{{}}'
from public.inference_events where outcome = 'error' and attempt = 1
"""  # noqa: S608 - the columns above
GUARDRAIL = """
select gate_arm, experiment_arm, count(*), count(*) filter (where outcome in ('error', 'timeout', 'interrupted'))
from public.inference_events where created_at >= %(now)s - interval '15 min' and provider = 'groq' group by 1, 2
"""
EXACT = """
select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by latency_ms)
from public.inference_calls(%(from)s, %(to)s) where is_answer and outcome = 'ok'
"""


def fastest(do: Callable[[], object], times: int = 5) -> float:
    """The best of a few, in seconds: others use this machine too."""
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        took.append(time.perf_counter() - began)
    return min(took)


def fill(connection: Connection, count: int, now: datetime) -> None:
    """So many first calls, evenly over a week, and a fallback for each that failed; all rolled up."""
    for day in range(8):
        name = f"inference_events_{now - timedelta(days=day):%Y%m%d}"
        if connection.execute("select to_regclass('public.' || %s)", [name]).fetchone() == (None,):
            connection.execute("select private.add_event_partition(%s)", [(now - timedelta(days=day)).date()])
    began = time.perf_counter()
    for first in range(1, count + 1, CHUNK):
        last = min(first + CHUNK - 1, count)
        connection.execute(FIRST, {"now": now, "count": count, "first": first, "last": last})
    connection.execute(SECOND)
    connection.execute("vacuum analyze public.inference_events")
    print(f"  {count:,} events in {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    while connection.execute("select (public.rollup_inference(200) ->> 'left')::int").fetchone() != (0,):
        pass
    for table in ("inference_rollup_5m", "inference_rollup_1h"):
        connection.execute(f"vacuum analyze public.{table}".encode())
    cells = (
        "select (select count(*) from public.inference_rollup_5m), (select count(*) from public.inference_rollup_1h)"
    )
    print(
        f"  rolled up in {time.perf_counter() - began:.0f} s: {connection.execute(cells).fetchone()} cells", flush=True
    )


def measure(connection: Connection, now: datetime) -> list[str]:
    """Print what was measured; return what missed its goal."""
    missed: list[str] = []

    def tell(name: str, value: float, limit: float, unit: float = 1000) -> None:
        mark = "" if value <= limit else "  MISSED"
        print(f"  {name:28} {value * unit:8.1f}{mark}", flush=True)
        if mark:
            missed.append(name)

    for name, limit in LIMITS_S.items():
        for which, panel in PANELS.items():
            if panel.function is None or which == "request":
                continue
            given = arguments(name, now, {}, None)
            named = ", ".join(f"{key} => %({key})s" for key in given)
            query = f"select public.{panel.function}({named})".encode()
            tell(f"{name} {which}, ms", fastest(lambda q=query, g=given: connection.execute(q, g)), limit)

    def step() -> None:
        connection.execute(
            "insert into private.rollup_due (bucket_start) values (date_bin('5 min', %s, '2000-01-01Z'))",
            [now - timedelta(hours=1)],
        )
        connection.execute("select public.rollup_inference()")

    tell("rollup step, ms", fastest(step), STEP_S)
    tell("guardrail, ms", fastest(lambda: connection.execute(GUARDRAIL, {"now": now})), GUARDRAIL_S)
    tell("quantile error, %", quantile_error(connection, now), QUANTILE, 100)
    return missed


def quantile_error(connection: Connection, now: datetime) -> float:
    """The largest, relative, of p50, p95 and p99 over the two-hour steps of a day."""
    given = {**arguments("7d", now, {}, None)}
    query = b"select public.panel_latency(%(p_from)s, %(p_to)s, %(p_step)s::interval)"
    told = connection.execute(query, given).fetchone()
    worst = 0.0
    for row in (told or ([],))[0][-13:-1]:
        begin = datetime.fromisoformat(row["at"])
        exact = connection.execute(EXACT, {"from": begin, "to": begin + timedelta(hours=2)}).fetchone()
        pairs = zip((exact or ([],))[0], (row["p50_ms"], row["p95_ms"], row["p99_ms"]), strict=True)
        worst = max(worst, *(abs(told / true - 1) for true, told in pairs))
    return worst


def main(count: int) -> int:
    """Fill, measure; 1 where a goal was missed."""
    now = datetime.now(UTC)
    with served() as postgres, psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        fill(connection, count, now)
        missed = measure(connection, now)
    print(f"  missed: {', '.join(missed) or 'nothing'}")
    return int(bool(missed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    raise SystemExit(main(parser.parse_args().events))

"""`make bench-rollout-tick`: what a rollout's tick, and its counting beside each call, take after a million events.

In the embedded Postgres, as it is configured for tests; EVENTS=… for another number of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from lib.control.rollout import Evidence, Params, State, tick
from lib.rollouts import counters
from tests.database import served

Connection = psycopg.Connection[tuple[Any, ...]]
GATE = "groq_r1_v_production"
USERS = 200_000
CHUNK = 20_000
CALLS = 300
LIMIT_S = 0.05
CUTS = [float(10 * number) for number in range(1, 16)]
FROZEN = {"threshold": 140.0, "cuts": CUTS}
BASELINE = {"requests": 500, "error_rate": 0.01, "ttft": FROZEN, "latency": FROZEN, "cost": FROZEN}
ROW = {
    "gate": GATE,
    "rollout_id": "bench",
    "status": "stage",
    "stage": 2,
    "share": 0.1,
    "in_store": 0.1,
    "version": 1,
    "reason": None,
    "baseline": BASELINE,
    "settled": False,
    "announced": False,
    "params": {"allowances": {"ttft": 1, "latency": 1, "cost": 1}},
}
FILL = """
with made as (
  select i, md5('user ' || i %% %(users)s)::uuid as user_id,
    %(began)s::timestamptz + i * (interval '6 days' / %(count)s::double precision) as at,
    random() as chance, exp(random() + random() + random()) * 20 as latency
  from generate_series(%(first)s::bigint, %(last)s::bigint) i
)
insert into public.inference_events (created_at, request_id, attempt, id, kind, user_id, caller_kind, route, modality,
  provider, model, outcome, ttft_ms, latency_ms, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
  estimated, cost_microusd, gate, gate_arm, rollout_id, rollout_share, cold_start,
  metadata)
select at, gen_random_uuid(), 1, gen_random_uuid(), 'first', user_id, 'user', '/api/generate', 'text', 'groq', 'm',
  case when chance < 0.01 then 'error' else 'ok' end, latency / 3, latency, 1, 1, 0, 0, false, 40, %(gate)s,
  case when abs(hashtext(user_id::text)) %% 10 = 0 then 'treatment' else 'control' end, 'bench', 0.1, false, '{}'
from made
"""
COUNT = """
select private.count_for_rollouts((
  select jsonb_agg(to_jsonb(e)) from public.inference_events e
  where created_at >= %(began)s::timestamptz + %(first)s::bigint * (interval '6 days' / %(count)s::double precision)
    and created_at < %(began)s::timestamptz + %(last)s::bigint * (interval '6 days' / %(count)s::double precision)))
"""


def median_ms(do: Callable[[], object], times: int = 21) -> float:
    """How long it takes, in milliseconds."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def fill(connection: Connection, count: int, began: datetime) -> None:
    """Events of a week, counted as they would have been when they came in."""
    for first in range(0, count, CHUNK):
        given = {
            "first": first,
            "last": first + CHUNK - 1,
            "count": count,
            "began": began,
            "users": USERS,
            "gate": GATE,
        }
        connection.execute(FILL, given)
        connection.execute(COUNT, {**given, "last": first + CHUNK})
    connection.execute("vacuum analyze")


def one_event(connection: Connection) -> None:
    """A call of a new user, recorded."""
    event = {
        "id": str(uuid4()),
        "request_id": str(uuid4()),
        "user_id": str(uuid4()),
        "caller_kind": "user",
        "created_at": datetime.now(UTC).isoformat(),
        "route": "/api/generate",
        "provider": "groq",
        "model": "m",
        "outcome": "ok",
        "ttft_ms": 20,
        "latency_ms": 90,
        "cost_microusd": 40,
        "gate": GATE,
        "gate_arm": "control",
        "rollout_share": 0.1,
    }
    connection.execute("select public.record_events(%s)", [Jsonb([event])])


def one_tick(connection: Connection) -> None:
    """All that a tick does besides travelling."""
    cursor = connection.execute("select public.look_at_rollout(%s, 500, false)", [GATE])
    ((found,),) = cursor.fetchall()
    state = State(GATE, "bench", "stage", 2, 0.1, 0.1, time.time(), 1)
    evidence = Evidence(0.1, last_event_at=found["last_event_at"], counters=counters(found["counts"]))
    tick(state, evidence, Params(), time.time())


def main(count: int) -> int:
    """Fill, measure, say; 1 where a tick takes too long."""
    began = datetime.now(UTC) - timedelta(days=6)
    with served() as postgres, psycopg.connect(postgres.conninfo(), autocommit=True) as connection:
        alone_ms = median_ms(lambda: one_event(connection), CALLS)
        row = ROW | {"since": began.timestamp()}
        connection.execute("select public.save_rollout(%s, 'started', '', '{}')", [Jsonb(row)])
        connection.execute("update public.rollouts set began_at = %s", [began - timedelta(days=1)])
        connection.execute("select public.ensure_event_partitions()")
        fill(connection, count, began)
        tick_ms = median_ms(lambda: one_tick(connection))
        look_ms = median_ms(lambda: connection.execute("select public.look_at_rollout(%s, 500, false)", [GATE]))
        counted_ms = median_ms(lambda: one_event(connection), CALLS)
    print(f"{count:,} events of {USERS:,} users, 10 % treated:")
    print(f"  a tick: {tick_ms:.1f} ms (goal {LIMIT_S * 1000:.0f}), of which the database {look_ms:.1f}")
    print(f"  recording one call: {alone_ms:.2f} ms without a rollout, {counted_ms:.2f} ms counted for one")
    return int(tick_ms > LIMIT_S * 1000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    raise SystemExit(main(parser.parse_args().events))

"""Made-up events for the dashboard's tests: all that a request can go through, from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

EXPERIMENT = "feature_ai_provider"
ARMS = {"groq": "openai/gpt-oss-20b", "deepinfra": "openai/gpt-oss-120b", "xai": "grok-4.7"}
ROUTES = ("/api/generate", "/v1/chat/completions")
ERRORS = ("rate_limited", "overloaded", "connection_failed", "broken_stream")
USERS = 60
Event = dict[str, Any]


def user_of(number: int) -> str:
    """The id of a user."""
    return str(UUID(int=0x5F5F5F5F_0000_4000_8000_000000000000 + number))


def generated(seed: int, count: int, begin: datetime, end: datetime) -> list[Event]:
    """So many events or a few more, as rows of `inference_events`, in no order. A tenth lies around midnight."""
    chance = random.Random(seed)  # noqa: S311 - made-up numbers
    events: list[Event] = []
    while len(events) < count:
        events.extend(_request(chance, _moment(chance, begin, end)))
    chance.shuffle(events)
    return events


def _moment(chance: random.Random, begin: datetime, end: datetime) -> datetime:
    """Anywhere, at the very border of a window, or within a second of midnight."""
    at = begin + (end - begin) * chance.random()
    kind = chance.random()
    if kind < 0.05:
        at = at.replace(minute=at.minute // 5 * 5, second=0, microsecond=0)
    elif kind < 0.15:
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
        at = midnight + timedelta(milliseconds=chance.randint(-500, 500))
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    return min(max(at, begin), end - timedelta(seconds=1))


def _request(chance: random.Random, at: datetime) -> Iterator[Event]:
    """The calls of one request, a millisecond apart, as they are recorded when it ends."""
    arm = chance.choice([*ARMS, None])
    user = chance.randrange(USERS + 5)
    common: Event = {
        "request_id": str(UUID(int=chance.getrandbits(128), version=4)),
        "caller_kind": "user" if user < USERS else "system",
        "user_id": user_of(user) if user < USERS else None,
        "route": chance.choice(ROUTES),
        "experiment": EXPERIMENT if arm is not None or chance.random() < 0.5 else None,
        "experiment_arm": arm,
    }
    first = arm or "groq"
    others = [name for name in ARMS if name != first]
    kinds = {
        "plain": 60, "cancelled": 5, "failed": 3, "rescued": 12, "retried": 4, "interrupted and continued": 5,
        "all failed": 3, "hedge won": 3, "hedge lost": 3, "repaired": 2,
    }  # fmt: skip
    story = chance.choices(list(kinds), list(kinds.values()))[0]
    bad = {"outcome": chance.choice(["error", "timeout"]), "error_code": chance.choice([*ERRORS, None])}
    calls: list[Event]
    match story:
        case "cancelled":
            calls = [_call(chance, first, outcome="cancelled")]
        case "failed":
            calls = [_call(chance, first, **bad)]
        case "rescued":
            calls = [_call(chance, first, **bad), _call(chance, others[0], kind="fallback", fallback_from=first)]
        case "retried":
            calls = [_call(chance, first, **bad), _call(chance, first, kind="retry")]
        case "interrupted and continued":
            cut = {"outcome": "interrupted", "error_code": "broken_stream"}
            calls = [_call(chance, first, **cut), _call(chance, others[1], kind="continuation", fallback_from=first)]
        case "all failed":
            calls = [_call(chance, first, **bad)]
            calls += [_call(chance, name, kind="fallback", fallback_from=first, **bad) for name in others]
        case "hedge won":
            calls = [_call(chance, first, outcome="cancelled", ttft_ms=None), _call(chance, others[0], kind="hedge")]
        case "hedge lost":
            calls = [_call(chance, first), _call(chance, others[0], kind="hedge", outcome="cancelled")]
        case "repaired":
            calls = [_call(chance, first), _call(chance, first, kind="repair")]
        case _:
            calls = [_call(chance, first)]
    for number, call in enumerate(calls, 1):
        yield {
            **common,
            **call,
            "id": str(UUID(int=chance.getrandbits(128), version=4)),
            "attempt": number,
            "created_at": (at + timedelta(milliseconds=number - 1)).isoformat(timespec="milliseconds"),
        }


def _call(chance: random.Random, provider: str, **changes: object) -> Event:
    latency = round(chance.choice([0, 0.3, 1, chance.lognormvariate(7, 0.9)]) if chance.random() < 0.1 else
                    chance.lognormvariate(7, 0.9), 1)  # fmt: skip
    ttft = None if chance.random() < 0.15 else round(latency * chance.choice([0, 0.3, 1, chance.random()]), 1)
    failed = changes.get("outcome") in {"error", "timeout"}
    priced = chance.random() > 0.1
    return {
        "kind": "first",
        "provider": provider,
        "model": ARMS[provider],
        "outcome": "ok",
        "error_code": None,
        "fallback_from": None,
        "latency_ms": latency,
        "ttft_ms": None if failed else ttft,
        "input_tokens": chance.randrange(400),
        "output_tokens": 0 if failed else chance.randrange(300),
        "cached_tokens": chance.choice([0, 0, 50]),
        "cost_microusd": chance.randrange(2000) if priced else None,
        "cached_saving_microusd": chance.choice([None, 0, 17]),
        **changes,
    }

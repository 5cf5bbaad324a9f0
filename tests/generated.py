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
CUT: dict[str, object] = {"outcome": "interrupted", "error_code": "broken_stream"}
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
    bad: dict[str, object] = {
        "outcome": chance.choice(["error", "timeout"]),
        "error_code": chance.choice([*ERRORS, None]),
    }
    stories: dict[str, tuple[int, list[tuple[str, dict[str, object]]]]] = {
        "plain": (60, [(first, {})]),
        "cancelled": (5, [(first, {"outcome": "cancelled"})]),
        "failed": (3, [(first, bad)]),
        "rescued": (12, [(first, bad), (others[0], {"kind": "fallback", "fallback_from": first})]),
        "retried": (4, [(first, bad), (first, {"kind": "retry"})]),
        "continued": (5, [(first, CUT), (others[1], {"kind": "continuation", "fallback_from": first})]),
        "all failed": (
            3,
            [(first, bad), *((name, {**bad, "kind": "fallback", "fallback_from": first}) for name in others)],
        ),
        "hedge won": (3, [(first, {"outcome": "cancelled", "ttft_ms": None}), (others[0], {"kind": "hedge"})]),
        "hedge lost": (3, [(first, {}), (others[0], {"kind": "hedge", "outcome": "cancelled"})]),
        "repaired": (2, [(first, {}), (first, {"kind": "repair"})]),
    }
    story = chance.choices(list(stories), [weight for weight, _ in stories.values()])[0]
    calls = [_call(chance, provider, changes) for provider, changes in stories[story][1]]
    for number, call in enumerate(calls, 1):
        yield {
            **common,
            **call,
            "id": str(UUID(int=chance.getrandbits(128), version=4)),
            "attempt": number,
            "created_at": (at + timedelta(milliseconds=number - 1)).isoformat(timespec="milliseconds"),
        }


def _call(chance: random.Random, provider: str, changes: dict[str, object]) -> Event:
    latency = chance.lognormvariate(7, 0.9) if chance.random() < 0.9 else chance.choice([0, 0.3, 1])
    latency = round(latency, 1)
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

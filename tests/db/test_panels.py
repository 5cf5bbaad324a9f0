"""Every panel against the same numbers counted one by one in Python, over ten thousand events of all kinds."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from lib.data.panels import FILTERS, PANELS, RANGES, arguments, period
from tests.database import Database, copied
from tests.db.access import USERS, become
from tests.db.conftest import Session
from tests.db.test_access import vsl_job
from tests.generated import ARMS, EXPERIMENT, Event, generated, user_of

NOW = datetime(2028, 2, 29, 12, 7, 30, tzinfo=UTC)
"""A leap day; the generated events lie on both sides of its midnight."""
DAY = timedelta(days=1)
BAD = {"error", "timeout", "interrupted"}
HALF_A_BUCKET = 2 ** (1 / 32) - 1


@dataclass(frozen=True)
class Filled:
    """A database that holds these events, rolled up, and a session to it."""

    session: Session
    events: Sequence[Event]
    calls: Sequence[Seen]


@pytest.fixture(scope="module")
def filled(postgres: Any) -> Iterator[Filled]:
    """Ten thousand events: half of them rolled up before the others, of the very same windows, come in late."""
    events = [
        *generated(1, 500, NOW - 13 * DAY, NOW - 12.8 * DAY),
        *generated(4, 2_000, NOW - 6 * DAY, NOW - 5.8 * DAY),
        *generated(5, 6_000, NOW - 1.6 * DAY, NOW),
        *generated(2, 1_500, NOW - timedelta(hours=2), NOW),
        *generated(3, 500, NOW - timedelta(minutes=14), NOW),
    ]
    with copied(postgres, "panels") as database:
        _fill(database, events)
        with database.connect() as connection:
            yield Filled(Session(connection), events, seen(events))


def _fill(database: Database, events: Sequence[Event]) -> None:
    with database.connect() as connection:
        session = Session(connection)
        session.set_clock(NOW)
        for part in (events[::2], events[1::2]):
            for start in range(0, len(part), 500):
                told = session.call("record_events", events=Jsonb(part[start : start + 500]))
                assert told["rejected"] == []
            session.call("ensure_event_partitions")
            assert session.call("rollup_inference", windows=100_000)["left"] == 0
        assert session.value("select count(*) from public.inference_events") == len(events)
        for number, (request_id, thumb) in enumerate(_thumbs(events).items()):
            user = next(event["user_id"] for event in events if event["request_id"] == request_id)
            session.set_clock(NOW - timedelta(seconds=number))
            told = session.call("record_feedback", request_id=request_id, caller_id=user, thumb=thumb)
            assert told is True
        session.set_clock(NOW)


def _thumbs(events: Iterable[Event]) -> dict[str, int]:
    """A thumb for every fiftieth request of a user."""
    ids = sorted({event["request_id"] for event in events if event["user_id"] is not None})
    return {request_id: 1 if number % 3 else -1 for number, request_id in enumerate(ids[::50])}


@dataclass(frozen=True)
class Seen:
    """A call, and what its request made of it."""

    event: Event
    at: datetime
    cause: str
    is_answer: bool
    request_outcome: str
    wait_ms: float

    def __getitem__(self, name: str) -> Any:
        """A column of the event, empty for null as in the rollup."""
        return self.event[name] if self.event[name] is not None else ""

    @property
    def is_bad(self) -> bool:
        """Whether this call failed."""
        return self.event["outcome"] in BAD

    @property
    def is_answered(self) -> bool:
        """Whether this call gave its request's answer."""
        return self.is_answer and self.event["outcome"] == "ok"

    @property
    def is_rescue(self) -> bool:
        """Whether it did so after another had failed."""
        return self.is_answered and self["attempt"] > 1 and self["kind"] not in {"hedge", "repair"}


def seen(events: Iterable[Event]) -> list[Seen]:
    """The calls, one request after the other."""
    requests: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        requests[event["request_id"]].append(event)
    calls: list[Seen] = []
    for request in requests.values():
        request.sort(key=lambda event: event["attempt"])
        answers = [event for event in request if event["outcome"] == "ok"]
        answer = (answers or request)[-1]
        lasted = [event["latency_ms"] for event in request if event["outcome"] != "cancelled"]
        wait = max(sum(lasted), *(event["latency_ms"] for event in request), 0)
        cause = ""
        for event in request:
            at = datetime.fromisoformat(event["created_at"])
            calls.append(Seen(event, at, cause, event is answer, answer["outcome"], wait))
            cause = event["error_code"] or ""
    return calls


CASES = [
    pytest.param(name, filters, user, id=f"{name} {' '.join(filters.values())} {'own' if user else ''}")
    for name, filters, user in (
        *((name, {}, None) for name in RANGES),
        ("7d", {"provider": "groq"}, None),
        ("24h", {"model": "grok-4.7", "route": "/v1/chat/completions"}, None),
        ("7d", {"arm": "xai"}, None),
        ("7d", {"arm": "nobody's"}, None),
        ("7d", {}, user_of(3)),
        ("24h", {"provider": "xai"}, user_of(4)),
    )
]
each_case = pytest.mark.parametrize(("name", "filters", "user"), CASES)


def chosen(filled: Filled, begin: datetime, end: datetime, filters: dict[str, str], user: str | None) -> list[Seen]:
    """The calls that a panel counts."""
    columns = {"arm": "experiment_arm"}
    return [
        call
        for call in filled.calls
        if begin <= call.at < end
        and (user is None or call["user_id"] == user)
        and all(call[columns.get(key, key)] == value for key, value in filters.items())
    ]


def panel(filled: Filled, which: str, name: str, filters: dict[str, str], user: str | None) -> list[dict[str, Any]]:
    """What a panel answers."""
    given = arguments(name, NOW, filters, user)
    function = PANELS[which].function
    assert function is not None
    return filled.session.call(function, **{key.removeprefix("p_"): value for key, value in given.items()})


def close(told: float | None, values: Sequence[float], q: float) -> bool:
    """Whether this is that quantile of the values (the nearest rank), within half a bucket and the rounding."""
    if not values or told is None:
        return not values and told is None
    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    return abs(told - exact) <= exact * (HALF_A_BUCKET + 1e-9) + 0.00501


def speed_of(call: Seen) -> float | None:
    """Tokens per second after the first."""
    event = call.event
    if event["ttft_ms"] is None or event["latency_ms"] == event["ttft_ms"] or not event["output_tokens"]:
        return None
    return event["output_tokens"] / (event["latency_ms"] - event["ttft_ms"]) * 1000


def waits(calls: Iterable[Seen]) -> list[float]:
    """How long answered requests took."""
    return [call.wait_ms for call in calls if call.is_answered]


def ttfts(calls: Iterable[Seen]) -> list[float]:
    """Of the calls that answered."""
    return [call.event["ttft_ms"] for call in calls if call.is_answered and call.event["ttft_ms"] is not None]


def speeds(calls: Iterable[Seen]) -> list[float]:
    """Of the calls that answered."""
    return [told for call in calls if call.is_answered and (told := speed_of(call)) is not None]


def cost(calls: Iterable[Seen]) -> int:
    """What they cost, as far as that is known."""
    return sum(call.event["cost_microusd"] or 0 for call in calls)


def unpriced(calls: Iterable[Seen]) -> int:
    """How many cost nobody knows what."""
    return sum(call.event["cost_microusd"] is None for call in calls)


def ratio(part: float, whole: float, digits: int = 6) -> Any:
    """A share as the panels round it."""
    return None if not whole else pytest.approx(part / whole, abs=0.51 * 10**-digits)


def grouped(calls: Iterable[Seen], key: Callable[[Seen], Any]) -> dict[Any, list[Seen]]:
    """By key, in the keys' order."""
    groups: defaultdict[Any, list[Seen]] = defaultdict(list)
    for call in calls:
        groups[key(call)].append(call)
    return dict(sorted(groups.items()))


def binned(name: str) -> Callable[[Seen], str]:
    """The beginning of a call's step."""
    step, epoch = RANGES[name].step, datetime(2000, 1, 1, tzinfo=UTC)

    def of(call: Seen) -> str:
        return (epoch + (call.at - epoch) // step * step).strftime("%Y-%m-%dT%H:%M:%S.000Z")

    return of


def check_totals(told: dict[str, Any], calls: list[Seen]) -> None:
    """The numbers of one period."""
    answers = [call for call in calls if call.is_answer]
    failed = [call for call in answers if call.is_bad]
    rescued = [call for call in calls if call.is_rescue]
    assert close(told.pop("ttft_p50_ms"), ttfts(calls), 0.5)
    assert close(told.pop("latency_p95_ms"), waits(calls), 0.95)
    assert close(told.pop("tokens_per_second"), speeds(calls), 0.5)
    assert told == {
        "requests": len(answers),
        "calls": len(calls),
        "failed": len(failed),
        "error_rate": ratio(len(failed), len(answers)),
        "rescued": len(rescued),
        "rescued_rate": ratio(len(rescued), len(answers)),
        "output_tokens": sum(call["output_tokens"] for call in calls),
        "cost_microusd": cost(calls),
        "cost_per_1k_requests_microusd": ratio(cost(calls) * 1000, len(answers), 0),
        "unpriced": unpriced(calls),
    }


@each_case
def test_tiles(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """Of the period and of the one before."""
    rows = panel(filled, "tiles", name, filters, user)
    begin, end = period(name, NOW)
    check_totals({row["metric"]: row["value"] for row in rows}, chosen(filled, begin, end, filters, user))
    before = chosen(filled, begin - (end - begin), begin, filters, user)
    check_totals({row["metric"]: row["previous"] for row in rows}, before)


@each_case
def test_requests_and_cost(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """By step and provider."""
    calls = chosen(filled, *period(name, NOW), filters, user)
    bins = grouped(calls, lambda call: (binned(name)(call), call["provider"]))
    assert panel(filled, "requests", name, filters, user) == [
        {
            "at": at,
            "provider": provider,
            "requests": sum(call.is_answer for call in each),
            "failed": sum(call.is_answer and call.is_bad for call in each),
            "rescued": sum(call.is_rescue for call in each),
            "calls": len(each),
            "failed_calls": sum(call.is_bad for call in each),
        }
        for (at, provider), each in bins.items()
    ]
    assert panel(filled, "cost", name, filters, user) == [
        {"at": at, "provider": provider, "cost_microusd": cost(each), "calls": len(each), "unpriced": unpriced(each)}
        for (at, provider), each in bins.items()
    ]


@each_case
@pytest.mark.parametrize(
    ("which", "measured", "quantiles"),
    [
        ("latency", waits, {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}),
        ("ttft", ttfts, {"p50_ms": 0.5, "p95_ms": 0.95}),
    ],
)
def test_latency_and_first_token(
    filled: Filled,
    name: str,
    filters: dict[str, str],
    user: str | None,
    which: str,
    measured: Callable[[Iterable[Seen]], list[float]],
    quantiles: dict[str, float],
) -> None:
    """Quantiles of each step, none further off than half a bucket; steps in which nothing was measured are left out."""
    calls = chosen(filled, *period(name, NOW), filters, user)
    bins = {at: values for at, each in grouped(calls, binned(name)).items() if (values := measured(each))}
    rows = panel(filled, which, name, filters, user)
    assert [(row["at"], row["requests"]) for row in rows] == [(at, len(values)) for at, values in bins.items()]
    off = [
        (row, column) for row in rows for column, q in quantiles.items() if not close(row[column], bins[row["at"]], q)
    ]
    assert off == []


@each_case
def test_models(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """By provider and model."""
    calls = chosen(filled, *period(name, NOW), filters, user)
    groups = grouped(calls, lambda call: (call["provider"], call["model"]))
    rows = panel(filled, "models", name, filters, user)
    for row, each in zip(rows, groups.values(), strict=True):
        for column, measured, q in (
            *(("latency_p50_ms", waits, 0.5), ("latency_p95_ms", waits, 0.95)),
            *(("speed_p25", speeds, 0.25), ("speed_p50", speeds, 0.5), ("speed_p75", speeds, 0.75)),
        ):
            assert close(row.pop(column), measured(each), q), column
    assert rows == [
        {
            "provider": provider,
            "model": model,
            "calls": len(each),
            "requests": sum(call.is_answer for call in each),
            "failed_calls": sum(call.is_bad for call in each),
            "measured": len(speeds(each)),
            "cost_microusd": cost(each),
            "cost_per_1k_requests_microusd": ratio(cost(each) * 1000, sum(call.is_answer for call in each), 0),
            "cost_per_1k_output_tokens_microusd": ratio(
                cost(each) * 1000, sum(call["output_tokens"] for call in each), 3
            ),
            "unpriced": unpriced(each),
        }
        for (provider, model), each in groups.items()
    ]


@each_case
def test_fallbacks_and_errors(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """Moves with the error that caused them; failed calls with what became of their callers."""
    calls = chosen(filled, *period(name, NOW), filters, user)
    moves = grouped(
        (call for call in calls if call["fallback_from"]),
        lambda call: (call["fallback_from"], call["provider"], call["kind"], call.cause),
    )
    told = panel(filled, "fallbacks", name, filters, user)
    assert {(row["from"], row["to"], row["kind"], row["cause"]): (row["calls"], row["rescued"]) for row in told} == {
        key: (len(each), sum(call.is_rescue for call in each)) for key, each in moves.items()
    }
    assert len(told) == len(moves)
    assert [row["calls"] for row in told] == sorted((row["calls"] for row in told), reverse=True)
    errors = grouped(
        (call for call in calls if call.is_bad), lambda call: (call["provider"], call["outcome"], call["error_code"])
    )
    told = panel(filled, "errors", name, filters, user)
    assert len(told) == len(errors)
    assert {
        (row["provider"], row["outcome"], row["code"]): (row["calls"], row["saved"], row["failed"]) for row in told
    } == {
        key: (
            len(each),
            sum(call.request_outcome == "ok" for call in each),
            sum(call.is_answer for call in each),
        )
        for key, each in errors.items()
    }


@each_case
def test_savings(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """By provider."""
    groups = grouped(chosen(filled, *period(name, NOW), filters, user), lambda call: call["provider"])
    assert panel(filled, "savings", name, filters, user) == [
        {
            "provider": provider,
            "input_tokens": sum(call["input_tokens"] for call in each),
            "cached_tokens": sum(call["cached_tokens"] for call in each),
            "cached_share": ratio(
                sum(call["cached_tokens"] for call in each), sum(call["input_tokens"] for call in each)
            ),
            "saving_microusd": sum(call.event["cached_saving_microusd"] or 0 for call in each),
        }
        for provider, each in groups.items()
    ]


@each_case
def test_arms(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """By the arm that was assigned, with those who served, and the thumbs."""
    calls = [call for call in chosen(filled, *period(name, NOW), filters, user) if call["experiment_arm"]]
    arms = grouped(calls, lambda call: call["experiment_arm"])
    thumbs = _thumbs(filled.events)
    begin, end = period(name, NOW)
    everyone = chosen(filled, begin, end, {}, user)
    rows = panel(filled, "arms", name, filters, user)
    for row, each in zip(rows, arms.values(), strict=True):
        assert close(row.pop("latency_p50_ms"), waits(each), 0.5)
        assert close(row.pop("latency_p95_ms"), waits(each), 0.95)
        assert close(row.pop("ttft_p50_ms"), ttfts(each), 0.5)
        firsts = {
            call["request_id"] for call in everyone if call["attempt"] == 1 and call["experiment_arm"] == row["arm"]
        }
        given = [thumb for number, (id_, thumb) in enumerate(thumbs.items())
                 if id_ in firsts and NOW - timedelta(seconds=number) >= begin]  # fmt: skip
        assert (row.pop("thumbs_up"), row.pop("thumbs_down")) == (given.count(1), given.count(-1))
    assert rows == [
        {
            "experiment": EXPERIMENT,
            "arm": arm,
            "requests": (requests := sum(call.is_answer for call in each)),
            "failed": (failed := sum(call.is_answer and call.is_bad for call in each)),
            "error_rate": ratio(failed, requests),
            "rescued": sum(call.is_rescue for call in each),
            "calls": len(each),
            "failed_calls": sum(call.is_bad for call in each),
            "served": dict(Counter(call["provider"] for call in each if call.is_answer)) or None,
            "cost_microusd": cost(each),
            "cost_per_1k_requests_microusd": ratio(cost(each) * 1000, requests, 0),
            "cost_per_1k_output_tokens_microusd": ratio(
                cost(each) * 1000, sum(call["output_tokens"] for call in each), 3
            ),
            "unpriced": unpriced(each),
        }
        for arm, each in arms.items()
    ]


@each_case
def test_recent(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """The last fifty requests of which a call fits, each with all its calls."""
    last: dict[str, datetime] = {}
    for call in chosen(filled, *period(name, NOW), filters, user):
        last[call["request_id"]] = max(call.at, last.get(call["request_id"], call.at))
    wanted = sorted(last, key=lambda request_id: (-last[request_id].timestamp(), request_id))[:50]
    rows = panel(filled, "recent", name, filters, user)
    assert sorted(row["request_id"] for row in rows) == sorted(wanted)
    whole = grouped(filled.calls, lambda call: call["request_id"])
    for row in rows:
        calls = whole[row["request_id"]]
        (answer,) = [call for call in calls if call.is_answer]
        known = all(call.event["cost_microusd"] is not None for call in calls)
        assert row == {
            "at": last[row["request_id"]].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "request_id": row["request_id"],
            "route": answer["route"],
            "caller_kind": answer["caller_kind"],
            "arm": answer.event["experiment_arm"],
            "provider": answer["provider"],
            "model": answer["model"],
            "outcome": answer["outcome"],
            "error_code": answer.event["error_code"],
            "calls": len(calls),
            "path": " → ".join(call["provider"] for call in calls),
            "ttft_ms": answer.event["ttft_ms"],
            "latency_ms": pytest.approx(answer.wait_ms),
            "output_tokens": answer["output_tokens"],
            "cost_microusd": cost(calls) if known else None,
        }


def test_request(filled: Filled) -> None:
    """Each call of a request; nobody else's."""
    calls = max(grouped(filled.calls, lambda call: call["request_id"]).values(), key=len)
    request_id, user = calls[0]["request_id"], calls[0]["user_id"]
    rows = filled.session.call("panel_request", request_id=request_id)
    assert [(row["attempt"], row["provider"], row["outcome"], row["cost_microusd"]) for row in rows] == [
        (call["attempt"], call["provider"], call["outcome"], call.event["cost_microusd"]) for call in calls
    ]
    assert filled.session.call("panel_request", request_id=request_id, user_id=user) == rows
    assert filled.session.call("panel_request", request_id=request_id, user_id=user_of(999)) == []


@each_case
def test_options(filled: Filled, name: str, filters: dict[str, str], user: str | None) -> None:
    """What there is, whatever is filtered by, and what is filtered by."""
    calls = chosen(filled, *period(name, NOW), {}, user)
    columns = dict(zip(FILTERS, ("provider", "model", "route", "experiment_arm"), strict=True))
    there = {(key, call[column]) for key, column in columns.items() for call in calls if call[column]}
    told = panel(filled, "options", name, filters, user)
    assert {(row["filter"], row["value"]) for row in told} == there | set(filters.items())


def test_experiment_units(filled: Filled) -> None:
    """Each user once, in the arm of its first call, with all that it did in any."""
    begin, end = period("7d", NOW)
    calls = [
        call
        for call in chosen(filled, begin, end, {}, None)
        if call["user_id"] and call["experiment"] == EXPERIMENT and call["experiment_arm"]
    ]
    told = filled.session.call("experiment_units", experiment=EXPERIMENT, **{"from": begin, "to": end})
    users = grouped(calls, lambda call: call["user_id"])
    assert {unit["user_id"] for unit in told} == users.keys()
    for unit in told:
        each = sorted(users[unit["user_id"]], key=lambda call: (call.at, call["request_id"], call["attempt"]))
        assert unit["arm"] == each[0]["experiment_arm"]
        assert unit["requests"] == sum(call.is_answer for call in each)
        assert unit["failed"] == sum(call.is_answer and call.is_bad for call in each)
        assert unit["failed_calls"] == sum(call.is_bad for call in each)
        assert unit["latency_ms"] == pytest.approx(sum(waits(each)))
        assert sum(count for _, count in unit["latency"]) == len(waits(each))
        assert sum(count for _, count in unit["ttft"]) == len(ttfts(each))
        assert (unit["cost_microusd"], unit["unpriced"]) == (cost(each), unpriced(each))
        assert unit["output_tokens"] == sum(call["output_tokens"] for call in each)


Filmed = list[tuple[dict[str, Any], list[dict[str, Any]]]]
OVER = ("succeeded", "failed", "canceled")
STEPS = ("script", "storyboard", "frames/1", "frames/2", "narration")


@pytest.fixture(scope="module")
def filmed(filled: Filled) -> Filmed:
    """Three hundred video jobs in every state, each with its steps."""
    chance = random.Random(6)  # noqa: S311 - made-up jobs
    for number in range(5):
        filled.session.rows("insert into auth.users (id) values (%s) on conflict do nothing", user_of(number))
    made: Filmed = []
    for number in range(300):
        user, at = user_of(chance.randrange(5)), NOW - 9 * DAY * chance.random() ** 4
        seen_at, status = (
            at + timedelta(milliseconds=chance.randrange(9**7)),
            chance.choice(("queued", "running", *OVER)),
        )
        job: dict[str, Any] = {
            **vsl_job(UUID(user), number),
            "status": status,
            "stage": "done" if status == "succeeded" else chance.choice(("script", "frames")),
            "cost_microusd": chance.randrange(10**6),
            "created_at": at,
            "updated_at": seen_at if status not in OVER else seen_at + DAY,
            "finished_at": seen_at if status in OVER else None,
            "result": Jsonb({}),
            "error": Jsonb({}),
        }
        filled.session.insert("vsl_jobs", **job)
        steps: list[dict[str, Any]] = []
        for step in STEPS[: chance.randrange(len(STEPS) + 1)]:
            provider = chance.choice([*ARMS, None])
            state = chance.choice(("done", "done", "running", "failed"))
            # Some begin at the very same time, as frames do.
            began = at + timedelta(seconds=chance.randrange(3))
            steps.append({"step": step, "status": state, "provider": provider, "model": provider and ARMS[provider],
                          "started_at": began, "finished_at": None if state == "running" else began})  # fmt: skip
            more = {
                "job_id": job["id"],
                "user_id": user,
                "content_key": "0" * 64,
                "result": Jsonb({}),
                "error": Jsonb({}),
            }
            filled.session.insert("vsl_steps", **steps[-1], **more)
        made.append((job, steps))
    return made


def standing(job: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    """The step to be told of a job: one that failed before one that runs, the latest of these; else the stage."""
    for state in ("failed", "running"):
        there = [step for step in steps if step["status"] == state]
        if there and job["status"] != "succeeded":
            latest = max(step["started_at"] for step in there)
            return min(step["step"] for step in there if step["started_at"] == latest)
    return job["stage"]


@pytest.mark.parametrize(
    ("name", "filters", "user"),
    [
        *CASES,
        pytest.param("7d", {"route": "/api/vsl", "provider": "xai"}, None, id="a provider of videos"),
        pytest.param("30d", {"provider": "groq", "model": ARMS["groq"]}, user_of(3), id="a model's, one's own"),
        pytest.param("30d", {"provider": "groq", "model": ARMS["xai"]}, None, id="a model that it does not have"),
    ],
)
def test_jobs(filled: Filled, filmed: Filmed, name: str, filters: dict[str, str], user: str | None) -> None:
    """The last fifty; by provider and model those of which a step was made by these. No job has an arm."""
    begin, end = period(name, NOW)
    wanted = [
        (job, steps)
        for job, steps in filmed
        if begin <= job["created_at"] < end
        and user in {None, str(job["user_id"])}
        and filters.get("route", "/api/vsl") == "/api/vsl"
        and "arm" not in filters
        and (
            not filters.keys() & {"provider", "model"}
            or any(all(step[key] == filters.get(key, step[key]) for key in ("provider", "model")) for step in steps)
        )
    ]
    wanted.sort(key=lambda each: (-each[0]["created_at"].timestamp(), str(each[0]["id"])))
    assert panel(filled, "jobs", name, filters, user) == [
        {
            "at": job["created_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "job_id": str(job["id"]),
            "status": job["status"],
            "step": standing(job, steps),
            "duration_ms": ((job["finished_at"] or job["updated_at"]) - job["created_at"]) / timedelta(milliseconds=1),
            "cost_microusd": job["cost_microusd"],
        }
        for job, steps in wanted[:50]
    ]


def test_jobs_of_others(session: Session) -> None:
    """A token gets its holder's own, whatever is asked for, an operator's as well: others' words are in these rows."""
    jobs = {user.id: vsl_job(user.id, 1) for user in USERS}
    for user, job in jobs.items():
        session.rows("insert into auth.users (id) values (%s)", user)
        session.insert("vsl_jobs", **job)
    whole: dict[str, Any] = {"from": NOW - 999 * DAY, "to": NOW, "step": DAY}
    assert len(session.call("panel_jobs", **whole)) == len(USERS)
    for caller in USERS:
        with session.connection.transaction(force_rollback=True):
            become(session.connection, caller)
            (own,) = session.call("panel_jobs", **whole)
            assert own["job_id"] == str(jobs[caller.id]["id"])
            others = [user for user in jobs if user != caller.id]
            assert [session.call("panel_jobs", **whole, user_id=user) for user in others] == [[]] * len(others)


ALL_OF_IT = """
    select * from (
      select '5m' as size, * from public.inference_rollup_5m union all select '1h', * from public.inference_rollup_1h
    ) as cells order by size, bucket_start, provider, model, route, experiment, arm, kind, outcome, error_code,
      fallback_from, cause
"""


def test_another_roll_up_changes_nothing(filled: Filled) -> None:
    """Whatever is added up again comes out the same."""
    before = filled.session.rows(ALL_OF_IT)
    filled.session.rows(
        "insert into private.rollup_due (bucket_start) "
        "select distinct date_bin('5 min', created_at, '2000-01-01T00:00:00Z') from public.inference_events"
    )
    assert filled.session.call("rollup_inference", windows=100_000)["left"] == 0
    assert filled.session.rows(ALL_OF_IT) == before

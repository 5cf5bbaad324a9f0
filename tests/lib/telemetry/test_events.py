"""`ai_inference`: one line per call to a provider, with what is known, and a flag where it is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.providers.base import Model, Usage
from lib.providers.catalog import ROWS
from lib.router.attempt import Attempt, Outcome
from lib.router.plan import Candidate, ProviderFlag
from lib.telemetry.cost import Costs
from lib.telemetry.events import Bill, InferenceEvent, Recorder, Subject, milliseconds

FLAG = ProviderFlag(arm="treated", provider="deepinfra", model="x")
SUBJECT = Subject("request-1", "caller-1", "key", "/api/generate", FLAG, 41, {"page": "home"})
DEEPINFRA = Candidate("deepinfra", Model("openai/gpt-oss-120b", 8_192, 1_024))
GROQ = Candidate("groq", ROWS[0].models[0])
LOCAL = Candidate("local", ROWS[-1].models[0])
UNPRICED = Candidate("acme", Model("acme-1", 8_192, 1_024))


@pytest.fixture(autouse=True)
def _keep_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ai_inference")


def attempt(outcome: Outcome | None = "ok", candidate: Candidate = DEEPINFRA, **known: Any) -> Attempt:
    """An attempt of two seconds, its first token after half of one; `known` says what else is different."""
    usual: dict[str, Any] = {"number": 1, "first_token_at": 100.5, "ended_at": 102.0, "characters": 10}
    return Attempt(candidate=candidate, started_at=100.0, outcome=outcome, **{**usual, **known})


def recorder() -> Recorder:
    """A recorder of a process that has just started."""
    return Recorder(Costs(), region="fra1", deployment="dpl_1")


def record(caplog: pytest.LogCaptureFixture, *attempts: Attempt) -> tuple[Bill, list[dict[str, Any]]]:
    """The bill and the events of these attempts."""
    caplog.clear()
    bill = asyncio.run(recorder().record(SUBJECT, attempts))
    return bill, lines(caplog)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The events on record."""
    return [json.loads(entry.message) for entry in caplog.records if entry.name == "ai_inference"]


def test_event(caplog: pytest.LogCaptureFixture) -> None:
    """An event says who asked whom for what, how it went, how long it took and what it cost."""
    bill, (event,) = record(caplog, attempt(usage=Usage(1000, 100, 30, 20), finish_reason="stop"))
    assert UUID(event.pop("id")).version == 7
    assert datetime.now(UTC) - datetime.fromisoformat(event.pop("created_at")) < timedelta(minutes=1)
    assert event == {
        "event": "ai_inference",
        "request_id": "request-1",
        "attempt": 1,
        "kind": "first",
        "caller_id": "caller-1",
        "caller_kind": "key",
        "route": "/api/generate",
        "modality": "text",
        "provider": "deepinfra",
        "model": "openai/gpt-oss-120b",
        "outcome": "ok",
        "error_code": None,
        "finish_reason": "stop",
        "ttft_ms": 500.0,
        "latency_ms": 2000.0,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cached_tokens": 30,
        "reasoning_tokens": 20,
        "units": None,
        "unit": None,
        "estimated": False,
        "cost_micro_usd": 56,
        "cost_unknown": False,
        "cache_saved_micro_usd": None,
        "fallback_from": None,
        "experiment": "feature_ai_provider",
        "experiment_arm": "treated",
        "gate": None,
        "gate_arm": None,
        "rollout_id": None,
        "rollout_share": None,
        "config_version": None,
        "cold_start": True,
        "region": "fra1",
        "deployment": "dpl_1",
        "metadata": {"page": "home"},
    }
    assert bill == Bill(Usage(1000, 100, 30, 20), False, Decimal("0.000056"))  # noqa: FBT003 - a record


def test_every_column_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """Every field of the event is on the line, also where it is null."""
    _, (event,) = record(caplog, attempt("error", first_token_at=None))
    assert list(event) == [each.name for each in fields(InferenceEvent)]


def test_usage_that_was_never_told(caplog: pytest.LogCaptureFixture) -> None:
    """Where the provider did not say what it counted, it is estimated, priced, and marked as an estimate."""
    bill, (event,) = record(caplog, attempt())
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (11, 3, True)
    assert event["cost_micro_usd"] == round(11 * 0.039 + 3 * 0.17)
    assert (bill.usage, bill.estimated) == (Usage(11, 3), True)


@pytest.mark.parametrize(
    ("candidate", "usage", "cached_tokens", "saved"),
    [
        (GROQ, Usage(100_000, 100, 40_000), 40_000, 1_500),
        (GROQ, Usage(100_000, 100), 0, 0),
        (DEEPINFRA, Usage(100_000, 100, 40_000), 40_000, None),
        (DEEPINFRA, Usage(100_000, 100), 0, 0),
        (UNPRICED, Usage(100_000, 100, 40_000), 40_000, None),
        (LOCAL, Usage(1_000, 100, 400), 400, 0),
        (GROQ, None, None, None),
    ],
    ids=["half price", "none cached", "price unknown", "none cached, price unknown", "unpriced", "free", "not told"],
)
def test_cached_tokens(
    caplog: pytest.LogCaptureFixture,
    candidate: Candidate,
    usage: Usage | None,
    cached_tokens: int | None,
    saved: int | None,
) -> None:
    """How much of the prompt the provider had in its cache, and what that saved; null where it can't be known."""
    _, (event,) = record(caplog, attempt(candidate=candidate, usage=usage))
    assert (event["cached_tokens"], event["cache_saved_micro_usd"]) == (cached_tokens, saved)


def test_continuation_that_was_never_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Who goes on from what was delivered has read that too."""
    _, (event,) = record(caplog, attempt(number=2, kind="continuation", added_characters=403))
    assert (event["input_tokens"], event["estimated"]) == (111, True)


@pytest.mark.parametrize("outcome", ["timeout", "cancelled"])
def test_provider_that_was_left(caplog: pytest.LogCaptureFixture, outcome: Outcome) -> None:
    """A provider that was left before its first token has read the prompt, and bills it: that is estimated."""
    _, (event,) = record(caplog, attempt(outcome, first_token_at=None, characters=0))
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (11, 0, True)
    assert event["ttft_ms"] is None


def test_provider_that_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that answered with an error has cost nothing, and that is known."""
    failed = attempt("error", UNPRICED, first_token_at=None, characters=0, error_code="rate_limited")
    _, (event,) = record(caplog, failed)
    assert (event["input_tokens"], event["output_tokens"], event["estimated"]) == (0, 0, False)
    assert (event["cost_micro_usd"], event["cost_unknown"], event["error_code"]) == (0, False, "rate_limited")


def test_provider_that_broke_off(caplog: pytest.LogCaptureFixture) -> None:
    """What a provider wrote before it broke off is estimated."""
    _, (event,) = record(caplog, attempt("interrupted", error_code="broken_stream"))
    assert (event["output_tokens"], event["estimated"], event["outcome"]) == (3, True, "interrupted")


def test_unknown_cost(caplog: pytest.LogCaptureFixture) -> None:
    """A cost that is unknown is null and marked, never zero, and makes the whole bill unknown."""
    known = attempt(usage=Usage(1000, 100))
    bill, events = record(caplog, attempt("timeout", UNPRICED, usage=Usage(7, 3)), known)
    assert [(event["cost_micro_usd"], event["cost_unknown"]) for event in events] == [(None, True), (56, False)]
    assert bill.cost_usd is None
    assert record(caplog, known, attempt(candidate=UNPRICED))[0].cost_usd is None


def test_bill_of_several_attempts(caplog: pytest.LogCaptureFixture) -> None:
    """The bill adds up what all attempts used and cost, and each says what it was for."""
    first = attempt("interrupted", usage=Usage(1000, 100, 30, 20))
    second = attempt(usage=Usage(2000, 200, 40, 10), number=2, kind="continuation", fallback_from="deepinfra")
    bill, events = record(caplog, first, second)
    assert bill == Bill(Usage(3000, 300, 70, 30), False, Decimal("0.000168"))  # noqa: FBT003 - a record
    assert [(event["attempt"], event["kind"]) for event in events] == [(1, "first"), (2, "continuation")]
    assert [event["fallback_from"] for event in events] == [None, "deepinfra"]
    assert [event["input_tokens"] for event in events] == [1000, 2000]
    assert len({event["id"] for event in events}) == 2


def test_bill_with_an_estimate_among_its_attempts(caplog: pytest.LogCaptureFixture) -> None:
    """One attempt that had to be estimated makes the whole bill an estimate."""
    bill, events = record(caplog, attempt("interrupted"), attempt(usage=Usage(2000, 200), number=2, kind="restart"))
    assert [event["estimated"] for event in events] == [True, False]
    assert (bill.usage, bill.estimated) == (Usage(2011, 203), True)


def test_hedge_that_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The one of two that was not needed has read the prompt all the same: it is on record, and on the bill."""
    lost = attempt("cancelled", number=2, kind="hedge", first_token_at=None, characters=0)
    bill, events = record(caplog, attempt(usage=Usage(12, 3)), lost)
    assert [(event["kind"], event["outcome"]) for event in events] == [("first", "ok"), ("hedge", "cancelled")]
    assert (bill.usage, bill.estimated) == (Usage(23, 3), True)


def test_nobody_was_called(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that nobody began to read has used nothing, and is not on record."""
    bill, events = record(caplog)
    assert (bill, events) == (Bill(Usage(0, 0), False, Decimal(0)), [])  # noqa: FBT003 - a record


def test_cold_start_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first request of a process is the cold one, in all of its attempts; no other is."""

    async def three() -> None:
        told = recorder()
        for attempts in ([attempt("error"), attempt()], [attempt()], [attempt()]):
            await told.record(SUBJECT, attempts)

    asyncio.run(three())
    assert [event["cold_start"] for event in lines(caplog)] == [True, True, False, False]


def test_prices_of_the_vendors_that_someone_else_keeps(caplog: pytest.LogCaptureFixture) -> None:
    """Loading their prices changes nothing but the time it takes; prepared or not, the cost is the same."""

    async def twice() -> list[Bill]:
        prepared = recorder()
        prepared.prepare("groq")
        return [await each.record(SUBJECT, [attempt(candidate=GROQ)]) for each in (prepared, recorder())]

    first, second = asyncio.run(twice())
    assert first == second
    assert first.cost_usd is not None
    assert first.cost_usd > 0
    assert len(lines(caplog)) == 2


def test_milliseconds() -> None:
    """Times are told to the tenth of a millisecond."""
    assert [milliseconds(seconds) for seconds in (0, 0.5, 1.23456789)] == [0, 500, 1234.6]


COUNTS = st.builds(Usage, *[st.integers(0, 2**53)] * 4)
OUTCOMES: Sequence[Outcome] = ("ok", "error", "cancelled", "timeout", "interrupted")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.builds(
        attempt,
        st.sampled_from(OUTCOMES),
        st.sampled_from([DEEPINFRA, GROQ, UNPRICED]),
        first_token_at=st.none() | st.floats(100, 102),
        usage=st.none() | COUNTS,
        characters=st.integers(0, 10**6),
    )
)
def test_any_attempt(caplog: pytest.LogCaptureFixture, tried: Attempt) -> None:
    """Whatever came of a call, its line can be written, and a cost is unknown exactly where it is null."""
    bill, (event,) = record(caplog, tried)
    assert event["cost_unknown"] is (event["cost_micro_usd"] is None) is (bill.cost_usd is None)
    assert event["estimated"] is False or tried.usage is None
    assert event["latency_ms"] == 2000
    assert min(event["input_tokens"], event["output_tokens"]) >= 0
    assert (event["cached_tokens"] is None) is event["estimated"]

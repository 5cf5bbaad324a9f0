"""Which calls make which failures, how often they are told, and what a log or a list of models is read as."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest

from lib.incidents.build_log import failing
from lib.incidents.failures import EVERY_S, MAX_KNOWN, Failures, breaker_failure, failures_of
from lib.incidents.incidents import Failure
from lib.incidents.probe import Listed, read_list
from lib.telemetry.events import InferenceEvent

NONE: dict[str, Any] = dict.fromkeys(field.name for field in fields(InferenceEvent))
CALL = replace(
    InferenceEvent(**NONE),
    request_id="r",
    attempt=1,
    route="/api/generate",
    modality="text",
    provider="groq",
    model="m",
    outcome="error",
    error_code="provider_unavailable",
)
OK = replace(CALL, attempt=2, provider="xai", outcome="ok", error_code=None)
KNOWN = {("groq", "m")}


def subjects(*calls: InferenceEvent) -> list[str]:
    """The subjects of the failures that one request's calls are."""
    return [failure.subject for failure in failures_of(calls, KNOWN)]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([OK], []),
        ([CALL, OK], []),
        ([CALL], ["inference:/api/generate"]),
        ([CALL, replace(CALL, attempt=2)], ["inference:/api/generate"]),
        ([replace(CALL, outcome="timeout", error_code=None)], ["inference:/api/generate"]),
        ([replace(CALL, outcome="interrupted")], ["inference:/api/generate"]),
        ([replace(CALL, attempt=0, kind="skipped")], ["inference:/api/generate"]),
        ([CALL, replace(OK, outcome="cancelled")], []),
        ([replace(CALL, error_code="request_rejected")], []),
        ([replace(CALL, error_code="credentials_rejected"), OK], ["vendor:groq:credentials_rejected"]),
        ([replace(CALL, error_code="quota_exhausted"), OK], ["vendor:groq:quota_exhausted"]),
        ([replace(CALL, error_code="model_unavailable"), OK], ["vendor:groq:model_unavailable:m"]),
        ([replace(CALL, error_code="model_unavailable", model="made-up"), OK], []),
        (
            [replace(CALL, error_code="model_unavailable", model="by-a-flag", experiment_arm="groq"), OK],
            ["vendor:groq:model_unavailable:by-a-flag"],
        ),
        ([], []),
    ],
)
def test_failures_of(calls: list[InferenceEvent], expected: list[str]) -> None:
    """What a vendor refuses is that vendor's; what nobody answers is the route's; callers' own faults are nobody's."""
    assert subjects(*calls) == expected


class Told:
    """Who takes failures, under a clock of the test's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.taken: list[tuple[str, int]] = []
        self.failures = Failures(KNOWN, lambda: self.now)

    async def take(self, failure: Failure, count: int) -> None:
        """See Open."""
        self.taken.append((failure.subject, count))

    def tell(self) -> list[tuple[str, int]]:
        """What is told now."""
        self.taken = []
        asyncio.run(self.failures.tell(self.take))
        return self.taken


def test_a_storm_is_told_once_a_minute() -> None:
    """The first at once, then the sum of each minute, and nothing where nothing happened."""
    told = Told()
    failure = breaker_failure("groq", "m")
    told.failures.note(failure)
    assert told.tell() == [("breaker:groq/m", 1)]
    for _ in range(999):
        told.failures.note(failure)
        assert told.tell() == []
    told.now = EVERY_S
    assert told.tell() == [("breaker:groq/m", 999)]
    told.now = 2 * EVERY_S
    assert told.tell() == []


def test_memory_is_bounded() -> None:
    """However many causes somebody makes up."""
    told = Told()
    for number in range(3 * MAX_KNOWN):
        told.failures.note(breaker_failure("groq", str(number)))
    assert len(told.tell()) == MAX_KNOWN


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Cloning", "npm ERR! failed to build", "at x"], ["npm ERR! failed to build", "at x"]),
        (["a\nError: b\n\nc"], ["Error: b", "c"]),
        (["one", "", "two"], ["one", "two"]),
        ([], []),
        ([str(number) for number in range(100)], [str(number) for number in range(70, 100)]),
    ],
)
def test_failing_lines(lines: list[str], expected: list[str]) -> None:
    """From the first line that tells of a failure on; without one, the last there are."""
    assert failing(lines) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": [{"id": "a"}, {"id": 7}, "x", None]}, Listed(models=frozenset({"a"}))),
        ({"data": []}, Listed()),
        ({"data": None}, Listed("unreadable")),
        ([], Listed("unreadable")),
        (
            {"data": [{"id": "a", "metadata": {"pricing": {"input_tokens": 0.1, "output_tokens": 0.32}}}]},
            Listed(models=frozenset({"a"}), prices={("a", "input"): Decimal("0.1"), ("a", "output"): Decimal("0.32")}),
        ),
        (
            {"models": [{"id": "g", "aliases": ["g-latest"], "prompt_text_token_price": 20_000}]},
            Listed(
                models=frozenset({"g", "g-latest"}),
                prices={("g", "input"): Decimal(2), ("g-latest", "input"): Decimal(2)},
            ),
        ),
        ({"data": [{"id": "a", "metadata": {"pricing": {"input_tokens": "x"}}}]}, Listed(models=frozenset({"a"}))),
    ],
)
def test_lists_of_models(body: object, expected: Listed) -> None:
    """OpenAI's form, with DeepInfra's prices and xAI's; what is not as expected is left out."""
    assert read_list(body) == expected

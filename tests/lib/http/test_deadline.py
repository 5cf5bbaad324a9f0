"""How long an answer may take: within what the platform gives the function, whoever says how much that is."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lib.http.deadline import MAX_DURATION_S, RESERVE_S, seconds_to_answer
from lib.router.attempt import Policy

RUNTIME = "vercel_runtime.deadline"


def test_platforms_limit() -> None:
    """It is the one that vercel.json asks for, for every function, and the policy's own total lies within it."""
    functions: dict[str, Any] = json.loads((Path(__file__).parents[3] / "vercel.json").read_text())["functions"]
    assert {function["maxDuration"] for function in functions.values()} == {MAX_DURATION_S}
    assert Policy().total_s <= MAX_DURATION_S - RESERVE_S


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The platform's runtime, as far as it is looked at."""
    module = ModuleType(RUNTIME)
    monkeypatch.setitem(sys.modules, RUNTIME, module)
    return module


def test_without_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is told, the answer has the platform's usual limit, less what comes after it."""
    monkeypatch.delitem(sys.modules, RUNTIME, raising=False)
    assert seconds_to_answer() == MAX_DURATION_S - RESERVE_S


@pytest.mark.parametrize(
    ("told_s", "expected_s"), [(None, 280), (3_000, 280), (300, 280), (150, 130), (60, 48), (10, 8), (0, 0), (-5, 0)]
)
def test_platform_tells(runtime: Any, told_s: float | None, expected_s: float) -> None:
    """A shorter limit of the platform's holds; a longer one gives no more than vercel.json asks for."""
    deadline = None if told_s is None else datetime.now(UTC) + timedelta(seconds=told_s)
    runtime.get_deadline = lambda: deadline
    assert seconds_to_answer() == pytest.approx(expected_s, abs=0.5)

"""The public failover suite's 16 cases through POST /api/generate, scored by its own rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.fakes.loop import LoopThread
from tests.faults.bench import CASES, EXPECTED, POLICIES, Case, Score, score, warm_up
from tests.faults.wall import WORDS
from tests.faults.write_docs import FILE, render

SLOW = pytest.mark.slow


class Bench:
    """Runs each case once per policy. Who asks for a slow one starts all, so that they wait beside each other."""

    def __init__(self, loop: LoopThread, pool: ThreadPoolExecutor) -> None:
        self._loop = loop
        self._pool = pool
        self._scores: dict[tuple[str, str], Future[Score]] = {}

    def start(self, case: Case, policy: str) -> Future[Score]:
        """The case's score, once it is there."""
        wanted = [(case, policy)]
        if is_slow(case, policy):
            wanted += [(other, name) for other in CASES for name in POLICIES]
        for other, name in wanted:
            if (other.id, name) not in self._scores:
                self._scores[other.id, name] = self._pool.submit(score, other, name, self._loop)
        return self._scores[case.id, policy]


def is_slow(case: Case, policy: str) -> bool:
    """Whether it waits for seconds."""
    return case.is_slow or (case.id == "S01" and policy == "honour_retry_after")


@pytest.fixture(scope="module")
def bench(loop: LoopThread) -> Iterator[Bench]:
    """The cases' scores."""
    warm_up(loop)
    with ThreadPoolExecutor(len(CASES) * len(POLICIES)) as pool:
        yield Bench(loop, pool)


def test_answer_has_sixty_words() -> None:
    """The suite's rules count on it."""
    assert len(WORDS) == 60


@pytest.mark.parametrize(
    ("case", "policy"),
    [
        pytest.param(
            case,
            policy,
            id=f"{case.id}-{policy}",
            marks=[SLOW] if is_slow(case, policy) else [],
        )
        for case in CASES
        for policy in POLICIES
    ],
)
def test_case(bench: Bench, case: Case, policy: str) -> None:
    """Each case gets the verdict that the policy is there to get."""
    got = bench.start(case, policy).result(150)
    wall = [(round(entry.at, 2), entry.model, entry.action) for entry in (*got.run.primary, *got.run.fallback)]
    assert (got.verdict, got.reasons if got.verdict != "partial" else ()) == (EXPECTED[policy][case.id], ()), wall


@SLOW
@pytest.mark.parametrize(("policy", "passed"), [("default", 14), ("honour_retry_after", 16)])
def test_sum(bench: Bench, policy: str, passed: int) -> None:
    """The whole suite: nothing fails, and no more than two cases are less than a pass."""
    running = [bench.start(case, policy) for case in CASES]
    verdicts = Counter(future.result(150).verdict for future in running)
    assert verdicts["pass"] >= passed
    assert verdicts["fail"] == 0


def test_docs_are_fresh() -> None:
    """docs/faults.md says what these tests hold; renew it with `python -m tests.faults.write_docs`."""
    assert FILE.read_text() == render(EXPECTED)

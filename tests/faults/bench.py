"""The public failover suite's 16 cases, run through POST /api/generate and scored by its rules on both views."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lib.providers.base import Model
from lib.providers.catalog import Row
from tests.conftest import ACCESS, KEY_HEADER
from tests.fakes.loop import LoopThread
from tests.faults.serving import Adjust, Result, call, make_app, served
from tests.faults.wall import ANSWER, Entry, Times, Wall

Verdict = Literal["pass", "partial", "safe", "fail"]
PROMPT = "Describe in exactly sixty words how boats come home at night when the lights are out."


@dataclass(frozen=True)
class Profile:
    """How long the wall waits, and how the flapping provider (S15) is called: so many times, every so many seconds.

    The limits that are checked are the same in all.
    """

    times: Times
    flap_calls: int
    flap_every_s: float
    flap_cap_s: float


FAST = Profile(Times(), 10, 1.2, 10)
FULL = Profile(Times(retry_after=2, first_token=20, stall=30, silence=120, outage=60, token=0.015), 20, 4, 30)
"""The published one."""


@dataclass
class Run:
    """Both views of one case: what the callers got, and what the wall saw."""

    results: list[Result]
    sent_at: list[float]
    primary: Sequence[Entry]
    fallback: Sequence[Entry]
    outage_s: float
    alive: Result = field(default_factory=Result)

    @property
    def result(self) -> Result:
        """The (last) call's result."""
        return self.results[-1]

    @property
    def hung(self) -> bool:
        """Whether any call had no end."""
        return any(result.hung for result in self.results)

    @property
    def succeeded(self) -> bool:
        """Whether every caller was told of a success."""
        return all(result.ok for result in self.results)

    @property
    def complete(self) -> bool:
        """Whether every caller got the answer, all of it and nothing else."""
        return all(" ".join(result.text.split()) == ANSWER for result in self.results)


@dataclass(frozen=True)
class Check:
    """One of the suite's checks; a required one that does not hold fails the case, an advisory one makes it partial."""

    name: str
    holds: Callable[[Run], bool]
    required: bool = True


@dataclass(frozen=True)
class Case:
    """One case: the fault, the fallback beside it, how long a call may take, and what is checked."""

    id: str
    model: str
    title: str
    cap_s: float
    checks: tuple[Check, ...] = ()
    fallback: str = "fb-ok"
    ideal_is_error: bool = False
    is_slow: bool = False


@dataclass(frozen=True)
class Score:
    """How a case went."""

    verdict: Verdict
    reasons: tuple[str, ...]
    run: Run


def _no_truncated_success(run: Run) -> bool:
    return run.complete or not run.succeeded


def _attempts_within(window_s: float) -> Callable[[Run], int]:
    return lambda run: sum(entry.at - run.primary[0].at < window_s for entry in run.primary)


def _gap(run: Run) -> float:
    return run.primary[1].at - run.primary[0].at if len(run.primary) > 1 else 0.0


def _shrinks(run: Run) -> bool:
    sizes = [entry.prompt_tokens for entry in run.primary]
    return len(sizes) == 1 or (len(sizes) == 2 and sizes[1] < sizes[0])


def _reports_fallback(run: Run) -> bool:
    return not run.fallback or "fb-ok" in str(run.result.metadata.get("model"))


def _no_masking(run: Run) -> bool:
    return run.succeeded or not any("invalid_prefill" in entry.action for entry in run.fallback)


def _served_in_outage(run: Run) -> bool:
    calls = zip(run.sent_at, run.results, strict=True)
    return all(result.ok for at, result in calls if at < run.outage_s)


def _recovered(run: Run) -> bool:
    back = [entry.at for entry in run.primary if entry.action == "200"]
    return bool(back) and min(back) - run.outage_s <= 30


def _within(limit_s: float) -> Callable[[Run], bool]:
    return lambda run: run.result.elapsed_s <= limit_s


def _has_usage(run: Run) -> bool:
    return bool(run.result.metadata.get("usage"))


NO_HANG = Check("no hang", lambda run: not run.hung)
NO_TRUNCATED = Check("no truncated success", _no_truncated_success)
ALIVE = Check("alive afterwards", lambda run: run.alive.ok and run.alive.text == ANSWER)
AT_MOST_6 = Check("at most 6 attempts", lambda run: len(run.primary) <= 6)
RETRIED = Check("primary retried", lambda run: len(run.primary) >= 2, required=False)
USAGE = Check("usage", _has_usage, required=False)

CASES: tuple[Case, ...] = (
    Case(
        "S01",
        "fb-s01-429-retry-after",
        "429 with Retry-After once",
        20,
        (
            Check("no hammering", lambda run: _attempts_within(1.5)(run) <= 2),
            RETRIED,
            Check("Retry-After honoured", lambda run: _gap(run) >= 1.8, required=False),
        ),
    ),
    Case(
        "S02",
        "fb-s02-429-persistent",
        "429 always",
        40,
        (Check("no hammering", lambda run: _attempts_within(3)(run) <= 4), AT_MOST_6, NO_HANG),
    ),
    Case("S03", "fb-s03-500-then-200", "500 once", 20, (NO_HANG, RETRIED)),
    Case("S04", "fb-s04-503-persistent", "503 always", 40, (AT_MOST_6, NO_HANG)),
    Case("S05", "fb-s05-reset", "connection reset once", 20, (NO_HANG,)),
    Case(
        "S06",
        "fb-s06-no-response",
        "no response",
        130,
        (
            Check("at most 100 s", _within(100)),
            NO_HANG,
            Check("one attempt", lambda run: len(run.primary) == 1, required=False),
        ),
        is_slow=True,
    ),
    Case(
        "S07",
        "fb-s07-slow-ttft",
        "slow first token",
        60,
        (NO_HANG, Check("at most 15 s", _within(15), required=False)),
        is_slow=True,
    ),
    Case("S08", "fb-s08-stream-cut", "stream cut", 40, (NO_TRUNCATED, NO_HANG)),
    Case(
        "S09",
        "fb-s09-stream-stall",
        "stream stalls",
        70,
        (Check("at most 45 s", _within(45)), NO_TRUNCATED, ALIVE, NO_HANG),
        is_slow=True,
    ),
    Case(
        "S10",
        "fb-s10-malformed-chunk",
        "malformed event",
        30,
        (
            ALIVE,
            NO_TRUNCATED,
            NO_HANG,
            Check("complete answer", lambda run: run.succeeded and run.complete, required=False),
        ),
    ),
    Case("S11", "fb-s11-no-done", "no [DONE]", 30, (Check("at most 8 s", _within(8)), USAGE)),
    Case("S12", "fb-s12-context-length", "context length", 20, (Check("no resend", _shrinks), NO_HANG)),
    Case(
        "S13",
        "fb-s13-content-filter",
        "content filter",
        20,
        (Check("one attempt", lambda run: len(run.primary) == 1), NO_HANG),
        ideal_is_error=True,
    ),
    Case(
        "S14",
        "fb-s14-stream-cut",
        "stream cut, fallback without prefill",
        40,
        (Check("prefill not masking", _no_masking), NO_TRUNCATED),
        fallback="fb-ok-noprefill",
    ),
    Case(
        "S15",
        "fb-s15-flap",
        "down, then healthy",
        30,
        (
            NO_HANG,
            Check("served in the outage", _served_in_outage),
            Check("back within 30 s", _recovered),
        ),
        is_slow=True,
    ),
    Case(
        "S16",
        "fb-s16-503-persistent",
        "fallback accounted for",
        40,
        (Check("fallback's model reported", _reports_fallback), AT_MOST_6, USAGE),
    ),
)

POLICIES: dict[str, Adjust | None] = {
    "default": None,
    "honour_retry_after": lambda policy: replace(policy, honour_retry_after=True),
}
EXPECTED: dict[str, dict[str, Verdict]] = {
    "default": {case.id: "partial" if case.id in {"S01", "S03"} else "pass" for case in CASES},
    "honour_retry_after": {case.id: "pass" for case in CASES},
}
"""What our policies score: by default a failing provider is left at once, which the suite twice calls partial."""


def rows_for(case: Case) -> tuple[Row, ...]:
    """The catalogue of one case: the model that fails and the one to fall back to, at one host."""
    primary = Model(case.model, 8_192, 4_096)
    fallback = Model(case.fallback, 131_072, 4_096, continues_prefix=case.fallback == "fb-ok")
    return (_row("fallback", fallback), _row("primary", primary))


def _row(name: str, model: Model) -> Row:
    variable = f"{name.upper()}_BASE_URL"
    return Row(name, name.title(), "openai", variable, (model,), fast=model.id, strong=model.id)


def score(case: Case, policy: str, loop: LoopThread, profile: Profile = FAST) -> Score:
    """Run one case under one of the policies, over a wall of its own, and judge it."""
    wall = Wall(loop, profile.times)
    environ = {
        **ACCESS,
        "PRIMARY_BASE_URL": wall.url,
        "FALLBACK_BASE_URL": wall.url,
        "FEATURE_AI_PROVIDER": "primary",
    }
    try:
        with served(make_app(environ, rows_for(case), POLICIES[policy]), loop) as url:
            run = _sequence(case, wall, url, profile) if case.id == "S15" else _single(case, wall, url)
            probe: dict[str, object] = {"prompt": PROMPT, "provider": "fallback", "stream": False}
            run.alive = call(url, probe, 10, **KEY_HEADER)
        if wall.violations:
            return Score("fail", tuple(wall.violations), run)
        return _judge(case, run)
    finally:
        wall.close()


def warm_up(loop: LoopThread) -> None:
    """The first call of a process imports the vendor's SDK: with many at once that could outlast a silence."""
    score(CASES[-1], "default", loop)


def _single(case: Case, wall: Wall, url: str) -> Run:
    result = call(url, {"prompt": PROMPT}, case.cap_s)
    return Run([result], [0.0], wall.of(case.model), wall.of(case.fallback), wall.times.outage)


def _sequence(case: Case, wall: Wall, url: str, profile: Profile) -> Run:
    results: list[Result] = []
    sent_at: list[float] = []
    wall.restart_clock()
    for number in range(profile.flap_calls):
        time.sleep(max(number * profile.flap_every_s - wall.now(), 0))
        sent_at.append(wall.now())
        results.append(call(url, {"prompt": PROMPT}, profile.flap_cap_s))
    return Run(results, sent_at, wall.of(case.model), wall.of(case.fallback), wall.times.outage)


def _judge(case: Case, run: Run) -> Score:
    broken = [check for check in case.checks if not check.holds(run)]
    required = tuple(check.name for check in broken if check.required)
    advisory = tuple(check.name for check in broken if not check.required)
    if run.hung or (not case.ideal_is_error and not _no_truncated_success(run)):
        return Score("fail", ("hang" if run.hung else "truncated or altered answer", *required), run)
    if required:
        return Score("fail", required, run)
    if case.ideal_is_error:
        return Score("partial" if run.succeeded else "pass", ("answered anyway",) if run.succeeded else (), run)
    if not run.succeeded:
        errors = tuple(str(result.error) for result in run.results if not result.ok)
        return Score("safe", errors, run)
    return Score("partial" if advisory else "pass", advisory, run)

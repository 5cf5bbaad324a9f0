"""How soon a caller reads the next word after a provider failed, with a healthy one beside it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.client import Answered, Target, call_once
from benchmarks.report import Cell, Goal, Section
from benchmarks.router import peers
from benchmarks.servers import chat, handler
from benchmarks.tools import running_upstream
from benchmarks.upstream import BEFORE_CUT_S
from lib.router.attempt import Policy

BUDGET_S = Policy().first_token_s
FAULTS = {"error-500": 5, "error-429": 5, "hang-8": 2, "cut-10": 5}
"""The vendor's models that fail, and how often each is called: less often than would open a breaker."""
NAMES = {
    "error-500": "500 before the first token",
    "error-429": "429 before the first token",
    "hang-8": "silent for 8 s",
    "cut-10": "cut after 10 of 20 words",
}


def measure() -> Section:
    """Every fault through the handler, then through LiteLLM's proxy."""
    section = Section(
        "Recovery: how long the reader waits after a failure is known",
        f"Beyond what a healthy call takes; of the silent one, beyond our budget of {BUDGET_S:.0f} s for a first "
        "token, which LiteLLM has not; of the cut, the pause in the middle. LiteLLM: its proxy with two retries and a "
        "fallback. Median, and how many callers got all 20 words once.",
        ("fault", "ours ms", "answers whole", "LiteLLM ms", "answers whole"),
    )
    with running_upstream() as upstream:
        ours = {fault: _ours(upstream, fault, calls) for fault, calls in FAULTS.items()}
        theirs = _litellm(upstream)
    for fault in FAULTS:
        waited, whole = ours[fault]
        section.rows.append((NAMES[fault], waited, whole, *theirs[fault]))
        section.goals.append(Goal(f"ours, {NAMES[fault]}", waited, 100, " ms"))
    return section


def _ours(upstream: str, fault: str, calls: int) -> tuple[float, str]:
    backup = {"XAI_API_KEY": "key-0123456789", "XAI_BASE_URL": f"{upstream}/v1"}
    with handler(upstream, "burst-20", backup) as server:
        healthy = _healthy(server.target)
    with handler(upstream, fault, backup) as server:
        # The first call of a process imports the HTTP engine: that is a cold start's, not the fault's.
        pinned = {**server.target.body, "provider": "xai"}
        call_once(Target("", server.target.url, server.target.path, pinned))
        answers = [call_once(server.target) for _ in range(calls)]
    waited = [_waited_ms(fault, answer, healthy) for answer in answers]
    return statistics.median(waited), _whole(answers)


def _litellm(upstream: str) -> dict[str, tuple[Cell, str]]:
    found: dict[str, tuple[Cell, str]] = {}
    with peers.litellm(upstream) as server:
        healthy = _healthy(server.target)
        for fault, calls in FAULTS.items():
            target = Target("", server.target.url, server.target.path, chat(fault))
            answers = [call_once(target) for _ in range(calls)]
            told = [answer for answer in answers if answer.first_s]
            whole = [_waited_ms(fault, answer, healthy) for answer in told if answer.words == list(range(20))]
            found[fault] = (statistics.median(whole) if whole else None, _whole(answers))
    return found


def _healthy(target: Target) -> float:
    return statistics.median(call_once(target).first_s for _ in range(10))


def _waited_ms(fault: str, answer: Answered, healthy_s: float) -> float:
    if fault.startswith("cut"):
        return (answer.pause_s - BEFORE_CUT_S) * 1000
    budget_s = BUDGET_S if fault.startswith("hang") else 0.0
    return (answer.first_s - healthy_s - budget_s) * 1000


def _whole(answers: Sequence[Answered]) -> str:
    return f"{sum(answer.words == list(range(20)) for answer in answers)} of {len(answers)}"

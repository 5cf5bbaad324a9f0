"""What the flags cost: a decision on the path of a request, and the first one of a process."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time

from benchmarks.report import Goal, Section
from benchmarks.tools import ROOT
from lib.control.flags import Flags
from lib.control.sources import Specs

ROUNDS = 7
DECISIONS = 20_000
ITEM = ROOT / "local" / "items" / "statsig-local.json"
TRAITS = {"kind": "guest", "role": "user"}
COLD = """
import time
begin = time.process_time()
{code}
print((time.process_time() - begin) * 1000)
"""
ENGINE = "import statsig_python_core"
FIRST = f"""
import json
from lib.control.engine import Engine
engine = Engine(json.load(open({str(ITEM)!r})), "v", tier="production")
engine.config(engine.user("user-1"), "feature_ai_provider")
engine.gate(engine.user("user-1"), "groq_r1_v_production")
"""


class _Held:
    """Specs that are there."""

    part = "edge config"
    error = None
    age_s = 0.0

    def __init__(self) -> None:
        self._specs = Specs(json.loads(ITEM.read_text()), "v")

    async def specs(self) -> Specs | None:
        """See Source."""
        return self._specs

    async def renew(self) -> None:
        """See Source."""


def measure() -> Section:
    """The shipped specs: an experiment, a gate for a third of the callers, a kill switch."""
    section = Section(
        "Flags",
        f"CPU of a decision, best of {ROUNDS}, and of a process's first one, median of {ROUNDS}.",
        ("microseconds", "value"),
    )
    held = Flags(None, [_Held()], on=["local"], assignable=["local"])
    section.rows.append(("a decision by FEATURE_AI_PROVIDER", _per_decision(Flags("groq"))))
    section.rows.append(("a decision by the shipped specs", _per_decision(held)))
    engine, first = ([_cold(code) * 1000 for _ in range(ROUNDS)] for code in (ENGINE, FIRST))
    section.rows.append(("the engine's import", statistics.median(engine)))
    section.rows.append(("import, engine and first decision", statistics.median(first)))
    section.goals.append(Goal("cold, import and first evaluation", statistics.median(first) / 1000, 120, " ms"))
    return section


def _per_decision(flags: Flags) -> float:
    async def decide() -> float:
        begin = time.perf_counter()
        for number in range(DECISIONS):
            await flags.provider(f"user-{number}", TRAITS)
        return (time.perf_counter() - begin) / DECISIONS * 1_000_000

    return min(asyncio.run(decide()) for _ in range(ROUNDS))


def _cold(code: str) -> float:
    command = [sys.executable, "-c", COLD.format(code=code)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

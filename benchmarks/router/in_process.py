"""The router as a library, beside the bare SDK and the peers' libraries."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Goal, Section
from benchmarks.router import peers
from benchmarks.tools import ROOT, on_one_core, running_upstream

CALLS = Path(__file__).with_name("calls.py")
TURNS = 3
ROUNDS = {"router": 600, "openai_sdk_bytes": 300, "openai_sdk_aiohttp": 200, "openai_sdk": 200, "any_llm": 150}
FEWER_ROUNDS = 60
NAMES = {
    "router": "our router",
    "openai_sdk_bytes": "OpenAI's SDK over aiohttp, bytes alone",
    "openai_sdk_aiohttp": "OpenAI's SDK over aiohttp",
    "openai_sdk": "OpenAI's SDK",
    "any_llm": "any-llm",
    "litellm_router": "LiteLLM Router",
}
PEERS = {"any_llm", "litellm_router"}


def measure() -> Section:
    """Each contender in turns; the median of its turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    with running_upstream() as upstream:
        for _ in range(TURNS):
            for name in NAMES:
                found[name].append(_run(name, upstream))
    section = Section(
        "The router in process",
        f"An answer of 20 chunks in one write, read to its end; median of {TURNS} turns, a process each, all on "
        "uvloop. Ratio: to the fastest use of the bare SDK.",
        ("microseconds per call", "p50", "ratio", "CPU alone", "CPU, 32 callers"),
    )
    figures = {
        name: {what: statistics.median(turn[what] for turn in turns) for what in turns[0]}
        for name, turns in found.items()
    }
    bare = min(figures[name]["p50_us"] for name in figures if name.startswith("openai_sdk"))
    for name, title in NAMES.items():
        each = figures[name]
        section.rows.append((title, each["p50_us"], each["p50_us"] / bare, each["cpu_us"], each["cpu_32_us"]))
    section.goals.append(Goal("our router to the fastest use of the bare SDK", figures["router"]["p50_us"] / bare, 1.1))
    return section


def _run(name: str, upstream: str) -> dict[str, float]:
    python = peers.install() if name in PEERS else sys.executable
    command = [python, CALLS, name, upstream, str(ROUNDS.get(name, FEWER_ROUNDS))]
    with on_one_core():
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout.splitlines()[-1])

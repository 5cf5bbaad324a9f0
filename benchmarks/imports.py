"""Time to import a function, with and without bytecode: what VERCEL_PYTHON_COMPILEALL=1 buys at a cold start."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.report import Section
from benchmarks.tools import ROOT

ROUNDS = 7
MEASURED = """
import asyncio, sys, time
begin = time.process_time()
{code}
print((time.process_time() - begin) * 1000)
"""
CODE = {
    "api.generate": "import api.generate",
    "api.generate, first call": "import api.generate, aiohttp",
    "the same by Groq's SDK": "import api.generate, groq, httpx_aiohttp",
    "the same by OpenAI's SDK": "import api.generate, openai, httpx_aiohttp",
}


def measure() -> Section:
    """Import in fresh processes, in turns. The standard library has its bytecode in both, as on the platform."""
    section = Section(
        "CPU of an import", f"Median of {ROUNDS} fresh processes.", ("milliseconds", "bytecode", "source", "ratio")
    )
    with tempfile.TemporaryDirectory() as folder:
        with_bytecode, without = Path(folder, "with"), Path(folder, "without")
        for code in CODE.values():
            _run(code, with_bytecode)
        shutil.copytree(with_bytecode, without)
        for source in (ROOT, Path(sysconfig.get_path("purelib"))):
            shutil.rmtree(without / source.relative_to("/"), ignore_errors=True)
        for name, code in CODE.items():
            pairs = [(_run(code, with_bytecode), _run(code, without, "-B")) for _ in range(ROUNDS)]
            bytecode, source = (statistics.median(values) for values in zip(*pairs, strict=True))
            section.rows.append((name, bytecode, source, source / bytecode))
    return section


def _run(code: str, cache: Path, *options: str) -> float:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}  # noqa: TID251
    environ = {**inherited, "PYTHONPYCACHEPREFIX": str(cache)}
    command = [sys.executable, *options, "-c", MEASURED.format(code=code)]
    return float(subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout)

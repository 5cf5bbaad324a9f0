"""What the measurements share: where processes run, what they use, and the vendor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")


def _cores() -> tuple[set[int], set[int]] | None:
    """The cores for callers and vendors, and the one for what is measured; None where there is no choice."""
    allowed = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    return (set(allowed[:-1]), {allowed[-1]}) if len(allowed) > 1 else None


CORES = _cores()


@contextmanager
def on_one_core() -> Generator[None]:
    """Processes that are started here share one core, and nothing else that belongs to the measurement runs on it.

    Else it would be the scheduler's mood that is measured: whether a caller who is woken up has to wait for its server.
    """
    if CORES is None or sys.platform != "linux":
        yield
        return
    others, measured = CORES
    os.sched_setaffinity(0, measured)
    try:
        yield
    finally:
        os.sched_setaffinity(0, others)


@contextmanager
def running_upstream() -> Generator[str]:
    """The cheap vendor in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.upstream"]
    with on_other_cores(), subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def on_other_cores() -> Generator[None]:
    """This process, and what it starts, leaves the measured core alone."""
    if CORES is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[0])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used so far, all its threads together."""
    if PROC.is_dir():
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    told = _ps("cputime", pid)
    seconds = 0.0
    for part in told.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def rss_mib(pid: int) -> float:
    """MiB of memory that a process holds now."""
    return int(_ps("rss", pid)) / 1024


def _ps(field: str, pid: int) -> str:
    command = ["ps", "-o", f"{field}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

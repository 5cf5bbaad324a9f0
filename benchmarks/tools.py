"""What the measurements share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Table:
    """Rows of two measured values and their ratio."""

    def __init__(self, title: str) -> None:
        self._lines = [title]

    def add(self, what: str, floor: str, floor_value: float, name: str, value: float) -> None:
        """One comparison."""
        ratio = value / floor_value
        self._lines.append(f"  {what:<26} {floor} {floor_value:>9,.1f}   {name} {value:>9,.1f}   ratio {ratio:.2f}")

    def __str__(self) -> str:
        return "\n".join(self._lines)


@contextmanager
def running_upstream() -> Generator[str]:
    """The cheap vendor in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.upstream"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()

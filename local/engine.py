"""Runs an embedded engine as a child process that ends with us, however we end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

START_S = 60.0
STOP_S = 3.0


class EngineError(Exception):
    """The engine did not start; the message says where its output is."""


class Engine:
    """A module of local/ that prints its base URL when it is ready and ends when its standard input does."""

    def __init__(self, module: str, log: Path) -> None:
        self._module = module
        self._log = log
        self._process: Process | None = None

    async def start(self) -> str:
        """Start it; return its base URL once it answers. Raises EngineError."""
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end it in order.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module, stdin=PIPE, stdout=PIPE, stderr=log, start_new_session=True
            )
        assert self._process.stdout is not None  # noqa: S101 - PIPE
        try:
            async with asyncio.timeout(START_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.startswith(b"http"):
            await self.stop()
            raise EngineError(f"did not start, see {self._log}")
        return line.decode().strip()

    async def stop(self) -> None:
        """End it. Does nothing when it has ended."""
        if self._process is None or self._process.returncode is not None:
            return
        assert self._process.stdin is not None  # noqa: S101 - PIPE
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

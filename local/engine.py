"""Runs an embedded engine as a child process: started again when it dies, ended with us, however we end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from urllib.parse import urlsplit

START_S = 60.0
STOP_S = 3.0
RESTARTS = 5
RESTART_S = 1.0
log = logging.getLogger("local.engine")


class EngineError(Exception):
    """The engine did not start; the message says where its output is."""


class Engine:
    """A module of local/ that takes a port, prints its base URL when it is ready and ends when its input does."""

    def __init__(self, module: str, output: Path) -> None:
        self._module = module
        self._output = output
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Start it and keep it running; return its base URL once it answers. Raises EngineError."""
        process, url = await self._spawn(port=0)
        self._watching = asyncio.create_task(self._watch(process, urlsplit(url).port or 0))
        return url

    async def stop(self) -> None:
        """End it. Does nothing when it has ended."""
        if self._watching is not None:
            self._watching.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None  # noqa: S101 - PIPE
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _watch(self, process: Process, port: int) -> None:
        """Start it again at the same port when it dies, a few times."""
        for _ in range(RESTARTS):
            await process.wait()
            log.warning("%s has ended (see %s); starting it again", self._module, self._output)
            await asyncio.sleep(RESTART_S)
            try:
                process, _ = await self._spawn(port)
            except EngineError as error:
                log.warning("%s %s", self._module, error)

    async def _spawn(self, port: int) -> tuple[Process, str]:
        with self._output.open("wb") as output:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end it in order.
            command = (sys.executable, "-m", self._module, str(port))
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=output, start_new_session=True
            )
        self._process = process
        assert process.stdout is not None  # noqa: S101 - PIPE
        try:
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.startswith(b"http"):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise EngineError(f"did not start, see {self._output}")
        return process, line.decode().strip()

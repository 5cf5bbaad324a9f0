"""An engine that starts when it is first needed: its address is there at once, its process with the first caller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import StreamReader, StreamWriter
from urllib.parse import urlsplit

from local.engine import Engine, EngineError

CHUNK_BYTES = 65_536
log = logging.getLogger("local.on_demand")


class OnDemand:
    """A port of ours that hands each connection on to the engine, byte for byte, both ways."""

    def __init__(self, engine: Engine, path: str = "/v1") -> None:
        """`path` ends the base URL, as the engine's protocol wants it."""
        self._engine = engine
        self._path = path
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[str] | None = None

    async def start(self) -> str:
        """Listen; return the base URL. Starts no process."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"

    async def stop(self) -> None:
        """Listen no more, and end the engine where it runs."""
        if self._server is not None:
            self._server.close()
        if self._starting is not None:
            self._starting.cancel()
        await self._engine.stop()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            url = urlsplit(await self._engine_url())
            upstream = await asyncio.open_connection(url.hostname, url.port)
            await _join((reader, writer), upstream)
        except EngineError as error:
            log.warning("%s", error)
        except OSError:
            pass  # either side is gone: the other's connection is closed, which is all there is to say
        finally:
            writer.close()

    async def _engine_url(self) -> str:
        """The running engine's address; the first to ask starts it, and after a failure the next one does."""
        starting = self._starting
        if starting is None or (starting.done() and starting.exception() is not None):
            starting = self._starting = asyncio.create_task(self._engine.start())
        return await asyncio.shield(starting)


async def _join(left: tuple[StreamReader, StreamWriter], right: tuple[StreamReader, StreamWriter]) -> None:
    """Copy both ways until one side ends; then close the far one."""
    copies = [asyncio.create_task(_copy(left[0], right[1])), asyncio.create_task(_copy(right[0], left[1]))]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        right[1].close()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()

"""An ASGI app under uvicorn on the shared loop; with its end every connection has ended too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.fakes.listener import let_in
from tests.fakes.loop import LoopThread

GRACE_S = 1
"""What answers that are on their way get at the end, in seconds."""


@contextmanager
def serving(make: Callable[[str], Any], loop: LoopThread, *, backlog: int = 128) -> Generator[str]:
    """Serve the app that `make` makes for its URL, which is given."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    # asyncio leaves it out here: each answer's second write would wait 40 ms for the client's delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = _Server(uvicorn.Config(make(url), log_config=None, server_header=False))
    running = asyncio.run_coroutine_threadsafe(server.serve(sockets=[listener]), loop.loop)
    try:
        yield url
    finally:
        loop.loop.call_soon_threadsafe(server.told.set)
        running.result(10)


class _Server(uvicorn.Server):
    """uvicorn looks ten times a second whether to end, and again whether all have gone; this one is told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = asyncio.Event()

    async def main_loop(self) -> None:
        """Until the end is told; uvicorn's tick makes the header `date`."""
        await self.on_tick(0)
        await self.told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody any more, let those finish who soon do, and hang up on the others."""
        await let_in(sockets or [])
        for server in self.servers:
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(GRACE_S):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn keeps sets, and tells nobody
                    await asyncio.sleep(0.005)
        except TimeoutError:
            for task in state.tasks:
                task.cancel()
            await asyncio.wait({*state.tasks, asyncio.ensure_future(asyncio.sleep(0))}, timeout=GRACE_S)
            for connection in list(state.connections):
                connection.transport.abort()
        await self.lifespan.shutdown()

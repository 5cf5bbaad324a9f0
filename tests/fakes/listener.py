"""A port of its own for a fake: whoever closes it ends the conversations that still go on, and nothing is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from tests.fakes.loop import LoopThread

if TYPE_CHECKING:
    from _typeshed import HasFileno

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def let_in(listeners: Iterable[HasFileno]) -> None:
    """Accept nobody any more, and let in whoever was accepted this moment.

    asyncio makes a transport in the turn after it accepted, and its protocol in the one after that; where the server is
    closed between them, the connection is in nobody's care any more.
    """
    for listener in listeners:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    for _ in range(3):
        await asyncio.sleep(0)


class Listener:
    """Calls `serve` with each connection, which is closed when that ends or either side has had enough."""

    def __init__(self, loop: LoopThread, serve: Serve) -> None:
        self._loop = loop
        self._serve = serve
        self._connections: set[asyncio.Task[None]] = set()
        self._server = loop.run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The server's root, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening, and end the conversations that go on and the connections that are kept."""
        self._loop.run(self._end())

    async def _end(self) -> None:
        await let_in(self._server.sockets)
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side has had enough
        finally:
            self._connections.discard(task)
            writer.close()

"""What a streamed answer needs besides its chunks: a sign of life in a silence, and an end when nobody reads it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Message, Send

HEARTBEAT_S = 10.0
"""Of silence, before a heartbeat; less than what proxies and browsers take for a dead connection."""
STALL_S = 60.0
"""For one send. The server takes what its buffers hold (64 KB beside the kernel's), then waits for the reader: who is
slower than a thousand bytes a second is taken for gone."""


class Pulse:
    """Sends a stream's messages, under one timer for all of them.

    Enter it around the stream and send through it. While nothing is sent for HEARTBEAT_S it sends `heartbeat`, where
    there is one. When a send lasts for STALL_S it ends the stream by a TimeoutError and is `stalled`.
    """

    def __init__(self, send: Send, heartbeat: bytes) -> None:
        self._send = send
        self._heartbeat = heartbeat
        self._patience = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._sending = False
        self._beat: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(HEARTBEAT_S, self._look)

    @property
    def stalled(self) -> bool:
        """Whether the stream was ended because its reader had stopped."""
        return self._patience.expired()

    async def send(self, message: Message) -> None:
        """Send one message of the stream."""
        self._since, self._sending = self._loop.time(), True
        if self._beat is not None:
            await self._beat
            self._beat = None
        await self._send(message)
        self._sending = False

    async def __aenter__(self) -> Self:
        await self._patience.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            await asyncio.gather(self._beat, return_exceptions=True)
        await self._patience.__aexit__(kind, error, trace)

    def _look(self) -> None:
        now = self._loop.time()
        due = self._since + (STALL_S if self._sending else HEARTBEAT_S)
        if now < due:
            # A send may end meanwhile, and a silence begin.
            self._again(min(due, now + HEARTBEAT_S))
        elif self._sending:
            self._patience.reschedule(now)
        else:
            if self._heartbeat and (self._beat is None or self._beat.done()):
                self._beat = self._loop.create_task(self._send_heartbeat())
            self._since = now
            self._again(now + HEARTBEAT_S)

    def _again(self, at: float) -> None:
        self._timer = self._loop.call_at(at, self._look)

    async def _send_heartbeat(self) -> None:
        await self._send({"type": "http.response.body", "body": self._heartbeat, "more_body": True})

"""A streamed answer's silences and its reader's, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import pytest
from starlette.types import Message

from lib.http.endpoint import Stream
from lib.http.pulse import HEARTBEAT_S, STALL_S
from tests.lib.virtual_time import run

PING = b": ping\n\n"
FOR_EVER = 10_000.0


@dataclass
class Reader:
    """A client: takes each message after so many seconds, in order, and notes when; `slow` by a message's number."""

    slow: dict[int, float] = field(default_factory=dict[int, float])
    log: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    taken: int = 0
    ended: bool = False

    async def send(self, message: Message) -> None:
        """ASGI's send, which refuses what comes after the end and what comes at the same time as another."""
        assert not self.ended
        self.taken += 1
        await asyncio.sleep(self.slow.get(self.taken - 1, 0.0))
        self.ended = not message.get("more_body", True)
        if message.get("body"):
            self.log.append((now(), message["body"]))


def now() -> float:
    """Seconds since the test began."""
    return round(asyncio.get_running_loop().time() - 1000.0, 6)


async def stream(reader: Reader, steps: Sequence[float | bytes], heartbeat: bytes = PING) -> list[str]:
    """Send these chunks, with silences of so many seconds between them; say what was closed."""
    closed: list[str] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            for step in steps:
                if isinstance(step, bytes):
                    yield step
                else:
                    await asyncio.sleep(step)
        finally:
            closed.append(f"chunks at {now():g}")

    async def close() -> None:
        closed.append("stream")

    async def receive() -> Message:
        raise AssertionError("a stream has nothing to receive")

    await Stream(chunks(), "text/plain", {}, close, heartbeat)({"type": "http"}, receive, reader.send)
    return closed


def test_heartbeats_fill_a_silence() -> None:
    """One for every ten seconds in which nothing is said, and none while something is."""

    async def test() -> None:
        reader = Reader()
        await stream(reader, [9.0, b"a", 9.0, b"b", 25.0, b"c"])
        assert reader.log == [(9, b"a"), (18, b"b"), (28, PING), (38, PING), (43, b"c")]
        assert reader.ended

    run(test())


def test_form_without_heartbeats() -> None:
    """Where a form has nothing that its readers ignore, a silence is a silence."""

    async def test() -> None:
        reader = Reader()
        await stream(reader, [b"a", 65.0, b"b"], heartbeat=b"")
        assert reader.log == [(0, b"a"), (65, b"b")]

    run(test())


def test_one_timer_however_many_chunks() -> None:
    """What goes out quickly sets no timer: ten thousand chunks in ten seconds take one more look at the clock."""

    async def test() -> None:
        loop, looks = asyncio.get_running_loop(), 0
        set_timer = loop.call_at

        def counting(*arguments: object, **more: object) -> asyncio.TimerHandle:
            nonlocal looks
            looks += getattr(arguments[1], "__name__", "") == "_look"
            return set_timer(*arguments, **more)  # pyright: ignore[reportArgumentType] - as it came

        loop.call_at = counting  # pyright: ignore[reportAttributeAccessIssue] - watched, not changed
        await stream(Reader(), [0.001, b"x"] * 10_000)
        assert looks <= 2

    run(test())


@pytest.mark.parametrize("heartbeat", [PING, b""], ids=["with heartbeats", "without"])
@pytest.mark.parametrize("stuck_at", [0, 2, 3], ids=["headers", "chunk", "end"])
def test_reader_who_stops(heartbeat: bytes, stuck_at: int) -> None:
    """Who takes nothing for a minute is left: the chunks are closed, and nothing more is sent."""

    async def test() -> None:
        reader = Reader({stuck_at: FOR_EVER})
        closed = await stream(reader, [b"a", b"b"], heartbeat)
        began = stuck_at > 0
        assert [entry.partition(" ")[0] for entry in closed] == ["chunks", "stream"][not began :]
        assert (now(), reader.taken, reader.ended) == (STALL_S, stuck_at + 1, False)

    run(test())


def test_slow_reader_is_waited_for() -> None:
    """Who takes each chunk within a minute may take an hour in all."""

    async def test() -> None:
        reader = Reader(dict.fromkeys(range(70), STALL_S - 0.5))
        await stream(reader, [b"x"] * 60)
        assert ([body for _, body in reader.log], reader.ended) == ([b"x"] * 60, True)
        assert now() > 3600

    run(test())


def test_reader_who_stops_during_a_silence() -> None:
    """A heartbeat that nobody takes is not followed by another; the next chunk waits for it, no more than a minute."""

    async def test() -> None:
        reader = Reader({2: FOR_EVER})
        closed = await stream(reader, [b"a", 45.0, b"b"])
        assert (reader.log, reader.taken, len(closed)) == ([(0, b"a")], 3, 2)
        assert now() == 45 + STALL_S

    run(test())


def test_heartbeat_is_never_sent_after_the_end() -> None:
    """A heartbeat that is still on its way when the stream ends comes before its end."""

    async def test() -> None:
        reader = Reader({2: 3.0})
        await stream(reader, [b"a", HEARTBEAT_S + 1.0])
        assert reader.log == [(0, b"a"), (13, PING)]
        assert reader.ended

    run(test())


def test_heartbeat_that_fails() -> None:
    """A server that can't send any more says so with the next chunk, as it would have without the heartbeat."""

    class Gone(Reader):
        async def send(self, message: Message) -> None:
            if message.get("body") == PING:
                raise ConnectionResetError
            await super().send(message)

    async def test() -> None:
        with pytest.raises(ConnectionResetError):
            await stream(Gone(), [b"a", 15.0, b"b"])

    run(test())


def test_a_timeout_of_the_chunks_is_not_the_readers() -> None:
    """What times out elsewhere is a failure like any other, not taken for a reader who has stopped."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise TimeoutError

    async def close() -> None:
        pass

    async def receive() -> Message:
        raise AssertionError

    async def test() -> None:
        with pytest.raises(TimeoutError):
            await Stream(chunks(), "text/plain", {}, close)({"type": "http"}, receive, Reader().send)

    run(test())

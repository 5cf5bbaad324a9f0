"""Server-sent events, read from bytes as they arrive (the WHATWG HTML standard, section 9.2.6), data lines only."""

from __future__ import annotations

from lib.errors import BrokenStream

MAX_EVENT_BYTES = 256 * 1024
BOM = b"\xef\xbb\xbf"


class EventParser:
    """Cuts a byte stream into the data of its events, whatever the network's cuts and line ends are."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; return the data of every event that they complete.

        Raises BrokenStream when an event grows beyond MAX_EVENT_BYTES.
        """
        if b"\r" in chunk or self._after_cr:
            chunk = self._newlines(chunk)
        buffer = self._buffer
        if chunk.endswith(b"\n\n") and len(chunk) <= MAX_EVENT_BYTES and not buffer and not self._at_start:
            # Whole events, as they usually come: nothing has to be kept.
            return [data for block in chunk[:-2].split(b"\n\n") if (data := _data(block)) is not None]
        unseen = max(len(buffer) - 1, 0)
        buffer += chunk
        if self._at_start and len(buffer) >= len(BOM):
            self._at_start = False
            if buffer.startswith(BOM):
                del buffer[: len(BOM)]
        end = buffer.rfind(b"\n\n", unseen)
        if end < 0:
            self._check_size()
            return []
        blocks = bytes(buffer[:end]).split(b"\n\n")
        if end > MAX_EVENT_BYTES and max(map(len, blocks)) > MAX_EVENT_BYTES:
            raise BrokenStream
        del buffer[: end + 2]
        self._check_size()
        return [data for block in blocks if (data := _data(block)) is not None]

    def close(self) -> list[bytes]:
        """The stream is over: return the event that its last lines make, if any, though its blank line is missing."""
        data = _data(bytes(self._buffer))
        self._buffer.clear()
        return [] if data is None else [data]

    def _check_size(self) -> None:
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise BrokenStream

    def _newlines(self, chunk: bytes) -> bytes:
        """Turn CRLF and CR into LF, also where a CRLF is cut in two."""
        if not chunk:
            return chunk
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(block: bytes) -> bytes | None:
    """The data of one event, or None for a block without any (a comment, a heartbeat)."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None

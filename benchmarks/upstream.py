"""A vendor that costs next to nothing; what it does with a POST is said by the model's name.

Run as `python -m benchmarks.upstream`; prints its URL. Model `burst-20` gives 20 chunks in one write, `paced-20` each
in a write of its own, a millisecond apart, `slow-20` fifty milliseconds apart. `error-500` refuses, `hang-8` is silent
for eight seconds first, `cut-10` breaks off a moment after ten chunks. Any other name is `burst-20`.
"""

from __future__ import annotations

import asyncio
import re

CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" w%d"},"finish_reason":null}]}\n\n'
)
LAST = CHUNK.replace(b'{"content":" w%d"},"finish_reason":null', b'{},"finish_reason":"stop"') + (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795000000,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
REFUSAL = b'{"error":{"message":"refused","type":"server_error","code":null}}'
PACES_S = {b"paced": 0.001, b"slow": 0.05}
BEFORE_CUT_S = 0.05
MODEL = re.compile(rb'"model": *"(?:[a-z]+/)?(burst|paced|slow|error|hang|cut)-(\d+)"')


def chunks(count: int) -> bytes:
    """So many chunks, each with a word of its own."""
    return b"".join(CHUNK % index for index in range(count))


class Vendor(asyncio.Protocol):
    """One connection, kept alive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Protocol's hook."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Protocol's hook: answers as soon as a request is whole."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not found or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        wanted = MODEL.search(body)
        self._answer(*((wanted[1], int(wanted[2])) if wanted else (b"burst", 20)))

    def _answer(self, manner: bytes, number: int) -> None:
        match manner:
            case b"error":
                head = b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                self._transport.write(head % (number, len(REFUSAL)) + REFUSAL)
            case b"hang":
                self._loop.call_later(number, self._answer, b"burst", 20)
            case b"cut":
                self._transport.write(HEAD + _framed(chunks(number)))
                self._loop.call_later(BEFORE_CUT_S, self._transport.close)
            case b"burst":
                self._transport.write(HEAD)
                self._transport.write(_framed(chunks(number) + LAST) + _framed(b""))
            case _:
                self._transport.write(HEAD)
                self._pace(PACES_S[manner], 0, number)

    def _pace(self, pace_s: float, index: int, count: int) -> None:
        self._transport.write(_framed(CHUNK % index) if index < count else _framed(LAST) + _framed(b""))
        if index < count:
            self._loop.call_later(pace_s, self._pace, pace_s, index + 1, count)


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

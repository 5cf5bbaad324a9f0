"""A vendor that costs next to nothing: answers every POST with as many chunks as the model's name says.

Run as `python -m benchmarks.upstream`; prints its URL. Model `burst-20` gives 20 chunks in one write, `paced-20`
the same in one write each, a millisecond apart.
"""

from __future__ import annotations

import asyncio
import re

CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
LAST = CHUNK.replace(b'{"content":" word"},"finish_reason":null', b'{},"finish_reason":"stop"') + (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795000000,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PACE_S = 0.001


class Vendor(asyncio.Protocol):
    """One connection, kept alive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Protocol's hook."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Protocol's hook: answers as soon as a request is whole."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not found or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        wanted = re.search(rb'"model": *"(?:[a-z/]*)(burst|paced)-(\d+)"', body)
        count = int(wanted[2]) if wanted else 20
        self._transport.write(HEAD)
        if wanted is not None and wanted[1] == b"paced":
            self._pace(count)
        else:
            self._transport.write(_framed(CHUNK * count + LAST) + _framed(b""))

    def _pace(self, left: int) -> None:
        self._transport.write(_framed(CHUNK) if left else _framed(LAST) + _framed(b""))
        if left:
            asyncio.get_running_loop().call_later(PACE_S, self._pace, left - 1)


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Vendor, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

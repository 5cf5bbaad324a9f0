"""Text from Groq, xAI, DeepInfra, the embedded model and whoever else speaks OpenAI's protocol.

What is sent is what the vendors' own SDKs would send for the same arguments (a test compares them), without their cost
of the better part of a millisecond per call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from lib.errors import BrokenStream, ConnectionFailed, ProviderError, TimedOut
from lib.providers.base import ChatRequest, Delta, Model
from lib.providers.catalog import Row
from lib.providers.chat import ChatStream, error_for, request_arguments, request_headers

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader

    from lib.outbound import Post

PATHS = {"openai": "/chat/completions", "groq": "/openai/v1/chat/completions"}
"""What each SDK appends to its base URL."""
READ_OUT_S = 0.25
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""No answer within our limit of tokens is so long."""
ERROR_BODY_S = 1.0
MAX_ERROR_BYTES = 64 * 1024


class OpenAICompatible:
    """One vendor. Nothing is tried again here."""

    def __init__(
        self,
        row: Row,
        *,
        api_key: str | None,
        base_url: str,
        poster: Callable[[str, Mapping[str, str]], Awaitable[Post]],
    ) -> None:
        """`poster` is Outbound.poster."""
        self.name = row.name
        self._row = row
        self._url = base_url.rstrip("/") + PATHS[row.sdk]
        self._headers = {
            "accept": "application/json",
            "content-type": "application/json",
            # The embedded server takes any key.
            "authorization": f"Bearer {api_key or 'none'}",
        }
        self._poster = poster
        self._post: Post | None = None

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """See TextProvider.stream."""
        arguments = request_arguments(request, model, self._row) | {"stream_options": {"include_usage": True}}
        post = self._post or await self._connect()
        answer = ChatStream(request.call_ids)
        begun = False
        try:
            async with post(orjson.dumps(arguments), request_headers(request, self._row)) as response:
                await _refuse_failures(response)
                size = 0
                async for chunk in response.content.iter_any():
                    begun = True
                    size += len(chunk)
                    if size > MAX_ANSWER_BYTES:
                        answer.error = BrokenStream()
                    elif deltas := answer.feed(chunk):
                        yield deltas
                    if answer.error is not None:
                        break
                    if answer.done:
                        await _read_out(response.content)
                        break
                else:
                    if deltas := answer.close():
                        yield deltas
        except Exception as error:
            if not answer.finished:
                raise _translated(error, begun=begun) from error
        if answer.error is not None:
            raise answer.error

    async def _connect(self) -> Post:
        self._post = await self._poster(self._url, self._headers)
        return self._post


async def _refuse_failures(response: ClientResponse) -> None:
    """Raise what a status other than success means, together with the codes in the body."""
    if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        body = await _error_body(response.content)
        raise error_for(response.status, body, response.headers, time.time())


async def _error_body(content: StreamReader) -> Any:
    """The body's JSON value; None where it has none, is too long, breaks off or takes too long: the status is known."""
    import aiohttp  # noqa: PLC0415 - it is there, or there would be nothing to read

    body = b""
    try:
        async with asyncio.timeout(ERROR_BODY_S):
            async for chunk in content.iter_any():
                body += chunk
                if len(body) > MAX_ERROR_BYTES:
                    return None
        return orjson.loads(body)
    except (aiohttp.ClientError, OSError, orjson.JSONDecodeError):
        return None


async def _read_out(content: StreamReader) -> None:
    """After the last word, read to the end of the body: only then can the connection be used again. Not for long."""
    if content.at_eof():
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in content.iter_any():
                pass


def _translated(error: Exception, *, begun: bool) -> Exception:
    """Our name for what the HTTP client raised."""
    import aiohttp  # noqa: PLC0415

    if isinstance(error, ProviderError):
        return error
    if isinstance(error, TimeoutError):
        return TimedOut()
    if isinstance(error, aiohttp.ClientError | OSError):
        return BrokenStream() if begun else ConnectionFailed()
    return error

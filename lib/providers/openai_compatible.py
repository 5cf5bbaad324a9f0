"""Text from xAI, DeepInfra, the embedded model and whoever else speaks OpenAI's protocol, through OpenAI's SDK."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from lib.errors import BrokenStream, ConnectionFailed, TimedOut
from lib.providers.base import ChatRequest, Delta, Model
from lib.providers.catalog import Row
from lib.providers.chat import ChatStream, error_for, request_arguments

if TYPE_CHECKING:
    import httpx

# The SDK's `client.chat.completions.with_streaming_response.create`: its typed parameters differ from vendor to
# vendor, so what goes in is built by request_arguments and checked against the protocol's description in tests.
READ_OUT_S = 0.25
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""No answer within our limit of tokens is so long."""
Create = Callable[..., AbstractAsyncContextManager[Any]]


class OpenAICompatible:
    """One vendor through OpenAI's SDK: imported on first use and in a thread, never retrying by itself."""

    sdk = "openai"
    client = "AsyncOpenAI"

    def __init__(self, row: Row, *, api_key: str | None, base_url: str, http: Callable[[], httpx.AsyncClient]) -> None:
        """`http` makes or returns the process's one HTTP client; it is called in a thread."""
        self.name = row.name
        self._row = row
        self._api_key = api_key
        self._base_url = base_url
        self._http = http
        self._create: Create | None = None
        self._loading: asyncio.Future[Create] | None = None

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """See TextProvider.stream."""
        create = self._create or await self._load_once()
        answer = ChatStream(request.call_ids)
        begun = False
        try:
            async with create(**self.arguments(request, model)) as response:
                chunks = response.iter_bytes()
                size = 0
                async for chunk in chunks:
                    begun = True
                    size += len(chunk)
                    if size > MAX_ANSWER_BYTES:
                        answer.error = BrokenStream()
                    elif deltas := answer.feed(chunk):
                        yield deltas
                    if answer.error is not None:
                        break
                    if answer.done:
                        await _read_out(chunks)
                        break
                else:
                    if deltas := answer.close():
                        yield deltas
        except Exception as error:
            if not answer.finished:
                raise self._translate(error, begun=begun) from error
        if answer.error is not None:
            raise answer.error

    def arguments(self, request: ChatRequest, model: Model) -> dict[str, object]:
        """What the SDK's `create` is given."""
        arguments = request_arguments(request, model, self._row) | {"stream_options": {"include_usage": True}}
        return arguments if self._row.keep_alive else arguments | {"extra_headers": {"connection": "close"}}

    async def _load_once(self) -> Create:
        """Import the SDK and make the client: the better part of a second, so not on the event loop's thread."""
        loading = self._loading = self._loading or asyncio.ensure_future(asyncio.to_thread(self._load))
        try:
            self._create = create = await asyncio.shield(loading)
        finally:
            if loading.done():
                self._loading = None
        return create

    def _load(self) -> Create:
        module = importlib.import_module(self.sdk)
        # One SDK sets its own level from the environment when it is imported; at DEBUG it logs whole prompts.
        logging.getLogger(self.sdk).setLevel(logging.WARNING)
        client = getattr(module, self.client)(
            # An SDK without a key looks for one in the environment; the embedded server takes any.
            api_key=self._api_key or "none",
            base_url=self._base_url,
            http_client=self._http(),
            max_retries=0,
        )
        return client.chat.completions.with_streaming_response.create

    def _translate(self, error: Any, *, begun: bool) -> Exception:
        """Our name for what the SDK or the HTTP client below it raised, by type, status and code."""
        sdk, http, aiohttp = map(importlib.import_module, (self.sdk, "httpx", "aiohttp"))
        if isinstance(error, sdk.APIStatusError):
            return error_for(error.status_code, error.body, error.response.headers, time.time())
        # httpx-aiohttp calls every lost connection a timeout; only the cause tells.
        if any(isinstance(cause, TimeoutError) for cause in _causes(error)):
            return TimedOut()
        if isinstance(error, sdk.APIConnectionError | http.HTTPError | aiohttp.ClientError | OSError):
            return BrokenStream() if begun else ConnectionFailed()
        return error


async def _read_out(chunks: AsyncIterator[bytes]) -> None:
    """After the last word, read to the end of the body: only then can the connection be used again. Not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in chunks:
                pass


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__

"""What calls by way of SDKs share: how one may end without an answer, how much is read, and when an SDK is loaded."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterable, Callable, Iterator
from typing import Generic, TypeVar

from lib.errors import BrokenStream, ConnectionFailed, ProviderError, TimedOut

Client = TypeVar("Client")


class Loaded(Generic[Client]):
    """What `load` gives, which takes the better part of a second and is called in a thread: once, unless it fails."""

    def __init__(self, load: Callable[[], Client]) -> None:
        self._load = load
        self._loading: asyncio.Future[Client] | None = None

    async def get(self) -> Client:
        """It, as soon as it is there; who leaves meanwhile leaves the others theirs. Raises what `load` does."""
        loading = self._loading
        if loading is None or (loading.done() and (loading.cancelled() or loading.exception() is not None)):
            loading = self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        return await asyncio.shield(loading)


async def whole(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    """All of an answer. Raises BrokenStream as soon as there is more of it than this."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise BrokenStream
    return bytes(body)


def lost(error: BaseException, *, begun: bool) -> ProviderError | None:
    """Our name for a connection's failure; `begun`: after the answer had. None where it is no such failure."""
    http, aiohttp = importlib.import_module("httpx"), importlib.import_module("aiohttp")
    # httpx-aiohttp calls every lost connection a timeout; only the cause tells.
    if any(isinstance(cause, TimeoutError) for cause in _causes(error)):
        return TimedOut()
    if isinstance(error, http.HTTPError | aiohttp.ClientError | OSError):
        begun = begun or any(isinstance(cause, aiohttp.ClientPayloadError) for cause in _causes(error))
        return BrokenStream() if begun else ConnectionFailed()
    return None


def never_sent(error: BaseException) -> bool:
    """Whether there was not even a connection, so that nothing can have been done for us."""
    aiohttp = importlib.import_module("aiohttp")
    kinds = aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError
    return any(isinstance(cause, kinds) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__

"""What a call by way of an SDK's HTTP client may end in, where no answer came: told by type, never by message."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from lib.errors import BrokenStream, ConnectionFailed, ProviderError, TimedOut


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

"""One request to a service of ours, such as a config store, and its whole answer: bounded in size and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib.errors import ServiceFailed
from lib.outbound import proxy_for

if TYPE_CHECKING:
    import aiohttp

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """Sends requests over the process's connections."""

    def __init__(self, session: Callable[[], Awaitable[aiohttp.ClientSession]]) -> None:
        """`session` is Outbound.session."""
        self._make = session
        self._session: aiohttp.ClientSession | None = None

    async def ready(self) -> aiohttp.ClientSession:
        """Import the engine, where that has not been done: no deadline of a request should have to hold that too."""
        if self._session is None:
            self._session = await self._make()
        return self._session

    async def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout_s: float,
        max_bytes: int = MAX_BYTES,
    ) -> Reply:
        """Send one request and read its answer, whatever its status. Raises ServiceFailed."""
        session = await self.ready()
        import aiohttp  # noqa: PLC0415 - loaded with the session

        answer = bytearray()
        proxy = proxy_for(url)
        try:
            async with (
                asyncio.timeout(timeout_s),
                session.request(
                    method, url, headers=headers, data=body, proxy=proxy, allow_redirects=False
                ) as response,
            ):
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > max_bytes:
                        raise ServiceFailed("too_large")
        except (aiohttp.ClientError, OSError) as error:
            # A connection that is refused or too slow is one; a timeout of our own is the time that the whole may take.
            is_late = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError)
            raise ServiceFailed("timeout" if is_late else "connection_failed") from error
        names = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, names, bytes(answer))

"""One request to a service of ours, such as a config store, and its whole answer: bounded in size and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib.errors import ServiceFailed

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """Sends requests over the process's HTTP client."""

    def __init__(self, http: Callable[[], httpx.AsyncClient]) -> None:
        """`http` makes or returns the client; it is called in a thread, since its engine's import is slow."""
        self._http = http
        self._client: httpx.AsyncClient | None = None

    async def ready(self) -> httpx.AsyncClient:
        """Make the client, where that has not been done: no deadline of a request should have to hold that too."""
        if self._client is None:
            self._client = await asyncio.to_thread(self._http)
        return self._client

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
        client = await self.ready()
        import httpx  # noqa: PLC0415 - loaded with the client

        answer = bytearray()
        try:
            async with (
                asyncio.timeout(timeout_s),
                client.stream(method, url, headers=dict(headers), content=body) as response,
            ):
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > max_bytes:
                        raise ServiceFailed("too_large")
        except (TimeoutError, httpx.ReadTimeout) as error:
            raise ServiceFailed("timeout") from error
        except httpx.HTTPError as error:
            # A refused connection too is a ConnectTimeout to this client.
            raise ServiceFailed("connection_failed") from error
        return Reply(response.status_code, response.headers, bytes(answer))

"""Rows and files of the Supabase project: the vendor's client over our own connections, and functions by plain HTTP.

The SDK takes 0.9 s of CPU to import, so it is imported in a thread, by the first who wants a client. What lies on every
request's way (limits, events) goes by `rpc`, one POST that needs none of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson

from lib.errors import DataFailed, ServiceFailed
from lib.exchange import Exchange
from lib.settings import SupabaseAccess

if TYPE_CHECKING:
    import httpx
    from supabase import AsyncClient

TIMEOUT_S = 2.0
FILES_TIMEOUT_S = 10.0
MAX_ROWS = 1000
"""What the hosted Data API answers at most, whatever is asked for."""
CODE = re.compile(r"[A-Za-z0-9_]{1,40}", re.ASCII)
OK = range(200, 300)

Result = TypeVar("Result")
Row = dict[str, Any]


class Supabase:
    """One project. A client belongs to one caller and one request; making it takes less than a millisecond."""

    def __init__(self, access: SupabaseAccess, exchange: Exchange, http: Callable[[], httpx.AsyncClient]) -> None:
        """`http` returns the process's HTTP client; it is called in a thread."""
        self._access = access
        self._exchange = exchange
        self._http = http
        self._make: Callable[[str, str], AsyncClient] | None = None

    async def rpc(
        self,
        function: str,
        arguments: Mapping[str, object],
        *,
        timeout_s: float = TIMEOUT_S,
        token: str | None = None,
    ) -> Any:
        """What a function of the database returns, called as the server, or as the holder of an access token.

        Sent once. Raises DataFailed. Plain HTTP on the shared client: a request that only reserves its money need not
        wait for an SDK.
        """
        key = self._access.secret_key if token is None else self._access.publishable_key
        headers = {"apikey": key, "authorization": f"Bearer {token or key}", "content-type": "application/json"}
        url = f"{self._access.url}/rest/v1/rpc/{function}"
        try:
            reply = await self._exchange("POST", url, headers, orjson.dumps(arguments), timeout_s=timeout_s)
        except ServiceFailed as error:
            raise DataFailed(error.code) from error
        try:
            value: Any = orjson.loads(reply.body or b"null")
        except orjson.JSONDecodeError as error:
            raise DataFailed(f"http_{reply.status}") from error
        if reply.status not in OK:
            answered = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
            raise DataFailed(_code(answered.get("code"), reply.status))
        return value

    async def remove_files(self, bucket_id: str, paths: Sequence[str]) -> None:
        """Remove files by the Storage API; those that are not there are no error. Raises DataFailed."""
        key = self._access.secret_key
        headers = {"apikey": key, "authorization": f"Bearer {key}", "content-type": "application/json"}
        url = f"{self._access.url}/storage/v1/object/{bucket_id}"
        try:
            reply = await self._exchange(
                "DELETE", url, headers, orjson.dumps({"prefixes": paths}), timeout_s=FILES_TIMEOUT_S
            )
        except ServiceFailed as error:
            raise DataFailed(error.code) from error
        if reply.status not in OK:
            raise DataFailed(f"http_{reply.status}")

    async def as_server(self) -> AsyncClient:
        """A client that policies do not bind: for writes, and for work that is nobody's own."""
        return await self._client(self._access.secret_key, self._access.secret_key)

    async def as_user(self, token: str) -> AsyncClient:
        """A client that sees what the holder of this access token may see: the policies decide."""
        return await self._client(self._access.publishable_key, token)

    async def rows_of(
        self, owner_id: str, table: str, columns: str = "*", *, owner_column: str = "user_id", limit: int = MAX_ROWS
    ) -> list[Row]:
        """An owner's rows, for callers with an API key, who have no token for policies to judge by.

        The only reads with the secret key on a caller's behalf: the filter by owner is part of it. Raises DataFailed.
        """
        client = await self.as_server()
        answer = await run(client.table(table).select(columns).eq(owner_column, owner_id).limit(limit).execute())
        return cast("list[Row]", answer.data)

    async def _client(self, key: str, token: str) -> AsyncClient:
        if self._make is None:
            self._make = await asyncio.to_thread(self._load)
        return self._make(key, token)

    def _load(self) -> Callable[[str, str], AsyncClient]:
        """Import the SDK; what then makes clients."""
        from supabase import AsyncClient  # noqa: PLC0415
        from supabase.lib.client_options import AsyncClientOptions  # noqa: PLC0415

        http = self._http()

        def make(key: str, token: str) -> AsyncClient:
            options = AsyncClientOptions(
                headers={"Authorization": f"Bearer {token}"},
                auto_refresh_token=False,
                persist_session=False,
                httpx_client=http,
                # Its retries sleep for seconds; who asks has a deadline.
                postgrest_client_retry=False,
            )
            return AsyncClient(self._access.url, key, options)

        return make


async def run(query: Awaitable[Result], *, timeout_s: float = TIMEOUT_S) -> Result:
    """The answer to a call of the SDK, in time; its errors in our words. Raises DataFailed."""
    import httpx  # noqa: PLC0415 - loaded with the client
    from postgrest.exceptions import APIError  # noqa: PLC0415
    from storage3.exceptions import StorageApiError  # noqa: PLC0415

    try:
        async with asyncio.timeout(timeout_s):
            return await query
    except APIError as error:
        raise DataFailed(_code(error.code, 0)) from error
    except StorageApiError as error:
        raise DataFailed(_code(error.code, 0)) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise DataFailed("timeout") from error
    except httpx.HTTPError as error:
        raise DataFailed("connection_failed") from error


def _code(told: object, status: int) -> str:
    """An error's code, where it is one: nothing else of what was answered is kept."""
    text = str(told or "")
    return text if CODE.fullmatch(text) else f"http_{status}"

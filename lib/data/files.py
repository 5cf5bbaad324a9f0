"""Files of the Supabase project, by the Storage API over our own connections: no SDK has to be imported for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from lib.errors import DataFailed, ServiceFailed
from lib.exchange import Exchange, Reply
from lib.settings import SupabaseAccess

TIMEOUT_S = 5.0
TRANSFER_S = 60.0
OK = range(200, 300)
FOR_EVER = "max-age=31536000, immutable"
"""Names go by content, so what lies under a name never changes."""
AT_ONCE = 500
"""Files in one request; the Storage API takes a thousand."""


class Files:
    """As the server: policies do not bind it. Everything raises DataFailed."""

    def __init__(self, access: SupabaseAccess, exchange: Exchange) -> None:
        self._url = f"{access.url}/storage/v1"
        self._exchange = exchange
        self._keys = {"apikey": access.secret_key, "authorization": f"Bearer {access.secret_key}"}

    async def put(self, bucket_id: str, path: str, data: bytes, content_type: str) -> None:
        """Store a file under a name that goes by its content: if there is one, it is the same."""
        headers = {"content-type": content_type, "cache-control": FOR_EVER, "x-upsert": "true"}
        await self._call("POST", f"/object/{bucket_id}/{quote(path)}", data, headers, timeout_s=TRANSFER_S)

    async def read(self, bucket_id: str, path: str, *, max_bytes: int) -> bytes:
        """A file's bytes; DataFailed("too_large") beyond the bound, DataFailed("http_404") where there is none."""
        reply = await self._call("GET", f"/object/{bucket_id}/{quote(path)}", timeout_s=TRANSFER_S, max_bytes=max_bytes)
        return reply.body

    async def sign(self, bucket_id: str, path: str, *, lifetime_s: int) -> str:
        """An address at which anyone may read a file for a while."""
        told = await self._json(f"/object/sign/{bucket_id}/{quote(path)}", {"expiresIn": lifetime_s})
        return self._url + told["signedURL"]

    async def sign_many(self, bucket_id: str, paths: Sequence[str], *, lifetime_s: int) -> Sequence[str]:
        """The same for several, in their order; DataFailed("http_404") where one is missing."""
        told = await self._json(f"/object/sign/{bucket_id}", {"expiresIn": lifetime_s, "paths": list(paths)})
        urls = {one["path"]: one["signedURL"] for one in told}
        if None in urls.values() or not urls.keys() >= set(paths):
            raise DataFailed("http_404")
        return [self._url + urls[path] for path in paths]

    async def sign_upload(self, bucket_id: str, path: str) -> str:
        """An address to which anyone may PUT a file of this name, for two hours."""
        told = await self._json(f"/object/upload/sign/{bucket_id}/{quote(path)}", {})
        return self._url + told["url"]

    async def move(self, bucket_id: str, path: str, to: str) -> None:
        """Give a file another name, at which none lies."""
        await self._json("/object/move", {"bucketId": bucket_id, "sourceKey": path, "destinationKey": to})

    async def remove(self, bucket_id: str, paths: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""
        for start in range(0, len(paths), AT_ONCE):
            body = orjson.dumps({"prefixes": paths[start : start + AT_ONCE]})
            headers = {"content-type": "application/json"}
            await self._call("DELETE", f"/object/{bucket_id}", body, headers, timeout_s=TRANSFER_S)

    async def _json(self, path: str, body: Mapping[str, object]) -> Any:
        headers = {"content-type": "application/json"}
        reply = await self._call("POST", path, orjson.dumps(body), headers)
        try:
            return orjson.loads(reply.body)
        except orjson.JSONDecodeError as error:
            raise DataFailed(f"http_{reply.status}") from error

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = 1024 * 1024,
    ) -> Reply:
        try:
            reply = await self._exchange(
                method,
                self._url + path,
                {**self._keys, **(headers or {})},
                body,
                timeout_s=timeout_s,
                max_bytes=max_bytes,
            )
        except ServiceFailed as error:
            raise DataFailed(error.code) from error
        if reply.status not in OK:
            raise DataFailed(f"http_{_status(reply)}")
        return reply


def _status(reply: Reply) -> int:
    """Storage answers 400 for much that has a status of its own in its body."""
    try:
        return int(orjson.loads(reply.body)["statusCode"])
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return reply.status

"""Files of the Supabase project, by the Storage API over our own connections: no SDK has to be imported for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

import orjson

from lib.errors import DataFailed, ServiceFailed
from lib.exchange import Exchange, Reply
from lib.settings import SupabaseAccess

TIMEOUT_S = 5.0
TRANSFER_S = 60.0
FOR_EVER = "max-age=31536000, immutable"
"""Names go by content: what lies under one never changes."""
MAX_ANSWER_BYTES = 1024 * 1024
AT_ONCE = 500
"""Files in one request; the Storage API takes a thousand."""
MISSING = "http_404"
TOO_LARGE = "too_large"
OK = range(200, 300)


class Files:
    """As the server, whom policies do not bind: who asks has seen whose file it is. Everything raises DataFailed."""

    def __init__(self, access: SupabaseAccess, exchange: Exchange) -> None:
        self._url = f"{access.url}/storage/v1"
        self._exchange = exchange
        self._keys = {"apikey": access.secret_key, "authorization": f"Bearer {access.secret_key}"}

    async def put(self, bucket_id: str, path: str, data: bytes, content_type: str) -> None:
        """Store a file under a name that goes by its content: what is there already is the same, and is new again."""
        headers = {"content-type": content_type, "cache-control": FOR_EVER, "x-upsert": "true"}
        await self._call("POST", f"/object/{bucket_id}/{quote(path)}", data, headers, timeout_s=TRANSFER_S)

    async def read(self, bucket_id: str, path: str, *, max_bytes: int) -> bytes:
        """A file's bytes. The reason is `too_large` beyond the bound, `http_404` where there is no such file."""
        path = f"/object/authenticated/{bucket_id}/{quote(path)}"
        return (await self._call("GET", path, timeout_s=TRANSFER_S, max_bytes=max_bytes)).body

    async def remove(self, bucket_id: str, paths: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""
        for start in range(0, len(paths), AT_ONCE):
            await self._ask("DELETE", f"/object/{bucket_id}", {"prefixes": paths[start : start + AT_ONCE]})

    async def sign(self, bucket_id: str, paths: Sequence[str], *, lifetime_s: int) -> list[str | None]:
        """Where anyone may read these files for a while: `url` completes it. None for one that is not there."""
        told = await self._ask("POST", f"/object/sign/{bucket_id}", {"expiresIn": lifetime_s, "paths": list(paths)})
        signed: dict[str, str | None] = {each["path"]: each["signedURL"] for each in told}
        return [signed.get(path) for path in paths]

    async def sign_upload(self, bucket_id: str, path: str) -> str:
        """The URL to which anyone may PUT this file, once, within two hours."""
        return self.url(_text(await self._ask("POST", f"/object/upload/sign/{bucket_id}/{quote(path)}", {}), "url"))

    def url(self, signed: str) -> str:
        """What was signed, as a whole URL."""
        return self._url + signed

    async def _ask(self, method: str, path: str, body: Mapping[str, object]) -> Any:
        reply = await self._call(method, path, orjson.dumps(body), {"content-type": "application/json"})
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
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Reply:
        every = {**self._keys, **(headers or {})}
        try:
            reply = await self._exchange(
                method, self._url + path, every, body, timeout_s=timeout_s, max_bytes=max_bytes
            )
        except ServiceFailed as error:
            raise DataFailed(error.code) from error
        if reply.status not in OK:
            raise DataFailed(f"http_{_status(reply)}")
        return reply


def _status(reply: Reply) -> int:
    """Storage answers 400 to much that has a status of its own in the body."""
    try:
        return int(orjson.loads(reply.body)["statusCode"])
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return reply.status


def _text(told: Any, name: str) -> str:
    value = cast("dict[str, Any]", told).get(name) if isinstance(told, dict) else None
    if not isinstance(value, str):
        raise DataFailed("http_200")
    return value

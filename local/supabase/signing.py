"""Signed URLs: who may read or write an object lets others do so for a while."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from local.supabase.access import Access
from local.supabase.answers import answer
from local.supabase.database import SERVICE, Database
from local.supabase.objects import Objects, Place, place_of
from local.supabase.storage_errors import StorageError, form
from local.supabase.tokens import TokenError, Tokens

UPLOAD_S = 2 * 3600
MAX_PATHS = 1000
Seconds = Annotated[int, Field(ge=1, lt=2**31)]


class _Signature(BaseModel):
    model_config = ConfigDict(extra="forbid")

    expiresIn: Seconds  # noqa: N815 - as the wire has it
    download: str | bool | None = None
    """Heeded by the client, which adds it to the URL."""


class _Signatures(_Signature):
    paths: Annotated[list[str], Field(min_length=1, max_length=MAX_PATHS)]


class Signing:
    """The endpoints below /object/sign and /object/upload/sign."""

    def __init__(self, database: Database, access: Access, tokens: Tokens, objects: Objects) -> None:
        self._database = database
        self._access = access
        self._tokens = tokens
        self._objects = objects

    async def sign(self, request: Request) -> Response:
        """A URL by which anyone can read a file that the caller may see."""
        caller, at = self._access.caller(request), place_of(request)
        asked = await form(request, _Signature)
        await self._objects.find(at, caller)
        return answer({"signedURL": self._url(at.key, asked.expiresIn)})

    async def sign_many(self, request: Request) -> Response:
        """Such URLs for several files; those that the caller may not see get an error each."""
        caller, bucket = self._access.caller(request), request.path_params["bucket"]
        asked = await form(request, _Signatures)
        async with self._database.as_caller(caller, read_only=True) as connection:
            cursor = await connection.execute(
                "select name from storage.objects where bucket_id = %s and name = any(%s)", [bucket, asked.paths]
            )
            seen = {name for (name,) in await cursor.fetchall()}
        unseen = "Either the object does not exist or you do not have access to it"
        return answer(
            [
                {"error": None, "path": path, "signedURL": self._url(f"{bucket}/{path}", asked.expiresIn)}
                if path in seen
                else {"error": unseen, "path": path, "signedURL": None}
                for path in asked.paths
            ]
        )

    async def download(self, request: Request) -> Response:
        """The file of a signed URL."""
        at = place_of(request)
        self._claims(request, "download", at)
        return await self._objects.send(request, at, SERVICE)

    async def sign_upload(self, request: Request) -> Response:
        """A URL by which anyone can write a file that the caller may write, in their name."""
        caller, at = self._access.caller(request), place_of(request)
        upsert = request.headers.get("x-upsert") == "true"
        await self._objects.try_to_write(at, caller, caller.user_id, upsert=upsert)
        token = self._tokens.url_token("upload", {"url": at.key, "owner": caller.user_id, "upsert": upsert}, UPLOAD_S)
        return answer({"url": f"/object/upload/sign/{at.key}?token={token}", "token": token})

    async def upload(self, request: Request) -> Response:
        """Store a file by a signed URL."""
        at = place_of(request)
        claims = self._claims(request, "upload", at)
        return await self._objects.store(request, at, SERVICE, claims["owner"], upsert=claims["upsert"])

    def _url(self, key: str, seconds: int) -> str:
        # Not percent-encoded, as the hosted service has it: the clients do that.
        return f"/object/sign/{key}?token={self._tokens.url_token('download', {'url': key}, seconds)}"

    def _claims(self, request: Request, purpose: Literal["download", "upload"], at: Place) -> dict[str, Any]:
        try:
            claims = self._tokens.url_claims(purpose, request.query_params.get("token", ""))
        except TokenError as error:
            raise StorageError(400, "InvalidJWT", error.message) from error
        if claims["url"] != at.key:
            raise StorageError(400, "InvalidSignature", "Invalid signature")
        return claims

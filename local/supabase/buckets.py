"""Buckets: rows of storage.buckets, under the caller's policies. Without any these are for the secret key alone."""

from __future__ import annotations

import re
from typing import Annotated, Literal, LiteralString

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from local.supabase.access import Access
from local.supabase.answers import answer
from local.supabase.database import Database
from local.supabase.files import Files
from local.supabase.storage_errors import StorageError, form, no_bucket

NAME = re.compile(r"[\w!.*'() &$@=;:+,-]{1,63}", re.ASCII)
BUCKET: LiteralString = """
select jsonb_build_object(
         'id', id, 'name', name, 'owner', coalesce(owner::text, ''), 'public', public, 'type', 'STANDARD',
         'file_size_limit', file_size_limit, 'allowed_mime_types', to_jsonb(allowed_mime_types),
         'created_at', created_at, 'updated_at', updated_at)
  from storage.buckets
"""
MAY_DELETE: LiteralString = "select set_config('storage.allow_delete_query', 'true', true)"
"""Rows can't be deleted without it, so that files are not left behind."""


class _NewBucket(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str | None = None
    name: str
    public: bool = False
    type: Literal["STANDARD"] = "STANDARD"
    file_size_limit: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    allowed_mime_types: list[str] | None = None


class Buckets:
    """The endpoints below /bucket."""

    def __init__(self, database: Database, access: Access, files: Files) -> None:
        self._database = database
        self._access = access
        self._files = files

    async def all(self, request: Request) -> Response:
        """The buckets that the caller may see."""
        if request.query_params:
            raise StorageError(400, "InvalidRequest", "The local gateway lists all buckets, without parameters")
        async with self._database.as_caller(self._access.caller(request), read_only=True) as connection:
            cursor = await connection.execute(BUCKET + " order by name")
            return answer([bucket for (bucket,) in await cursor.fetchall()])

    async def get(self, request: Request) -> Response:
        """A bucket."""
        async with self._database.as_caller(self._access.caller(request), read_only=True) as connection:
            cursor = await connection.execute(BUCKET + " where id = %s", [request.path_params["bucket"]])
            row = await cursor.fetchone()
        if row is None:
            raise no_bucket()
        return answer(row[0])

    async def create(self, request: Request) -> Response:
        """Make a bucket, with the largest size in bytes and the media types that it takes."""
        caller = self._access.caller(request)
        asked = await form(request, _NewBucket)
        bucket = asked.id or asked.name
        if not NAME.fullmatch(bucket):
            raise StorageError(400, "InvalidBucketName", "Bucket name invalid", error="Invalid Input")
        async with self._database.as_caller(caller) as connection:
            await connection.execute(
                """
                insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types)
                values (%s, %s, %s::uuid, %s, %s, %s, %s)
                """,
                [
                    *(bucket, asked.name, caller.user_id, caller.user_id),
                    *(asked.public, asked.file_size_limit, asked.allowed_mime_types),
                ],
            )
        return answer({"name": asked.name})

    async def empty(self, request: Request) -> Response:
        """Delete what lies in a bucket."""
        bucket = request.path_params["bucket"]
        async with self._database.as_caller(self._access.caller(request)) as connection:
            cursor = await connection.execute(BUCKET + " where id = %s", [bucket])
            if await cursor.fetchone() is None:
                raise no_bucket()
            await connection.execute(MAY_DELETE)
            cursor = await connection.execute(
                "delete from storage.objects where bucket_id = %s returning version", [bucket]
            )
            gone = [version for (version,) in await cursor.fetchall()]
        await self._files.remove(gone)
        return answer({"message": "Successfully emptied"})

    async def delete(self, request: Request) -> Response:
        """Delete an empty bucket."""
        bucket = request.path_params["bucket"]
        async with self._database.as_caller(self._access.caller(request)) as connection:
            await connection.execute(MAY_DELETE)
            cursor = await connection.execute("select 1 from storage.objects where bucket_id = %s limit 1", [bucket])
            if await cursor.fetchone() is not None:
                raise StorageError(409, "ResourceNotEmpty", "The bucket you tried to delete is not empty")
            cursor = await connection.execute("delete from storage.buckets where id = %s", [bucket])
            if cursor.rowcount != 1:
                raise no_bucket()
        return answer({"message": "Successfully deleted"})

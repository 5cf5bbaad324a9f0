"""Objects: rows of storage.objects, under the caller's policies, and their bytes in files."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from local.supabase.access import Access
from local.supabase.answers import answer
from local.supabase.buckets import MAY_DELETE
from local.supabase.database import SERVICE, Caller, Connection, Database, become
from local.supabase.files import Files, Stored, TooBig
from local.supabase.listing import Listing, listed
from local.supabase.storage_errors import StorageError, denied, form, no_bucket, no_object, too_large
from local.supabase.uploads import Upload, UploadError, incoming

KEY = re.compile(r"[\w/!.*'() &$@=;:+,-]{1,1024}", re.ASCII)
TRANSFORMATIONS = {"width", "height", "resize", "quality", "format"}

FIND: LiteralString = """
select jsonb_build_object(
         'id', id, 'name', name, 'version', version, 'bucket_id', bucket_id, 'created_at', created_at,
         'last_modified', updated_at, 'size', (metadata ->> 'size')::bigint, 'content_type', metadata ->> 'mimetype',
         'cache_control', metadata ->> 'cacheControl', 'etag', metadata ->> 'eTag', 'metadata', user_metadata,
         'details', metadata)
  from storage.objects
 where bucket_id = %(bucket)s and name = %(name)s
"""
WRITE: LiteralString = """
insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
values (%(bucket)s, %(name)s, %(owner)s::uuid, %(owner)s, %(version)s, %(metadata)s, %(user_metadata)s)
"""
OVERWRITE: LiteralString = """
on conflict (bucket_id, name) do update
   set owner = excluded.owner, owner_id = excluded.owner_id, version = excluded.version,
       metadata = excluded.metadata, user_metadata = excluded.user_metadata
"""
LOCK: LiteralString = "select pg_advisory_xact_lock(hashtextextended(%(bucket)s || '/' || %(name)s, 0))"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object lies. The name is checked."""

    bucket: str
    name: str

    @property
    def key(self) -> str:
        """Bucket and name as one."""
        return f"{self.bucket}/{self.name}"


class _Removal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prefixes: Annotated[list[str], Field(min_length=1, max_length=1000)]


class _Transfer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bucketId: str  # noqa: N815 - as the wire has it
    sourceKey: str  # noqa: N815
    destinationKey: str  # noqa: N815


def place(bucket: str, name: str) -> Place:
    """The place of this name. Raises StorageError for one that the hosted service would refuse."""
    if not KEY.fullmatch(name) or {".", ".."} & set(name.split("/")):
        raise StorageError(400, "InvalidKey", f"Invalid key: {name}")
    return Place(bucket, name)


def place_of(request: Request) -> Place:
    """The place that a path names."""
    return place(request.path_params["bucket"], request.path_params["name"])


class Objects:
    """The endpoints below /object, and what signed URLs do in the name of others."""

    def __init__(self, database: Database, access: Access, files: Files) -> None:
        self._database = database
        self._access = access
        self._files = files

    async def upload(self, request: Request) -> Response:
        """Store a file: anew (POST), or also in another's place (PUT, or `x-upsert: true`)."""
        upsert = request.method == "PUT" or request.headers.get("x-upsert") == "true"
        caller = self._access.caller(request)
        return await self.store(request, place_of(request), caller, caller.user_id, upsert=upsert)

    async def download(self, request: Request) -> Response:
        """A file that the caller may see."""
        return await self.send(request, place_of(request), self._access.caller(request))

    async def public(self, request: Request) -> Response:
        """A file of a public bucket, for anyone."""
        async with self._database.as_caller(SERVICE, read_only=True) as connection:
            cursor = await connection.execute(
                "select public from storage.buckets where id = %s", [request.path_params["bucket"]]
            )
            row = await cursor.fetchone()
        if row is None or not row[0]:
            raise no_bucket()
        return await self.send(request, place_of(request), SERVICE)

    async def info(self, request: Request) -> Response:
        """What is known of a file."""
        found = await self.find(place_of(request), self._access.caller(request))
        return answer({key: value for key, value in found.items() if key != "details"})

    async def all(self, request: Request) -> Response:
        """What lies in a folder, its folders first."""
        caller, asked = self._access.caller(request), await form(request, Listing)
        async with self._database.as_caller(caller, read_only=True) as connection:
            return answer(await listed(connection, request.path_params["bucket"], asked))

    async def remove(self, request: Request) -> Response:
        """Delete several files; what the caller may not delete stays, and is not in the answer."""
        caller = self._access.caller(request)
        names = (await form(request, _Removal)).prefixes
        return answer(await self._delete(caller, request.path_params["bucket"], names))

    async def remove_one(self, request: Request) -> Response:
        """Delete a file."""
        at = place_of(request)
        if not await self._delete(self._access.caller(request), at.bucket, [at.name]):
            raise no_object()
        return answer({"message": "Successfully deleted"})

    async def move(self, request: Request) -> Response:
        """Give a file another name."""
        caller, asked = self._access.caller(request), await form(request, _Transfer)
        source, target = place(asked.bucketId, asked.sourceKey), place(asked.bucketId, asked.destinationKey)
        async with self._database.as_caller(caller) as connection:
            await _find(connection, source)
            cursor = await connection.execute(
                "update storage.objects set name = %s where bucket_id = %s and name = %s",
                [target.name, source.bucket, source.name],
            )
            if cursor.rowcount != 1:
                raise denied()
        return answer({"message": "Successfully moved"})

    async def copy(self, request: Request) -> Response:
        """Store a file a second time, under another name."""
        caller, asked = self._access.caller(request), await form(request, _Transfer)
        source, target = place(asked.bucketId, asked.sourceKey), place(asked.bucketId, asked.destinationKey)
        version: str | None = None
        try:
            async with self._database.as_caller(caller) as connection:
                found = await _find(connection, source)
                version = await self._files.copy(found["version"])
                values = _row(target, caller.user_id, version, found["details"], found["metadata"])
                await connection.execute(WRITE, values)
        except BaseException:
            await self._files.remove([version])
            raise
        return answer({"Key": target.key})

    async def store(self, request: Request, at: Place, caller: Caller, owner: str | None, *, upsert: bool) -> Response:
        """Store the file of a request. May the caller not, this is found out before the file is read."""
        try:
            return await self._store(request, at, caller, owner, upsert=upsert)
        except (StorageError, UploadError, psycopg.Error):
            # Read on, or the client would find its connection closed in place of our answer.
            with suppress(RuntimeError):  # what is raised where all was read
                async for _ in request.stream():
                    pass
            raise

    async def find(self, at: Place, caller: Caller) -> dict[str, Any]:
        """What is known of a file that the caller may see. Raises StorageError."""
        async with self._database.as_caller(caller, read_only=True) as connection:
            return await _find(connection, at)

    async def send(self, request: Request, at: Place, caller: Caller) -> Response:
        """The file, or a range of it, as it was described when it came; never run in our name by a browser."""
        if TRANSFORMATIONS & request.query_params.keys():
            raise StorageError(501, "NotSupported", "The local gateway does not transform images")
        found = await self.find(at, caller)
        headers = {
            "content-type": found["content_type"],
            "cache-control": found["cache_control"],
            "etag": found["etag"],
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox",
        }
        download = request.query_params.get("download")
        if download is not None:
            headers["content-disposition"] = _attachment(download)
        if request.headers.get("if-none-match") == found["etag"]:
            return Response(status_code=304, headers=headers)
        return FileResponse(self._files.path(found["version"]), headers=headers)

    async def try_to_write(self, at: Place, caller: Caller, owner: str | None, *, upsert: bool) -> _Bucket:
        """What the bucket takes. Raises what the database says to such a row: that it exists, or is forbidden."""
        async with self._database.as_caller(SERVICE) as connection:
            cursor = await connection.execute(
                "select file_size_limit, allowed_mime_types from storage.buckets where id = %s", [at.bucket]
            )
            row = await cursor.fetchone()
            if row is None:
                raise no_bucket()
            await become(connection, caller)
            await connection.execute(WRITE + OVERWRITE if upsert else WRITE, _row(at, owner, None, {}, None))
            await connection.rollback()
        return _Bucket(row[0], row[1])

    async def _store(self, request: Request, at: Place, caller: Caller, owner: str | None, *, upsert: bool) -> Response:
        bucket = await self.try_to_write(at, caller, owner, upsert=upsert)
        upload = await incoming(request)
        if not bucket.takes(upload.content_type):
            message = f"mime type {upload.content_type} is not supported"
            raise StorageError(415, "InvalidMimeType", message, error="invalid_mime_type")
        try:
            stored = await self._files.write(upload.chunks, bucket.size_limit)
        except TooBig as error:
            raise too_large() from error
        values = _row(at, owner, stored.version, _metadata(stored, upload), upload.metadata)
        try:
            async with self._database.as_caller(SERVICE) as connection:
                await connection.execute(LOCK, values)
                replaced = await (await connection.execute(FIND, values)).fetchone()
                await become(connection, caller)
                await connection.execute(WRITE + OVERWRITE if upsert else WRITE, values)
                await become(connection, SERVICE)
                found = await _find(connection, at)
        except BaseException:
            await self._files.remove([stored.version])
            raise
        await self._files.remove([replaced[0]["version"]] if replaced else [])
        return answer({"Id": found["id"], "Key": at.key})

    async def _delete(self, caller: Caller, bucket: str, names: list[str]) -> list[dict[str, Any]]:
        async with self._database.as_caller(caller) as connection:
            await connection.execute(MAY_DELETE)
            cursor = await connection.execute(
                """
                delete from storage.objects where bucket_id = %s and name = any(%s)
                returning version, jsonb_build_object('id', id, 'bucket_id', bucket_id, 'name', name, 'owner', owner,
                                                      'created_at', created_at, 'updated_at', updated_at,
                                                      'last_accessed_at', last_accessed_at, 'metadata', metadata)
                """,
                [bucket, names],
            )
            gone = await cursor.fetchall()
        await self._files.remove(version for version, _ in gone)
        return [row for _, row in gone]


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What a bucket takes."""

    size_limit: int | None
    media_types: list[str] | None

    def takes(self, content_type: str) -> bool:
        """Whether a file of this type may be stored."""
        media_type = content_type.partition(";")[0].strip().lower()
        return not self.media_types or any(fnmatchcase(media_type, each.lower()) for each in self.media_types)


async def _find(connection: Connection, at: Place) -> dict[str, Any]:
    cursor = await connection.execute(FIND, {"bucket": at.bucket, "name": at.name})
    row = await cursor.fetchone()
    if row is None or row[0]["version"] is None:
        raise no_object()
    return row[0]


def _row(
    at: Place, owner: str | None, version: str | None, metadata: dict[str, Any], more: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "bucket": at.bucket,
        "name": at.name,
        "owner": owner,
        "version": version,
        "metadata": Jsonb(metadata),
        "user_metadata": None if more is None else Jsonb(more),
    }


def _metadata(stored: Stored, upload: Upload) -> dict[str, Any]:
    return {
        "eTag": f'"{stored.md5}"',
        "size": stored.size,
        "mimetype": upload.content_type,
        "cacheControl": upload.cache_control,
        "lastModified": datetime.now(UTC).isoformat(),
        "contentLength": stored.size,
        "httpStatusCode": 200,
    }


def _attachment(name: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}" if name else "attachment"

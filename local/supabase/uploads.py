"""A file as it comes in: what is said of it, then its bytes, of which never more than a few are held."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

import orjson
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from starlette.requests import Request

from local.supabase.answers import is_object

FIELD_BYTES = 64 * 1024
PARTS = 16
MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+*-]+(\s*;[ -~]*)?", re.ASCII)
HEADER_VALUE = re.compile(r"[ -~]{0,200}")


class UploadError(Exception):
    """A body or header that does not say what is uploaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be stored. `chunks` can be read once."""

    content_type: str
    cache_control: str
    metadata: dict[str, Any] | None
    chunks: AsyncIterator[bytes]


async def incoming(request: Request) -> Upload:
    """The file of a request, as a form with one file (supabase-py) or as the body itself. Raises UploadError."""
    declared = request.headers.get("content-type", "")
    header = Message()
    header["content-type"] = declared
    if header.get_content_type() != "multipart/form-data":
        cache_control = request.headers.get("cache-control", "no-cache")
        metadata = _decoded(request.headers.get("x-metadata"))
        return _upload(declared or "application/octet-stream", cache_control, metadata, request.stream())
    events = _events(request, header.get_boundary(""))
    try:
        content_type, fields = await _until_file(events)
    except MultipartError as error:
        raise UploadError("The form can't be read") from error
    cache_control = f"max-age={fields['cacheControl']}" if "cacheControl" in fields else "no-cache"
    return _upload(content_type, cache_control, fields.get("metadata"), _file(events))


def _upload(content_type: str, cache_control: str, metadata: str | None, chunks: AsyncIterator[bytes]) -> Upload:
    if not MEDIA_TYPE.fullmatch(content_type):
        raise UploadError("Invalid Content-Type header")
    if not HEADER_VALUE.fullmatch(cache_control):
        raise UploadError("Invalid Cache-Control header")
    return Upload(content_type, cache_control, _metadata(metadata), chunks)


async def _events(request: Request, boundary: str) -> AsyncGenerator[MultipartSegment | bytes | None]:
    """The form's parts: the head of one, its bytes, then None for its end."""
    with PushMultipartParser(boundary, max_segment_count=PARTS) as parser:
        async for chunk in request.stream():
            for event in parser.parse(chunk) if chunk else ():
                yield bytes(event) if isinstance(event, bytearray | memoryview) else event


async def _until_file(events: AsyncIterator[MultipartSegment | bytes | None]) -> tuple[str, Mapping[str, str]]:
    """The file's type, once its part begins, and the fields before it."""
    fields: dict[str, str] = {}
    name, value = "", bytearray()
    async for event in events:
        if isinstance(event, MultipartSegment):
            if event.filename is not None:
                return dict(event.headerlist).get("Content-Type", "application/octet-stream"), fields
            name, value = event.name or "", bytearray()
        elif event is None:
            fields[name] = value.decode(errors="replace")
        elif len(value) + len(event) > FIELD_BYTES:
            raise UploadError("A field is too large")
        else:
            value += event
    raise UploadError("No content provided")


async def _file(events: AsyncIterator[MultipartSegment | bytes | None]) -> AsyncGenerator[bytes]:
    try:
        async for event in events:
            if isinstance(event, MultipartSegment):
                raise UploadError("Something comes after the file")
            if event is not None:
                yield event
    except MultipartError as error:
        raise UploadError("The form can't be read") from error


def _decoded(header: str | None) -> str | None:
    try:
        return b64decode(header, validate=True).decode() if header else None
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UploadError("Invalid x-metadata header") from error


def _metadata(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UploadError("The metadata are no JSON") from error
    if not is_object(value):
        raise UploadError("The metadata are no object")
    return value

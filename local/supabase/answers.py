"""JSON in and out, alike in all services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from local.supabase.access import KeyRefused

BODY_BYTES = 32 * 1024 * 1024
"""A body that is read as a whole has at most so many bytes; files are not."""
JSON = "application/json; charset=utf-8"


class TooLarge(Exception):
    """A body beyond BODY_BYTES: 413."""


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON."""
    return Response(orjson.dumps(content), status, headers, JSON)


async def body(request: Request) -> bytes:
    """The whole body. Raises TooLarge."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > BODY_BYTES:
            raise TooLarge
    return bytes(read)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


async def _key_refused(_request: Request, error: Exception) -> Response:
    """The answer to KeyRefused."""
    assert isinstance(error, KeyRefused)  # noqa: S101 - registered for it alone
    return answer({"message": error.message, "hint": error.hint}, 401)


async def _client_left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def not_supported(request: Request) -> Response:
    """The answer where the hosted service would have something and this gateway has not."""
    message = f"The local gateway does not support {request.method} {request.url.path}: see docs/local-supabase.md"
    # In the words of each service, so that every client finds its own.
    words = {"message": message, "msg": message}
    codes = {"code": "501", "error_code": "not_supported", "error": "not_supported", "statusCode": "501"}
    return answer({**words, **codes}, 501)


HANDLERS = {KeyRefused: _key_refused, ClientDisconnect: _client_left}
"""Exceptions that every service answers alike."""

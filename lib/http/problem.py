"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from starlette.responses import Response

from lib.errors import AppError


def problem(error: AppError, request_id: str) -> Response:
    """The answer that tells a caller what went wrong: status, our code and message, the fields concerned."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    headers = {"cache-control": "no-store", **error.headers}
    if error.errors:
        body["errors"] = error.errors
    if error.retry_after_s is not None:
        body["retry_after"] = error.retry_after_s
        headers["retry-after"] = str(error.retry_after_s)
    return Response(orjson.dumps(body), error.status, headers, media_type="application/problem+json")

"""What Storage says when something is wrong: status 400 whatever it is, the status that it means in the body."""

from __future__ import annotations

from typing import TypeVar

import psycopg
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from local.supabase.answers import answer, body
from local.supabase.tokens import TokenError

Model = TypeVar("Model", bound=BaseModel)


class StorageError(Exception):
    """An error in the shape of supabase/storage: `error` is what older clients know its `code` by."""

    def __init__(self, status: int, code: str, message: str, *, error: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.content = {"statusCode": str(status), "code": code, "error": error or code, "message": message}


def no_bucket() -> StorageError:
    """There is no such bucket, or none for this caller."""
    return StorageError(404, "NoSuchBucket", "Bucket not found", error="Bucket not found")


def no_object() -> StorageError:
    """There is no such object, or none for this caller."""
    return StorageError(404, "NoSuchKey", "Object not found", error="not_found")


def too_large(message: str = "The object exceeded the maximum allowed size") -> StorageError:
    """The file is larger than the bucket allows."""
    return StorageError(413, "EntityTooLarge", message, error="Payload too large")


def denied(message: str = "new row violates row-level security policy") -> StorageError:
    """The caller may not."""
    return StorageError(403, "AccessDenied", message, error="Unauthorized")


async def form(request: Request, model: type[Model]) -> Model:
    """The body as such a form. Raises StorageError."""
    try:
        return model.model_validate_json(await body(request))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "/".join(map(str, problem["loc"]))
        raise StorageError(400, "InvalidRequest", f"body/{where} {problem['msg']}") from error


async def storage_error(_request: Request, error: Exception) -> Response:
    """The answer to StorageError."""
    assert isinstance(error, StorageError)  # noqa: S101 - registered for it alone
    return answer(error.content, error.status if error.status >= 500 else 400)  # noqa: PLR2004 - server errors


async def token_error(request: Request, error: Exception) -> Response:
    """The answer to an access token that doesn't count."""
    assert isinstance(error, TokenError)  # noqa: S101 - registered for it alone
    return await storage_error(request, denied(error.message))


async def body_too_large(request: Request, _error: Exception) -> Response:
    """The answer to TooLarge."""
    return await storage_error(request, too_large("The body is too large"))


async def database_error(request: Request, error: Exception) -> Response:
    """The answer to an error of Postgres."""
    assert isinstance(error, psycopg.Error)  # noqa: S101 - registered for it alone
    return await storage_error(request, _translated(error))


def _translated(error: psycopg.Error) -> StorageError:
    text = error.diag.message_primary or ""
    match error.sqlstate:
        case "42501":
            return denied() if "row-level security" in text else denied(text)
        case "23505":
            return StorageError(409, "ResourceAlreadyExists", "The resource already exists", error="Duplicate")
        case "23503":
            return StorageError(404, "InvalidRequest", "The related resource does not exist")
        case "57014":
            return StorageError(544, "DatabaseTimeout", "The connection to the database timed out")
        case _ if isinstance(error, psycopg.DataError):
            return StorageError(400, "InvalidParameter", text or "Invalid value")
        case state:
            return StorageError(500, "DatabaseError", f"database error, code: {state}")

"""Storage, as supabase/storage serves it: buckets, objects under the caller's policies, signed URLs."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.supabase.access import Access
from local.supabase.answers import HANDLERS, TooLarge, not_supported
from local.supabase.buckets import Buckets
from local.supabase.database import Database
from local.supabase.files import Files
from local.supabase.objects import Objects
from local.supabase.signing import Signing
from local.supabase.storage_errors import StorageError, body_too_large, database_error, storage_error, token_error
from local.supabase.tokens import TokenError, Tokens
from local.supabase.uploads import UploadError

EVERY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
OBJECT = "/{bucket}/{name:path}"


def storage(database: Database, access: Access, tokens: Tokens, folder: Path) -> Starlette:
    """The service, to be mounted at /storage/v1. Files lie in `folder`."""
    files = Files(folder)
    buckets, objects = Buckets(database, access, files), Objects(database, access, files)
    signing = Signing(database, access, tokens, objects)
    return Starlette(
        routes=[
            Route("/bucket", buckets.all, methods=["GET"]),
            Route("/bucket", buckets.create, methods=["POST"]),
            Route("/bucket/{bucket}", buckets.get, methods=["GET"]),
            Route("/bucket/{bucket}", buckets.delete, methods=["DELETE"]),
            Route("/bucket/{bucket}/empty", buckets.empty, methods=["POST"]),
            Route("/object/list/{bucket}", objects.all, methods=["POST"]),
            Route("/object/move", objects.move, methods=["POST"]),
            Route("/object/copy", objects.copy, methods=["POST"]),
            Route("/object/sign/{bucket}", signing.sign_many, methods=["POST"]),
            Route("/object/sign" + OBJECT, signing.sign, methods=["POST"]),
            Route("/object/sign" + OBJECT, signing.download, methods=["GET"]),
            Route("/object/upload/sign" + OBJECT, signing.sign_upload, methods=["POST"]),
            Route("/object/upload/sign" + OBJECT, signing.upload, methods=["PUT"]),
            Route("/object/public" + OBJECT, objects.public, methods=["GET"]),
            Route("/object/authenticated" + OBJECT, objects.download, methods=["GET"]),
            Route("/object/info" + OBJECT, objects.info, methods=["GET"]),
            Route("/object/list-v2/{path:path}", not_supported, methods=EVERY),
            Route("/object/{bucket}", objects.remove, methods=["DELETE"]),
            Route("/object" + OBJECT, objects.upload, methods=["POST", "PUT"]),
            Route("/object" + OBJECT, objects.download, methods=["GET"]),
            Route("/object" + OBJECT, objects.remove_one, methods=["DELETE"]),
            Route("/{path:path}", not_supported, methods=EVERY),
        ],
        exception_handlers={
            **HANDLERS,
            StorageError: storage_error,
            UploadError: _upload_error,
            TokenError: token_error,
            TooLarge: body_too_large,
            psycopg.Error: database_error,
            PoolTimeout: _pool_timeout,
        },
    )


async def _upload_error(request: Request, error: Exception) -> Response:
    return await storage_error(request, StorageError(400, "InvalidRequest", str(error)))


async def _pool_timeout(request: Request, _error: Exception) -> Response:
    return await storage_error(
        request, StorageError(544, "DatabaseTimeout", "The connection to the database timed out")
    )

"""A Supabase for one machine: the wire protocols of its Data API, Auth and Storage, on the embedded Postgres.

Never deployed. The clients are the vendor's, unmodified; the rows, constraints and policies are Postgres's. What it
covers and how it differs from the hosted service stands in docs/local-supabase.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route

from local.supabase.access import Access
from local.supabase.answers import not_supported
from local.supabase.auth import auth
from local.supabase.database import Database, Reachable
from local.supabase.rest import rest
from local.supabase.storage import storage
from local.supabase.tokens import Clock, Tokens

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
SHOWN_TO_PAGES = ["accept-ranges", "content-disposition", "content-range", "etag", "location", "x-total-count"]


def gateway(
    postgres: Reachable, folder: Path, url: str, secret_key: str, publishable_key: str, clock: Clock = time.time
) -> Starlette:
    """An ASGI app that answers as a Supabase project at `url`. It connects and disconnects in its lifespan.

    The signing key and the files lie in `folder`. `secret_key` opens everything, past every policy.
    """
    tokens = Tokens(folder / "signing-key.pem", f"{url}/auth/v1", clock)
    access = Access(tokens, publishable_key=publishable_key, secret_key=secret_key)
    database = Database(postgres)

    @asynccontextmanager
    async def connected(_app: Starlette) -> AsyncGenerator[None]:
        try:
            await database.open()
            yield
        finally:
            await database.close()

    return Starlette(
        routes=[
            Mount("/rest/v1", rest(database, access)),
            Mount("/auth/v1", auth(database, access, tokens)),
            Mount("/storage/v1", storage(database, access, tokens, folder / "objects")),
            Route("/{path:path}", not_supported, methods=METHODS),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=METHODS,
                allow_headers=["*"],
                expose_headers=SHOWN_TO_PAGES,
                max_age=3600,
            )
        ],
        lifespan=connected,
    )

"""The administration of users, for who has the secret key."""

from __future__ import annotations

from uuid import UUID

import psycopg
from starlette.requests import Request
from starlette.responses import Response

from local.supabase import users
from local.supabase.access import Access
from local.supabase.answers import answer
from local.supabase.database import SERVICE, Database
from local.supabase.forms import AdminUser, AuthError, Deletion, email_exists, form, new_hash

PER_PAGE = 50
MAX_PER_PAGE = 1000


class Admin:
    """The endpoints below /admin/users."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access

    async def all(self, request: Request) -> Response:
        """A page of users."""
        self._allow(request)
        page, per_page = _number(request, "page", 1), _number(request, "per_page", PER_PAGE)
        if set(request.query_params) - {"page", "per_page"}:
            raise AuthError(400, "validation_failed", "Only page and per_page are supported")
        async with self._database.as_auth_admin() as connection:
            found, total = await users.users(connection, page, min(per_page, MAX_PER_PAGE))
        return answer({"users": found, "aud": "authenticated"}, headers={"x-total-count": str(total)})

    async def create(self, request: Request) -> Response:
        """Make a user. Without `email_confirm` they can't sign in yet."""
        self._allow(request)
        asked = await form(request, AdminUser)
        if not asked.email:
            raise AuthError(400, "validation_failed", "Cannot create a user without either an email or phone")
        hashed = await new_hash(asked.password) if asked.password else None
        try:
            async with self._database.as_auth_admin() as connection:
                made = await users.create(
                    connection,
                    email=asked.email,
                    hashed=hashed,
                    data=asked.user_metadata or {},
                    app_data=asked.app_metadata,
                    confirmed=asked.email_confirm,
                    user_id=asked.id,
                    role=asked.role or "authenticated",
                )
                return answer(await users.user(connection, made))
        except psycopg.errors.UniqueViolation as error:
            raise email_exists() from error

    async def get(self, request: Request) -> Response:
        """A user."""
        self._allow(request)
        async with self._database.as_auth_admin() as connection:
            user = await users.user(connection, request.path_params["id"])
        if user is None:
            raise _not_found()
        return answer(user)

    async def update(self, request: Request) -> Response:
        """Change a user. A new password ends their sessions."""
        self._allow(request)
        user_id: UUID = request.path_params["id"]
        asked = await form(request, AdminUser)
        if asked.id not in {None, user_id}:
            raise AuthError(400, "validation_failed", "A user's id can't be changed")
        hashed = await new_hash(asked.password) if asked.password else None
        try:
            async with self._database.as_auth_admin() as connection:
                await users.update(
                    connection,
                    user_id,
                    email=asked.email,
                    confirm=asked.email_confirm,
                    hashed=hashed,
                    data=asked.user_metadata,
                    app_data=asked.app_metadata,
                    role=asked.role,
                )
                if hashed:
                    await users.end_sessions(connection, user_id, None, "global")
                user = await users.user(connection, user_id)
                if user is None:
                    raise _not_found()
                return answer(user)
        except psycopg.errors.UniqueViolation as error:
            raise email_exists() from error

    async def delete(self, request: Request) -> Response:
        """Delete a user."""
        self._allow(request)
        await form(request, Deletion)
        async with self._database.as_auth_admin() as connection:
            if not await users.delete(connection, request.path_params["id"]):
                raise _not_found()
        return answer({})

    def _allow(self, request: Request) -> None:
        if self._access.caller(request).role != SERVICE.role:
            raise AuthError(403, "not_admin", "User not allowed")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise AuthError(400, "validation_failed", f"Bad Pagination Parameters: {name}")
    return int(text)


def _not_found() -> AuthError:
    return AuthError(404, "user_not_found", "User not found")

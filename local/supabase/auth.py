"""Auth, as GoTrue serves it: users with a password or anonymous, their sessions, and their administration.

No mail is sent: an address counts as confirmed at once, as with `enable_confirmations = false` of the Supabase CLI.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.supabase import users
from local.supabase.access import Access, bearer
from local.supabase.admin import Admin
from local.supabase.answers import HANDLERS, TooLarge, answer, not_supported
from local.supabase.database import Connection, Database
from local.supabase.forms import AuthError, Refresh, SignUp, UserUpdate, email_exists, form, new_hash
from local.supabase.tokens import ACCESS_TOKEN_S, TokenError, Tokens
from local.supabase.users import RefreshError, Session, User

SETTINGS = {
    "external": {"anonymous_users": True, "email": True, "phone": False},
    "disable_signup": False,
    "mailer_autoconfirm": True,
    "phone_autoconfirm": False,
    "sms_provider": "",
    "saml_enabled": False,
}
SCOPES: dict[str, Literal["global", "local", "others"]] = {"global": "global", "local": "local", "others": "others"}


def auth(database: Database, access: Access, tokens: Tokens) -> Starlette:
    """The service, to be mounted at /auth/v1."""
    service, admin = _Auth(database, access, tokens), Admin(database, access)
    return Starlette(
        routes=[
            Route("/.well-known/jwks.json", service.jwks),
            Route("/health", service.health),
            Route("/settings", service.settings),
            Route("/signup", service.sign_up, methods=["POST"]),
            Route("/token", service.token, methods=["POST"]),
            Route("/user", service.user, methods=["GET"]),
            Route("/user", service.update, methods=["PUT"]),
            Route("/logout", service.log_out, methods=["POST"]),
            Route("/admin/users", admin.all, methods=["GET"]),
            Route("/admin/users", admin.create, methods=["POST"]),
            Route("/admin/users/{id:uuid}", admin.get, methods=["GET"]),
            Route("/admin/users/{id:uuid}", admin.update, methods=["PUT"]),
            Route("/admin/users/{id:uuid}", admin.delete, methods=["DELETE"]),
            Route("/{path:path}", not_supported, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        exception_handlers={
            **HANDLERS,
            AuthError: _auth_error,
            RefreshError: _refresh_error,
            TokenError: _token_error,
            TooLarge: _too_large,
            psycopg.Error: _database_error,
            PoolTimeout: _database_error,
        },
    )


class _Auth:
    def __init__(self, database: Database, access: Access, tokens: Tokens) -> None:
        self._database = database
        self._access = access
        self._tokens = tokens

    async def jwks(self, _request: Request) -> Response:
        """The keys by which anyone can check an access token."""
        return answer(self._tokens.jwks, headers={"cache-control": "public, max-age=600"})

    async def health(self, _request: Request) -> Response:
        """That it is there, and what it is."""
        description = "A stand-in for GoTrue on one machine"
        return answer({"name": "local/supabase", "version": "local", "description": description})

    async def settings(self, request: Request) -> Response:
        """Which ways of signing in there are."""
        self._access.key(request)
        return answer(SETTINGS)

    async def sign_up(self, request: Request) -> Response:
        """Make a user and sign them in; without an address an anonymous one."""
        self._access.key(request)
        asked = await form(request, SignUp)
        if (asked.email is None) != (asked.password is None):
            raise AuthError(400, "validation_failed", "Signup requires a valid email and password, or neither")
        hashed = await new_hash(asked.password) if asked.password is not None else None
        try:
            async with self._database.as_auth_admin() as connection:
                made = await users.create(connection, email=asked.email, hashed=hashed, data=asked.data or {})
                return await self._signed_in(connection, await users.begin_session(connection, made))
        except psycopg.errors.UniqueViolation as error:
            raise AuthError(422, "user_already_exists", "User already registered") from error

    async def token(self, request: Request) -> Response:
        """Sign in with a password, or go on with a refresh token."""
        self._access.key(request)
        grant_type = request.query_params.get("grant_type")
        if grant_type == "password":
            return await self._by_password(await form(request, SignUp))
        if grant_type == "refresh_token":
            return await self._by_refresh_token(await form(request, Refresh))
        raise AuthError(400, "validation_failed", f"The local gateway does not support the grant type {grant_type!r}")

    async def user(self, request: Request) -> Response:
        """The caller."""
        async with self._database.as_auth_admin() as connection:
            user, _ = await self._caller(connection, request)
        return answer(user)

    async def update(self, request: Request) -> Response:
        """Change the caller's password and metadata; an anonymous one becomes permanent with an address."""
        asked = await form(request, UserUpdate)
        async with self._database.as_auth_admin() as connection:
            user, session_id = await self._caller(connection, request)
            user_id = UUID(user["id"])
            old = await users.password_hash(connection, user_id)
        email = asked.email if asked.email != user["email"] else None
        if email and not user["is_anonymous"]:
            raise AuthError(501, "not_supported", "The local gateway sends no mail, which changing an address takes")
        if asked.password is not None and user["is_anonymous"] and not email:
            message = "Updating password of an anonymous user without an email or phone is not allowed"
            raise AuthError(422, "validation_failed", message)
        hashed = await new_hash(asked.password, old) if asked.password is not None else None
        try:
            async with self._database.as_auth_admin() as connection:
                await users.update(
                    connection, user_id, email=email, confirm=bool(email), hashed=hashed, data=asked.data
                )
                if hashed:
                    await users.end_sessions(connection, user_id, session_id, "others")
                return answer(await users.user(connection, user_id))
        except psycopg.errors.UniqueViolation as error:
            raise email_exists() from error

    async def log_out(self, request: Request) -> Response:
        """End the caller's sessions: all, this one (`scope=local`) or the others."""
        scope = SCOPES.get(request.query_params.get("scope", "global"))
        if scope is None:
            raise AuthError(400, "validation_failed", "Unsupported logout scope")
        async with self._database.as_auth_admin() as connection:
            user, session_id = await self._caller(connection, request)
            await users.end_sessions(connection, UUID(user["id"]), session_id, scope)
        return Response(status_code=204)

    async def _by_password(self, asked: SignUp) -> Response:
        async with self._database.as_auth_admin() as connection:
            found = await users.by_email(connection, asked.email or "")
        hashed = found[1] if found else None
        if not found or not await asyncio.to_thread(users.is_password, asked.password or "", hashed):
            raise AuthError(400, "invalid_credentials", "Invalid login credentials")
        user_id, _, confirmed = found
        if not confirmed:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        async with self._database.as_auth_admin() as connection:
            return await self._signed_in(connection, await users.begin_session(connection, user_id))

    async def _by_refresh_token(self, asked: Refresh) -> Response:
        async with self._database.as_auth_admin() as connection:
            try:
                return await self._signed_in(connection, await users.go_on(connection, asked.refresh_token))
            except RefreshError as error:
                refused = error
        raise refused  # outside: what it did to the session is to stay

    async def _caller(self, connection: Connection, request: Request) -> tuple[User, str]:
        """The user of the access token, and their session. Raises AuthError."""
        claims = self._access.caller(request).claims
        if "sub" not in claims:
            if bearer(request) is None:
                raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim")
        user = await users.user(connection, UUID(claims["sub"]))
        if user is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        if not await users.has_session(connection, claims["session_id"]):
            raise AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        return user, claims["session_id"]

    async def _signed_in(self, connection: Connection, session: Session) -> Response:
        user = await users.user(connection, session.user_id)
        assert user is not None  # noqa: S101 - the session refers to it
        claims: dict[str, Any] = {
            "sub": user["id"],
            "role": user["role"],
            "email": user["email"],
            "phone": user["phone"],
            "app_metadata": user["app_metadata"],
            "user_metadata": user["user_metadata"],
            "aal": "aal1",
            "amr": [{"method": "anonymous" if user["is_anonymous"] else "password", "timestamp": session.since}],
            "session_id": str(session.id),
            "is_anonymous": user["is_anonymous"],
        }
        access_token, expires_at = self._tokens.access_token(claims)
        return answer(
            {
                "access_token": access_token,
                "token_type": "bearer",
                "expires_in": ACCESS_TOKEN_S,
                "expires_at": expires_at,
                "refresh_token": session.refresh_token,
                "user": user,
            }
        )


async def _auth_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AuthError)  # noqa: S101 - registered for it alone
    return answer(error.content, error.status)


async def _refresh_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefreshError)  # noqa: S101 - registered for it alone
    return await _auth_error(request, AuthError(400, error.code, error.message))


async def _token_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TokenError)  # noqa: S101 - registered for it alone
    return await _auth_error(request, AuthError(403, "bad_jwt", f"invalid JWT: {error.message}"))


async def _too_large(request: Request, _error: Exception) -> Response:
    return await _auth_error(request, AuthError(413, "validation_failed", "The body is too large"))


async def _database_error(request: Request, error: Exception) -> Response:
    if isinstance(error, psycopg.DataError):
        return await _auth_error(request, AuthError(400, "validation_failed", "A value can't be stored"))
    return await _auth_error(request, AuthError(500, "unexpected_failure", "Database error"))

"""Who calls: an API key in `apikey`, and beside it the same key or a user's access token in `Authorization`."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from local.supabase.database import ANONYMOUS, SERVICE, Caller
from local.supabase.tokens import TokenError, Tokens


class KeyRefused(Exception):
    """No API key, or none of ours: 401 in whichever service."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Access:
    """Tells callers by their keys and tokens."""

    def __init__(self, tokens: Tokens, *, publishable_key: str, secret_key: str) -> None:
        self._tokens = tokens
        self._keys = {publishable_key: ANONYMOUS, secret_key: SERVICE}

    def key(self, request: Request) -> Caller:
        """Whom the API key stands for. Raises KeyRefused."""
        key = request.headers.get("apikey")
        if not key:
            raise KeyRefused("No API key found in request", "No `apikey` request header or url param was found.")
        for known, caller in self._keys.items():
            if hmac.compare_digest(known.encode(), key.encode()):
                return caller
        raise KeyRefused("Invalid API key", "Double check your Supabase API key.")

    def caller(self, request: Request) -> Caller:
        """The user of the access token, or else whom the API key stands for. Raises KeyRefused, TokenError."""
        by_key = self.key(request)
        token = bearer(request)
        if token is None or hmac.compare_digest(token.encode(), request.headers["apikey"].encode()):
            return by_key
        claims = self._tokens.claims(token)
        role = claims.get("role")
        if not isinstance(role, str):
            raise TokenError("The token has no role")
        return Caller(role, claims)


def bearer(request: Request) -> str | None:
    """The token of the `Authorization` header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None

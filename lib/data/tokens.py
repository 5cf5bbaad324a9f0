"""Access tokens of Supabase Auth, checked here: by the project's public keys (JWKS), or by its JWT secret of old.

A token names its algorithm and key; it does not choose them. ES256 and RS256 are tried with the public key of that id,
if it is one for just this algorithm; HS256 with SUPABASE_JWT_SECRET alone, where that is set. Never are two algorithms
allowed at once, so a public key can't pass for a secret.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast
from uuid import UUID

import orjson

from lib.errors import ServiceFailed, Unauthorized, Unavailable
from lib.exchange import Exchange, Reply
from lib.settings import Role, SupabaseAccess

TOKEN = re.compile(r"[\w-]{4,}\.[\w-]{4,}\.[\w-]{4,}", re.ASCII)
KEY_TYPES = {"ES256": "EC", "RS256": "RSA"}
DEFAULT_ALGORITHMS = {kind: algorithm for algorithm, kind in KEY_TYPES.items()}
AUDIENCE = "authenticated"
REQUIRED = ["exp", "sub", "aud", "iss"]
LEEWAY_S = 10
MAX_CHARACTERS = 8 * 1024
TIMEOUT_S = 2.0
FRESH_S = 600.0
"""The hosted project's edge keeps its keys as long: a key that is taken back counts no longer than twice that."""
STALE_S = 3600.0
"""While they can't be fetched anew, keys count for so long."""
COOLDOWN_S = 30.0
"""So often at most are keys fetched for a name that is not among them: anybody can make up names."""
RETRY_S = 1.0
OK = 200
UNKNOWN_KEY = "unknown_key"
"""The code where a token names a key that is not (or no longer) the project's."""

Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token stands for. The role is the one in app_metadata, which users can't write themselves."""

    id: str
    role: Role
    email: str | None
    is_anonymous: bool
    expires_at: float


class Tokens:
    """Checks access tokens of one project."""

    def __init__(self, access: SupabaseAccess, exchange: Exchange, clock: Clock = time.time) -> None:
        self._issuer = f"{access.url}/auth/v1"
        self._secret = access.jwt_secret
        self._keys = Keys(f"{self._issuer}/.well-known/jwks.json", exchange, clock)
        self._clock = clock
        self._jwt: Any = None

    async def identity(self, token: str, *, may_be_expired: bool = False) -> Identity:
        """Whom it stands for. Raises Unauthorized, and Unavailable where the keys to judge it by can't be had."""
        if not looks_like_a_token(token):
            raise _refused()
        if self._jwt is None:
            # 80 ms, for those alone who bring a token: it brings the cryptography library along.
            self._jwt = await asyncio.to_thread(import_module, "jwt")
        jwt = self._jwt
        try:
            header: dict[str, Any] = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _refused() from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == "HS256" and self._secret is not None:
            key: Any = self._secret
        elif isinstance(algorithm, str) and algorithm in KEY_TYPES and isinstance(kid, str):
            key = await self._keys.get(kid, algorithm)
        else:
            raise _refused()
        return self._checked(jwt, token, key, algorithm, may_be_expired=may_be_expired)

    def _checked(self, jwt: Any, token: str, key: Any, algorithm: str, *, may_be_expired: bool) -> Identity:
        # The library reads the machine's clock: it is told to leave times to us.
        options = {"require": REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key, [algorithm], options=options, audience=AUDIENCE, issuer=self._issuer
            )
            signature = token.rpartition(".")[2]
            # Base64 can spell the same bytes in several ways; only one of them was signed for.
            if jwt.utils.base64url_encode(jwt.utils.base64url_decode(signature)).decode() != signature:
                raise _refused()
            return self._identity(claims, may_be_expired=may_be_expired)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _refused() from error

    def _identity(self, claims: dict[str, Any], *, may_be_expired: bool) -> Identity:
        now, expires_at = self._clock(), float(claims["exp"])
        if float(claims.get("nbf", 0)) > now + LEEWAY_S or claims.get("role") != AUDIENCE:
            raise _refused()
        # Written so that a NaN is over too.
        if not (may_be_expired or now < expires_at + LEEWAY_S):
            raise Unauthorized(
                "The access token has expired.", code="token_expired", headers={"www-authenticate": "Bearer"}
            )
        told: Any = claims.get("app_metadata")
        metadata = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        email: object = claims.get("email")
        return Identity(
            id=str(UUID(claims["sub"])),
            role="operator" if metadata.get("role") == "operator" else "user",
            email=email if isinstance(email, str) and email else None,
            is_anonymous=claims.get("is_anonymous") is True,
            expires_at=expires_at,
        )


class Keys:
    """The project's public keys, kept by the process; whoever needs them at the same time waits for one fetch."""

    def __init__(self, url: str, exchange: Exchange, clock: Clock) -> None:
        self._url = url
        self._exchange = exchange
        self._clock = clock
        self._keys: dict[tuple[str, str], Any] = {}
        self._good_at = self._tried_at = float("-inf")
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, kid: str, algorithm: str) -> Any:
        """The key of this id, if it is for this algorithm. Raises Unauthorized, Unavailable."""
        if self._is_due((kid, algorithm)):
            await self._fetch()
        key = self._keys.get((kid, algorithm)) if self._clock() - self._good_at < STALE_S else None
        if key is not None:
            return key
        if self._failed:
            raise Unavailable("Access tokens can't be checked now.", code="auth_unavailable", retry_after_s=1)
        raise _refused(UNKNOWN_KEY)

    def _is_due(self, name: tuple[str, str]) -> bool:
        since_try = self._clock() - self._tried_at
        if self._fetching is not None and not self._fetching.done():
            return name not in self._keys
        if self._failed:
            return since_try >= RETRY_S
        return since_try >= (FRESH_S if name in self._keys else COOLDOWN_S)

    async def _fetch(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.ensure_future(self._read())
        # A caller who leaves must not take the others' keys along.
        await asyncio.shield(self._fetching)

    async def _read(self) -> None:
        try:
            reply = await self._exchange("GET", self._url, {"accept": "application/json"}, timeout_s=TIMEOUT_S)
            self._keys = await asyncio.to_thread(_parsed, reply)
        except ServiceFailed:
            self._failed = True
        else:
            self._failed = False
            self._good_at = self._clock()
        self._tried_at = self._clock()


def looks_like_a_token(text: str) -> bool:
    """Whether it has the shape of a JWT."""
    return len(text) <= MAX_CHARACTERS and TOKEN.fullmatch(text) is not None


def _parsed(reply: Reply) -> dict[tuple[str, str], Any]:
    """The keys of a JWKS (RFC 7517) by id and algorithm, without those that we do not use. Raises ServiceFailed."""
    import jwt  # noqa: PLC0415 - is loaded already

    if reply.status != OK:
        raise ServiceFailed(f"http_{reply.status}")
    try:
        listed: list[dict[str, Any]] = orjson.loads(reply.body)["keys"]
        keys: dict[tuple[str, str], Any] = {}
        for jwk in listed:
            kid, algorithm = jwk.get("kid"), jwk.get("alg") or DEFAULT_ALGORITHMS.get(jwk.get("kty", ""))
            if isinstance(kid, str) and algorithm in KEY_TYPES and jwk.get("kty") == KEY_TYPES[algorithm]:
                with suppress(jwt.PyJWTError, ValueError):
                    keys[kid, algorithm] = jwt.PyJWK.from_dict(jwk, algorithm).key
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ServiceFailed("malformed") from error
    return keys


def _refused(code: str | None = None) -> Unauthorized:
    return Unauthorized("This access token does not hold.", code=code, headers={"www-authenticate": "Bearer"})

"""Who is calling: a user with a Supabase session, a holder of an API key, or a guest known by a signed cookie.

A guest is nobody's row at first: text takes none, and a project lets one server make few anonymous users an hour. With
the first thing that has to belong to somebody (an asset, an account) the guest becomes an anonymous user, whom the
earlier rows are handed to, and who signs up later under the same id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from starlette.requests import Request

from lib.data.accounts import Accounts, Session
from lib.data.tokens import UNKNOWN_KEY, Clock, Identity, Tokens, looks_like_a_token
from lib.errors import NotConfigured, Unauthorized, UserRemoved
from lib.http.cookies import address, cookie, require_same_origin, set_cookie
from lib.http.headers import only
from lib.settings import SUPABASE_VARIABLES, Role, Settings

GUEST_COOKIE = "guest"
SESSION_COOKIE = "session"
REFRESH_TOKEN = re.compile(r"[\w.~+/=-]{1,512}", re.ASCII)
MAX_REMOVED = 10_000
RENEW_S = 60.0
"""A session that ends sooner is renewed before its request is answered, so that none ends in the middle of a stream."""

Rpc = Callable[[str, Mapping[str, object]], Awaitable[Any]]
"""Calls a function of the database."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity: `id` is a UUID that stays the same from call to call.

    `session` is a user's, as far as it came along; anonymous users are guests with one.
    `set_cookie` is the Set-Cookie header that makes a new guest, or a renewed session, known next time.
    """

    id: str
    kind: Literal["user", "key", "guest"]
    role: Role
    set_cookie: str | None = field(default=None, repr=False)
    session: Session | None = field(default=None, repr=False)
    email: str | None = None
    name: str | None = None
    """The name of the API key."""

    @property
    def token(self) -> str | None:
        """The access token by which a user's rows are read under the policies."""
        return None if self.session is None else self.session.access_token

    @property
    def traits(self) -> dict[str, str]:
        """What flags may ask for besides the id."""
        return {"kind": self.kind, "role": self.role}

    @property
    def may_choose_model(self) -> bool:
        """Whether this caller may name a provider or model itself, whatever it costs."""
        return self.kind == "key" or self.role == "operator"


class Users:
    """What Supabase brings: tokens that are checked, accounts, and rows that are handed over."""

    def __init__(self, tokens: Tokens, accounts: Accounts, rpc: Rpc, clock: Clock) -> None:
        self.tokens = tokens
        self.accounts = accounts
        self.rpc = rpc
        self.clock = clock


class Auth:
    """Identifies callers by the settings."""

    def __init__(self, settings: Settings, users: Users | None = None) -> None:
        """Without `users` there are keys and guests alone."""
        self._key_holders = [
            (
                hashlib.sha256(key.secret.encode()).digest(),
                Caller(str(uuid5(NAMESPACE_URL, f"api-key:{key.name}")), "key", key.role, name=key.name),
            )
            for key in settings.api_keys
        ]
        self._session_secret = settings.session_secret.encode() if settings.session_secret else None
        self._guests = settings.allow_anonymous
        self._origins = settings.allowed_origins
        self._users = users
        self._known_users: set[str] = set()
        self._removed: dict[str, None] = {}

    @property
    def users(self) -> Users:
        """Raises NotConfigured where there is no Supabase project."""
        if self._users is None:
            *names, last = SUPABASE_VARIABLES
            raise NotConfigured(f"Accounts are off here: set {', '.join(names)} and {last}.")
        return self._users

    async def identify(self, request: Request) -> Caller:
        """The caller of this request.

        Raises Unauthorized, Forbidden, InvalidRequest; Unavailable where a token can't be checked.

        A bearer that does not hold is refused even where guests are welcome: its owner should learn of it.
        """
        authorization = only(request, "authorization")
        if authorization is not None:
            return await self._bearer(authorization)
        session = cookie(request, SESSION_COOKIE) if self._users is not None else ""
        if session:
            require_same_origin(request, self._origins)
            return await self._session(request, session)
        if not self._guests or self._session_secret is None:
            raise _unauthorized("Sign in, or send an API key: Authorization: Bearer <key>.")
        return self._guest(request, self._session_secret)

    async def with_account(self, request: Request, caller: Caller) -> Caller:
        """The same caller with a row of auth.users, for what has to belong to somebody.

        A guest becomes an anonymous user, whom its earlier rows are handed to: id and cookie are new. Raises
        Unavailable, DataFailed, and NotConfigured without a Supabase project.
        """
        users = self.users
        if caller.kind == "key" and caller.id not in self._known_users:
            await users.accounts.ensure_user(caller.id, caller.name or "")
            self._known_users.add(caller.id)
        if caller.kind != "guest" or caller.session is not None:
            return caller
        session = await users.accounts.anonymous(address(request))
        now = await self.signed_in(request, session)
        # Before the cookie goes out: should it fail, the guest stays who it was, and tries again.
        await users.rpc("adopt_guest", {"p_guest_id": caller.id, "p_user_id": now.id})
        return now

    async def signed_in(self, request: Request, session: Session) -> Caller:
        """The caller that a session makes of this request's, with the cookie that keeps it."""
        identity = await self.users.tokens.identity(session.access_token)
        kept = set_cookie(request, SESSION_COOKIE, f"{session.access_token}:{session.refresh_token}")
        return self._user(identity, session, kept)

    async def renewed(self, request: Request, caller: Caller) -> Caller:
        """The caller with a new access token, which says what has changed of its user. Raises Unauthorized."""
        if caller.session is None or not caller.session.refresh_token:
            return caller  # who brings its token itself renews it itself
        return await self.signed_in(request, await self.users.accounts.refreshed(caller.session.refresh_token))

    def forgetting(self, request: Request) -> tuple[str, ...]:
        """The Set-Cookie headers after which nothing is known of this browser's user or guest."""
        return tuple(set_cookie(request, name, "", max_age_s=0) for name in (SESSION_COOKIE, GUEST_COOKIE))

    def user_is_gone(self, caller: Caller) -> None:
        """Refuse the tokens of a user who was removed: they hold until they end by themselves.

        Other processes know nothing of it, but the database refuses there what costs money (`reserve`). A key's holder
        may come back, and gets another row of auth.users then.
        """
        self._known_users.discard(caller.id)
        if caller.session is not None:
            self._removed[caller.id] = None
        while len(self._removed) > MAX_REMOVED:
            del self._removed[next(iter(self._removed))]

    def require_same_origin(self, request: Request) -> None:
        """Refuse what another site's page asks for, with or without a cookie. Raises Forbidden."""
        require_same_origin(request, self._origins)

    async def _bearer(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorized("Send an API key or an access token: Authorization: Bearer <key>.")
        secret = secret.strip()
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        # Every key is compared, in constant time, so that the answer's timing tells nothing.
        matches = [holder for known, holder in self._key_holders if hmac.compare_digest(known, digest)]
        if matches:
            return matches[0]
        if self._users is not None and looks_like_a_token(secret):
            return self._user(await self._users.tokens.identity(secret), Session(secret, ""))
        raise _unauthorized("This API key is not known here.")

    async def _session(self, request: Request, value: str) -> Caller:
        """The user of a session cookie, renewed where it is about to end. One that does not hold is taken back."""
        users = self.users
        token, _, refresh_token = value.partition(":")
        session = Session(token, refresh_token)
        try:
            if (identity := await self._still_good(session)) is not None:
                return self._user(identity, session)
            if REFRESH_TOKEN.fullmatch(refresh_token) is None:
                raise _unauthorized("The session has ended.")
            return await self.signed_in(request, await users.accounts.refreshed(refresh_token))
        except Unauthorized as error:
            gone = {"set-cookie": set_cookie(request, SESSION_COOKIE, "", max_age_s=0)}
            raise Unauthorized(
                "The session has ended: sign in again.", code="session_expired", headers={**error.headers, **gone}
            ) from error

    async def _still_good(self, session: Session) -> Identity | None:
        """Whom a session's token stands for, None where it has to be renewed. Raises Unauthorized."""
        try:
            identity = await self.users.tokens.identity(session.access_token, may_be_expired=True)
        except Unauthorized as error:
            if error.code == UNKNOWN_KEY:  # the project has changed its keys; sessions outlast them
                return None
            raise
        return identity if self.users.clock() < identity.expires_at - RENEW_S else None

    def _user(self, identity: Identity, session: Session, set_cookie: str | None = None) -> Caller:
        if identity.id in self._removed:
            raise UserRemoved("The user of this token was removed.", headers={"www-authenticate": "Bearer"})
        if identity.is_anonymous and not self._guests:
            raise _unauthorized("Guests are not welcome here: sign in.")
        kind = "guest" if identity.is_anonymous else "user"
        return Caller(identity.id, kind, identity.role, set_cookie, session, identity.email)

    def _guest(self, request: Request, secret: bytes) -> Caller:
        guest_id = _verified(cookie(request, GUEST_COOKIE), secret)
        if guest_id is not None:
            return Caller(id=guest_id, kind="guest", role="user")
        guest_id = str(uuid4())
        value = f"{guest_id}.{_signature(guest_id, secret)}"
        return Caller(guest_id, "guest", "user", set_cookie(request, GUEST_COOKIE, value))


def _verified(value: str, secret: bytes) -> str | None:
    guest_id, _, signature = value.partition(".")
    if not hmac.compare_digest(_signature(guest_id, secret).encode(), signature.encode()):
        return None
    try:
        return str(UUID(guest_id))
    except ValueError:
        return None


def _signature(guest_id: str, secret: bytes) -> str:
    digest = hmac.digest(secret, f"guest:{guest_id}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _unauthorized(message: str) -> Unauthorized:
    return Unauthorized(message, headers={"www-authenticate": "Bearer"})

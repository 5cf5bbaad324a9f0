"""Who is calling: a holder of an API key, or a guest known by a signed cookie."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from starlette.requests import Request

from lib.errors import Unauthorized
from lib.settings import Role, Settings

GUEST_COOKIE = "guest"
GUEST_COOKIE_MAX_AGE_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity: `id` is a UUID that stays the same from call to call.

    `set_cookie` is the Set-Cookie header that makes a new guest known next time.
    """

    id: str
    kind: Literal["key", "guest"]
    role: Role
    set_cookie: str | None = None

    @property
    def traits(self) -> dict[str, str]:
        """What flags may ask for besides the id."""
        return {"kind": self.kind, "role": self.role}

    @property
    def may_choose_model(self) -> bool:
        """Whether this caller may name a provider or model itself, whatever it costs."""
        return self.kind == "key"


class Access:
    """Identifies callers by the settings."""

    def __init__(self, settings: Settings) -> None:
        self._key_holders = [
            (
                hashlib.sha256(key.secret.encode()).digest(),
                Caller(id=str(uuid5(NAMESPACE_URL, f"api-key:{key.name}")), kind="key", role=key.role),
            )
            for key in settings.api_keys
        ]
        self._session_secret = settings.session_secret.encode() if settings.session_secret else None
        self._guests = settings.allow_anonymous

    def identify(self, request: Request) -> Caller:
        """The caller of this request. Raises Unauthorized.

        A bearer key that does not hold is refused even where guests are welcome: its owner should learn of it.
        """
        authorization = request.headers.get("authorization")
        if authorization is not None:
            return self._key_holder(authorization)
        if not self._guests or self._session_secret is None:
            raise _unauthorized("Send an API key: Authorization: Bearer <key>.")
        return self._guest(request, self._session_secret)

    def _key_holder(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorized("Send an API key: Authorization: Bearer <key>.")
        digest = hashlib.sha256(secret.strip().encode("utf-8", "surrogateescape")).digest()
        # Every key is compared, in constant time, so that the answer's timing tells nothing.
        matches = [holder for known, holder in self._key_holders if hmac.compare_digest(known, digest)]
        if not matches:
            raise _unauthorized("This API key is not known here.")
        return matches[0]

    def _guest(self, request: Request, secret: bytes) -> Caller:
        guest_id = _verified(_guest_cookie(request), secret)
        if guest_id is not None:
            return Caller(id=guest_id, kind="guest", role="user")
        guest_id = str(uuid4())
        secure = "; Secure" if _is_https(request) else ""
        cookie = (
            f"{GUEST_COOKIE}={guest_id}.{_signature(guest_id, secret)}; Path=/; HttpOnly; SameSite=Lax; "
            f"Max-Age={GUEST_COOKIE_MAX_AGE_S}{secure}"
        )
        return Caller(id=guest_id, kind="guest", role="user", set_cookie=cookie)


def _guest_cookie(request: Request) -> str:
    """The guest's cookie. It is never quoted, so the standard library's unquoting, which can be slow, is not needed."""
    for header in request.headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.partition("=")
            if name.strip() == GUEST_COOKIE:
                return value.strip()
    return ""


def _verified(cookie: str, secret: bytes) -> str | None:
    guest_id, _, signature = cookie.partition(".")
    if not hmac.compare_digest(_signature(guest_id, secret).encode(), signature.encode()):
        return None
    try:
        return str(UUID(guest_id))
    except ValueError:
        return None


def _signature(guest_id: str, secret: bytes) -> str:
    digest = hmac.digest(secret, f"guest:{guest_id}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _is_https(request: Request) -> bool:
    # Behind several proxies the header is a list; the first is who the caller spoke to.
    return request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip() == "https"


def _unauthorized(message: str) -> Unauthorized:
    return Unauthorized(message, headers={"www-authenticate": "Bearer"})

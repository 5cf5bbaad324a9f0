"""Accounts and sessions, as Supabase Auth (GoTrue) serves them at /auth/v1.

By plain HTTP: each is one small request, and the SDK's client would keep a session that is not the process's to keep.
Calls carry the secret key and the caller's address in Sb-Forwarded-For, so that a project with "IP address forwarding"
switched on limits each visitor, and not this server, which all of them share.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from lib.errors import AppError, Conflict, FieldError, InvalidRequest, ServiceFailed, Unauthorized, Unavailable
from lib.exchange import Exchange
from lib.settings import SupabaseAccess

TIMEOUT_S = 5.0
"""A password is hashed meanwhile, which is slow on purpose."""
REPEATED_S = 10.0
"""As long as Auth itself answers an exchanged refresh token with the same session again."""
MAX_KEPT = 1000
OK = range(200, 300)
REFUSED = range(400, 500)
TOO_MANY = 429
SECONDS = re.compile(r"[0-9]{1,5}")
DEFAULT_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A user who is signed in: an access token for an hour or so, and what the next one is got with."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    """Empty where only the access token came along."""


class Accounts:
    """Signs users up, in and out."""

    def __init__(self, access: SupabaseAccess, exchange: Exchange) -> None:
        self._access = access
        self._exchange = exchange
        self._refreshing: dict[str, asyncio.Task[Session]] = {}

    async def anonymous(self, address: str | None = None) -> Session:
        """A new anonymous user. `address` is the visitor's IP address. Raises Unavailable."""
        return _session(await self._call("POST", "/signup", {}, address=address))

    async def sign_up(self, email: str, password: str, address: str | None = None) -> Session | None:
        """A new user; None where the project wants the address confirmed first. Raises Conflict, InvalidRequest."""
        told = await self._call("POST", "/signup", {"email": email, "password": password}, address=address)
        return _session(told) if "access_token" in told else None

    async def sign_in(self, email: str, password: str, address: str | None = None) -> Session:
        """Raises Unauthorized for a wrong address or password, which are not told apart; Unavailable."""
        body = {"email": email, "password": password}
        return _session(await self._call("POST", "/token?grant_type=password", body, address=address))

    async def make_permanent(self, token: str, email: str, password: str, address: str | None = None) -> None:
        """Give an anonymous user an address and a password: id and rows stay. Raises Conflict, InvalidRequest."""
        await self._call("PUT", "/user", {"email": email, "password": password}, token=token, address=address)

    async def sign_out(self, token: str) -> None:
        """End this session; one that has ended already is no error. Raises Unavailable."""
        await self._call("POST", "/logout?scope=local", {}, token=token, may_fail=True)

    async def refreshed(self, refresh_token: str) -> Session:
        """The session's next access token: asked for once, however many requests want it. Raises Unauthorized.

        Who comes with the old token soon after gets the same answer, as from Auth itself.
        """
        task = self._refreshing.get(refresh_token)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.ensure_future(self._refresh(refresh_token))
            while len(self._refreshing) >= MAX_KEPT:
                del self._refreshing[next(iter(self._refreshing))]
            self._refreshing[refresh_token] = task
            task.add_done_callback(lambda _: self._forget_later(refresh_token))
        # A caller who leaves must not take the others' answer along.
        return await asyncio.shield(task)

    async def ensure_user(self, user_id: str, name: str) -> None:
        """Have a user with this id, for a holder of an API key. Raises Unavailable."""
        found = await self._call("GET", f"/admin/users/{user_id}", may_fail=True)
        if "id" not in found:
            email = f"{user_id}@keys.invalid"
            body = {"id": user_id, "email": email, "email_confirm": True, "app_metadata": {"api_key": name}}
            with suppress(Conflict):  # another process was faster
                await self._call("POST", "/admin/users", body)

    async def ensure_operator(self, user_id: str, email: str, password: str) -> None:
        """Have an operator with this id, address and password. Raises Unavailable."""
        body = {"password": password, "app_metadata": {"role": "operator"}}
        found = await self._call("PUT", f"/admin/users/{user_id}", body, may_fail=True)
        if "id" not in found:
            await self._call("POST", "/admin/users", {**body, "id": user_id, "email": email, "email_confirm": True})

    async def remove(self, user_id: str) -> None:
        """Remove a user; one who is not there is no error. Raises Unavailable."""
        await self._call("DELETE", f"/admin/users/{user_id}", may_fail=True)

    async def _refresh(self, refresh_token: str) -> Session:
        return _session(await self._call("POST", "/token?grant_type=refresh_token", {"refresh_token": refresh_token}))

    def _forget_later(self, refresh_token: str) -> None:
        asyncio.get_running_loop().call_later(REPEATED_S, self._refreshing.pop, refresh_token, None)

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: str | None = None,
        address: str | None = None,
        may_fail: bool = False,
    ) -> dict[str, Any]:
        """The answer's object; with `may_fail`, that of a refusal too."""
        key = self._access.secret_key
        headers = {
            "apikey": key,
            "authorization": f"Bearer {token or key}",
            "content-type": "application/json",
            **({"sb-forwarded-for": address} if address else {}),
        }
        sent = None if body is None else orjson.dumps(body)
        try:
            reply = await self._exchange(
                method, f"{self._access.url}/auth/v1{path}", headers, sent, timeout_s=TIMEOUT_S
            )
            told: Any = orjson.loads(reply.body or b"{}")
        except (ServiceFailed, orjson.JSONDecodeError) as error:
            raise _unavailable() from error
        answered = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        refused = reply.status in REFUSED and reply.status != TOO_MANY
        if reply.status in OK or (may_fail and refused):
            return answered
        raise _error(reply.status, answered.get("error_code"), reply.headers.get("retry-after"))


def _session(told: dict[str, Any]) -> Session:
    access_token, refresh_token = told.get("access_token"), told.get("refresh_token")
    if not isinstance(access_token, str) or not isinstance(refresh_token, str):
        raise _unavailable()
    return Session(access_token, refresh_token)


def _error(status: int, code: object, retry_after: str | None) -> AppError:
    """What a refusal of Auth means to who asked. Its own words are left aside."""
    if status == TOO_MANY:
        wait_s = int(retry_after) if retry_after and SECONDS.fullmatch(retry_after) else DEFAULT_WAIT_S
        return Unavailable("Too many have signed in or up lately.", code="auth_rate_limited", retry_after_s=wait_s)
    if status not in REFUSED or not isinstance(code, str):
        return _unavailable()  # without a code of its own it was not Auth that refused, but the gateway: our key
    make = REFUSALS.get(code)
    return make() if make is not None else _ended()


def _taken() -> AppError:
    return Conflict("There is an account with this address already: sign in.", code="email_taken")


def _weak() -> AppError:
    field = FieldError("password", "is too weak: take a longer one")
    return InvalidRequest("The password is too weak.", code="weak_password", errors=(field,))


def _no_address() -> AppError:
    return InvalidRequest("The address can't be used.", errors=(FieldError("email", "is no address"),))


def _wrong() -> AppError:
    return Unauthorized("The address or the password is wrong.", code="invalid_credentials")


def _not_confirmed() -> AppError:
    return Unauthorized("Confirm the address first: a mail has been sent.", code="email_not_confirmed")


def _not_allowed() -> AppError:
    return Unavailable("The Supabase project does not allow this: see its Auth settings.", code="sign_up_disabled")


def _ended() -> AppError:
    return Unauthorized("The session has ended: sign in again.", code="session_expired")


REFUSALS: dict[str, Callable[[], AppError]] = {
    "email_exists": _taken,
    "user_already_exists": _taken,
    "weak_password": _weak,
    "same_password": _weak,
    "validation_failed": _no_address,
    "email_address_invalid": _no_address,
    "email_address_not_authorized": _no_address,
    "invalid_credentials": _wrong,
    "email_not_confirmed": _not_confirmed,
    "anonymous_provider_disabled": _not_allowed,
    "email_provider_disabled": _not_allowed,
    "signup_disabled": _not_allowed,
}
"""By Auth's own codes; with any other, and on a token, the session is what does not hold."""


def _unavailable() -> Unavailable:
    return Unavailable("Accounts can't be reached now.", code="auth_unavailable", retry_after_s=1)

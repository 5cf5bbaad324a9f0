"""/api/session: who is calling, and with an address and a password: sign in (POST), sign up (PUT), sign out (DELETE).

The session lives in a cookie that no script can read. A server that acts for its users sends their access token as a
bearer instead, and needs none of this but GET.

GET /api/usage: what the caller used today and may still use. DELETE /api/me: remove all that is the caller's.
POST /api/feedback: what the caller thought of an answer.
"""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.responses import Response

from lib.app import current
from lib.errors import AppError, Conflict, FieldError, InvalidRequest, MethodNotAllowed, Unauthorized, Unavailable
from lib.http.auth import Caller
from lib.http.body import field_path
from lib.http.cookies import address
from lib.http.endpoint import Call, Endpoint
from lib.http.feedback import feedback
from lib.http.forget import forget_me
from lib.http.usage import usage

NO_STORE = {"cache-control": "private, no-store"}


class Credentials(BaseModel):
    """What a person signs in or up with."""

    model_config = ConfigDict(strict=True, extra="forbid")

    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=255)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


async def who(call: Call) -> Response:
    """The caller: {id, kind: user, key or guest, role, email, accounts: whether one can sign in here}."""
    return _told(call, await call.app.auth.identify(call.request))


async def sign_in(call: Call) -> Response:
    """Begin a session; 401 does not say whether it was the address or the password."""
    auth = call.app.auth
    accounts = auth.users.accounts
    auth.require_same_origin(call.request)
    given = _credentials(call.json())
    session = await accounts.sign_in(given.email, given.password, address(call.request))
    return _told(call, await auth.signed_in(call.request, session))


async def sign_up(call: Call) -> Response:
    """Make an account of the guest that the caller is: its id, where it has one already, and all its rows stay.

    201 with the caller; 202 and `"confirm": "email"` where the project wants the address confirmed first.
    """
    auth = call.app.auth
    accounts = auth.users.accounts
    auth.require_same_origin(call.request)
    given = _credentials(call.json())
    if (caller := await _guest(call)) is None:
        session = await accounts.sign_up(given.email, given.password, address(call.request))
        return _confirm(None) if session is None else _told(call, await auth.signed_in(call.request, session), 201)
    try:
        await accounts.make_permanent(caller.token or "", given.email, given.password, address(call.request))
    except AppError as error:
        if caller.set_cookie is not None:  # the guest's rows are the anonymous user's by now
            error.headers["set-cookie"] = caller.set_cookie
        raise
    caller = await auth.renewed(call.request, caller)
    return _confirm(caller) if caller.kind == "guest" else _told(call, caller, 201)


async def sign_out(call: Call) -> Response:
    """End the session and forget the guest too: whoever uses this browser next is somebody else. Always 204."""
    auth = call.app.auth
    accounts = auth.users.accounts
    auth.require_same_origin(call.request)
    try:
        caller = await auth.identify(call.request)
        if caller.token is not None:
            await accounts.sign_out(caller.token)
    except (Unauthorized, Unavailable):
        pass  # it has ended already, or will by itself: what this browser holds of it goes in any case
    response = Response(status_code=204, headers=NO_STORE)
    for cookie in auth.forgetting(call.request):
        response.headers.append("set-cookie", cookie)
    return response


async def _guest(call: Call) -> Caller | None:
    """The guest who calls, as an anonymous user; None where guests are not welcome. Raises Conflict for others."""
    auth = call.app.auth
    try:
        caller = await auth.identify(call.request)
    except Unauthorized:
        if "authorization" in call.request.headers:
            raise
        return None
    if caller.kind != "guest":
        raise Conflict("You have an account already: sign out first.", code="signed_in")
    return await auth.with_account(call.request, caller)


def _credentials(value: object) -> Credentials:
    """Raises InvalidRequest, never with what was sent."""
    try:
        return Credentials.model_validate(value)
    except ValidationError as error:
        errors = tuple(
            FieldError(field_path(found["loc"]), "is missing" if found["type"] == "missing" else "does not fit")
            for found in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise InvalidRequest("Send an address and a password: {email, password}.", errors=errors) from error


def _told(call: Call, caller: Caller, status: int = 200) -> Response:
    body: dict[str, object] = {
        "id": caller.id,
        "kind": caller.kind,
        "role": caller.role,
        "email": caller.email,
        "accounts": call.app.settings.supabase is not None,
    }
    return _answer(body, status, caller)


def _confirm(caller: Caller | None) -> Response:
    return _answer({"confirm": "email"}, 202, caller)


def _answer(body: dict[str, object], status: int, caller: Caller | None) -> Response:
    response = Response(orjson.dumps(body), status, NO_STORE, media_type="application/json")
    if caller is not None and caller.set_cookie is not None:
        response.headers.append("set-cookie", caller.set_cookie)
    return response


async def write(call: Call) -> Response:
    """POST of all."""
    return await (feedback(call) if "feedback" in call.request.query_params else sign_in(call))


async def read(call: Call) -> Response:
    """GET of all."""
    _refuse(call, "feedback", "POST")
    _refuse(call, "me", "DELETE")
    return await (usage(call) if "usage" in call.request.query_params else who(call))


async def remove(call: Call) -> Response:
    """DELETE of all."""
    _refuse(call, "feedback", "POST")
    _refuse(call, "usage", "GET")
    return await (forget_me(call) if "me" in call.request.query_params else sign_out(call))


def _refuse(call: Call, path: str, allowed: str) -> None:
    if path in call.request.query_params:
        raise MethodNotAllowed(f"This path takes {allowed}.", headers={"allow": allowed})


app = Endpoint(current, GET=read, POST=write, PUT=sign_up, DELETE=remove)

"""The link that makes whoever opens it first the operator of this machine's site: once, within an hour.

It is printed where only the person at the terminal sees it, and nowhere else; kept is its hash. The operator is a user
of the embedded project like any other, told by app_metadata; each link gives them a new password that nobody knows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from uuid import NAMESPACE_URL, uuid5

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from lib.app import App
from lib.errors import AppError

PATH = "/operator"
LIFETIME_S = 3600.0
OPERATOR_ID = str(uuid5(NAMESPACE_URL, "operator"))
EMAIL = "operator@this-machine.invalid"
NO_STORE = {"cache-control": "no-store", "referrer-policy": "no-referrer"}


class OperatorLink:
    """One link of one run, as an ASGI app at PATH."""

    def __init__(self, app: App, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._until = clock() + LIFETIME_S
        self._secret = secrets.token_urlsafe(32)
        self._digest: bytes | None = hashlib.sha256(self._secret.encode()).digest()

    def url(self, port: int) -> str:
        """The link, to be printed once: it is forgotten here."""
        secret, self._secret = self._secret, ""
        return f"http://localhost:{port}{PATH}?token={secret}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (await self._answer(Request(scope)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "GET":  # a HEAD, such as a preview's, does not use it up
            return PlainTextResponse("This path takes GET.\n", 405, {"allow": "GET", **NO_STORE})
        if not self._holds(request.query_params.get("token", "")):
            text = "This link does not hold (any more): it works once, within an hour. `make run` prints a new one.\n"
            return PlainTextResponse(text, 403, NO_STORE)
        self._digest = None  # before anything is waited for: of two who open it at once, one is refused
        try:
            cookie = await self._sign_in(request)
        except AppError as error:
            return PlainTextResponse(f"{error.message}\n", error.status, NO_STORE)
        return RedirectResponse("/", 303, {**NO_STORE, "set-cookie": cookie})

    def _holds(self, secret: str) -> bool:
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        return self._digest is not None and hmac.compare_digest(self._digest, digest) and self._clock() < self._until

    async def _sign_in(self, request: Request) -> str:
        auth, password = self._app.auth, secrets.token_urlsafe(32)
        await auth.users.accounts.ensure_operator(OPERATOR_ID, EMAIL, password)
        caller = await auth.signed_in(request, await auth.users.accounts.sign_in(EMAIL, password))
        return caller.set_cookie or ""

"""An ASGI app around the handlers of one path: ids, access across origins, errors, callers who leave."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.errors import AppError, Forbidden, MethodNotAllowed
from lib.http.body import parse_json, read_body
from lib.http.deadline import seconds_to_answer
from lib.http.problem import problem
from lib.http.pulse import Pulse
from lib.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lib.app import App
    from lib.http.auth import Caller

CORS_HEADERS = ("authorization", "content-type", "idempotency-key", "x-requested-with")
CORS_EXPOSED = (
    *("x-request-id", "retry-after", "idempotent-replayed"),
    *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
)
log = logging.getLogger("endpoint")


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a handler.

    `arrived_at`, and `ends_at` by when its answer must be complete, are the event loop's clock, in seconds.
    `headers` go with its answer, whatever that is. `afterwards` is done once the answer is out, however it ended: what
    it is to do side by side, and never cancelled when the client leaves.
    """

    id: str
    app: App
    request: Request
    body: bytes
    arrived_at: float
    ends_at: float
    headers: dict[str, str] = field(default_factory=dict[str, str])
    afterwards: list[Callable[[], Awaitable[None]]] = field(default_factory=list["Callable[[], Awaitable[None]]"])

    def json(self) -> object:
        """The body's JSON value."""
        return parse_json(self.body, self.request.headers.get("content-type"))

    async def caller(self) -> Caller:
        """Who calls; a new guest's cookie goes with the answer. Raises what Auth.identify raises."""
        return self._known(await self.app.auth.identify(self.request))

    async def with_account(self, caller: Caller) -> Caller:
        """The same with an account to which files can belong. Raises what Auth.with_account raises."""
        return self._known(await self.app.auth.with_account(self.request, caller))

    async def operator(self, refusal: str) -> Caller:
        """Who calls, an operator. Raises Forbidden with `refusal`, and what Auth.identify raises."""
        caller = await self.app.auth.identify(self.request)
        if caller.role != "operator":
            raise Forbidden(refusal)
        return caller

    def _known(self, caller: Caller) -> Caller:
        if caller.set_cookie is not None:
            self.headers["set-cookie"] = caller.set_cookie
        return caller


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint:
    """Serves one path: a handler per method, given by name (`Endpoint(current, POST=generate)`).

    Every answer carries `x-request-id`; what a handler raises becomes a problem; when the client leaves, the handler
    is cancelled, whether it has begun to answer or not.
    """

    def __init__(self, app: Callable[[], App], **handlers: Handler) -> None:
        self._app = app
        self._handlers = handlers
        self._allow = ", ".join(sorted(handlers))
        self._inner: ASGIApp | None = None

    def over(self, app: App) -> Endpoint:
        """The same endpoint over another app than the process's own."""
        return Endpoint(lambda: app, **self._handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        request_id = uuid7()
        scope["request_id"] = request_id
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        if self._inner is None:
            self._inner = self._across_origins(self._app().settings.allowed_origins)
        await self._inner(scope, receive, send_with_id)

    def _across_origins(self, origins: tuple[str, ...]) -> ASGIApp:
        if not origins:
            return self._serve
        return CORSMiddleware(
            self._serve,
            allow_origins=origins,
            allow_methods=list(self._handlers),
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
            allow_credentials=True,
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived_at = asyncio.get_running_loop().time()
        ends_at = arrived_at + seconds_to_answer()
        request = Request(scope)
        request_id: str = scope["request_id"]
        try:
            handler = self._handler(request.method)
            body = await read_body(receive, request.headers.get("content-length"))
        except AppError as error:
            await problem(error, request_id)(scope, receive, send)
            return
        if body is None:
            return
        call = Call(request_id, self._app(), request, body, arrived_at, ends_at)
        await _until_gone(receive, _answer(handler, call, scope, receive, send))
        # The platform may freeze the process as soon as this returns.
        todo = (*(do() for do in call.afterwards), call.app.after_answer(request_id))
        for result in await asyncio.gather(*todo, return_exceptions=True):
            if isinstance(result, Exception):  # the caller has its answer, and the server need not know
                _log_bug(result, request_id)

    def _handler(self, method: str) -> Handler:
        handler = self._handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise MethodNotAllowed(f"This path takes {self._allow}.", headers={"allow": self._allow})
        return handler


class Abort(Exception):
    """Raised by a stream's body to cut the connection: the only way to tell a reader of plain text of a failure."""


class Last(bytes):
    """The last piece of a stream's body: it goes out together with the end, in one write."""

    __slots__ = ()


class Stream(Response):
    """A streamed answer; `close` is called however it ends, also when the client leaves before its first byte.

    `heartbeat` is what may be sent in a silence, where the form has something that its readers ignore.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        media_type: str,
        headers: dict[str, str],
        close: Callable[[], Awaitable[None]],
        heartbeat: bytes = b"",
    ) -> None:
        # Not Response's own: there is no body yet whose length it could tell.
        self.status_code = 200
        self.media_type = media_type
        self.init_headers(headers)
        self._chunks = chunks
        self._close = close
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """ASGI."""
        pulse = Pulse(send, self._heartbeat)
        try:
            async with pulse:
                await pulse.send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                async for chunk in self._chunks:
                    if isinstance(chunk, Last):
                        await pulse.send({"type": "http.response.body", "body": chunk, "more_body": False})
                        return
                    if chunk:
                        await pulse.send({"type": "http.response.body", "body": chunk, "more_body": True})
                await pulse.send({"type": "http.response.body", "body": b"", "more_body": False})
        except Abort:
            return  # The server closes a connection whose answer was left incomplete.
        except TimeoutError:
            if not pulse.stalled:
                raise
        finally:
            await self._chunks.aclose()
            await self._close()


async def _answer(handler: Handler, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        response = await handler(call)
    except AppError as error:
        response = problem(error, call.id)
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the caller gets a clear answer
        _log_bug(error, call.id)
        response = problem(AppError("Something went wrong on our side."), call.id)
    response.headers.update(call.headers)
    try:
        await response(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - an answer that has begun can only be cut
        _log_bug(error, call.id)


async def _until_gone(receive: Receive, work: Awaitable[None]) -> None:
    """Do `work`, but cancel it when the client leaves: no server does that by itself."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine always runs in one
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        await work
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
    finally:
        watcher.cancel()


def _log_bug(error: Exception, request_id: str) -> None:
    """Where a bug is, without its message: that may hold a prompt or a key."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    log.error("internal_error %s %s at %s:%s", request_id, type(error).__name__, last.filename, last.lineno)

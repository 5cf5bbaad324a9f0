"""An endpoint as a server sees it: ids, errors, callers who leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from starlette.responses import Response
from starlette.types import Message

from lib.app import App
from lib.errors import AppError, FieldError, InvalidRequest, NoProvider, Unauthorized
from lib.http.endpoint import Abort, Call, Endpoint, Handler, Stream
from lib.settings import from_environ
from tests.lib.virtual_time import run

APP = App(from_environ({}))
FOR_EVER = 10_000.0
CANARY = "canary-of-a-prompt"


@dataclass
class Exchange:
    """One request and what came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    complete: bool = False

    @property
    def problem(self) -> dict[str, Any]:
        """The body of an error."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


async def exchange(
    endpoint: Endpoint,
    method: str = "POST",
    body: bytes = b"{}",
    *,
    leaves_after_s: float = FOR_EVER,
    headers: dict[str, str] | None = None,
) -> Exchange:
    """Send a request as a server would; the client leaves after so many seconds."""
    stray: Message = {"type": "http.request", "body": b""}
    got, messages = Exchange(), [stray, {"type": "http.request", "body": body}]
    head = {"content-type": "application/json", **(headers or {})}

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.sleep(leaves_after_s)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            got.body += message.get("body", b"")
            got.complete = not message.get("more_body", False)

    raw = [(name.encode(), value.encode()) for name, value in head.items()]
    scope = {"type": "http", "method": method, "scheme": "http", "path": "/", "query_string": b"", "headers": raw}
    await endpoint(scope, receive, send)
    return got


def over(app: App = APP, **handlers: Handler) -> Endpoint:
    """An endpoint of these handlers."""
    return Endpoint(lambda: app, **handlers)


async def echo(call: Call) -> Response:
    """Answer with the request's own JSON and id."""
    return Response(json.dumps({"id": call.id, "got": call.json()}), media_type="application/json")


def raising(error: Exception) -> Handler:
    """A handler that raises this."""

    async def handler(call: Call) -> Response:
        del call
        raise error

    return handler


def test_answer() -> None:
    """A handler's answer is sent as it is, with the id by which it knows the request."""
    got = run(exchange(over(POST=echo), body=b'{"a": 1}'))
    assert (got.status, json.loads(got.body)) == (200, {"id": got.headers["x-request-id"], "got": {"a": 1}})
    assert UUID(got.headers["x-request-id"]).version == 7
    assert run(exchange(over(POST=echo))).headers["x-request-id"] != got.headers["x-request-id"]


def test_wrong_method() -> None:
    """A method that the path does not have is told those that it has."""
    got = run(exchange(over(POST=echo, GET=echo), "DELETE"))
    assert (got.status, got.headers["allow"], got.problem["code"]) == (405, "GET, POST", "method_not_allowed")
    assert got.headers["x-request-id"] == got.problem["request_id"]


def test_head_is_a_get() -> None:
    """HEAD is asked of whoever answers GET."""
    assert run(exchange(over(GET=echo), "HEAD")).status == 200
    assert run(exchange(over(POST=echo), "HEAD")).status == 405


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (NoProvider("None.", retry_after_s=8), 503, {"code": "no_provider_available", "retry_after": 8}),
        (
            InvalidRequest("No.", errors=(FieldError("a[0]", "is odd"),)),
            422,
            {"errors": [{"path": "a[0]", "message": "is odd"}]},
        ),
        (InvalidRequest("No.", code="capability_missing"), 422, {"code": "capability_missing", "detail": "No."}),
        (Unauthorized("No.", headers={"www-authenticate": "Bearer"}), 401, {"title": "Unauthorized"}),
        (AppError("Oh."), 500, {"code": "internal_error", "type": "about:blank", "status": 500}),
    ],
)
def test_error(error: AppError, status: int, expected: dict[str, object]) -> None:
    """An error becomes a problem with its status, code, fields and headers."""
    got = run(exchange(over(POST=raising(error))))
    assert got.status == status
    assert expected.items() <= got.problem.items()
    assert got.problem["request_id"] == got.headers["x-request-id"]
    assert got.headers["cache-control"] == "no-store"
    assert got.headers.get("retry-after") == ("8" if status == 503 else None)
    assert got.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_bug(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is a 500 that says nothing of its message, neither to the caller nor in the log; the log says where."""
    got = run(exchange(over(POST=raising(ValueError(CANARY)))))
    assert (got.status, got.problem["code"]) == (500, "internal_error")
    assert CANARY not in got.body.decode() + caplog.text
    assert "ValueError" in caplog.text
    assert got.headers["x-request-id"] in caplog.text
    assert f"{__file__}:" in caplog.text


@pytest.mark.parametrize(
    "body", [b'{"\\ud800": "\\ud800"}', b'{"\\ud800": 1}', b'{"a\\u0000": 1}', b"\xff", b"[" * 9999, b"", b"null"]
)
def test_hostile_body_is_the_callers_mistake(body: bytes) -> None:
    """Whatever the body, what is wrong with it can be told: the answer is a 4xx, never a crash."""

    async def handler(call: Call) -> Response:
        call.json()
        raise InvalidRequest("Not this either.")

    got = run(exchange(over(POST=handler), body=body))
    assert 400 <= got.status < 500


def test_too_large() -> None:
    """A body over the limit never reaches the handler."""
    got = run(exchange(over(POST=raising(AssertionError())), body=b"x" * 5_000_000))
    assert (got.status, got.problem["code"]) == (413, "payload_too_large")


def test_leaving_before_the_answer() -> None:
    """Who leaves while the handler works cancels it, at once."""
    ended: list[str] = []

    async def handler(call: Call) -> Response:
        try:
            await asyncio.sleep(FOR_EVER / 2)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return Response(call.id)

    async def test() -> None:
        began_at = asyncio.get_running_loop().time()
        got = await exchange(over(POST=handler), leaves_after_s=3)
        assert (got.status, ended) == (0, ["cancelled"])
        assert asyncio.get_running_loop().time() - began_at == pytest.approx(3)
        await asyncio.sleep(0)  # who asked may go on: only this request was cancelled

    run(test())


def stream_of(chunks: Callable[[], AsyncGenerator[bytes, None]], ended: list[str]) -> Handler:
    """A handler that streams these chunks, and notes that it was closed."""

    async def close() -> None:
        ended.append("closed")

    async def handler(call: Call) -> Response:
        return Stream(chunks(), "text/plain", {"x-own": call.request.method}, close)

    return handler


def test_stream() -> None:
    """A stream sends what is there, has no length, and is closed once."""
    ended: list[str] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b""
        yield b"b"

    got = run(exchange(over(POST=stream_of(chunks, ended))))
    assert (got.status, got.body, got.complete, ended) == (200, b"ab", True, ["closed"])
    assert got.headers["x-own"] == "POST"
    assert "content-length" not in got.headers


@pytest.mark.parametrize("error", [Abort(), ValueError(CANARY)])
def test_stream_that_fails(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """A stream that fails is cut: its end is never sent, and it is closed. Only a bug is logged."""
    ended: list[str] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise error

    got = run(exchange(over(POST=stream_of(chunks, ended))))
    assert (got.body, got.complete, ended) == (b"a", False, ["closed"])
    assert ("ValueError" in caplog.text) is isinstance(error, ValueError)
    assert CANARY not in caplog.text


def test_leaving_in_mid_stream() -> None:
    """Who leaves in mid-answer ends the chunks and closes the stream, at once."""
    ended: list[str] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.sleep(FOR_EVER / 2)
        finally:
            ended.append("chunks")

    got = run(exchange(over(POST=stream_of(chunks, ended)), leaves_after_s=3))
    assert (got.body, got.complete, ended) == (b"a", False, ["chunks", "closed"])


def test_leaving_before_the_body() -> None:
    """Who leaves before the whole body is there is not answered, and costs nothing."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": []}
    run(over(POST=raising(AssertionError()))(scope, receive, send))
    assert sent == []


class LaterApp(App):
    """Notes what is done after an answer, and how far the answer was by then."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__(from_environ({}))
        self.done: list[str] = []
        self._failure = failure

    async def after_answer(self, request_id: str) -> None:
        """See App."""
        self.done.append(request_id)
        if self._failure is not None:
            raise self._failure


async def _answer(call: Call) -> Response:
    return Response(call.id)


async def _never(call: Call) -> Response:
    del call
    await asyncio.sleep(FOR_EVER)
    raise AssertionError


def test_after_the_answer() -> None:
    """What is left to do is done once the answer is out, for the same request; and also where there was an error."""
    app = LaterApp()
    got = run(exchange(over(app, POST=_answer)))
    assert (got.complete, app.done) == (True, [got.headers["x-request-id"]])
    run(exchange(over(app, POST=_never), leaves_after_s=1.0))
    assert len(app.done) == 2


def test_failure_after_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong then is no concern of the caller's or the server's: it is logged, without its words."""
    got = run(exchange(over(LaterApp(RuntimeError(CANARY)), POST=_answer)))
    assert (got.status, got.complete) == (200, True)
    assert "RuntimeError" in caplog.text
    assert CANARY not in caplog.text


def test_cancelled_by_the_server() -> None:
    """A server that shuts down cancels the request, and sees it end as cancelled."""

    async def handler(call: Call) -> Response:
        await asyncio.sleep(FOR_EVER / 2)
        return Response(call.id)

    async def test() -> None:
        task = asyncio.ensure_future(exchange(over(POST=handler)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test())


def test_time_to_answer() -> None:
    """The handler knows by when its answer must be complete, counted from when the request's head was there."""

    async def handler(call: Call) -> Response:
        return Response(json.dumps([call.arrived_at, call.ends_at]))

    async def late(endpoint: Endpoint) -> list[float]:
        messages: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(7)
            return {"type": "http.request", "body": b"{}"}

        async def send(message: Message) -> None:
            messages.append(message)

        began_at = asyncio.get_running_loop().time()
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await endpoint(scope, receive, send)
        return [moment - began_at for moment in json.loads(messages[1]["body"])]

    assert run(late(over(POST=handler))) == [0, 280]


def test_over_another_app() -> None:
    """The same handlers over another app answer by that app's settings."""

    async def handler(call: Call) -> Response:
        return Response(call.app.settings.deployment or "none")

    endpoint = over(POST=handler)
    other = endpoint.over(App(from_environ({"VERCEL_DEPLOYMENT_ID": "dpl_1"})))
    assert [run(exchange(each)).body for each in (endpoint, other)] == [b"none", b"dpl_1"]


def test_origins() -> None:
    """A page of an allowed origin may read the answer and its id, also an error's; others may not."""
    app = App(from_environ({"ALLOWED_ORIGINS": "https://a.example"}))
    endpoint = over(app, POST=raising(NoProvider("None.")))
    allowed, refused = (
        run(exchange(endpoint, headers={"origin": origin})) for origin in ("https://a.example", "https://b.example")
    )
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert "x-request-id" in allowed.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in refused.headers
    assert allowed.status == refused.status == 503
    preflight = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert run(exchange(endpoint, "OPTIONS", headers=preflight)).status == 200


def test_other_protocols() -> None:
    """What is no HTTP, such as a server's lifespan, is left alone."""

    async def never() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    run(over(POST=echo)({"type": "lifespan"}, never, send))

"""An answer on its way to a caller: in the form the caller asked for, accounted for however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from typing import Any, Literal, cast

import orjson
from starlette.responses import Response

from lib.data.limits import Account
from lib.data.stops import Stops
from lib.errors import AppError
from lib.http import ui_message
from lib.http.endpoint import Abort, Last, Stream
from lib.http.media import Media, dollars, told_error
from lib.http.ui_message import without_none
from lib.providers.base import Delta
from lib.router.attempt import Attempt, Reset
from lib.router.router import Answer
from lib.router.tool_calls import ToolCall, ToolCalls
from lib.telemetry.events import Bill, Recorder, Subject, milliseconds

MAX_ACCEPT = 1_000
"""Characters of an Accept header that are looked at."""
Form = Literal["json", "text", "ui"]
_FORMS: dict[str, Form] = {
    "application/json": "json",
    "application/*": "json",
    "text/plain": "text",
    "text/event-stream": "ui",
    "*/*": "ui",
}


def wanted_form(accept: str | None, *, stream: bool | None) -> Form:
    """The form of the answer: `stream` in the body decides where it is set, else the Accept header's best match.

    A caller who says nothing gets the UI message stream: the AI SDK's clients send `*/*`.
    """
    if stream is False:
        return "json"
    ranked = sorted(map(_quality, (accept or "*/*")[:MAX_ACCEPT].split(",")), key=lambda entry: -entry[1])
    forms: list[Form] = [_FORMS[media_type] for media_type, quality in ranked if quality > 0 and media_type in _FORMS]
    if stream:
        forms = [form for form in forms if form != "json"]
    return forms[0] if forms else "ui"


def _quality(entry: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip().lower() for part in entry.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media_type, float(parameter[2:])
            except ValueError:
                return media_type, 0.0
    return media_type, 1.0


Summary = dict[str, object]
Batch = Sequence[Delta] | Reset


class Generation:
    """One answer and its account. Call `respond` once; what it returns closes the rest."""

    def __init__(
        self,
        answer: Answer,
        recorder: Recorder,
        subject: Subject,
        arrived_at: float,
        *,
        account: Account,
        stops: Stops,
        message_id: str | None = None,
        media: Media | None = None,
    ) -> None:
        """`message_id` names the AI SDK's message that the answer goes into; by default a new one, the request's id.

        `account` learns what it cost; `stops` may end it. `media` is made beside the text.
        """
        self._account = account
        self._stops = stops
        self._media = media
        self._watch = ExitStack()
        self._clock = asyncio.get_running_loop().time
        self._reader: asyncio.Task[object] | None = None
        self._is_stopped = False
        self._answer = answer
        self._recorder = recorder
        self._subject = subject
        self._arrived_at = arrived_at
        self._message_id = message_id or subject.request_id
        self._deltas = self._accounted()
        self._bill: Bill | None = None
        self._on_record = False

    async def respond(self, form: Form) -> Response:
        """The response, once the first token is there: until then a failure still gets its own status."""
        self._watch.enter_context(self._stops.watching(self._subject.request_id, self._subject.caller_id, self._stop))
        try:
            if self._media is not None:
                self._media.begin()
            first = await anext(self._deltas)
        except StopAsyncIteration:
            first: Batch = ()
        except AppError as error:
            async with aclosing(self):
                return await self._without_text(error, form)
        except BaseException:
            await self.aclose()
            raise
        # Not before: on a cold start the price data would compete with the vendor's SDK for the first token.
        self._recorder.prepare(self._answer.serving.candidate.provider)
        if form == "json":
            return await self._json(first)
        if form == "text":
            return Stream(self._text(first), "text/plain", {"cache-control": "no-cache, no-transform"}, self.aclose)
        return Stream(
            self._ui(first), ui_message.MEDIA_TYPE, ui_message.HEADERS, self.aclose, heartbeat=ui_message.HEARTBEAT
        )

    async def aclose(self) -> None:
        """Stop the provider, if it still speaks, settle the account and put it on record: the last thing to do."""
        if self._media is not None:
            await self._media.aclose()
        await self._deltas.aclose()
        self._watch.close()
        if self._bill is not None and not self._on_record:
            self._on_record = True
            self._recorder.log(self._subject, self._bill)

    async def _accounted(self) -> AsyncGenerator[Batch, None]:
        """The answer's deltas; whatever ends them, the account is settled."""
        self._account.spent_microusd = None
        try:
            while (deltas := await self._next()) is not None:
                yield deltas
        finally:
            await self._answer.aclose()
            self._bill = await self._recorder.settle(self._subject, self._answer.attempts)
            self._account.spent_microusd = self._bill.cost_microusd

    async def _next(self) -> Batch | None:
        """The next deltas; None at the end, which comes at once where the caller wants the answer to stop."""
        if self._is_stopped:
            return None
        self._reader = asyncio.current_task()
        try:
            return await anext(aiter(self._answer), None)
        except asyncio.CancelledError:
            if not self._is_stopped or self._reader is None or self._reader.uncancel() > 0:
                raise  # the caller has left, or the server shuts down
            return None
        finally:
            self._reader = None

    def _stop(self) -> None:
        """Let what is awaited from the provider be the last: closing it closes the connection."""
        if not self._is_stopped:
            self._is_stopped = True
            if self._reader is not None:
                self._reader.cancel()
            if self._media is not None:
                self._media.stop()

    async def _json(self, first: Batch) -> Response:
        deltas = [] if isinstance(first, Reset) else list(first)
        async with aclosing(self):
            try:
                async for more in self._deltas:
                    if isinstance(more, Reset):
                        deltas.clear()
                    else:
                        deltas.extend(more)
            except AppError as error:
                return await self._without_text(error, "json")
            text = "".join(delta.text for delta in deltas)
            if self._media is not None and not self._is_stopped:
                self._media.written(text)
                async for _ in self._media.rest():
                    pass
        reasoning = "".join(delta.reasoning for delta in deltas)
        calls = ToolCalls()
        for delta in deltas:
            calls.add(delta.tool_calls)
        body: Summary = {
            "text": text,
            **({"object": orjson.loads(text)} if self._answer.checked and not self._is_stopped else {}),
            **({"reasoning": reasoning} if reasoning else {}),
            **({"tool_calls": list(map(_openai_call, calls))} if calls else {}),
            **self._summary(),
        }
        return _json_response(body)

    async def _without_text(self, error: AppError, form: Form) -> Response:
        """What there is beside a text that failed, as a part of the answer that did not. Raises `error` otherwise."""
        if self._media is None or form != "json":
            raise error
        self._media.written("")
        async for _ in self._media.rest():
            pass
        if not self._media.files:
            raise error
        await self._deltas.aclose()
        summary = self._summary()
        failed = [told_error("text", error), *cast("list[Any]", summary.get("errors", []))]
        return _json_response({"text": None, **summary, "errors": failed})

    async def _text(self, first: Batch) -> AsyncGenerator[bytes, None]:
        yield _plain(first)
        try:
            async for deltas in self._deltas:
                yield _plain(deltas)
        except AppError as error:
            raise Abort from error

    async def _ui(self, first: Batch) -> AsyncGenerator[bytes, None]:
        writer, serving = ui_message.UIMessageWriter(), self._answer.serving
        text = _Words() if self._media is not None else None
        yield writer.start(self._message_id, without_none(self._served_by())) + writer.write(first)
        yield self._files(writer, text, first)
        try:
            # Closed here, or the loop would close them some time after the request.
            async with aclosing(self._deltas_and_news(text)) as batches:
                async for deltas in batches:
                    turn = b"" if self._answer.serving is serving else writer.another()
                    serving = self._answer.serving
                    yield turn + writer.write(deltas) + self._files(writer, text, deltas)
            async with aclosing(self._spoken(writer, text)) as spoken:
                async for more in spoken:
                    yield more
        except AppError as error:
            yield Last(writer.fail(error.message, without_none({**self._summary(), "error_code": error.code})))
            return
        except asyncio.CancelledError:
            # Who has left does not get this; who is still there when the server shuts down does.
            account = without_none({**self._summary(), "error_code": "shutting_down"})
            yield writer.fail("The server is shutting down. Ask again.", account)
            raise
        if self._is_stopped:
            yield Last(writer.abort(without_none(self._summary())))
            return
        yield Last(writer.finish(self._answer.serving.finish_reason, without_none(self._summary())))

    def _files(self, writer: ui_message.UIMessageWriter, text: _Words | None, deltas: Batch) -> bytes:
        """Pictures that are ready by now, but none before the first word."""
        if self._media is None or text is None:
            return b""
        if isinstance(deltas, Reset):
            self._media.untell()
        text.take(deltas)
        return b"".join(writer.files(made.files) for made in self._media.news()) if text.begun else b""

    async def _deltas_and_news(self, text: _Words | None) -> AsyncGenerator[Batch, None]:
        """The deltas, and nothing at all where a file is ready before the next of them."""
        media = self._media
        if media is None or text is None:
            async for deltas in self._deltas:
                yield deltas
            return
        following: asyncio.Future[Batch | None] | None = None
        try:
            while True:
                if media.has_news and text.begun:
                    yield ()
                following = following or asyncio.ensure_future(anext(self._deltas, None))
                await asyncio.wait({following, *media.under_way}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    continue
                deltas, following = following.result(), None
                if deltas is None:
                    return
                yield deltas
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait([following])

    async def _spoken(self, writer: ui_message.UIMessageWriter, text: _Words | None) -> AsyncGenerator[bytes, None]:
        """What is ready after the text, the speech among it."""
        if self._media is None or text is None or self._is_stopped:
            return
        yield writer.close()
        self._media.written(text.whole)
        async with aclosing(self._media.rest()) as rest:
            async for made in rest:
                yield writer.files(made.files)

    def _served_by(self) -> Summary:
        candidate = self._answer.serving.candidate
        return {"id": self._subject.request_id, "provider": candidate.provider, "model": candidate.model.id}

    def _summary(self) -> Summary:
        """What the answer was and took; for a settled account."""
        serving, bill, flag = self._answer.serving, self._bill, self._subject.flag
        usage = bill.usage if bill else None
        return {
            **self._served_by(),
            "finish_reason": serving.finish_reason,
            **({"stopped": True} if self._is_stopped else {}),
            "usage": usage
            and {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cached_tokens": usage.cached_tokens,
                **({"estimated": True} if bill and bill.estimated else {}),
            },
            "cost_usd": self._cost(),
            "timing_ms": {
                "queue": self._since_arrival(self._answer.attempts[0].started_at),
                "ttft": self._since_arrival(_first_token_at(self._answer.attempts)),
                "total": self._since_arrival(serving.ended_at if self._media is None else self._clock()),
            },
            "flags": flag.public(),
            **({"assets": []} if self._media is None else self._media.summary()),
        }

    def _cost(self) -> float | None:
        """Of the text and all beside it, in US dollars; None where a price is unknown."""
        cost, more = self._bill and self._bill.cost_usd, self._account.purchased_microusd
        return None if cost is None or more is None else float(cost) + (dollars(more) or 0.0)

    def _since_arrival(self, moment: float | None) -> float | None:
        return None if moment is None else milliseconds(moment - self._arrived_at)


class _Words:
    """The text so far, for who reads it aloud."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def take(self, deltas: Batch) -> None:
        """Add to it; a Reset takes it all back."""
        if isinstance(deltas, Reset):
            self._pieces.clear()
        else:
            self._pieces.extend(delta.text for delta in deltas if delta.text)

    @property
    def begun(self) -> bool:
        """Whether there is a word."""
        return bool(self._pieces)

    @property
    def whole(self) -> str:
        """All of it."""
        return "".join(self._pieces)


def _json_response(body: Summary) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


def _first_token_at(attempts: Sequence[Attempt]) -> float | None:
    return min((attempt.first_token_at for attempt in attempts if attempt.first_token_at is not None), default=None)


def _openai_call(call: ToolCall) -> Summary:
    """A call as OpenAI's answers hold it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _plain(deltas: Batch) -> bytes:
    """The text alone. Raises Abort at a tool's call, which has no form here: the text must not pass for an answer."""
    if isinstance(deltas, Reset):
        return b""
    if any(delta.tool_calls for delta in deltas):
        raise Abort
    return "".join(delta.text for delta in deltas).encode()

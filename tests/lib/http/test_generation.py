"""The form of an answer, and its account however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Message

from lib.data.limits import Account, Limits
from lib.data.limits import Subject as Payer
from lib.data.stops import Stops
from lib.errors import Interrupted, NoProvider, Overloaded, ProviderError
from lib.http.generation import Form, Generation, wanted_form
from lib.http.ui_message import HEARTBEAT
from lib.providers.base import ChatRequest, Delta, Model, Usage
from lib.providers.catalog import Row
from lib.router.attempt import Policy
from lib.router.health import Health
from lib.router.plan import Candidate, ProviderFlag
from lib.router.router import Context, Router
from lib.telemetry.cost import Costs
from lib.telemetry.events import Recorder, Subject
from tests.lib.virtual_time import run


@pytest.mark.parametrize(
    ("accept", "stream", "form"),
    [
        (None, None, "ui"),
        ("", None, "ui"),
        ("*/*", None, "ui"),
        ("text/event-stream", None, "ui"),
        ("application/json", None, "json"),
        ("Application/JSON; charset=utf-8", None, "json"),
        ("text/plain", None, "text"),
        ("text/html", None, "ui"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None, "ui"),
        ("application/json, text/plain, */*", None, "json"),
        ("text/html, application/json;q=0.9, text/plain;q=0.95", None, "text"),
        ("text/plain;q=0.5,application/json", None, "json"),
        ("application/json ; q=0.2 , text/plain ; q=0.1", None, "json"),
        ("application/json;q=0", None, "ui"),
        ("application/json;q=high, text/plain", None, "text"),
        (",;,q=1", None, "ui"),
        ("text/plain", False, "json"),
        ("text/event-stream", False, "json"),
        (None, False, "json"),
        ("application/json", True, "ui"),
        ("application/json, text/plain", True, "text"),
        ("text/plain", True, "text"),
        (None, True, "ui"),
    ],
)
def test_wanted_form(accept: str | None, stream: bool | None, form: Form) -> None:  # noqa: FBT001 - a table
    """`stream: false` is JSON, `stream: true` never is; else the Accept header's best match, else the UI stream."""
    assert wanted_form(accept, stream=stream) == form


@given(st.text(max_size=40), st.none() | st.booleans())
@example("text/plain;q=nan, application/json;q=inf", None)
@example("text/plain;q=" + "9" * 5000, None)
def test_any_accept(accept: str, stream: bool | None) -> None:  # noqa: FBT001 - hypothesis gives it by name
    """No header upsets the choice, and the body's word stands against each."""
    form = wanted_form(accept, stream=stream)
    assert form in {"json", "text", "ui"}
    assert (form == "json") is (stream is False) or stream is None


@dataclass
class Fake:
    """A vendor within this process: sends these deltas, then fails or ends; `more` from the second call on.

    Between two deltas it is silent for so many seconds.
    """

    name: str
    deltas: Sequence[Delta]
    error: ProviderError | None = None
    more: Sequence[Delta] | None = None
    silent_s: float = 0
    open: int = 0
    calls: int = 0

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """See TextProvider.stream."""
        del request, model
        self.open += 1
        self.calls += 1
        again = self.more is not None and self.calls > 1
        try:
            for number, delta in enumerate(self.deltas if self.more is None or not again else self.more):
                if number and self.silent_s:
                    await asyncio.sleep(self.silent_s)
                yield [delta]
            if self.error is not None and not again:
                raise self.error
        finally:
            self.open -= 1


SUBJECT = Subject("request-1", "caller-1", "guest", "/api/generate", ProviderFlag(), 40, {})
TRIED = [("a", "first"), ("b", "fallback"), ("b", "retry")]
HELLO = [Delta(text="Hel"), Delta(text="lo", finish_reason="stop"), Delta(usage=Usage(7, 3, 2))]


ERROR = Policy(on_interrupt="error")
JSON = Policy(on_interrupt="restart", can_reset=True)
V7 = Policy(can_reset=True, can_splice=False)


REQUEST = ChatRequest(({"role": "user", "content": "Hi"},), 16)


def router_of(*fakes: Fake, health: Health | None = None) -> Router:
    """A router over these vendors, in this order."""
    rows = tuple(Row(fake.name, fake.name, "openai", "", (Model("m", 8_192, 1_024),), "m", "m") for fake in fakes)
    return Router(rows, {fake.name for fake in fakes}, {fake.name: fake for fake in fakes}.__getitem__, health)


def generation(*fakes: Fake, policy: Policy | None = None, health: Health | None = None) -> Generation:
    """An answer by these vendors."""
    router = router_of(*fakes, health=health)
    answer = router.get_completion(ProviderFlag(), REQUEST, Context(policy=policy or Policy()))
    return Generation(answer, Recorder(Costs(), region=None, deployment=None), SUBJECT, 1000.0, **uncounted())


def uncounted() -> dict[str, Any]:
    """Without a database."""
    return {"account": Account(Limits(None), SUBJECT.request_id, Payer("guest", "g")), "stops": Stops(None)}


def events(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a UI message stream, which must end in [DONE]."""
    *chunks, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [orjson.loads(event.removeprefix(b"data: ")) for event in chunks]


async def sent(response: Response, *, gone_after: int | None = None) -> tuple[bytes, bool]:
    """What a response sends, and whether it ends properly; the client may be gone after so many chunks."""
    body, ended, count = b"", False, 0

    async def receive() -> Message:
        raise AssertionError("a response has nothing to receive")

    async def send(message: Message) -> None:
        nonlocal body, ended, count
        if count == gone_after:
            raise ConnectionResetError
        if message["type"] == "http.response.body":
            count += 1
            body += message["body"]
            ended = not message.get("more_body", False)

    await response({"type": "http"}, receive, send)
    return body, ended


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The events on record."""
    return [orjson.loads(record.message) for record in caplog.records if record.name == "ai_inference"]


@pytest.fixture(autouse=True)
def _keep_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ai_inference")


def test_json(caplog: pytest.LogCaptureFixture) -> None:
    """The whole answer at once, with its account, which is on record by then."""

    async def test() -> None:
        body, ended = await sent(await generation(Fake("a", HELLO)).respond("json"))
        answer = orjson.loads(body)
        assert ended
        assert (answer["id"], answer["text"], answer["provider"]) == ("request-1", "Hello", "a")
        assert answer["finish_reason"] == "stop"
        assert answer["usage"] == {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 2}
        assert answer["cost_usd"] is None
        assert "reasoning" not in answer
        assert [line["outcome"] for line in lines(caplog)] == ["ok"]

    run(test())


def test_text(caplog: pytest.LogCaptureFixture) -> None:
    """The text and nothing else."""

    async def test() -> None:
        assert await sent(await generation(Fake("a", HELLO)).respond("text")) == (b"Hello", True)
        assert [line["outcome"] for line in lines(caplog)] == ["ok"]

    run(test())


def test_ui(caplog: pytest.LogCaptureFixture) -> None:
    """The UI message says who answers at its start, and its account at its end, without a null."""

    async def test() -> None:
        body, ended = await sent(await generation(Fake("a", HELLO)).respond("ui"))
        chunks = events(body)
        assert ended
        assert chunks[0]["messageMetadata"] == {"id": "request-1", "provider": "a", "model": "m"}
        assert "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta") == "Hello"
        account = chunks[-1]["messageMetadata"]
        assert (chunks[-1]["finishReason"], account["usage"]["input_tokens"]) == ("stop", 7)
        assert "cost_usd" not in account
        assert account["timing_ms"] == {"queue": 0, "ttft": 0, "total": 0}
        assert b"null" not in body
        assert [line["outcome"] for line in lines(caplog)] == ["ok"]

    run(test())


@pytest.mark.parametrize("form", ["json", "text", "ui"])
def test_answer_that_says_nothing(caplog: pytest.LogCaptureFixture, form: Form) -> None:
    """An answer without a word is an answer, complete in every form, and on record."""

    async def test() -> None:
        empty = Fake("a", [Delta(finish_reason="length"), Delta(usage=Usage(7, 0))])
        body, ended = await sent(await generation(empty).respond(form))
        assert ended
        match form:
            case "json":
                answer = orjson.loads(body)
                assert (answer["text"], answer["finish_reason"], answer["usage"]["output_tokens"]) == ("", "length", 0)
            case "text":
                assert body == b""
            case "ui":
                chunks = [orjson.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n")[:-2]]
                assert [chunk["type"] for chunk in chunks] == ["start", "start-step", "finish-step", "finish"]
        assert [(line["outcome"], line["ttft_ms"]) for line in lines(caplog)] == [("ok", None)]

    run(test())


def test_text_that_broke_off(caplog: pytest.LogCaptureFixture) -> None:
    """Half a text is cut, not ended: so its reader can tell."""

    async def test() -> None:
        half = generation(Fake("a", HELLO[:1], Overloaded()), policy=ERROR)
        assert await sent(await half.respond("text")) == (b"Hel", False)
        assert [line["outcome"] for line in lines(caplog)] == ["interrupted"]

    run(test())


def test_ui_that_broke_off(caplog: pytest.LogCaptureFixture) -> None:
    """Half a UI message says that it broke off, and what it cost is an estimate."""

    async def test() -> None:
        half = generation(Fake("a", HELLO[:1], Overloaded()), policy=ERROR)
        body, ended = await sent(await half.respond("ui"))
        chunks = events(body)
        account, *last = chunks[-3:]
        assert (ended, [chunk["type"] for chunk in last]) == (True, ["error", "finish"])
        assert account["messageMetadata"]["error_code"] == "stream_interrupted"
        assert account["messageMetadata"]["usage"] == {
            "input_tokens": 10,
            "output_tokens": 1,
            "cached_tokens": 0,
            "estimated": True,
        }
        assert b"null" not in body
        assert [line["estimated"] for line in lines(caplog)] == [True]

    run(test())


@pytest.mark.parametrize("form", ["json", "text", "ui"])
def test_nobody_answers(caplog: pytest.LogCaptureFixture, form: Form) -> None:
    """Where nobody answers, that is raised before anything is sent, and each attempt is on record."""

    async def test() -> None:
        with pytest.raises(NoProvider):
            await generation(Fake("a", [], Overloaded()), Fake("b", [], Overloaded())).respond(form)
        tried = [(line["provider"], line["kind"], line["error_code"]) for line in lines(caplog)]
        assert tried == [(name, kind, "provider_unavailable") for name, kind in TRIED]

    run(test())


@pytest.mark.parametrize("form", ["json", "text", "ui"])
def test_all_rest(caplog: pytest.LogCaptureFixture, form: Form) -> None:
    """Where all providers rest, that is raised at once, with when to come back; nobody is called; it is on record."""

    async def test() -> None:
        fake, health = Fake("a", HELLO), Health()
        health.of(Candidate("a", Model("m", 8_192, 1_024))).failed(1000.0, 30)
        with pytest.raises(NoProvider) as told:
            await generation(fake, health=health).respond(form)
        assert (told.value.retry_after_s, fake.calls) == (31, 0)
        (line,) = lines(caplog)
        assert (line["attempt"], line["kind"], line["outcome"], line["error_code"]) == (
            0,
            "skipped",
            "error",
            "resting",
        )
        assert (line["provider"], line["cost_micro_usd"], line["estimated"]) == ("a", 0, False)

    run(test())


@pytest.mark.parametrize("form", ["text", "ui"])
def test_answer_that_is_continued(caplog: pytest.LogCaptureFixture, form: Form) -> None:
    """A text that breaks off and is gone on with reads as one; its bill is the sum of both calls."""

    async def test() -> None:
        half = Fake("a", [Delta(text="Hel"), Delta(usage=Usage(5, 1))], Overloaded())
        body, ended = await sent(await generation(half, Fake("b", HELLO)).respond(form))
        assert ended
        if form == "text":
            assert body == b"Hello"
        else:
            chunks = events(body)
            assert "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta") == "Hello"
            assert [chunk["type"] for chunk in chunks].count("text-start") == 1
            assert chunks[0]["messageMetadata"]["provider"] == "a"
            account = chunks[-1]["messageMetadata"]
            assert account["provider"] == "b"
            assert account["usage"] == {"input_tokens": 12, "output_tokens": 4, "cached_tokens": 2}
        assert [(line["kind"], line["outcome"]) for line in lines(caplog)] == [
            ("first", "interrupted"),
            ("continuation", "ok"),
        ]

    run(test())


def test_thoughts_that_break_off() -> None:
    """Who takes over from a model that was still thinking thinks anew: in a part of its own, not glued to the other."""

    async def test() -> None:
        first = Fake("a", [Delta(reasoning="Let me th")], Overloaded())
        second = Fake("b", [Delta(reasoning="Let me think."), *HELLO])
        body, _ = await sent(await generation(first, second).respond("ui"))
        parts = [(chunk["type"], chunk.get("delta")) for chunk in events(body) if "reasoning" in chunk["type"]]
        assert parts == [
            ("reasoning-start", None),
            ("reasoning-delta", "Let me th"),
            ("reasoning-end", None),
            ("reasoning-start", None),
            ("reasoning-delta", "Let me think."),
            ("reasoning-end", None),
        ]

    run(test())


@pytest.mark.parametrize("form", ["text", "ui"])
def test_continuation_that_thinks(form: Form) -> None:
    """What a model thinks before it goes on with another's text is in neither its text nor parts between."""

    async def test() -> None:
        half = Fake("a", [Delta(reasoning="Hm."), Delta(text="Hel")], Overloaded())
        other = Fake("b", [Delta(reasoning="Where was I?"), Delta(text="Hel", reasoning="So."), Delta(text="lo")])
        body, ended = await sent(await generation(half, other).respond(form))
        assert ended
        assert b"Where was I?" not in body
        if form == "text":
            assert body == b"Hello"
        else:
            kinds = [chunk["type"] for chunk in events(body)]
            assert (kinds.count("reasoning-start"), kinds.count("text-start")) == (1, 1)

    run(test())


def test_message_that_goes_on() -> None:
    """An answer that goes into a message of the page's names it; the request keeps an id of its own."""

    async def test() -> None:
        fake, recorder = Fake("a", HELLO), Recorder(Costs(), region=None, deployment=None)
        answer = router_of(fake).get_completion(ProviderFlag(), REQUEST, Context())
        into = Generation(answer, recorder, SUBJECT, 1000.0, message_id="m-1", **uncounted())
        start, *_ = events((await sent(await into.respond("ui")))[0])
        assert (start["messageId"], start["messageMetadata"]["id"]) == ("m-1", "request-1")
        start, *_ = events((await sent(await generation(fake).respond("ui")))[0])
        assert start["messageId"] == "request-1"

    run(test())


@pytest.mark.parametrize("form", ["text", "ui"])
def test_continuation_that_cannot_be_joined(caplog: pytest.LogCaptureFixture, form: Form) -> None:
    """Nothing of a continuation is shown that can't be joined: the text is cut, the UI told."""

    async def test() -> None:
        half, other = Fake("a", HELLO[:1], Overloaded()), Fake("b", [Delta(text="Welcome")])
        body, ended = await sent(await generation(half, other).respond(form))
        assert b"elcome" not in body
        if form == "text":
            assert (body, ended) == (b"Hel", False)
        else:
            assert [chunk["type"] for chunk in events(body)[-2:]] == ["error", "finish"]
        assert [line["error_code"] for line in lines(caplog)] == ["provider_unavailable", "seam_unproven"]

    run(test())


def test_json_that_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Of a JSON answer that broke off nothing remains but its cost."""

    async def test() -> None:
        half = Fake("a", [Delta(text="Half", reasoning="Hm"), Delta(usage=Usage(5, 1))], Overloaded(), HELLO)
        body, ended = await sent(await generation(half, policy=JSON).respond("json"))
        answer = orjson.loads(body)
        assert (ended, answer["text"], "reasoning" in answer) == (True, "Hello", False)
        assert answer["usage"] == {"input_tokens": 12, "output_tokens": 4, "cached_tokens": 2}
        assert [line["kind"] for line in lines(caplog)] == ["first", "restart"]

    run(test())


def test_json_that_breaks_off_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """A JSON answer that can't be had is an error with a status, not half an answer."""

    async def test() -> None:
        with pytest.raises(Interrupted) as told:
            await generation(Fake("a", HELLO[:1], Overloaded()), policy=JSON).respond("json")
        assert (told.value.status, told.value.code) == (502, "stream_interrupted")
        assert [line["outcome"] for line in lines(caplog)] == ["interrupted"] * 4

    run(test())


def test_ui_that_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """A UI client that can drop a step is told to, and gets a fresh answer with parts of its own."""

    async def test() -> None:
        half = generation(Fake("a", [Delta(text="Half")], Overloaded(), HELLO), policy=V7)
        body, ended = await sent(await half.respond("ui"))
        assert ended
        assert [(chunk["type"], chunk.get("id"), chunk.get("delta")) for chunk in events(body)] == [
            ("start", None, None),
            ("start-step", None, None),
            ("text-start", "1", None),
            ("text-delta", "1", "Half"),
            ("reset-step", None, None),
            ("text-start", "2", None),
            ("text-delta", "2", "Hel"),
            ("text-delta", "2", "lo"),
            ("text-end", "2", None),
            ("finish-step", None, None),
            ("finish", None, None),
        ]
        assert [line["kind"] for line in lines(caplog)] == ["first", "restart"]

    run(test())


@pytest.mark.parametrize("form", ["text", "ui"])
def test_failure_after_a_count_is_still_a_failure_before_the_first_token(form: Form) -> None:
    """A provider that only counted the prompt's tokens has not begun to answer: its failure has a status of its own."""

    async def test() -> None:
        with pytest.raises(NoProvider):
            await generation(Fake("a", [Delta(usage=Usage(7, 0))], Overloaded())).respond(form)

    run(test())


@pytest.mark.parametrize("form", ["text", "ui"])
@pytest.mark.parametrize("gone_after", [0, 1])
def test_client_leaves(caplog: pytest.LogCaptureFixture, form: Form, gone_after: int) -> None:
    """A client who leaves, before the first byte or later, stops the provider; what was used is on record."""

    async def test() -> None:
        fake = Fake("a", HELLO)
        with pytest.raises(ConnectionResetError):
            await sent(await generation(fake).respond(form), gone_after=gone_after)
        assert fake.open == 0
        (line,) = lines(caplog)
        assert (line["outcome"], line["estimated"]) == ("cancelled", True)

    run(test())


def test_ui_of_a_server_that_shuts_down(caplog: pytest.LogCaptureFixture) -> None:
    """Who reads when the server ends the request is told that it broke off, and what it cost."""

    async def test() -> None:
        fake, body = Fake("a", HELLO, silent_s=1_000), b""

        async def send(message: Message) -> None:
            nonlocal body
            body += message.get("body", b"")

        async def receive() -> Message:
            raise AssertionError

        response = await generation(fake).respond("ui")
        serving = asyncio.ensure_future(response({"type": "http"}, receive, send))
        await asyncio.sleep(5)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        account, *last = events(body)[-3:]
        assert [chunk["type"] for chunk in last] == ["error", "finish"]
        assert account["messageMetadata"]["error_code"] == "shutting_down"
        assert account["messageMetadata"]["usage"]["estimated"] is True
        assert ([line["outcome"] for line in lines(caplog)], fake.open) == (["cancelled"], 0)

    run(test())


def test_ui_keeps_the_connection_alive() -> None:
    """In a silence of the provider the UI message stream holds comments, which are no chunks of the message."""

    async def test() -> None:
        async def answered(form: Form, silent_s: float) -> bytes:
            patient = generation(Fake("a", HELLO, silent_s=silent_s), policy=Policy(idle_s=100))
            body, ended = await sent(await patient.respond(form))
            assert ended
            return body

        body = await answered("ui", 35)
        assert body.count(HEARTBEAT) == 3 * (len(HELLO) - 1)
        chunks = events(body.replace(HEARTBEAT, b""))
        assert "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta") == "Hello"
        assert HEARTBEAT not in await answered("ui", 9.5)
        assert await answered("text", 35) == b"Hello"

    run(test())


def test_response_that_is_never_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A generation that is closed instead of sent stops the provider too, once."""

    async def test() -> None:
        fake = Fake("a", HELLO)
        closed = generation(fake)
        await closed.respond("ui")
        assert fake.open == 1
        await closed.aclose()
        await closed.aclose()
        assert fake.open == 0
        assert [line["outcome"] for line in lines(caplog)] == ["cancelled"]

    run(test())


def test_reasoning_and_flag() -> None:
    """Reasoning has a field of its own; a flag that assigned an arm is told."""

    async def test() -> None:
        body, _ = await sent(await generation(Fake("a", [Delta(reasoning="Hm"), *HELLO])).respond("json"))
        answer = orjson.loads(body)
        assert (answer["reasoning"], answer["text"], answer["flags"]) == ("Hm", "Hello", [])

    run(test())

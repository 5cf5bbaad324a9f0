"""The adapter over real sockets: whatever goes wrong gets a name of ours, once, without the vendor's words."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

import pytest

from lib.app import App
from lib.errors import (
    BrokenStream,
    ConnectionFailed,
    ContextTooLong,
    CredentialsRejected,
    Overloaded,
    ProviderError,
    RateLimited,
)
from lib.providers import openai_compatible
from lib.providers.base import ChatRequest, Delta
from lib.providers.catalog import ROWS, Row
from lib.settings import from_environ
from tests.conftest import MakeVendor, hosted_over, local_over
from tests.fakes.vendor import Cut, Hang, Reply, Step, Vendor, chunk, event, failure, groq_words, words

CANARY = "canary-of-a-prompt"
REQUEST = ChatRequest(({"role": "user", "content": "Hi"},), 16)
NAMES = ("groq", "xai")
"""A vendor with its own path, and one like all others."""
ROW: dict[str, Row] = {row.name: row for row in ROWS}


def answer(environ: dict[str, str], name: str, times: int = 1) -> list[Delta]:
    """Ask this provider, on a loop of its own; the deltas of all answers."""

    async def ask() -> list[Delta]:
        app = App(from_environ(environ))
        try:
            provider, model = app.text_provider(name), ROW[name].models[0]
            return [delta for _ in range(times) async for batch in provider.stream(REQUEST, model) for delta in batch]
        finally:
            await app.aclose()

    return asyncio.run(ask())


def text(deltas: Sequence[Delta]) -> str:
    """What they say together."""
    return "".join(delta.text for delta in deltas)


@pytest.mark.parametrize(("name", "reply"), [("groq", groq_words), ("xai", words), ("deepinfra", words)])
def test_answer(vendor: Vendor, name: str, reply: Callable[..., Reply]) -> None:
    """Each vendor brings the same answer; its usage is asked for."""
    vendor.script(reply("Hello"), reply(" world"))
    got = answer(hosted_over(**{name: vendor}), name, times=2)
    assert text(got) == "Hello world"
    assert [delta.usage.input_tokens for delta in got if delta.usage] == [7, 7]
    assert [received.body["stream_options"] for received in vendor.requests] == [{"include_usage": True}] * 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (failure(500, message=CANARY), Overloaded, 500),
        (failure(429, message=CANARY, **{"retry-after": "7"}), RateLimited, 429),
        (failure(401, CANARY, message=CANARY), CredentialsRejected, 401),
        (failure(400, "context_length_exceeded", message=CANARY), ContextTooLong, 400),
        (Reply([f"<h1>{CANARY}</h1>".encode()], 502, {"content-type": "text/html"}), Overloaded, 502),
        (Reply([], 503), Overloaded, 503),
        (words("Hi", Cut(reset=True)), BrokenStream, None),
        (words("Hi", Cut()), BrokenStream, None),
        (words(finish_reason=None), BrokenStream, None),
        (Reply([Cut(reset=True)], head=False), ConnectionFailed, None),
    ],
    ids=["500", "429", "401", "400", "html", "empty", "reset", "cut", "no end", "no head"],
)
def test_failure(vendor: Vendor, name: str, fault: Reply, kind: type[ProviderError], status: int | None) -> None:
    """A failure has its name and status, is not tried again, and says nothing that the vendor said."""
    vendor.script(fault)
    with pytest.raises(ProviderError) as caught:
        answer(hosted_over(**{name: vendor}), name)
    assert (type(caught.value), caught.value.status) == (kind, status)
    assert caught.value.retry_after_s == (7.0 if kind is RateLimited else None)
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.args} {vars(caught.value)}"
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        [b'{"error": {"code": "context_length_exceeded', Hang()],
        [b" " * 65_536, b" " * 65_536, Hang()],
        [b'{"error": {"code": "context_length_exceeded', Cut(reset=True)],
        [b'{"error": {"code": "context_length_exceeded', Cut()],
    ],
    ids=["without end", "too long", "reset", "cut"],
)
def test_error_whose_body_cannot_be_read(vendor: Vendor, monkeypatch: pytest.MonkeyPatch, body: Sequence[Step]) -> None:
    """Then the status alone says what it was; nobody waits for the rest, and the connection is closed."""
    monkeypatch.setattr(openai_compatible, "ERROR_BODY_S", 0.1)
    vendor.script(Reply(body, 503))
    with pytest.raises(Overloaded) as caught:
        answer(hosted_over(groq=vendor), "groq")
    assert caught.value.status == 503
    if isinstance(body[-1], Hang):
        assert vendor.requests[0].hung_up.wait(5)


@pytest.mark.parametrize("status", [204, 302])
def test_neither_answer_nor_error(vendor: Vendor, status: int) -> None:
    """A redirect is not followed, and an empty success is no answer: both are the vendor's failure."""
    vendor.script(Reply([], status, {"location": f"{vendor.url}/elsewhere", "transfer-encoding": "identity"}))
    with pytest.raises(ProviderError):
        answer(hosted_over(groq=vendor), "groq")
    assert len(vendor.requests) == 1


def test_compressed_though_not_asked_for(vendor: Vendor) -> None:
    """What is compressed is not unfolded: it could be a thousand times as long."""
    events = b"".join(step for step in words("Hello").steps if isinstance(step, bytes))
    vendor.script(Reply([gzip.compress(events)], headers={"content-encoding": "gzip"}))
    with pytest.raises(BrokenStream):
        answer(hosted_over(groq=vendor), "groq")


def test_connections_are_used_again(vendor: Vendor) -> None:
    """After an answer, and after an error, the connection serves the next call."""
    vendor.script(words("Hi"), failure(500))

    async def ask() -> None:
        app = App(from_environ(hosted_over(groq=vendor)))
        for fails in (False, True, False):
            with pytest.raises(Overloaded) if fails else contextlib.nullcontext():
                assert [deltas async for deltas in app.text_provider("groq").stream(REQUEST, ROW["groq"].models[0])]
        await app.aclose()

    asyncio.run(ask())
    assert [received.connection for received in vendor.requests] == [1, 1, 1]


@pytest.mark.parametrize(
    ("late", "connections"), [(b": goodbye\n\n", [1, 1]), (Hang(), [1, 2])], ids=["a little", "without end"]
)
def test_body_goes_on_after_its_last_word(vendor: Vendor, late: Step, connections: list[int]) -> None:
    """The rest is read, so that the connection can be used again; where it never ends, the connection is closed."""
    vendor.script(Reply([*words("Hi").steps, late]))
    assert text(answer(hosted_over(groq=vendor), "groq", times=2)) == "HiYou said: Hi"
    assert [received.connection for received in vendor.requests] == connections
    assert connections == [1, 1] or vendor.requests[0].hung_up.wait(5)


def test_error_in_mid_stream(vendor: Vendor) -> None:
    """A vendor that tells its failure within the stream is left at once, and what it said before still arrives."""
    vendor.script(words("Hello", event({"error": {"message": CANARY, "code": 429}}), Hang()))

    async def ask() -> str:
        app = App(from_environ(local_over(vendor)))
        answered = app.text_provider("local").stream(REQUEST, ROW["local"].models[0])
        said = text(await anext(answered))
        with pytest.raises(RateLimited) as caught:
            await anext(answered)
        assert CANARY not in repr(caught.value)
        assert await asyncio.to_thread(vendor.requests[0].hung_up.wait, 5)
        await app.aclose()
        return said

    assert asyncio.run(ask()) == "Hello"


def test_last_event_without_its_blank_line(vendor: Vendor) -> None:
    """What the end of the body completes still arrives."""
    vendor.script(Reply([event(chunk({"content": "Hel"})), event(chunk({"content": "lo"}, finish_reason="stop"))[:-2]]))
    assert text(answer(local_over(vendor), "local")) == "Hello"


def test_nobody_listens() -> None:
    """A refused connection is known at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed):
        answer({"LOCAL_TEXT_BASE_URL": f"http://127.0.0.1:{port}/v1"}, "local")


@pytest.mark.parametrize(
    "reply",
    [Reply([Hang()], head=False), words(Hang()), words("Hello", Hang()), Reply([b"{", Hang()], 500)],
    ids=["no head", "no token", "in mid-answer", "in an error"],
)
def test_cancelling_closes_the_connection(vendor: Vendor, reply: Reply) -> None:
    """Whoever waits for the vendor, for whatever, hangs up on it when cancelled."""
    vendor.script(reply)

    async def cancel() -> None:
        app = App(from_environ(local_over(vendor)))

        async def read() -> None:
            async for _ in app.text_provider("local").stream(REQUEST, ROW["local"].models[0]):
                pass

        reading = asyncio.ensure_future(read())
        assert await asyncio.to_thread(vendor.asked.wait, 5)
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled()
        assert await asyncio.to_thread(vendor.requests[0].hung_up.wait, 5)
        await app.aclose()

    asyncio.run(cancel())


def test_leaving_closes_the_connection(vendor: Vendor) -> None:
    """Closing the iterator in mid-answer hangs up on the vendor."""
    vendor.script(words("Hello", Hang()))

    async def leave() -> float:
        app = App(from_environ(local_over(vendor)))
        async with aclosing(app.text_provider("local").stream(REQUEST, ROW["local"].models[0])) as deltas:
            assert [delta.text for delta in await anext(deltas)] == ["Hello"]
        left_at = time.monotonic()
        assert await asyncio.to_thread(vendor.requests[0].hung_up.wait, 5)
        hung_up_after = time.monotonic() - left_at
        await app.aclose()
        return hung_up_after

    assert asyncio.run(leave()) < 1


def test_first_calls_share_one_client(make_vendor: MakeVendor) -> None:
    """Calls that come while the HTTP engine is still being imported wait for it; each gets its own answer."""
    vendor = make_vendor()

    async def ask() -> set[str]:
        app = App(from_environ(local_over(vendor)))
        provider, model = app.text_provider("local"), ROW["local"].models[0]

        async def one(marker: str) -> str:
            request = ChatRequest(({"role": "user", "content": marker},), 16)
            return text([delta async for batch in provider.stream(request, model) for delta in batch])

        answers = await asyncio.gather(*(one(f"marker-{number}") for number in range(20)))
        await app.aclose()
        return set(answers)

    assert asyncio.run(ask()) == {f"You said: marker-{number}" for number in range(20)}


def test_cancelled_first_call_leaves_the_client_to_the_next(vendor: Vendor) -> None:
    """A caller who leaves while the HTTP engine is being imported does not spoil it for the next one."""

    async def ask() -> str:
        app = App(from_environ(local_over(vendor)))
        provider, model = app.text_provider("local"), ROW["local"].models[0]
        first = asyncio.ensure_future(anext(provider.stream(REQUEST, model)))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        got = text([delta async for batch in provider.stream(REQUEST, model) for delta in batch])
        await app.aclose()
        return got

    assert asyncio.run(ask()) == "You said: Hi"

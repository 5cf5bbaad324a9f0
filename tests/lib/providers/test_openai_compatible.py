"""The adapters over real sockets: what the SDKs raise gets a name of ours, once, without the vendor's words."""

from __future__ import annotations

import asyncio
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
from lib.providers.base import ChatRequest, Delta
from lib.providers.catalog import ROWS, Row
from lib.settings import from_environ
from tests.conftest import MakeVendor, hosted_over, local_over
from tests.fakes.vendor import Cut, Hang, Reply, Vendor, chunk, event, failure, groq_words, words

CANARY = "canary-of-a-prompt"
REQUEST = ChatRequest(({"role": "user", "content": "Hi"},), 16)
SDKS = ("groq", "xai")
"""One vendor of each SDK."""
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
    """Each SDK brings the same answer; its usage is asked for, and its client is made once."""
    vendor.script(reply("Hello"), reply(" world"))
    got = answer(hosted_over(**{name: vendor}), name, times=2)
    assert text(got) == "Hello world"
    assert [delta.usage.input_tokens for delta in got if delta.usage] == [7, 7]
    assert [received.body["stream_options"] for received in vendor.requests] == [{"include_usage": True}] * 2


@pytest.mark.parametrize("name", SDKS)
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
    """A failure has its name and status, is not tried again by the SDK, and says nothing that the vendor said."""
    vendor.script(fault)
    with pytest.raises(ProviderError) as caught:
        answer(hosted_over(**{name: vendor}), name)
    assert (type(caught.value), caught.value.status) == (kind, status)
    assert caught.value.retry_after_s == (7.0 if kind is RateLimited else None)
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.args} {vars(caught.value)}"
    assert len(vendor.requests) == 1


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
    """Calls that come while the SDK is still being imported wait for it together, and each gets its own answer."""
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
    """A caller who leaves while the SDK is being imported does not spoil it for the next one."""

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

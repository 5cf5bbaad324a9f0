"""The embeddings adapter over real sockets: what it asks for, and which answers it takes for vectors."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from lib.providers.base import Usage
from lib.providers.catalog import EmbeddingRow
from lib.providers.embeddings import Embedded, EmbeddingModel, EmbeddingRequest
from lib.providers.openai_embeddings import read_answer
from lib.settings import from_environ
from tests.fakes.embeddings import raw, vectors
from tests.fakes.vendor import Cut, Hang, Reply, Vendor, failure
from tests.lib.values import json_values

CANARY = "canary-of-a-text"
MODEL = EmbeddingModel("acme-3d", 100, 3, max_inputs=4, min_dimensions=2)
ROW = EmbeddingRow("acme", "Acme", "ACME_BASE_URL", (MODEL,), key_var="ACME_API_KEY", base_url="https://acme.example")
HALVES = (0.5, -0.25, 0.125)
"""Exact as 32-bit floats."""


def embedded(vendor: Vendor, request: EmbeddingRequest, *, row: EmbeddingRow = ROW, times: int = 1) -> list[Embedded]:
    """Ask this vendor, on a loop of its own."""

    async def ask() -> list[Embedded]:
        environ = {"ACME_API_KEY": "key-of-acme", "ACME_BASE_URL": f"{vendor.url}/v1"}
        app = App(from_environ(environ, embedding_rows=(row,)), embedding_rows=(row,))
        try:
            return [await app.embedding_provider("acme").embed(request, MODEL) for _ in range(times)]
        finally:
            await app.aclose()

    return asyncio.run(ask())


def listed(answer: Embedded) -> list[list[float]]:
    """Its vectors."""
    return [list(vector) for vector in answer.vectors]


@pytest.mark.parametrize("base64", [True, False], ids=["base64", "float"])
def test_answer(vendor: Vendor, base64: bool) -> None:  # noqa: FBT001 - parametrised
    """Base64 is asked for, since it is leaner; a server that sends lists all the same is understood."""
    vendor.script(vectors(HALVES, (1, 2, 3), base64=base64))
    (answer,) = embedded(vendor, EmbeddingRequest(("Hello", "world")))
    assert (listed(answer), answer.usage) == ([[0.5, -0.25, 0.125], [1, 2, 3]], Usage(7, 0))
    (received,) = vendor.requests
    assert received.path == "/v1/embeddings"
    assert received.body == {"model": "acme-3d", "input": ["Hello", "world"], "encoding_format": "base64"}
    assert received.headers["authorization"] == "Bearer key-of-acme"


def test_order_is_by_index(vendor: Vendor) -> None:
    """Vectors belong to their texts by index, whatever order they come in."""
    vendor.script(vectors((3, 3, 3), (1, 1, 1), (2, 2, 2), order=(2, 0, 1)))
    (answer,) = embedded(vendor, EmbeddingRequest(("a", "b", "c")))
    assert [vector[0] for vector in listed(answer)] == [1, 2, 3]


def test_fewer_dimensions(vendor: Vendor) -> None:
    """What is asked for is sent, and held against the answer."""
    vendor.script(vectors((1, 2)), vectors(HALVES))
    (answer,) = embedded(vendor, EmbeddingRequest(("a",), dimensions=2))
    assert (listed(answer), vendor.requests[0].body["dimensions"]) == ([[1, 2]], 2)
    with pytest.raises(BrokenStream):
        embedded(vendor, EmbeddingRequest(("a",), dimensions=2))


def test_client_is_made_once(vendor: Vendor) -> None:
    """The second call neither imports nor connects again."""
    vendor.script(vectors(HALVES), vectors(HALVES))
    first, second = embedded(vendor, EmbeddingRequest(("a",)), times=2)
    assert first == second


def test_connection_is_not_kept_where_the_server_would_close_it(vendor: Vendor) -> None:
    """As for text, a row may say that its server's kept connections are not to be trusted."""
    row = EmbeddingRow("acme", "Acme", "ACME_BASE_URL", (MODEL,), keep_alive=False)
    vendor.script(vectors(HALVES))
    embedded(vendor, EmbeddingRequest(("a",)), row=row)
    assert vendor.requests[0].headers["connection"] == "close"


def entry(embedding: object, index: object = 0) -> dict[str, object]:
    """One of an answer's data."""
    return {"object": "embedding", "index": index, "embedding": embedding}


def body(*data: object, **fields: object) -> bytes:
    """An answer with these data."""
    return json.dumps({"object": "list", "data": data, "model": "fake", **fields}).encode()


def packed(*numbers: float) -> str:
    """32-bit floats in base64."""
    return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


BROKEN = {
    "too few": body(),
    "too many": body(entry([1, 2, 3]), entry([1, 2, 3], 1)),
    "same index twice": body(entry([1, 2, 3]), entry([1, 2, 3])),
    "other index": body(entry([1, 2, 3], 1)),
    "no index": body({"embedding": [1, 2, 3]}),
    "odd index": body(entry([1, 2, 3], {})),
    "too short": body(entry([1, 2])),
    "too long": body(entry([1, 2, 3, 0])),
    "none": body(entry([])),
    "NaN": body(entry([1, math.nan, 3])),
    "infinite": body(entry([1, math.inf, 3])),
    "too large for 32 bits": body(entry([1, 1e300, 3])),
    "NaN in base64": body(entry(packed(1, math.nan, 3))),
    "infinities in base64": body(entry(packed(math.inf, -math.inf, 3))),
    "no multiple of four bytes": body(entry(packed(1, 2, 3)[:-4])),
    "no base64": body(entry("!" * 16)),
    "null": body(entry(None)),
    "null inside": body(entry([1, None, 3])),
    "words": body(entry(["1", "2", "3"])),
    "no data": b"{}",
    "no object": b"[]",
    "not JSON": b"<h1>Busy</h1>",
    "empty": b"",
    "cut": body(entry([1, 2, 3]))[:-9],
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_broken_answer(answer: bytes) -> None:
    """What is not exactly one finite vector of the right length per text is no answer."""
    with pytest.raises(BrokenStream):
        read_answer(answer, 1, 3)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)))
def test_any_floats(values: list[list[float]]) -> None:
    """Every finite 32-bit float arrives as it was sent, in both encodings, the largest ones too."""
    for base64 in (True, False):
        (answer,) = vectors(*values, base64=base64).steps
        assert isinstance(answer, bytes)
        assert listed(read_answer(answer, len(values), 3)) == values


@given(json_values(st.sampled_from(["data", "index", "embedding", "usage", "prompt_tokens"])))
def test_any_json(value: object) -> None:
    """Whatever a server sends, it is vectors or a broken answer."""
    with pytest.raises(BrokenStream):
        read_answer(json.dumps(value).encode(), 1, 3)


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": None}, {"prompt_tokens": -1}, {"prompt_tokens": 1e300}]
)
def test_usage_untold(usage: object) -> None:
    """A count that makes no sense costs no vector: it is as good as untold."""
    assert read_answer(body(entry([1, 2, 3]), usage=usage), 1, 3).usage is None


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (failure(500, message=CANARY), Overloaded, 500),
        (failure(429, message=CANARY, **{"retry-after": "7"}), RateLimited, 429),
        (failure(401, CANARY, message=CANARY), CredentialsRejected, 401),
        (failure(400, "context_length_exceeded", message=CANARY), ContextTooLong, 400),
        (Reply([f"<h1>{CANARY}</h1>".encode()], 502, {"content-type": "text/html"}), Overloaded, 502),
        (Reply([vectors(HALVES).steps[0], Cut()], headers={"content-type": "application/json"}), BrokenStream, None),
        (Reply([b"{", Cut(reset=True)], headers={"content-type": "application/json"}), BrokenStream, None),
        (Reply([Cut(reset=True)], head=False), ConnectionFailed, None),
        (raw(CANARY.encode()), BrokenStream, None),
    ],
    ids=["500", "429", "401", "400", "html", "cut", "reset", "no head", "no JSON"],
)
def test_failure(vendor: Vendor, fault: Reply, kind: type[ProviderError], status: int | None) -> None:
    """A failure has its name and status, is not tried again by the SDK, and says nothing that the vendor said."""
    vendor.script(fault)
    with pytest.raises(ProviderError) as caught:
        embedded(vendor, EmbeddingRequest((CANARY,)))
    assert (type(caught.value), caught.value.status) == (kind, status)
    assert caught.value.retry_after_s == (7.0 if kind is RateLimited else None)
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.args} {vars(caught.value)}"
    assert len(vendor.requests) == 1


def test_nobody_listens() -> None:
    """A refused connection is known at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def ask() -> None:
        app = App(from_environ({"LOCAL_EMBEDDINGS_BASE_URL": f"http://127.0.0.1:{port}/v1"}))
        try:
            await app.embedding_provider("local").embed(EmbeddingRequest(("a",)), MODEL)
        finally:
            await app.aclose()

    with pytest.raises(ConnectionFailed):
        asyncio.run(ask())


@pytest.mark.parametrize("steps", [[Hang()], [b'{"data": [', Hang()]], ids=["before the answer", "in the middle of it"])
def test_cancelling_closes_the_connection(vendor: Vendor, steps: list[bytes | Hang]) -> None:
    """Who does not want the vectors any more hangs up on the vendor."""
    vendor.script(Reply(steps, headers={"content-type": "application/json"}))

    async def leave() -> None:
        app = App(from_environ({"LOCAL_EMBEDDINGS_BASE_URL": f"{vendor.url}/v1"}))
        asking = asyncio.create_task(app.embedding_provider("local").embed(EmbeddingRequest(("a",)), MODEL))
        assert await asyncio.to_thread(vendor.asked.wait, 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await asyncio.to_thread(vendor.requests[0].hung_up.wait, 5)
        await app.aclose()

    asyncio.run(leave())


def test_cancelled_first_call_leaves_the_client_to_the_next(vendor: Vendor) -> None:
    """A caller who leaves while the SDK is being imported does not spoil it for the next one."""
    vendor.script(vectors(HALVES))

    async def ask() -> Embedded:
        app = App(from_environ({"LOCAL_EMBEDDINGS_BASE_URL": f"{vendor.url}/v1"}))
        provider = app.embedding_provider("local")
        first = asyncio.create_task(provider.embed(EmbeddingRequest(("a",)), MODEL))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        answer = await provider.embed(EmbeddingRequest(("a",)), MODEL)
        await app.aclose()
        return answer

    assert listed(asyncio.run(ask())) == [list(HALVES)]

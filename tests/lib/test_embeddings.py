"""Embeddings end to end below the endpoints: settings, router, SDK, real sockets, a fake vendor, and the record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from lib.app import App
from lib.embeddings import get_embeddings
from lib.errors import InvalidRequest, NoProvider
from lib.providers.base import Usage
from lib.providers.catalog import EMBEDDING_ROWS, EmbeddingRow
from lib.providers.embeddings import EmbeddingRequest
from lib.router.embeddings import EmbeddingContext, Embeddings
from lib.router.plan import Choice, ProviderFlag
from lib.settings import Settings, from_environ, variables
from lib.telemetry.events import Bill, Subject
from tests.conftest import InferenceLog, MakeVendor
from tests.fakes.embeddings import vectors
from tests.fakes.vendor import Hang, Reply, Vendor, failure

TEXTS = ("Where do boats sleep?", "In the harbour.")
REQUEST = EmbeddingRequest(TEXTS)
SUBJECT = Subject(
    request_id="request-1",
    caller_id="caller-1",
    caller_kind="user",
    route="a job",
    flag=ProviderFlag(),
    prompt_characters=REQUEST.characters,
    metadata={"job": "index"},
    modality="embedding",
)
DEEPINFRA, LOCAL = EMBEDDING_ROWS
BGE = DEEPINFRA.models[0]
MIRROR = replace(DEEPINFRA, name="mirror", label="Mirror", key_var="MIRROR_API_KEY", base_url_var="MIRROR_BASE_URL")
"""A made-up second vendor of the same models: one row more."""
ROWS: tuple[EmbeddingRow, ...] = (DEEPINFRA, MIRROR, LOCAL)


def settings(**vendors: Vendor) -> Settings:
    """The settings under which these vendors of embeddings, by their rows' names, are fakes."""
    environ: dict[str, str] = {}
    for row in ROWS:
        if row.name in vendors:
            environ[row.base_url_var] = f"{vendors[row.name].url}/v1"
            environ.update({row.key_var: f"key-of-{row.name}"} if row.key_var else {})
    return from_environ(environ, embedding_rows=ROWS)


def embed(
    setting: Settings, request: EmbeddingRequest = REQUEST, context: EmbeddingContext | None = None
) -> tuple[Embeddings, Bill]:
    """One call over an app of its own."""

    async def ask() -> tuple[Embeddings, Bill]:
        app = App(setting, embedding_rows=ROWS)
        try:
            return await get_embeddings(
                app.embedding_router, app.recorder, request, context or EmbeddingContext(), SUBJECT
            )
        finally:
            await app.aclose()

    return asyncio.run(ask())


def of_bge(first: float) -> list[float]:
    """A vector as long as BAAI/bge-m3's."""
    return [first, *[0.0] * (BGE.dimensions - 1)]


@pytest.mark.parametrize("base64", [True, False], ids=["base64", "float"])
def test_answer_and_its_record(vendor: Vendor, inference_log: InferenceLog, base64: bool) -> None:  # noqa: FBT001
    """The vectors come back, priced by what the vendor counted; one event says so, without any text."""
    vendor.script(vectors(of_bge(1), of_bge(2), base64=base64, tokens=1_000))
    embeddings, bill = embed(settings(deepinfra=vendor))
    assert [vector[0] for vector in embeddings.vectors] == [1, 2]
    assert (embeddings.provider, embeddings.model, embeddings.dimensions) == ("deepinfra", "BAAI/bge-m3", 1_024)
    assert bill == Bill(Usage(1_000, 0), estimated=False, cost_usd=Decimal("0.00001"))
    event = inference_log.next()
    expected = {
        "event": "ai_inference",
        "modality": "embedding",
        "attempt": 1,
        "kind": "first",
        "provider": "deepinfra",
        "model": "BAAI/bge-m3",
        "outcome": "ok",
        "input_tokens": 1_000,
        "output_tokens": 0,
        "cost_micro_usd": 10,
        "estimated": False,
        "ttft_ms": None,
        "metadata": {"job": "index"},
    }
    assert {name: event[name] for name in expected} == expected
    assert not any(text in str(event) for text in TEXTS)


def test_rate_limited_vendor(make_vendor: MakeVendor, inference_log: InferenceLog) -> None:
    """After a 429 the same texts go to another vendor of the same model; both calls are on record."""
    deepinfra, mirror = make_vendor(), make_vendor()
    deepinfra.script(failure(429, "rate_limit_exceeded", **{"retry-after": "30"}))
    mirror.script(vectors(of_bge(1), of_bge(2)))
    embeddings, bill = embed(settings(deepinfra=deepinfra, mirror=mirror))
    assert (embeddings.provider, embeddings.model) == ("mirror", "BAAI/bge-m3")
    assert deepinfra.requests[0].body == mirror.requests[0].body
    assert bill.cost_usd is None  # nobody wrote down the mirror's price
    first, second = inference_log.next(), inference_log.next()
    assert (first["provider"], first["outcome"], first["error_code"]) == ("deepinfra", "error", "rate_limited")
    assert (second["provider"], second["kind"], second["fallback_from"]) == ("mirror", "fallback", "deepinfra")
    assert (second["cost_micro_usd"], second["cost_unknown"]) == (None, True)


def test_rate_limited_without_another_vendor(make_vendor: MakeVendor, inference_log: InferenceLog) -> None:
    """The embedded model is no stand-in for a hosted one: its vectors could not be compared with those stored."""
    deepinfra, local = make_vendor(), make_vendor()
    deepinfra.script(failure(429, "rate_limit_exceeded", **{"retry-after": "30"}))
    with pytest.raises(NoProvider) as caught:
        embed(settings(deepinfra=deepinfra, local=local))
    assert caught.value.retry_after_s == 31
    assert local.requests == []
    assert inference_log.next()["outcome"] == "error"


@pytest.mark.parametrize(
    "answer",
    [
        vectors(of_bge(1)),
        vectors(of_bge(1), of_bge(2), of_bge(3)),
        vectors(of_bge(1), [1.0, 2.0]),
        vectors(of_bge(1), of_bge(float("nan"))),
        vectors(of_bge(1), of_bge(float("nan")), base64=False),
    ],
    ids=["too few", "too many", "unequal", "NaN", "NaN as a word"],
)
def test_unfit_answer(make_vendor: MakeVendor, answer: Reply, inference_log: InferenceLog) -> None:
    """Vectors that are not what was asked for never reach the caller: the next vendor of the model is asked."""
    deepinfra, mirror = make_vendor(), make_vendor()
    deepinfra.script(answer)
    mirror.script(vectors(of_bge(1), of_bge(2)))
    embeddings, _ = embed(settings(deepinfra=deepinfra, mirror=mirror))
    assert (embeddings.provider, len(embeddings.vectors)) == ("mirror", 2)
    assert inference_log.next()["error_code"] == "broken_stream"


def test_caller_leaves(vendor: Vendor, inference_log: InferenceLog) -> None:
    """Who cancels the call hangs up on the vendor, and what it may have read is on record, as an estimate."""
    vendor.script(Reply([Hang()]))

    async def leave() -> None:
        app = App(settings(deepinfra=vendor), embedding_rows=ROWS)
        asking = asyncio.create_task(
            get_embeddings(app.embedding_router, app.recorder, REQUEST, EmbeddingContext(), SUBJECT)
        )
        assert await asyncio.to_thread(vendor.asked.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(vendor.requests[0].hung_up.wait, 5)
        await app.aclose()

    asyncio.run(leave())
    event = inference_log.next()
    assert (event["outcome"], event["modality"], event["estimated"]) == ("cancelled", "embedding", True)
    assert event["input_tokens"] == -(-REQUEST.characters // 4)


def test_dimensions_are_sent_where_the_model_knows_them(vendor: Vendor) -> None:
    """A model that can be shortened is asked for less; one of fixed length is not even asked."""
    qwen = EmbeddingContext(Choice(model="Qwen/Qwen3-Embedding-0.6B"))
    vendor.script(vectors([1.0] * 64))
    embeddings, _ = embed(settings(deepinfra=vendor), EmbeddingRequest(("Hi",), dimensions=64), qwen)
    assert (embeddings.dimensions, vendor.requests[0].body["dimensions"]) == (64, 64)
    with pytest.raises(InvalidRequest):
        embed(settings(deepinfra=vendor), EmbeddingRequest(("Hi",), dimensions=64))
    assert len(vendor.requests) == 1


def test_nothing_is_asked_of_nobody(inference_log: InferenceLog) -> None:
    """Without a vendor that is on there is an error that says where to look, and no event."""
    with pytest.raises(NoProvider, match="/api/health"):
        embed(settings())
    assert inference_log.empty


def test_settings() -> None:
    """One key turns DeepInfra on for text and embeddings; the embedded model has an address of its own."""
    hosted = from_environ({"DEEPINFRA_API_KEY": "key"})
    assert (list(hosted.vendors), list(hosted.embedders)) == (["deepinfra"], ["deepinfra"])
    local = from_environ({"LOCAL_EMBEDDINGS_BASE_URL": "http://127.0.0.1:9/v1"})
    assert (list(local.vendors), list(local.embedders)) == ([], ["local"])
    (part,) = (part for part in local.parts if part.name == "embeddings")
    assert part.on
    assert "demo quality" in part.note
    names = [variable.name for variable in variables()]
    assert names.count("DEEPINFRA_API_KEY") == 1
    assert "LOCAL_EMBEDDINGS_BASE_URL" in names


def test_new_vendor_is_one_row() -> None:
    """A row brings its variables, and counts as a secret's owner like any other."""
    assert {"MIRROR_API_KEY", "MIRROR_BASE_URL"} <= {variable.name for variable in variables(embedding_rows=ROWS)}
    exposed = from_environ({"NEXT_PUBLIC_MIRROR_API_KEY": "key"}, embedding_rows=ROWS)
    assert exposed.exposed == ("NEXT_PUBLIC_MIRROR_API_KEY",)
    on = from_environ({"MIRROR_API_KEY": "key"}, embedding_rows=ROWS)
    assert on.embedders["mirror"].base_url == DEEPINFRA.base_url

"""Embeddings: whom a call may go to, what it may hold, and what follows from a failure. No network, no clock."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import (
    AppError,
    BrokenStream,
    ContextTooLong,
    CredentialsRejected,
    InvalidRequest,
    NoProvider,
    Overloaded,
    ProviderError,
    RateLimited,
    RequestRejected,
)
from lib.providers.base import Usage
from lib.providers.catalog import EMBEDDING_ROWS, EmbeddingRow
from lib.providers.embeddings import Embedded, EmbeddingModel, EmbeddingRequest
from lib.router.attempt import Attempt
from lib.router.embeddings import (
    MAX_REQUEST_BYTES,
    EmbeddingCall,
    EmbeddingContext,
    EmbeddingRouter,
    Embeddings,
    make_embedding_plan,
)
from lib.router.health import Health
from lib.router.plan import Choice
from tests.lib.virtual_time import run

SHARED = EmbeddingModel("shared", 10, 3, max_inputs=4, min_dimensions=2)
REQUEST = EmbeddingRequest(("Hello", "world"))


def row(name: str, *models: EmbeddingModel, demo: bool = False) -> EmbeddingRow:
    """A vendor; without models of its own it offers the shared one."""
    return EmbeddingRow(name, name, f"{name}_URL", models or (SHARED,), demo=demo)


A, B = row("a"), row("b")
OTHER = row("other", EmbeddingModel("other", 10, 3, max_inputs=4))
DEMO = row("demo", EmbeddingModel("demo", 10, 2, max_inputs=4), demo=True)
ALL = (A, OTHER, B, DEMO)


def plan(choice: Choice | None = None, request: EmbeddingRequest = REQUEST, on: str = "a other b demo") -> list[str]:
    """Who is asked, in order, as vendor/model."""
    candidates = make_embedding_plan(choice or Choice(), request, ALL, on.split())
    return [f"{candidate.provider}/{candidate.model.id}" for candidate in candidates]


@pytest.mark.parametrize(
    ("choice", "on", "expected"),
    [
        (Choice(), "a other b demo", ["a/shared", "b/shared"]),
        (Choice(), "other b demo", ["other/other"]),
        (Choice(), "demo", ["demo/demo"]),
        (Choice(model="shared"), "a other b demo", ["a/shared", "b/shared"]),
        (Choice(model="other"), "a other b demo", ["other/other"]),
        (Choice(model="demo"), "a other b demo", ["demo/demo"]),
        (Choice(provider="b"), "a other b demo", ["b/shared"]),
        (Choice(provider="demo"), "a other b demo", ["demo/demo"]),
        (Choice(provider="b", model="shared"), "a other b demo", ["b/shared"]),
    ],
)
def test_plan(choice: Choice, on: str, expected: list[str]) -> None:
    """One model alone is in a plan, from everyone who offers it; the demo serves only who has no other or names it."""
    assert plan(choice, on=on) == expected


@pytest.mark.parametrize(
    ("choice", "on", "path"),
    [
        (Choice(provider="nobody"), "a", "provider"),
        (Choice(provider="b"), "a", "provider"),
        (Choice(model="gone"), "a", "model"),
        (Choice(model="shared"), "other", "model"),
        (Choice("b", "other"), "a b other", "model"),
    ],
)
def test_choice_that_cannot_be_met(choice: Choice, on: str, path: str) -> None:
    """Who names a vendor or a model gets it, or is told what there is; never another one."""
    with pytest.raises(InvalidRequest) as caught:
        plan(choice, on=on)
    assert [error.path for error in caught.value.errors] == [path]


@pytest.mark.parametrize("choice", [Choice(), Choice(provider="a"), Choice(model="shared")])
def test_nobody_is_on(choice: Choice) -> None:
    """Without any vendor there is nothing to choose from."""
    with pytest.raises(NoProvider):
        plan(choice, on="")


def test_same_name_with_other_dimensions_is_another_model() -> None:
    """A vendor that cuts the vectors of the same weights offers something that can't be compared."""
    short = row("short", EmbeddingModel("shared", 10, 2, max_inputs=4))
    candidates = make_embedding_plan(Choice(model="shared"), REQUEST, (A, short), {"a", "short"})
    assert [candidate.provider for candidate in candidates] == ["a"]


def test_vendor_that_takes_less_is_left_out() -> None:
    """Where one vendor of a model takes fewer texts than another, the call goes to who can take it."""
    small = row("small", EmbeddingModel("shared", 10, 3, max_inputs=1, min_dimensions=2))
    candidates = make_embedding_plan(Choice(), REQUEST, (small, A), {"a", "small"})
    assert [candidate.provider for candidate in candidates] == ["a"]


BIG = row("a", EmbeddingModel("big", MAX_REQUEST_BYTES, 3, max_inputs=4))


@pytest.mark.parametrize(
    ("request_", "paths"),
    [
        (EmbeddingRequest(()), ["input"]),
        (EmbeddingRequest(("x",) * 5), ["input"]),
        (EmbeddingRequest(("x", "")), ["input[1]"]),
        (EmbeddingRequest(("x" * 41, "x" * 40, "ü" * 21)), ["input[0]", "input[2]"]),
        (EmbeddingRequest(("\ud800",)), ["input[0]"]),
        (EmbeddingRequest(("x",), dimensions=1), ["dimensions"]),
        (EmbeddingRequest(("x",), dimensions=4), ["dimensions"]),
        (EmbeddingRequest(("x",), dimensions=0), ["dimensions"]),
        (EmbeddingRequest(("", "x"), dimensions=4), ["input[0]", "dimensions"]),
    ],
)
def test_texts_that_do_not_fit(request_: EmbeddingRequest, paths: list[str]) -> None:
    """Too many, too long, empty, no text at all, vectors of a length that there is not: each is named by its field."""
    with pytest.raises(InvalidRequest) as caught:
        plan(request=request_)
    assert [error.path for error in caught.value.errors] == paths
    assert "xx" not in str(caught.value.errors)


def test_too_much_together() -> None:
    """However long a model's texts may be, a call has its limit."""
    half = "x" * (MAX_REQUEST_BYTES // 2)
    assert make_embedding_plan(Choice(), EmbeddingRequest((half, half)), (BIG,), {"a"})
    with pytest.raises(InvalidRequest):
        make_embedding_plan(Choice(), EmbeddingRequest((half, half, "x")), (BIG,), {"a"})


@pytest.mark.parametrize("dimensions", [None, 2, 3])
def test_dimensions_that_the_model_has(dimensions: int | None) -> None:
    """Its own length may be asked for, and of a model that can be shortened a shorter one."""
    assert plan(request=EmbeddingRequest(("x",), dimensions))


def test_dimensions_of_a_model_of_fixed_length() -> None:
    """Its own may be named; another one is refused rather than left to the vendor, who would fill up with zeros."""
    assert plan(Choice(provider="other"), EmbeddingRequest(("x",), 3)) == ["other/other"]
    with pytest.raises(InvalidRequest) as caught:
        plan(Choice(provider="other"), EmbeddingRequest(("x",), 2))
    assert caught.value.errors[0].path == "dimensions"


@given(
    st.lists(st.sampled_from(["a", "other", "b", "demo"]), min_size=1, unique=True),
    st.sampled_from([None, "a", "other", "b", "demo", "nobody"]),
    st.sampled_from([None, "shared", "other", "demo", "gone"]),
)
def test_plan_never_mixes_models(on: list[str], provider: str | None, model: str | None) -> None:
    """Whatever is on and whatever is asked for: one model and one length, from vendors that are on."""
    try:
        candidates = make_embedding_plan(Choice(provider, model), REQUEST, ALL, on)
    except InvalidRequest:
        assert provider is not None or model is not None
        return
    assert len({(candidate.model.id, candidate.model.dimensions) for candidate in candidates}) == 1
    assert {candidate.provider for candidate in candidates} <= set(on)
    assert model in {None, candidates[0].model.id}
    assert provider in {None, candidates[0].provider}


@pytest.mark.parametrize("each", EMBEDDING_ROWS, ids=[each.name for each in EMBEDDING_ROWS])
def test_catalogue(each: EmbeddingRow) -> None:
    """Each row names its models once, with limits that fit one another; what needs a key has an address over TLS."""
    assert len({model.id for model in each.models}) == len(each.models) > 0
    assert all(min(model.context_tokens, model.dimensions, model.max_inputs) > 0 for model in each.models)
    assert all(1 <= (model.min_dimensions or 1) <= model.dimensions for model in each.models)
    assert (each.base_url or "https://").startswith("https://")
    assert (each.key_var is None) is (each.base_url is None) is each.demo


Step = ProviderError | float | Usage | None
"""What a scripted vendor does: fail, keep silent for so many seconds, or answer, counting or not."""


class Scripted:
    """A vendor that does what its script says, one step a call; an empty script answers."""

    def __init__(self, name: str, *steps: Step) -> None:
        self.name = name
        self.steps = list(steps)
        self.calls = 0
        self.cancelled = 0

    async def embed(self, request: EmbeddingRequest, model: EmbeddingModel) -> Embedded:
        """See EmbeddingProvider."""
        self.calls += 1
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, ProviderError):
            raise step
        if isinstance(step, float):
            try:
                await asyncio.sleep(step)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        length = request.dimensions or model.dimensions
        usage = step if isinstance(step, Usage) else None
        return Embedded(tuple(array("f", [len(text)] * length) for text in request.input), usage)


class World:
    """Two vendors of one model and one of another, and the router over them."""

    def __init__(self, *, a: Sequence[Step] = (), b: Sequence[Step] = (), on: str = "a other b") -> None:
        self.vendors = {"a": Scripted("a", *a), "b": Scripted("b", *b), "other": Scripted("other")}
        self.health = Health()
        self.router = EmbeddingRouter(ALL, on.split(), self.vendors.__getitem__, self.health)
        self.attempts: Sequence[Attempt] = ()

    async def ask(self, context: EmbeddingContext | None = None, request: EmbeddingRequest = REQUEST) -> Embeddings:
        """One call; its attempts are kept."""
        call: EmbeddingCall = self.router.get_embeddings(request, context or EmbeddingContext())
        self.attempts = call.attempts
        return await call.result()

    @property
    def log(self) -> list[tuple[str, str, str | None, str]]:
        """The last call's attempts: vendor, outcome, error, kind."""
        return [(each.candidate.provider, each.outcome or "", each.error_code, each.kind) for each in self.attempts]


def asked(world: World, context: EmbeddingContext | None = None) -> Embeddings | AppError:
    """One call under virtual time: its vectors, or what the caller is told."""
    try:
        return run(world.ask(context))
    except AppError as error:
        return error


def test_answer() -> None:
    """The vectors come in the texts' order, with the vendor, the model and the length that they are of."""
    world = World(a=[Usage(5, 0)])
    answer = asked(world)
    assert isinstance(answer, Embeddings)
    assert [list(vector) for vector in answer.vectors] == [[5, 5, 5], [5, 5, 5]]
    assert (answer.provider, answer.model, answer.dimensions) == ("a", "shared", 3)
    assert world.log == [("a", "ok", None, "first")]
    assert world.attempts[0].usage == Usage(5, 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited(retry_after_s=30), "rate_limited"),
        (Overloaded(status=503), "provider_unavailable"),
        (CredentialsRejected(status=401), "credentials_rejected"),
        (BrokenStream(), "broken_stream"),
    ],
)
def test_fallback_is_the_same_model(error: ProviderError, code: str) -> None:
    """After any failure the next vendor of the same model is asked at once; the one of another model is not."""
    world = World(a=[error])
    answer = asked(world)
    assert isinstance(answer, Embeddings)
    assert (answer.provider, answer.model) == ("b", "shared")
    assert world.log == [("a", "error", code, "first"), ("b", "ok", None, "fallback")]
    assert world.vendors["other"].calls == 0


def test_no_other_model_when_all_fail() -> None:
    """No vectors are better than those of another model."""
    world = World(a=[Overloaded()], b=[Overloaded(), Overloaded()])
    error = asked(world)
    assert isinstance(error, NoProvider)
    assert error.message.startswith(
        "No provider could answer; tried a (provider_unavailable), b (provider_unavailable)"
    )
    assert world.vendors["other"].calls == 0


def test_silent_vendor() -> None:
    """Who keeps silent is left after its time, and its call is ended."""
    world = World(a=[100.0])
    answer = asked(world)
    assert isinstance(answer, Embeddings)
    assert world.log == [("a", "timeout", "timeout", "first"), ("b", "ok", None, "fallback")]
    first, second = world.attempts
    assert second.started_at - first.started_at == EmbeddingContext().vendor_s
    assert world.vendors["a"].cancelled == 1


def test_deadline() -> None:
    """The whole call has an end, whoever still hopes; nobody is asked after it."""
    world = World(a=[100.0], b=[100.0])
    error = asked(world, EmbeddingContext(vendor_s=4, total_s=10))
    assert isinstance(error, NoProvider)
    first, second = world.attempts
    assert second.ended_at is not None
    assert (second.started_at - first.started_at, second.ended_at - first.started_at) == (4, 10)
    assert world.vendors["b"].cancelled == 1


def test_only_vendor_is_asked_once_more() -> None:
    """As for text: a failure that may pass is tried again after a moment where there is no other vendor."""
    world = World(a=[Overloaded()], on="a other")
    assert isinstance(asked(world), Embeddings)
    assert world.log == [("a", "error", "provider_unavailable", "first"), ("a", "ok", None, "retry")]
    assert 0.25 <= world.attempts[1].started_at - world.attempts[0].started_at <= 0.5


def test_deadline_before_the_retry() -> None:
    """A retry that would begin after the deadline does not."""
    world = World(a=[Overloaded()], on="a")
    assert isinstance(asked(world, EmbeddingContext(total_s=0.1)), NoProvider)
    assert world.vendors["a"].calls == 1


@pytest.mark.parametrize("error", [RequestRejected(status=400), ContextTooLong(status=400)])
def test_callers_own_fault(error: ProviderError) -> None:
    """What one vendor rejects, another of the same model would reject too."""
    world = World(a=[error])
    told = asked(world)
    assert isinstance(told, InvalidRequest)
    assert told.code == error.code
    assert world.vendors["b"].calls == 0


def test_pinned_vendor_fails() -> None:
    """Who names a vendor gets no other."""
    world = World(a=[CredentialsRejected()])
    assert isinstance(asked(world, EmbeddingContext(Choice(provider="a"))), NoProvider)
    assert world.vendors["b"].calls == 0


def test_breaker() -> None:
    """A vendor that said when to come back is left alone until then, and first again afterwards."""
    world = World(a=[RateLimited(retry_after_s=30)])

    async def calls() -> list[str]:
        served = [(await world.ask()).provider for _ in range(2)]
        await asyncio.sleep(31)
        return [*served, (await world.ask()).provider]

    assert run(calls()) == ["b", "b", "a"]
    assert world.vendors["a"].calls == 2


def test_nobody_is_asked_while_all_rest() -> None:
    """With every vendor of the model at rest the caller is told when to come back."""
    world = World(a=[RateLimited(retry_after_s=30)], on="a")

    async def calls() -> NoProvider:
        with pytest.raises(NoProvider):
            await world.ask()
        with pytest.raises(NoProvider) as caught:
            await world.ask()
        return caught.value

    error = run(calls())
    assert (world.vendors["a"].calls, [attempt.kind for attempt in world.attempts]) == (1, ["skipped"])
    assert error.retry_after_s is not None
    assert error.retry_after_s > 0


def test_caller_leaves() -> None:
    """A cancelled call ends the vendor's, which is on record and blames nobody."""
    world = World(a=[100.0])

    async def leave() -> None:
        asking = asyncio.create_task(world.ask())
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    run(leave())
    assert world.log == [("a", "cancelled", None, "first")]
    assert world.vendors["a"].cancelled == 1
    assert isinstance(asked(world), Embeddings)
    assert world.log == [("a", "ok", None, "first")]


def test_parallel_calls() -> None:
    """Calls at once do not mix their texts or vectors up."""

    async def one(world: World, number: int) -> list[float]:
        answer = await world.ask(request=EmbeddingRequest(("x" * number,)))
        return list(answer.vectors[0])

    async def all_at_once() -> list[list[float]]:
        delays: list[Step] = [float(1 + number % 3) for number in range(40)]
        world = World(a=delays)
        return await asyncio.gather(*(one(world, number) for number in range(1, 41)))

    assert run(all_at_once()) == [[number] * 3 for number in range(1, 41)]


def unexpected(error: Exception) -> Callable[[str], Scripted]:
    """A wiring whose adapter can't even be made."""

    def provider(_: str) -> Scripted:
        raise error

    return provider


def test_fault_of_our_own() -> None:
    """An error that is no vendor's goes through as it is, and leaves no attempt open."""
    router = EmbeddingRouter(ALL, {"a"}, unexpected(RuntimeError("ours")))

    async def ask() -> Sequence[Attempt]:
        call = router.get_embeddings(REQUEST, EmbeddingContext())
        with pytest.raises(RuntimeError, match="ours"):
            await call.result()
        return call.attempts

    assert [attempt.outcome for attempt in run(ask())] == ["cancelled"]

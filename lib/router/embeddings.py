"""Embeddings: who is asked, and the same rules as for text about who fails.

Vectors of different models are not comparable, not even where they have the same length: a distance between them means
nothing, and nobody would notice. So a call is answered by one model or not at all. The candidates after the first are
other vendors of that same model and dimensions, never another model. Which model that is, is the caller's choice, or
the first that is on: store `Embeddings.model` and `Embeddings.dimensions` beside the vectors, and name them again when
asking for vectors to compare with those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from lib.errors import AppError, FieldError, InvalidRequest, NoProvider
from lib.providers.base import Model
from lib.providers.catalog import EmbeddingRow
from lib.providers.embeddings import Embedded, EmbeddingModel, EmbeddingProvider, EmbeddingRequest, Vector
from lib.router.attempt import Attempt, Policy
from lib.router.health import Health
from lib.router.plan import Candidate, Choice
from lib.router.whole import WholeCall

MAX_REQUEST_BYTES = 1_200_000
"""Of all texts of a call together: about OpenAI's 300,000 tokens."""


@dataclass(frozen=True, slots=True)
class EmbeddingContext:
    """What the router should know of the caller's wishes besides the request itself; times in seconds.

    `choice.provider` pins the call to a vendor, `choice.model` to an id. `vendor_s` is how long one vendor may take
    while another of the same model is left, `total_s` how long the whole call.
    """

    choice: Choice = field(default_factory=Choice)
    vendor_s: float = 15.0
    total_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in the texts' order, each of `dimensions` numbers; comparable within `model` alone."""

    vectors: tuple[Vector, ...]
    provider: str
    model: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class EmbeddingCandidate:
    """A vendor and the model that it is asked for."""

    provider: str
    model: EmbeddingModel

    @property
    def route(self) -> Candidate:
        """The same as the router's core knows it: a model that reads and writes nothing."""
        return Candidate(self.provider, Model(self.model.id, self.model.context_tokens, 0))


class EmbeddingRouter:
    """Asks the vendors that are on for one model, in the catalogue's order."""

    def __init__(
        self,
        rows: tuple[EmbeddingRow, ...],
        on: Collection[str],
        provider: Callable[[str], EmbeddingProvider],
        health: Health | None = None,
    ) -> None:
        """`on` names the vendors that are configured; `provider` returns the adapter of one of them."""
        self._rows = rows
        self._on = on
        self._provider = provider
        self._health = health or Health()

    def get_embeddings(self, request: EmbeddingRequest, context: EmbeddingContext) -> EmbeddingCall:
        """Embed all texts of `request` with one model, as the head of this module says.

        Nothing is sent before the call's result is awaited. Raises InvalidRequest for a choice that can't be met or
        texts that do not fit, NoProvider where nobody is on.
        """
        plan = make_embedding_plan(context.choice, request, self._rows, self._on)
        policy = Policy(first_token_s=context.vendor_s, patience_s=context.total_s, total_s=context.total_s)
        return EmbeddingCall(plan, request, policy, self._health, self._provider)


class EmbeddingCall:
    """One request on its way. `attempts` grows while it runs and stands complete after it."""

    def __init__(
        self,
        plan: Sequence[EmbeddingCandidate],
        request: EmbeddingRequest,
        policy: Policy,
        health: Health,
        provider: Callable[[str], EmbeddingProvider],
    ) -> None:
        self._models = {candidate.provider: candidate.model for candidate in plan}
        self._request = request
        self._provider = provider
        self._call = WholeCall([candidate.route for candidate in plan], self._ask, policy, health)

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every call to a vendor so far, in order."""
        return self._call.attempts

    async def result(self) -> Embeddings:
        """The vectors; to be awaited once. Raises AppError where nobody answers; cancelling it stops the vendor."""
        vectors = (await self._call.result()).vectors
        candidate = self.attempts[-1].candidate
        return Embeddings(vectors, candidate.provider, candidate.model.id, len(vectors[0]))

    async def _ask(self, attempt: Attempt) -> Embedded:
        name = attempt.candidate.provider
        embedded = await self._provider(name).embed(self._request, self._models[name])
        attempt.usage = embedded.usage
        return embedded


def make_embedding_plan(
    choice: Choice, request: EmbeddingRequest, rows: tuple[EmbeddingRow, ...], on: Collection[str]
) -> tuple[EmbeddingCandidate, ...]:
    """The vendors of one model, best first: of the one that was chosen, else of the first that is on.

    The embedded demo model is left out while a hosted vendor is on, unless its name or its model's was chosen. Raises
    InvalidRequest and NoProvider as get_embeddings does.
    """
    named = [row for row in rows if row.name in on and choice.provider in {None, row.name}]
    if not named:
        raise _nobody(choice, rows, on)
    hosted = [row for row in named if not row.demo]
    able = named if choice.model is not None else hosted or named
    candidates = [EmbeddingCandidate(row.name, model) for row in able for model in row.models]
    offered = [candidate for candidate in candidates if choice.model in {None, candidate.model.id}]
    if not offered:
        ids = ", ".join(dict.fromkeys(candidate.model.id for candidate in candidates))
        raise _bad_choice("model", f"is not offered for embeddings by a vendor that is on; on: {ids}")
    first = offered[0].model
    same = [item for item in offered if (item.model.id, item.model.dimensions) == (first.id, first.dimensions)]
    fitting = tuple(candidate for candidate in same if not any(_unfit(request, candidate.model)))
    if not fitting:
        raise InvalidRequest(f"The texts do not fit {first.id}.", errors=tuple(_unfit(request, first)))
    return fitting


def _unfit(request: EmbeddingRequest, model: EmbeddingModel) -> Iterator[FieldError]:
    """What of the request this model can't take."""
    count = len(request.input)
    if not 1 <= count <= model.max_inputs:
        yield FieldError("input", f"must hold 1 to {model.max_inputs} texts, holds {count}")
        return
    sizes = [_size(text) for text in request.input]
    for index, size in enumerate(sizes):
        if size is None:
            yield FieldError(f"input[{index}]", "is no Unicode text")
        elif not 1 <= size <= model.max_input_bytes:
            expected = f"must have 1 to {model.max_input_bytes} bytes of UTF-8"
            yield FieldError(f"input[{index}]", f"{expected} ({model.context_tokens} tokens), has {size}")
    if sum(size or 0 for size in sizes) > MAX_REQUEST_BYTES:
        yield FieldError("input", f"must have at most {MAX_REQUEST_BYTES} bytes of UTF-8 together")
    if request.dimensions not in {None, model.dimensions}:
        yield from _unfit_dimensions(request.dimensions or 0, model)


def _unfit_dimensions(dimensions: int, model: EmbeddingModel) -> Iterator[FieldError]:
    """A vendor may fill up with zeros what is longer than the model's vectors, and cut what can't be cut."""
    if model.min_dimensions is None:
        yield FieldError("dimensions", f"can't be chosen: those of {model.id} are {model.dimensions}")
    elif not model.min_dimensions <= dimensions <= model.dimensions:
        yield FieldError("dimensions", f"must be {model.min_dimensions} to {model.dimensions} for {model.id}")


def _size(text: str) -> int | None:
    """Bytes of UTF-8, or None where a lone surrogate has none."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _nobody(choice: Choice, rows: tuple[EmbeddingRow, ...], on: Collection[str]) -> AppError:
    names = [row.name for row in rows if row.name in on]
    if choice.provider is None or not names:
        return NoProvider("No vendor of embeddings is on. GET /api/health names the variables that turn one on.")
    return _bad_choice("provider", f"is not on for embeddings; on: {', '.join(names)}")


def _bad_choice(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {message}.", errors=(FieldError(path, message),))

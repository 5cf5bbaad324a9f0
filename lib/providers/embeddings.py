"""What the router and the adapters say to one another about embeddings."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lib.providers.base import Usage

BYTES_PER_TOKEN = 4
"""A text of that many UTF-8 bytes per token of the context is usual; a longer one is refused before it is sent."""
Vector: TypeAlias = "array[float]"
"""One embedding, as 32-bit floats."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that turns a text of up to `context_tokens` into a vector of `dimensions` numbers.

    `max_inputs` is how many texts one call may carry. `min_dimensions` is the shortest vector to ask for, of a model
    that was trained to be shortened (Matryoshka representation learning, arXiv:2205.13147); None: its length is fixed.
    """

    id: str
    context_tokens: int
    dimensions: int
    max_inputs: int
    min_dimensions: int | None = None

    @property
    def max_input_bytes(self) -> int:
        """The longest text, in bytes of UTF-8."""
        return self.context_tokens * BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to embed, free of any vendor; `dimensions` None means the model's own."""

    input: tuple[str, ...]
    dimensions: int | None = None

    @property
    def characters(self) -> int:
        """How much text there is."""
        return sum(map(len, self.input))


@dataclass(frozen=True, slots=True)
class Embedded:
    """A provider's answer: one vector per text, in the texts' order, and what it counted, if it did."""

    vectors: tuple[Vector, ...]
    usage: Usage | None


class EmbeddingProvider(Protocol):
    """A vendor of embeddings."""

    name: str

    async def embed(self, request: EmbeddingRequest, model: EmbeddingModel) -> Embedded:
        """Embed all texts in one call. Raises ProviderError alone, also for an answer that does not fit.

        Cancelling it closes the upstream connection.
        """
        ...

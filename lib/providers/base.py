"""What the router and the adapters say to one another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Capability = Literal["json_schema", "vision", "reasoning"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Which conversation a request belongs to; `key` is opaque and says nothing of the caller or the texts.

    `goes_on`: it may have had an answer before, so that a provider may still hold its beginning.
    """

    key: str
    goes_on: bool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A text request, free of any vendor. Messages are in OpenAI's wire shape; None means the vendor's default."""

    messages: tuple[dict[str, object], ...]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: dict[str, object] | None = None
    reasoning_effort: str | None = None
    conversation: Conversation | None = None

    @property
    def needs(self) -> frozenset[Capability]:
        """What a model must be able to do to serve this request."""
        needs: set[Capability] = set()
        if self.response_format is not None and self.response_format.get("type") == "json_schema":
            needs.add("json_schema")
        if any(isinstance(message["content"], list) for message in self.messages):
            needs.add("vision")
        return frozenset(needs)

    @property
    def characters(self) -> int:
        """How much text the messages hold."""
        return sum(_characters(message["content"]) for message in self.messages)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a vendor offers; sizes are in tokens."""

    id: str
    context_tokens: int
    max_output_tokens: int
    can: frozenset[Capability] = frozenset()
    continues_prefix: bool = False
    """Whether it is proven to go on from an assistant message that ends the conversation."""
    guessed: bool = False
    """Whether its sizes are a guess, since the catalogue does not know it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a provider counted; input includes the cached ones, output includes the reasoning ones."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(slots=True)
class Delta:
    """One step of an answer. Any field may be unset; `usage` usually arrives alone, last."""

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class TextProvider(Protocol):
    """A vendor of text."""

    name: str

    def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """Answer `request` with `model`: the deltas of each network read as they arrive, never an empty batch.

        Ends normally only when the vendor said that the answer is complete. Raises ProviderError alone.
        Closing the iterator closes the upstream connection.
        """
        ...


def _characters(content: Any) -> int:
    return len(content) if isinstance(content, str) else sum(len(part.get("text", "")) for part in content)

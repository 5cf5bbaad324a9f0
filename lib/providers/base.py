"""What the router and the adapters say to one another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import orjson

Capability = Literal["json_schema", "vision", "reasoning", "tools", "json_schema_with_tools"]
MAX_DEPTH = 50
"""Of JSON that a model writes: a little less than a request may be, since the next may hold it."""
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
    """A text request, free of any vendor. Messages and tools have OpenAI's wire shape; None means the vendor's default.

    We call no tool ourselves: calls are handed to the caller, whose next request brings their results.
    """

    messages: tuple[dict[str, object], ...]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: dict[str, object] | None = None
    reasoning_effort: str | None = None
    conversation: Conversation | None = None
    tools: tuple[dict[str, object], ...] = ()
    tool_choice: str | dict[str, object] | None = None

    @property
    def needs(self) -> frozenset[Capability]:
        """What a model must be able to do to serve this request."""
        needs: set[Capability] = set()
        if self.response_format is not None:
            needs.add("json_schema")
        if any(isinstance(message["content"], list) for message in self.messages):
            needs.add("vision")
        if self.tools or any("tool_calls" in message for message in self.messages):
            needs.add("tools")
        if self.tools and self.response_format is not None:
            needs.add("json_schema_with_tools")
        return frozenset(needs)

    @property
    def call_ids(self) -> frozenset[object]:
        """The ids of the tool calls in the messages."""
        calls: Any = (call for message in self.messages for call in cast("list[Any]", message.get("tool_calls", [])))
        return frozenset(call["id"] for call in calls)

    @property
    def characters(self) -> int:
        """How much text the model has to read: messages, calls of tools and their results, and the tools themselves."""
        tools = len(orjson.dumps(self.tools)) if self.tools else 0
        return sum(map(_characters, self.messages)) + tools


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
    arguments: tuple[tuple[str, str], ...] = ()
    """What its vendor has to be told with every request to this model."""


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


@dataclass(frozen=True, slots=True)
class Units:
    """What a vendor bills a call by that has no tokens; `estimated`: as we reckon, since it never said."""

    unit: Literal["characters", "megapixels", "seconds"]
    amount: float
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call that the model wants made; `arguments` is the next of its JSON text.

    `index` says of which call, from 0, in the order of their first pieces. The first piece alone holds the name of the
    tool and an id that no other call of the conversation has. Whether a call is complete, only its arguments tell: see
    `json_object`.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Delta:
    """One step of an answer. Any field may be unset; `usage` usually arrives alone, last."""

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()

    @property
    def characters(self) -> int:
        """How much the model has written; 0 where it only counted or finished."""
        calls = sum(len(call.name) + len(call.arguments) for call in self.tool_calls) if self.tool_calls else 0
        return len(self.text) + len(self.reasoning) + calls


class TextProvider(Protocol):
    """A vendor of text."""

    name: str

    def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """Answer `request` with `model`: the deltas of each network read as they arrive, never an empty batch.

        Ends normally only when the vendor said that the answer is complete. Raises ProviderError alone.
        Closing the iterator closes the upstream connection.
        """
        ...


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, in full, or None: a call of a tool whose arguments are none must not be made.

    Nor one whose arguments are nested so deep that they could not be sent back.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or is_deep(cast("object", value)):
        return None
    return cast("dict[str, Any]", value)


def is_deep(value: object) -> bool:
    """Whether a JSON value is nested deeper than MAX_DEPTH."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level if isinstance(item, dict | list) for child in _children(item)]
    return any(isinstance(item, dict | list) for item in level)


def _children(item: Any) -> Iterable[Any]:
    return cast("dict[str, Any]", item).values() if isinstance(item, dict) else item


def _characters(message: dict[str, Any]) -> int:
    content: Any = message["content"] or ""
    calls: list[Any] = message.get("tool_calls", [])
    text = len(content) if isinstance(content, str) else sum(len(part.get("text", "")) for part in content)
    return text + sum(len(call["function"]["name"]) + len(call["function"]["arguments"]) for call in calls)

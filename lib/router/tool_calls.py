"""The tool calls of an answer, put together from their pieces: whole, or not to be made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lib.providers.base import ToolCallDelta, json_object


@dataclass(slots=True)
class ToolCall:
    """One call: what it is known by, the tool's name, and the pieces of its arguments so far."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list[str])

    @property
    def arguments(self) -> str:
        """The arguments as the model wrote them: JSON, once the call is whole."""
        return "".join(self.pieces)


class ToolCalls:
    """The calls of one answer, in order."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __iter__(self) -> Iterator[ToolCall]:
        return iter(self._calls.values())

    def __getitem__(self, index: int) -> ToolCall:
        return self._calls[index]

    def add(self, pieces: Iterable[ToolCallDelta]) -> None:
        """Take in the next pieces."""
        for piece in pieces:
            call = self._calls.setdefault(piece.index, ToolCall(piece.id, piece.name))
            call.pieces.append(piece.arguments)

    def clear(self) -> None:
        """Forget them: the answer begins anew."""
        self._calls.clear()

    @property
    def are_whole(self) -> bool:
        """Whether the arguments of each are a complete JSON object; nothing less may be called with."""
        return all(json_object(call.arguments) is not None for call in self)

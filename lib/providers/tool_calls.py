"""Calls of tools as vendors stream them: by the protocol, or near it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import orjson

from lib.errors import BrokenStream
from lib.providers.base import ToolCallDelta, json_object

MAX_TOOL_CALLS = 128
"""In one answer. As many tools as OpenAI lets a request define."""
MAX_ID = 256
"""Characters of an id that its caller can send back to us."""


@dataclass(slots=True)
class _Call:
    """One call so far; `index` and `id` are ours, `theirs` is the vendor's id, if it has one."""

    index: int
    id: str
    theirs: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])

    @property
    def is_complete(self) -> bool:
        # Most pieces end in the middle: only where the last might be the last of all is it worth parsing.
        ends = bool(self.arguments) and self.arguments[-1].rstrip().endswith("}")
        return ends and json_object("".join(self.arguments)) is not None


class ToolCallReader:
    """Turns the `tool_calls` of one answer's chunks into pieces that follow ToolCallDelta's rules.

    By the protocol, a call's first piece holds index, id and name, the later ones its index and the next of its
    arguments. Known to differ: whole calls in one piece, with an index of 0 for each; no index, or no id; the name (and
    a fresh id) with every piece, or the whole call once more at the end; arguments as an object; ids that count from 0
    in each answer, so that pages would take a call for one of an answer before.
    """

    def __init__(self, taken: Collection[object] = ()) -> None:
        """`taken` are the ids of earlier answers' calls."""
        self._taken = set(taken)
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    @property
    def begun(self) -> bool:
        """Whether there is any call."""
        return bool(self._calls)

    @property
    def nameless(self) -> bool:
        """Whether a call has no name yet: it has not been handed on, and can't be made."""
        return any(not call.name for call in self._calls)

    def read(self, pieces: Any) -> tuple[ToolCallDelta, ...]:
        """Take in the `tool_calls` of one chunk. Raises TypeError, AttributeError or BrokenStream on nonsense."""
        if not isinstance(pieces, list):
            raise TypeError
        read = map(self._read, cast("list[Any]", pieces))
        return tuple(delta for delta in read if delta is not None)

    def _read(self, piece: Any) -> ToolCallDelta | None:
        function: Any = piece.get("function") or {}
        name, id_ = clean(function.get("name") or ""), clean(piece.get("id") or "")
        arguments = _arguments(function.get("arguments"))
        call = self._call_of(_index(piece.get("index")), id_, name)
        if name and arguments and arguments == "".join(call.arguments) and call.is_complete:
            return None
        is_first = bool(name) and not call.name
        if is_first:
            call.name = name
        if arguments:
            call.arguments.append(arguments)
        if is_first:
            return ToolCallDelta(call.index, call.id, name, "".join(call.arguments))
        return ToolCallDelta(call.index, arguments=arguments) if arguments and call.name else None

    def _call_of(self, index: int | None, id_: str, name: str) -> _Call:
        """The call that a piece belongs to."""
        if index is None:
            last = self._calls[-1] if self._calls else None
            call = next((call for call in self._calls if id_ and call.theirs == id_), last)
        else:
            call = self._by_index.get(index)
        if call is None or self._is_another(call, index, id_, name):
            call = self._new(id_)
        if index is not None:
            self._by_index[index] = call
        return call

    def _is_another(self, call: _Call, index: int | None, id_: str, name: str) -> bool:
        """Whether a piece begins a call after this one, though its index does not say so."""
        if (id_ and id_ == call.theirs) or not name or not call.name:
            return False
        has_own_id = bool(id_) or index is None
        return has_own_id and (name != call.name or call.is_complete)

    def _new(self, id_: str) -> _Call:
        if len(self._calls) == MAX_TOOL_CALLS:
            raise BrokenStream
        is_free = 0 < len(id_) <= MAX_ID and id_ not in self._taken
        call = _Call(len(self._calls), id_ if is_free else f"call_{uuid4().hex}", id_ or None)
        self._taken.add(call.id)
        self._calls.append(call)
        return call


def clean(value: object) -> str:
    """A vendor's text without NULs: no caller could send one back to us in the next turn, nor store it."""
    if not isinstance(value, str):
        raise TypeError
    return value.replace("\0", "")


def _index(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _arguments(value: object) -> str:
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return clean(value or "")

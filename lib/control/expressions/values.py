"""What expressions evaluate to, and what evaluating them may cost.

Nothing is evaluated before it is needed, and an argument or a field at most once. Trees cannot loop, but functions
that take themselves as an argument can, and a few of them in a row can double their work each: so every call, field
and argument is charged to a `Meter`, with steps for the size of what it runs and depth for how deep that nests. What
it runs out of, and whatever else an expression cannot give, is one error, `Unfit`, for the field that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from lib.control.expressions import javascript

MAX_DEPTH = 200
"""Expressions that are being evaluated at once; each takes two to three of Python's thousand stack frames."""
MAX_VALUE_NESTING = 60
MAX_STEPS = 20_000
"""Expressions, compared items and joined characters per field: some milliseconds."""
SCALARS = {str, bool, int, float}


class Unfit(Exception):
    """The expression has no value for this caller; the message says why, never with data."""


class Meter:
    """What one field's evaluation may still cost."""

    __slots__ = ("depth", "steps")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, for the next field."""
        self.steps = MAX_STEPS
        self.depth = 0

    def spend(self, steps: int) -> None:
        """Charge work. Raises Unfit where nothing is left."""
        self.steps -= steps
        if self.steps < 0:
            raise Unfit("takes too many steps")

    def run(self, code: Code, scope: Scope) -> object:
        """Run `code`, charged before it begins. Raises Unfit where too little is left."""
        self.spend(code.size)
        self.depth += code.depth
        if self.depth > MAX_DEPTH:
            raise Unfit("nests too deep")
        value = code.run(scope)
        self.depth -= code.depth
        return value


@dataclass(slots=True)
class Scope:
    """Where a closure runs: the variables by id, each a JSON value or a Thunk."""

    variables: Mapping[str, object]
    meter: Meter


@dataclass(slots=True)
class Code:
    """A compiled expression: a run takes at most `size` steps and nests `depth` deep, without its calls and fields."""

    run: Callable[[Scope], object]
    size: int
    depth: int


@dataclass(slots=True)
class Thunk:
    """An argument that is evaluated when it is first used."""

    code: Code
    scope: Scope
    value: object = None
    done: bool = False

    def force(self) -> object:
        """Its value."""
        if not self.done:
            self.value = self.scope.meter.run(self.code, self.scope)
            self.done = True
        return self.value


@dataclass(slots=True)
class Function:
    """A function with the variables around it."""

    parameters: Sequence[str]
    body: Code
    scope: Scope

    def call(self, arguments: Sequence[object]) -> object:
        """Its result for JSON values or Thunks."""
        if len(arguments) != len(self.parameters):
            raise Unfit("calls a function with too many or too few arguments")
        meter = self.scope.meter
        variables = {**self.scope.variables, **dict(zip(self.parameters, arguments, strict=True))}
        return meter.run(self.body, Scope(variables, meter))


@dataclass(slots=True, eq=False)
class Object:
    """Fields that are evaluated when they are first asked for, laid over those of `base`, an Object or a JSON value."""

    type_name: str
    codes: Mapping[str, Code]
    scope: Scope
    base: object = None
    values: dict[str, object] = field(default_factory=dict[str, object])

    def get(self, name: str) -> object:
        """The field's value."""
        layer: object = self
        while isinstance(layer, Object):
            if name in layer.values:
                return layer.values[name]
            if name in layer.codes:
                layer.values[name] = value = self.scope.meter.run(layer.codes[name], layer.scope)
                return value
            self.scope.meter.spend(1)
            layer = layer.base
        return _field_of_json(layer, name)

    def names(self) -> Collection[str]:
        """Its fields, the lowest object's first."""
        if self.base is None:
            return self.codes.keys()
        layers: list[object] = [self]
        while isinstance(layer := layers[-1], Object):
            self.scope.meter.spend(1 + len(layer.codes))
            layers.append(layer.base)
        names: dict[str, None] = {}
        for layer in reversed(layers):
            names |= dict.fromkeys(layer.codes if isinstance(layer, Object) else cast("dict[str, object]", layer or {}))
        return names


def member(value: object, name: str) -> object:
    """A field of an Object or of a JSON object. Raises Unfit where there is none."""
    return value.get(name) if isinstance(value, Object) else _field_of_json(value, name)


def type_name_of(value: object) -> str:
    """What the schema calls an object; those that callers bring have no name."""
    return value.type_name if isinstance(value, Object) else ""


def from_json(value: object) -> object:
    """A JSON value as the language knows it. Raises Unfit for null and what is not JSON."""
    kind = type(value)
    if kind in {int, float}:
        return javascript.number(cast("float", value))
    if kind not in {str, bool, list, dict}:
        raise Unfit("reads a value that is missing or not JSON")
    return value


def plain(value: object, meter: Meter, depth: int = 0) -> object:
    """The value as JSON, every field of its objects evaluated. Raises Unfit for a function, and for what is huge."""
    kind = type(value)
    if kind in SCALARS:
        return value if kind is not float else value or 0  # -0 is 0 in JSON
    _descend(meter, depth)
    if kind is list:
        items = cast("list[object]", value)
        meter.spend(len(items))
        return [plain(item, meter, depth + 1) for item in items]
    if kind is dict or kind is Object:
        fields = {name: plain(member(value, name), meter, depth + 1) for name in _names(value, meter)}
        return {"__typename": type_name_of(value), **fields}
    raise Unfit("gives a function or nothing")


def equal(a: object, b: object, meter: Meter, depth: int = 0) -> bool:
    """Whether two values are the same, objects by all fields but those that begin with two underscores."""
    kind, other = type(a), type(b)
    if kind in SCALARS and other in SCALARS:
        # Not so in Python: true is no 1 here.
        return a == b and (kind is bool) is (other is bool)
    _descend(meter, depth)
    if kind is list and other is list:
        items, others = cast("list[object]", a), cast("list[object]", b)
        meter.spend(len(items))
        return len(items) == len(others) and all(
            equal(item, each, meter, depth + 1) for item, each in zip(items, others, strict=True)
        )
    if kind in {dict, Object} and other in {dict, Object}:
        names, rest = ({name for name in _names(each, meter) if not name.startswith("__")} for each in (a, b))
        return names == rest and all(equal(member(a, name), member(b, name), meter, depth + 1) for name in names)
    if kind is Function or other is Function:
        raise Unfit("compares a function")
    return False


def _field_of_json(value: object, name: str) -> object:
    if type(value) is not dict:
        raise Unfit("reads a field of something that has none")
    return from_json(cast("dict[str, object]", value).get(name))


def _descend(meter: Meter, depth: int) -> None:
    meter.spend(1)
    if depth > MAX_VALUE_NESTING:
        raise Unfit("nests too deep")


def _names(value: object, meter: Meter) -> Collection[str]:
    names = value.names() if isinstance(value, Object) else cast("dict[str, object]", value)
    meter.spend(len(names))
    return names

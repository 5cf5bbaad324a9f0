"""An expression tree becomes closures, once; a request only runs them.

What is malformed or unknown in a tree fails only those who need it. Unlike Hypertune's own SDK, which takes every
branch, a mistake in a branch that is not taken does no harm here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from lib.control.expressions import javascript
from lib.control.expressions.operators import number, sum_named, test_named, truth
from lib.control.expressions.values import (
    SCALARS,
    Code,
    Function,
    Object,
    Scope,
    Thunk,
    Unfit,
    equal,
    from_json,
    member,
    plain,
    type_name_of,
)

MAX_NODES = 50_000
"""Expressions in one tree: five times what the largest Edge Config holds."""
MAX_NESTING = 100
MAX_KIND_CHARACTERS = 60
BUCKETS = 10_000

Node: TypeAlias = Mapping[str, Any]


def compiled(expression: object, splits: object) -> Code:
    """The expression as code that raises nothing but Unfit. `splits`: the init data's, by id."""
    return _Compiler(cast("Node", splits) if isinstance(splits, dict) else {}).code(expression)


class _Compiler:
    def __init__(self, splits: Node) -> None:
        self._splits = splits
        self._nodes = 0
        self._nesting = 0

    def code(self, expression: object) -> Code:
        self._nodes += 1
        if self._nodes > MAX_NODES or self._nesting >= MAX_NESTING:
            return _refusal("is too large" if self._nodes > MAX_NODES else "nests too deep")
        self._nesting += 1
        try:
            node = _mapping(expression)
            kind = _text(node.get("type"))
            rule = KINDS.get(kind)
            return _refusal(f"uses {_nameable(kind)}, which is not supported") if rule is None else rule(self, node)
        except Unfit as error:
            return _refusal(str(error))
        finally:
            self._nesting -= 1

    def constant(self, node: Node) -> Code:
        value = from_json(node.get("value"))
        if type(value) not in SCALARS:
            raise Unfit("is malformed")
        return _code(lambda _: value)

    def nothing(self, _node: Node) -> Code:
        return _code(lambda _: True)

    def items(self, node: Node) -> Code:
        codes = self._codes(node.get("items"))
        runs = [code.run for code in codes]
        return _code(lambda scope: [run(scope) for run in runs], *codes)

    def object(self, node: Node) -> Code:
        type_name = _text(node.get("objectTypeName"))
        codes = self._fields(node.get("fields"))
        return _code(lambda scope: Object(type_name, codes, scope))

    def update(self, node: Node) -> Code:
        base = self.code(node.get("object"))
        codes = self._fields(node.get("updates"))

        def run(scope: Scope) -> object:
            below = base.run(scope)
            if type(below) not in {Object, dict}:
                raise Unfit("updates something that is no object")
            return Object(type_name_of(below), codes, scope, below)

        return _code(run, base)

    def variable(self, node: Node) -> Code:
        name = _text(node.get("variableId"))

        def run(scope: Scope) -> object:
            if name not in scope.variables:
                raise Unfit("reads a variable that is not bound")
            value = scope.variables[name]
            return value.force() if type(value) is Thunk else value

        return _code(run)

    def field(self, node: Node) -> Code:
        target = self.code(node.get("object"))
        path = _text(node.get("fieldPath")).split(" > ")
        run_target = target.run

        def run(scope: Scope) -> object:
            value = run_target(scope)
            for name in path:
                value = member(value, name)
            return value

        return _code(run, target)

    def function(self, node: Node) -> Code:
        parameters = [_text(_mapping(parameter).get("id")) for parameter in _list(node.get("parameters"))]
        body = self.code(node.get("body"))
        return _code(lambda scope: Function(parameters, body, scope))

    def application(self, node: Node) -> Code:
        function = self.code(node.get("function"))
        arguments = self._codes(node.get("arguments"))

        def run(scope: Scope) -> object:
            called = function.run(scope)
            if not isinstance(called, Function):
                raise Unfit("calls something that is no function")
            return called.call([Thunk(argument, scope) for argument in arguments])

        return _code(run, function)

    def switch(self, node: Node) -> Code:
        control, default = self.code(node.get("control")), self.code(node.get("default"))
        cases = [_mapping(case) for case in _list(node.get("cases"))]
        pairs = [(self.code(case.get("when")), self.code(case.get("then"))) for case in cases]

        def run(scope: Scope) -> object:
            value = control.run(scope)
            for when, then in pairs:
                if equal(value, when.run(scope), scope.meter):
                    return then.run(scope)
            return default.run(scope)

        return _code(run, control, default, *(code for pair in pairs for code in pair))

    def enum_switch(self, node: Node) -> Code:
        control = self.code(node.get("control"))
        cases = self._fields(node.get("cases"))

        def run(scope: Scope) -> object:
            value = control.run(scope)
            if not isinstance(value, str) or value not in cases:
                raise Unfit("has no case for the value")
            return cases[value].run(scope)

        return _code(run, control, *cases.values())

    def comparison(self, node: Node) -> Code:
        test, wanted = test_named(_text(node.get("operator")))
        a, b = self.code(node.get("a")), self.code(node.get("b"))
        return _code(lambda scope: test(a.run(scope), b.run(scope), scope.meter) is wanted, a, b)

    def arithmetic(self, node: Node) -> Code:
        reckon = sum_named(_text(node.get("operator")))
        a, b = self.code(node.get("a")), self.code(node.get("b"))

        def run(scope: Scope) -> object:
            # As floats: an int's products would grow without end, and so would its powers.
            return javascript.number(reckon(float(number(a.run(scope))), float(number(b.run(scope)))))

        return _code(run, a, b)

    def round(self, node: Node) -> Code:
        value = self.code(node.get("number"))
        return _code(lambda scope: javascript.number(javascript.rounded(number(value.run(scope)))), value)

    def stringify(self, node: Node) -> Code:
        value = self.code(node.get("number"))
        return _code(lambda scope: javascript.text_of(number(value.run(scope))), value)

    def concat(self, node: Node) -> Code:
        strings = self.code(node.get("strings"))

        def run(scope: Scope) -> object:
            parts = strings.run(scope)
            if type(parts) is not list or not all(type(part) is str for part in cast("list[object]", parts)):
                raise Unfit("joins something that is no text")
            texts = cast("list[str]", parts)
            scope.meter.spend(sum(map(len, texts)))
            return "".join(texts)

        return _code(run, strings)

    def query_parameter(self, node: Node) -> Code:
        url, name = self.code(node.get("url")), self.code(node.get("queryParameterName"))

        def run(scope: Scope) -> object:
            address, key = url.run(scope), name.run(scope)
            if not isinstance(address, str) or not isinstance(key, str):
                raise Unfit("reads a URL that is no text")
            scope.meter.spend(len(address))
            return javascript.query_parameter(address, key)

        return _code(run, url, name)

    def log_event(self, node: Node) -> Code:
        payload = self.code(node.get("eventPayload"))
        if node.get("eventObjectTypeName") is None:
            raise Unfit("logs an event without a type")
        return _code(lambda scope: _payload(payload.run(scope), scope), payload)

    def split(self, node: Node) -> Code:
        arms = _Arms(self._splits.get(_text(node.get("splitId"))), _text(node.get("dimensionId")))
        expose, unit = self.code(node.get("expose")), self.code(node.get("unitId"))
        mapping = _mapping(node.get("dimensionMapping"))
        if mapping.get("type") != "discrete":
            raise Unfit("maps a split that is not discrete")
        cases = self._fields(mapping.get("cases"))
        if (node.get("eventPayload") is None) != (node.get("eventObjectTypeName") is None):
            raise Unfit("has a split with half an event")
        payload = None if node.get("eventPayload") is None else self.code(node.get("eventPayload"))

        def run(scope: Scope) -> object:
            truth(expose.run(scope))
            unit_id = unit.run(scope)
            if type(unit_id) is not str:
                raise Unfit("splits by something that is no text")
            if payload is not None:
                _payload(payload.run(scope), scope)
            scope.meter.spend(len(unit_id))
            case = cases.get(arms.of(unit_id))
            if case is None:
                raise Unfit("has no case for a split's arm")
            return case.run(scope)

        return _code(run, expose, unit, *([payload] if payload else []), *cases.values())

    def _codes(self, expressions: object) -> list[Code]:
        return [self.code(expression) for expression in _list(expressions)]

    def _fields(self, expressions: object) -> dict[str, Code]:
        return {_text(name): self.code(expression) for name, expression in _mapping(expressions).items()}


KINDS: dict[str, Callable[[_Compiler, Node], Code]] = {
    "NoOpExpression": _Compiler.nothing,
    "LogEventExpression": _Compiler.log_event,
    "BooleanExpression": _Compiler.constant,
    "IntExpression": _Compiler.constant,
    "FloatExpression": _Compiler.constant,
    "StringExpression": _Compiler.constant,
    "RegexExpression": _Compiler.constant,
    "EnumExpression": _Compiler.constant,
    "ListExpression": _Compiler.items,
    "ObjectExpression": _Compiler.object,
    "UpdateObjectExpression": _Compiler.update,
    "VariableExpression": _Compiler.variable,
    "GetFieldExpression": _Compiler.field,
    "FunctionExpression": _Compiler.function,
    "ApplicationExpression": _Compiler.application,
    "SwitchExpression": _Compiler.switch,
    "EnumSwitchExpression": _Compiler.enum_switch,
    "ComparisonExpression": _Compiler.comparison,
    "ArithmeticExpression": _Compiler.arithmetic,
    "RoundNumberExpression": _Compiler.round,
    "StringifyNumberExpression": _Compiler.stringify,
    "StringConcatExpression": _Compiler.concat,
    "GetUrlQueryParameterExpression": _Compiler.query_parameter,
    "SplitExpression": _Compiler.split,
}


class _Arms:
    """A dimension of a test split: a unit's hash is a point between 0 and 1, the arms share that out by allocation."""

    def __init__(self, split: object, dimension_id: str) -> None:
        test = _mapping(split)
        dimensions = [_mapping(dimension) for dimension in _mapping(test.get("dimensions")).values()]
        if test.get("type") != "test" or any(each.get("type") != "discrete" for each in dimensions):
            raise Unfit("splits by a model or without arms, which is not supported")
        dimension = next((each for each in dimensions if each.get("id") == dimension_id), None)
        if dimension is None:
            raise Unfit("splits by a dimension that does not exist")
        self._salt = javascript.absorb(javascript.EMPTY_HASH, _text(test.get("id")) + dimension_id)
        self._upper: list[tuple[float, str]] = []
        total = 0.0
        arms = [_mapping(arm) for arm in _mapping(dimension.get("arms")).values()]
        for arm in sorted(arms, key=lambda arm: number(from_json(arm.get("index")))):
            total += number(from_json(arm.get("allocation")))
            self._upper.append((total, _text(arm.get("id"))))

    def of(self, unit_id: str) -> str:
        """The unit's arm."""
        point = javascript.cyrb53(javascript.absorb(self._salt, unit_id)) % BUCKETS / BUCKETS
        return next((arm for upper, arm in self._upper if upper > point), "default")


def _payload(value: object, scope: Scope) -> bool:
    """An event needs all of its payload: a field that is missing makes the whole expression unfit."""
    if not isinstance(plain(value, scope.meter), dict):
        raise Unfit("has an event whose payload is no object")
    return True


def _code(run: Callable[[Scope], object], *inner: Code) -> Code:
    return Code(run, 1 + sum(code.size for code in inner), 1 + max((code.depth for code in inner), default=0))


def _refusal(why: str) -> Code:
    def refuse(_scope: Scope) -> object:
        raise Unfit(why)

    return Code(refuse, 1, 1)


def _nameable(kind: str) -> str:
    return kind if kind.isascii() and kind.isalnum() and len(kind) <= MAX_KIND_CHARACTERS else "a kind without a name"


def _mapping(value: object) -> Node:
    if not isinstance(value, dict):
        raise Unfit("is malformed")
    return cast("Node", value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Unfit("is malformed")
    return cast("list[object]", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit("is malformed")
    return value

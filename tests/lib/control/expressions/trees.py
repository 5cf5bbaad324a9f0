"""Expressions of Hypertune's language: written by hand in short, and made up by chance but of the right types."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, cast

Expression = dict[str, Any]

SPLITS: dict[str, Any] = {
    "split": {
        "id": "split",
        "type": "test",
        "dimensions": {
            "dim": {
                "id": "dim",
                "type": "discrete",
                "arms": {
                    "b": {"id": "b", "index": 1, "allocation": 0.3},
                    "a": {"id": "a", "index": 0, "allocation": 0.25},
                },
            }
        },
    }
}
PATTERNS = [
    r"(?i)@EXAMPLE\.(com|org)$", r"/^pro$/m", r"^\s*\w+\s*$", r"[^a-z.@\d-]", r"a.c", r"(?s)a.c", r"\bfr\w{2}\b",
    r"[]x]", r"[^]", r"(?i)(?-i)PRO", r"/PRO/gi", r"\x61\u0062\/", r"a{2,3}?b*", r"(?<n>e)x", r"[\w-.]+@",
    r"[\s\S]{3}$",
    r"/pro", r"\S+\t|\.", r"[[:alpha:]]", r"é$", r"(?u)^\p{L}+$", r"(?y)ee", r"$^", r"^a|b$", "(", "(?:a)",
]  # fmt: skip
"""As JavaScript reads them; the last two are refused by the SDK too."""
NUMBERS = [0, 1, -1, 2, 3, 0.5, -0.5, 1.5, 2.5, 1e21, 1e-7, 123456789012345680000, 0.1, 7, -3, 1e300, 2**53, 5e-324]
TEXTS = [
    "",
    "pro",
    "free",
    "a",
    "Pro",
    "ünï😀",
    "a@example.com",
    "a\nc",
    "a\u2028c",
    " x\ufeff",
    "frée",
    "PRO\npro",
    "-",
    "ab/",
]
URLS = [
    "", "https://x.test/?utm=a+b&utm=c", "https://x.test?utm=%C3%A9#utm=z", "/p?utm=1", "http://?utm=1",
    "foo:bar?utm=2", "https://a b/?utm=1", "HTTPS://u:p@x.test:80/?a&utm=", " https://x.test/?utm=\t1 ", "https://x.test:99999/?utm=1",
]  # fmt: skip


def literal(value: Any) -> Expression:
    """A literal of the value's type."""
    if type(value) is list:
        return {"type": "ListExpression", "items": [literal(item) for item in cast("list[Any]", value)]}
    kind = {"bool": "Boolean", "int": "Int", "float": "Float", "str": "String"}[type(value).__name__]
    return {"type": f"{kind}Expression", "value": value}


def variable(name: str) -> Expression:
    """A variable."""
    return {"type": "VariableExpression", "variableId": name}


def get(target: Expression, path: str) -> Expression:
    """A field of an object."""
    return {"type": "GetFieldExpression", "object": target, "fieldPath": path}


def of_context(path: str) -> Expression:
    """A field of the caller's context."""
    return get(variable("rootArgs"), f"context > {path}")


def function(body: Expression, *parameters: str) -> Expression:
    """A function."""
    return {
        "type": "FunctionExpression",
        "parameters": [{"id": name, "name": name} for name in parameters],
        "body": body,
    }


def apply(called: Expression, *arguments: Expression) -> Expression:
    """A call."""
    return {"type": "ApplicationExpression", "function": called, "arguments": list(arguments)}


def record(**fields: Expression) -> Expression:
    """An object."""
    return {"type": "ObjectExpression", "objectTypeName": "Thing", "fields": fields}


def update(target: Expression, **fields: Expression) -> Expression:
    """An object with other values in some fields."""
    return {"type": "UpdateObjectExpression", "object": target, "updates": fields}


def compare(operator: str, a: Expression, b: Expression) -> Expression:
    """A comparison."""
    return {"type": "ComparisonExpression", "operator": operator, "a": a, "b": b}


def reckon(operator: str, a: Expression, b: Expression) -> Expression:
    """A sum."""
    return {"type": "ArithmeticExpression", "operator": operator, "a": a, "b": b}


def concat(strings: Expression) -> Expression:
    """A list of strings as one."""
    return {"type": "StringConcatExpression", "strings": strings}


def switch(control: Expression, cases: list[tuple[Expression, Expression]], default: Expression) -> Expression:
    """A switch."""
    pairs = [{"id": str(index), "when": when, "then": then} for index, (when, then) in enumerate(cases)]
    return {"type": "SwitchExpression", "control": control, "cases": pairs, "default": default}


def split(unit: Expression, **cases: Expression) -> Expression:
    """An expression for each arm."""
    return {
        "type": "SplitExpression",
        "splitId": "split",
        "dimensionId": "dim",
        "expose": literal(value=True),
        "unitId": unit,
        "dimensionMapping": {"type": "discrete", "cases": cases},
        "eventObjectTypeName": None,
        "eventPayload": None,
        "featuresMapping": {},
    }


def init_data(**fields: Expression) -> dict[str, Any]:
    """Init data whose root has these fields."""
    root = function({"type": "ObjectExpression", "objectTypeName": "Root", "fields": fields}, "rootArgs")
    return {
        "commitId": 1,
        "hash": "hash",
        "reducedExpression": {"type": "ObjectExpression", "objectTypeName": "Query", "fields": {"root": root}},
        "splits": SPLITS,
        "commitConfig": {"splitConfig": {}},
    }


class Chance:
    """Makes up expressions of the right types, and callers for them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._bound: dict[str, list[str]] = {}
        self._count = 0

    def caller(self) -> dict[str, Any]:
        """Root arguments; now and then a field is missing."""
        pick = self._random.choice
        user = {
            "id": pick(["u1", "u7", "ünï-😀", "", "0190b7e6-7a3c-7000-8000-000000000001"])
            + str(self._random.randrange(99)),
            "plan": pick(TEXTS),
            "score": pick(NUMBERS),
            "beta": pick([True, False]),
            "tags": [pick(TEXTS) for _ in range(self._random.randrange(3))],
        }
        if self._random.random() < 0.2:
            del user[pick(list(user))]
        return {
            "context": {"environment": pick(["development", "production", "staging"]), "url": pick(URLS), "user": user}
        }

    def field(self) -> Expression:
        """A field of any type."""
        return self.expression(self._random.choice(["truth", "number", "text", "texts", "thing"]), 5)

    def expression(self, kind: str, depth: int) -> Expression:
        """An expression of a type: truth, number, text, texts or thing."""
        makers: list[Callable[[int], Expression]] = [getattr(self, f"_{kind}_leaf")]
        if depth > 0:
            makers += [getattr(self, f"_{kind}"), partial(self._any, kind)]
        bound = self._bound.get(kind)
        if bound and self._random.random() < 0.4:
            return variable(self._random.choice(bound))
        return self._random.choice(makers[-3 if depth > 2 else 0 :])(depth - 1)

    def _any(self, kind: str, depth: int) -> Expression:
        """What any type can be made with."""
        make = self.expression
        match self._random.randrange(5):
            case 0:
                control = self._random.choice(["truth", "number", "text", "thing", "texts"])
                cases = [(make(control, depth), make(kind, depth)) for _ in range(self._random.randrange(3))]
                return switch(make(control, depth), cases, make(kind, depth))
            case 1:
                cases = {name: make(kind, depth) for name in ("development", "production")}
                return {"type": "EnumSwitchExpression", "control": of_context("environment"), "cases": cases}
            case 2:
                return split(of_context("user > id"), **{arm: make(kind, depth) for arm in ("a", "b", "default")})
            case 3:
                argument = self._random.choice(["truth", "number", "text", "texts", "thing"])
                self._count += 1
                name = f"v{self._count}"
                given = make(argument, depth)
                self._bound.setdefault(argument, []).append(name)
                body = make(kind, depth)
                self._bound[argument].remove(name)
                return apply(function(body, name), given)
            case _:
                return get(record(**{kind: make(kind, depth), "other": make("number", depth)}), kind)

    def _truth_leaf(self, _depth: int) -> Expression:
        return self._random.choice([literal(value=True), literal(value=False), of_context("user > beta")])

    def _truth(self, depth: int) -> Expression:
        make = self.expression
        operator = self._random.choice(
            [
                "==",
                "!=",
                "<",
                "<=",
                ">",
                ">=",
                "AND",
                "OR",
                "in",
                "notIn",
                "startsWith",
                "notEndsWith",
                "contains",
                "matches",
            ]
        )
        match operator:
            case "==" | "!=":
                kind = self._random.choice(["truth", "number", "text", "texts", "thing"])
                return compare(operator, make(kind, depth), make(kind, depth))
            case "AND" | "OR":
                return compare(operator, make("truth", depth), make("truth", depth))
            case "in" | "notIn":
                return compare(operator, make("text", depth), make("texts", depth))
            case "startsWith" | "notEndsWith" | "contains":
                kind = self._random.choice(["text", "texts"])
                return compare(operator, make(kind, depth), make("text", depth))
            case "matches":
                regex = {"type": "RegexExpression", "value": self._random.choice(PATTERNS)}
                return compare(self._random.choice([operator, "notMatches"]), make("text", depth), regex)
            case _:
                return compare(operator, make("number", depth), make("number", depth))

    def _number_leaf(self, _depth: int) -> Expression:
        return self._random.choice([literal(self._random.choice(NUMBERS)), of_context("user > score")])

    def _number(self, depth: int) -> Expression:
        if self._random.random() < 0.2:
            return {"type": "RoundNumberExpression", "number": self.expression("number", depth)}
        # Not POW: the last digit of a power is the mathematical library's affair.
        operator = self._random.choice(["+", "-", "*", "/", "MOD"])
        return reckon(operator, self.expression("number", depth), self.expression("number", depth))

    def _text_leaf(self, _depth: int) -> Expression:
        return self._random.choice([literal(self._random.choice(TEXTS)), of_context("user > plan")])

    def _text(self, depth: int) -> Expression:
        match self._random.randrange(3):
            case 0:
                return concat(self.expression("texts", depth))
            case 1:
                return {"type": "StringifyNumberExpression", "number": self.expression("number", depth)}
            case _:
                return {
                    "type": "GetUrlQueryParameterExpression",
                    "url": self._random.choice([of_context("url"), self.expression("text", depth)]),
                    "queryParameterName": literal("utm"),
                }

    def _texts_leaf(self, _depth: int) -> Expression:
        return self._random.choice([literal(["pro", "free"]), literal([]), of_context("user > tags")])

    def _texts(self, depth: int) -> Expression:
        items = [self.expression("text", depth) for _ in range(self._random.randrange(1, 4))]
        return {"type": "ListExpression", "items": items}

    def _thing_leaf(self, _depth: int) -> Expression:
        return record(name=literal("n"), size=literal(self._random.choice(NUMBERS)))

    def _thing(self, depth: int) -> Expression:
        if self._random.random() < 0.3:
            return record(name=self.expression("text", depth), size=self.expression("number", depth))
        return update(self.expression("thing", depth), size=self.expression("number", depth))

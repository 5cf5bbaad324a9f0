"""Hypertune's init data: the values of its TypeScript SDK, and no harm from anything else."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.expressions.compiler import KINDS
from lib.control.hypertune import InitData, evaluate
from tests.lib.control.expressions.trees import (
    Chance,
    apply,
    compare,
    concat,
    function,
    get,
    init_data,
    literal,
    of_context,
    reckon,
    record,
    split,
    switch,
    update,
    variable,
)
from tests.lib.values import json_values

VECTORS = Path(__file__).parents[2] / "vectors/hypertune"
INIT_DATA: dict[str, Any] = json.loads((VECTORS / "init_data.json").read_text())
FROM_SDK: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())
FALLBACK = "__fallback__"
CALLER = {"context": {"environment": "production", "url": "", "user": {"id": "u1", "plan": "pro", "score": 2}}}
UNKNOWN = {"type": "DreamExpression", "secret": "s3cret"}


def value(expression: dict[str, Any], caller: dict[str, Any] = CALLER) -> object:
    """The value of a field."""
    return evaluate(init_data(field=expression), caller, "field", fallback=FALLBACK)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged."""
    caplog.set_level(logging.WARNING, logger="hypertune")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("index", range(len(FROM_SDK["vectors"])))
def test_values_of_the_sdk(index: int, *, as_text: bool) -> None:
    """Every field of every vector, whether the item is an object or a string of JSON."""
    case = FROM_SDK["vectors"][index]
    item = json.dumps(INIT_DATA) if as_text else INIT_DATA
    root = InitData(item).root(case["rootArgs"])
    got = {name: root.get(name, case["fieldArgs"].get(name), FALLBACK) for name in case["expected"]}
    assert json.dumps(got, sort_keys=True) == json.dumps(case["expected"], sort_keys=True)
    assert set(root.names) == set(case["expected"])


@pytest.mark.parametrize("case", FROM_SDK["fallbackCases"], ids=lambda case: case["why"])
def test_fallbacks_of_the_sdk(case: dict[str, Any]) -> None:
    """Where the SDK falls back, so do we."""
    assert evaluate(INIT_DATA, case["rootArgs"], case["field"], fallback=FALLBACK) == case["expected"]


def test_a_new_object_is_a_new_version() -> None:
    """Evaluation goes by the object it is given, also where commit and hash stayed the same."""
    assert evaluate(init_data(field=literal(1)), CALLER, "field") == 1
    assert evaluate(init_data(field=literal(2)), CALLER, "field") == 2


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (compare("==", literal(value=True), literal(1)), False),
        (compare("==", literal(1), literal(1.0)), True),
        (compare("==", record(a=literal(1), __x=literal(1)), record(a=literal(1))), True),
        (compare("==", record(a=literal(1)), record(a=literal(1), b=literal(1))), False),
        (compare("==", literal(["a"]), literal(["a"])), True),
        (compare("!=", literal("a"), record()), True),
        (compare("startsWith", literal(["a", "b"]), literal("a")), True),
        (compare("endsWith", literal([]), literal("a")), False),
        (compare("notEndsWith", literal("ab"), literal("a")), True),
        (compare("<", literal(value=True), literal(2)), FALLBACK),
        (compare("AND", literal(value=False), literal(1)), FALLBACK),
        (compare("OR", literal(value=True), of_context("missing")), FALLBACK),
        (compare("in", literal("a"), literal("abc")), FALLBACK),
        (compare("==", function(literal(1), "x"), literal(1)), FALLBACK),
        (compare("matches", literal("a"), literal("(?=a)")), FALLBACK),
        (compare("matches", literal("a"), literal(1)), FALLBACK),
        (compare("~", literal("a"), literal("a")), FALLBACK),
        (reckon("/", literal(1), reckon("MOD", literal(-3), literal(3))), float("-inf")),
        (reckon("*", literal(2**52), literal(4)), 2.0**54),
        (reckon("%", literal(1), literal(1)), FALLBACK),
        (reckon("+", literal(1), literal("1")), FALLBACK),
        (concat(literal(["a", "b"])), "ab"),
        (concat({"type": "ListExpression", "items": [literal("a"), literal(1)]}), FALLBACK),
        (switch(literal(1), [], literal("default")), "default"),
        (update(record(a=literal(1), b=literal(1)), b=literal(2)), {"__typename": "Thing", "a": 1, "b": 2}),
        (get(update(of_context("user"), plan=literal("x")), "plan"), "x"),
        (get(update(of_context("user"), plan=literal("x")), "id"), "u1"),
        (update(literal(1), a=literal(1)), FALLBACK),
        (of_context("user"), {"__typename": "", "id": "u1", "plan": "pro", "score": 2}),
        (of_context("user > plan > id"), FALLBACK),
        (apply(function(variable("x"), "x"), literal(1)), 1),
        (apply(function(variable("x"), "x")), FALLBACK),
        (apply(literal(1), literal(1)), FALLBACK),
        (apply(function(literal(1), "x"), of_context("missing")), 1),
        (variable("unbound"), FALLBACK),
        (function(function(literal(1), "y"), "x"), FALLBACK),
        (function(get(variable("x"), "a"), "x"), FALLBACK),
        ({"type": "NoOpExpression"}, True),
        ({"type": "LogEventExpression", "eventObjectTypeName": "E", "eventPayload": record(a=literal(1))}, True),
        ({"type": "LogEventExpression", "eventObjectTypeName": "E", "eventPayload": literal(1)}, FALLBACK),
        ({"type": "LogEventExpression", "eventObjectTypeName": None, "eventPayload": record()}, FALLBACK),
        (split(literal("u3"), a=literal("A"), b=literal("B"), default=literal("D")), "A"),
        (split(literal("u9"), a=literal("A"), b=literal("B"), default=literal("D")), "B"),
        (split(literal("u4"), a=literal("A"), b=literal("B"), default=literal("D")), "D"),
        (split(literal("u3"), b=literal("B")), FALLBACK),
        (split(literal(1), a=literal("A"), b=literal("B"), default=literal("D")), FALLBACK),
        ({**split(literal("u3"), a=literal("A")), "expose": literal("yes")}, FALLBACK),
        ({**split(literal("u3"), a=literal("A")), "eventObjectTypeName": "E"}, FALLBACK),
        (
            {
                **split(literal("u3"), a=literal("A")),
                "eventObjectTypeName": "E",
                "eventPayload": record(plan=of_context("user > plan")),
            },
            "A",
        ),
        (
            {
                **split(literal("u3"), a=literal("A")),
                "eventObjectTypeName": "E",
                "eventPayload": record(plan=of_context("user > missing")),
            },
            FALLBACK,
        ),
        ({**split(literal("u3"), a=literal("A")), "splitId": "other"}, FALLBACK),
        ({**split(literal("u3"), a=literal("A")), "dimensionId": "other"}, FALLBACK),
        (
            {**split(literal("u3"), a=literal("A")), "dimensionMapping": {"type": "continuous", "function": {}}},
            FALLBACK,
        ),
    ],
)
def test_values(expression: dict[str, Any], expected: object) -> None:
    """What each kind of expression gives."""
    assert value(expression) == expected
    assert type(value(expression)) is type(expected)


@pytest.mark.parametrize("kind", ["ml", "personalization", None])
def test_splits_by_a_model_are_not_supported(kind: str | None, warnings: Callable[[], list[str]]) -> None:
    """Only tests are: the field falls back."""
    data = init_data(field=split(literal("u3"), a=literal("A")))
    data["splits"] = copy.deepcopy(data["splits"])
    data["splits"]["split"]["type"] = kind
    assert evaluate(data, CALLER, "field", fallback=FALLBACK) == FALLBACK
    assert warnings() == [
        "Hypertune's field field splits by a model or without arms, which is not supported; it falls back."
    ]


def test_only_what_is_needed_is_evaluated() -> None:
    """A mistake in a branch that is not taken, or in another field, does no harm."""
    taken = switch(of_context("user > plan"), [(literal("pro"), literal(1))], UNKNOWN)
    data = init_data(taken=taken, broken=UNKNOWN, list={"type": "ListExpression"})
    root = InitData(data).root(CALLER)
    assert [root.get(name, fallback=FALLBACK) for name in ("taken", "broken", "list")] == [1, FALLBACK, FALLBACK]


def test_unknown_kinds_are_named_once(warnings: Callable[[], list[str]]) -> None:
    """One line per field and version names the kind and none of the data; kinds that could forge a line go unnamed."""
    forged = {"type": "x\nforged line"}
    data = InitData(init_data(a=UNKNOWN, b=forged))
    for _ in range(3):
        root = data.root(CALLER)
        assert [root.get("a", fallback=FALLBACK), root.get("b", fallback=FALLBACK)] == [FALLBACK, FALLBACK]
    assert warnings() == [
        "Hypertune's field a uses DreamExpression, which is not supported; it falls back.",
        "Hypertune's field b uses a kind without a name, which is not supported; it falls back.",
    ]


def test_fields_with_arguments() -> None:
    """A field may be a function of its arguments; left out, they are an object without fields."""
    data = init_data(greeting=function(get(variable("args"), "name"), "args"), plain=function(literal(1), "args"))
    assert evaluate(data, CALLER, "greeting", {"name": "Ada"}) == "Ada"
    assert evaluate(data, CALLER, "greeting", fallback=FALLBACK) == FALLBACK
    assert evaluate(data, CALLER, "plain") == 1


def test_a_root_that_depends_on_the_caller() -> None:
    """The root's body need not be an object as it stands."""
    body = switch(of_context("user > plan"), [(literal("pro"), record(a=literal(1)))], record(b=literal(2)))
    data = init_data()
    data["reducedExpression"]["fields"]["root"] = function(body, "rootArgs")
    root = InitData(data).root(CALLER)
    assert (list(root.names), root.get("a")) == (["a"], 1)
    assert list(InitData(data).root({"context": {"user": {"plan": "free"}}}).names) == ["b"]
    root = InitData(data).root({})
    assert (list(root.names), root.get("a", fallback=FALLBACK)) == ([], FALLBACK)


def test_a_root_without_arguments() -> None:
    """A schema whose root takes none."""
    data = init_data()
    data["reducedExpression"]["fields"]["root"] = record(a=literal(1))
    assert evaluate(data, CALLER, "a") == 1


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("jsonito_x", "is compressed as jsonito, which is not read here: store it as plain JSON, or use ai_config"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('"' + "x" * 2_100_000 + '"', "is too large"),
        ("{}", "has no commitId"),
        ({"feature_gates": []}, "has no commitId"),
        ({"commitId": 0}, "has no commitId"),
        (None, "has no commitId"),
        ([], "has no commitId"),
    ],
    ids=range(9),
)
def test_what_is_no_init_data(item: object, why: str, warnings: Callable[[], list[str]]) -> None:
    """Everything falls back, and one line says why and what to do."""
    data = InitData(item)
    for _ in range(3):
        root = data.root(CALLER)
        assert (list(root.names), root.get("field", fallback=FALLBACK)) == ([], FALLBACK)
    assert warnings() == [f"Hypertune's init data {why}; everything falls back."]


def _nested(levels: int, expression: dict[str, Any]) -> dict[str, Any]:
    for _ in range(levels):
        expression = compare("==", expression, literal(value=True))
    return expression


def _applied(called: dict[str, Any], times: int, argument: dict[str, Any]) -> dict[str, Any]:
    for _ in range(times):
        argument = apply(called, argument)
    return argument


_SELF = function(apply(variable("x"), variable("x")), "x")
_SELF_BY_FIELD = function(apply(get(variable("o"), "f"), record(f=get(variable("o"), "f"))), "o")
_DOUBLED = function({"type": "ListExpression", "items": [variable("x"), variable("x")]}, "x")
_JOINED = function(concat({"type": "ListExpression", "items": [variable("x"), variable("x")]}), "x")
_TWICE = function(function(apply(variable("f"), apply(variable("f"), variable("z"))), "z"), "f")
_PLUS_ONE = function(reckon("+", variable("n"), literal(1)), "n")
_OFTEN = {"type": "ListExpression", "items": [compare("matches", literal("a" * 5_000), literal(f"(a*){{{n}}}b")) for n in range(60)]}  # fmt: skip  # noqa: E501
WHY = {"takes too many steps", "nests too deep", "is too large"}
HOSTILE = {
    "a function that calls itself": apply(_SELF, _SELF),
    "and one that does by way of a field": apply(_SELF_BY_FIELD, record(f=_SELF_BY_FIELD)),
    "a list that doubles": _applied(_DOUBLED, 40, literal(["x"])),
    "comparing such lists": compare(
        "==", _applied(_DOUBLED, 40, literal(["x"])), _applied(_DOUBLED, 40, literal(["x"]))
    ),
    "a text that doubles": _applied(_JOINED, 40, literal("x" * 100)),
    "twice of twice of twice": apply(_applied(_TWICE, 30, _PLUS_ONE), literal(0)),
    "nested deep": _nested(10_000, literal(value=True)),
    "deep by calls": _applied(function(_nested(50, variable("x")), "x"), 50, literal(value=True)),
    "patterns that are a lot of work": _OFTEN,
    "a huge list": {"type": "ListExpression", "items": [literal(1)] * 100_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_expressions_run_out_of_their_budget(name: str, warnings: Callable[[], list[str]]) -> None:
    """Loops, explosions and depth end in the fallback after a bounded number of steps; other fields are unharmed."""
    root = InitData(init_data(field=HOSTILE[name], other=literal(1))).root(CALLER)
    assert root.get("field", fallback=FALLBACK) == FALLBACK
    assert root.get("other", fallback=FALLBACK) == (FALLBACK if name == "a huge list" else 1)
    assert set(warnings()) <= {
        f"Hypertune's field {name} {why}; it falls back." for name in ("field", "other") for why in WHY
    }
    assert warnings() != []


def test_towers_of_powers() -> None:
    """Numbers are floats, so that no power grows into a huge int."""
    expression = literal(9)
    for _ in range(20):
        expression = reckon("POW", expression, literal(9_999))
    assert value(expression) == float("inf")


def test_a_budget_for_each_field() -> None:
    """What one field spends does not lack the next."""
    costly = {"type": "ListExpression", "items": [literal(1)] * 9_000}
    root = InitData(init_data(**{f"f{index}": costly for index in range(5)})).root(CALLER)
    assert all(isinstance(root.get(f"f{index}"), list) for index in range(5))


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        inner += cast("dict[str, Any]", tree).items()
    elif isinstance(tree, list):
        inner += enumerate(cast("list[Any]", tree))
    return [path, *(found for key, item in inner for found in _paths(item, (*path, key)))]


PATHS = _paths(INIT_DATA["reducedExpression"])
JUNK = json_values(
    st.sampled_from(["type", "value", "fields", "items", "cases", "object", "a", "b", "id"])
) | st.sampled_from(
    [
        10**400,
        float("nan"),
        float("inf"),
        UNKNOWN,
        _nested(3, variable("x")),
        _applied(_TWICE, 3, _PLUS_ONE),
        literal("\ud800"),
    ]
)


@given(st.lists(st.tuples(st.sampled_from(PATHS), JUNK | st.sampled_from(PATHS)), min_size=1, max_size=6), st.data())
def test_mutated_init_data_never_raises(changes: list[tuple[tuple[Any, ...], Any]], data: st.DataObject) -> None:
    """Whatever stands in the place of some expressions, junk or parts of the tree: a value or the fallback."""
    item = copy.deepcopy(INIT_DATA)
    for path, change in changes:
        is_path = isinstance(change, tuple)
        junk = _at(INIT_DATA["reducedExpression"], cast("tuple[Any, ...]", change)) if is_path else change
        _put(item["reducedExpression"], path, copy.deepcopy(junk))
    case = data.draw(st.sampled_from(FROM_SDK["vectors"]))
    root = InitData(item).root(case["rootArgs"])
    for name in case["expected"]:
        root.get(name, case["fieldArgs"].get(name), FALLBACK)


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    """Put a value there, unless an earlier change has removed the place."""
    try:
        _at(tree, path[:-1])[path[-1]] = value
    except (KeyError, IndexError, TypeError):
        return


CHILDREN = [
    *("object", "items", "fields", "updates", "body", "function", "arguments", "control", "cases", "default", "when"),
    *("then", "a", "b", "number", "strings", "url", "queryParameterName", "expose", "unitId", "eventPayload"),
    "dimensionMapping",
]
NAMES: dict[Any, st.SearchStrategy[Any]] = {
    "value": st.sampled_from(["x", 1, 2.5, True, None, 10**400, float("nan")]),
    "objectTypeName": st.just("Thing"),
    "variableId": st.sampled_from(["rootArgs", "x"]),
    "fieldPath": st.sampled_from(["context", "x", "context > user"]),
    "operator": st.sampled_from(["==", "in", "matches", "contains", "POW", "+", "AND", "<"]),
    "parameters": st.just([{"id": "x"}]),
    "splitId": st.just("split"),
    "dimensionId": st.just("dim"),
}
KIND: dict[Any, st.SearchStrategy[Any]] = {"type": st.sampled_from(sorted(KINDS))}


def _one_level(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = inner | st.lists(inner, max_size=3) | st.dictionaries(st.just("x"), inner)
    return st.fixed_dictionaries(KIND, optional={**NAMES, **dict.fromkeys(CHILDREN, several)})


EXPRESSIONS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.fixed_dictionaries(KIND, optional=NAMES), _one_level, max_leaves=12
)


@given(EXPRESSIONS | json_values(st.sampled_from(["type", "fields", "commitId"])), json_values(st.just("user")))
def test_random_json_never_raises(tree: Any, caller: Any) -> None:
    """Any JSON may be stored, as an object or as text, as the whole or as an expression, and any context come along."""
    args = {"context": caller}
    items = [tree, json.dumps(tree), {"commitId": 1, "reducedExpression": tree, "splits": tree}, init_data(field=tree)]
    for item in items:
        for name in ("field", "root"):
            evaluate(item, args, name, args, FALLBACK)


@given(st.integers(min_value=0, max_value=10_000))
def test_text_and_object_are_the_same(seed: int) -> None:
    """Made-up expressions of the right types have one value, whichever way the item came, however often it is asked."""
    chance = Chance(seed)
    item, caller = init_data(field=chance.field()), chance.caller()
    root = InitData(item).root(caller)
    values = [root.get("field", fallback=FALLBACK) for _ in range(2)]
    values.append(InitData(json.dumps(item)).root(caller).get("field", fallback=FALLBACK))
    assert {json.dumps(each) for each in values} == {json.dumps(values[0])}

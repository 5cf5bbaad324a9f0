"""JSON Schema: what is a schema, what fits it, and that neither can keep us busy."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing, suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lib.errors import InvalidRequest
from lib.http.json_schema import MAX_RULE, answer_check, check_object
from lib.providers.base import MAX_DEPTH
from tests.lib.values import json_values

TOP = "response_format.json_schema.schema"
SHOT: dict[str, Any] = {
    "type": "object",
    "properties": {"what": {"type": "string", "minLength": 2}, "seconds": {"type": "integer", "maximum": 9}},
    "required": ["what"],
    "additionalProperties": False,
}
BOARD: dict[str, Any] = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "shots": {"type": "array", "items": {"$ref": "#/$defs/shot"}}},
    "required": ["title", "shots"],
    "$defs": {"shot": SHOT},
}


def fault(schema: object, text: str) -> str | None:
    """What is wrong with this text by this schema."""
    return answer_check(orjson.dumps(schema))(text)


def refused(schema: object) -> tuple[str, str]:
    """The path, below the schema, and the words with which a schema is refused."""
    with pytest.raises(InvalidRequest) as caught:
        answer_check(orjson.dumps(schema))
    (error,) = caught.value.errors
    assert caught.value.status == 422
    assert error.path.startswith(TOP)
    return error.path.removeprefix(TOP).removeprefix("."), error.message


@pytest.mark.parametrize(
    "text",
    ['{"title": "Tea", "shots": []}', '\n{"shots": [{"what": "cup", "seconds": 9}], "title": "", "more": null}\n'],
)
def test_fits(text: str) -> None:
    """A text that fits has no fault."""
    assert fault(BOARD, text) is None


FAULTS: list[tuple[str, list[str]]] = [
    ("", ["no JSON"]),
    ("Sure! {}", ["no JSON", "line 1"]),
    ('{"title": "Tea", "shots": [', ["no JSON"]),
    ('{"title": "Tea", "shots": []} Done.', ["no JSON"]),
    ('{"title": "Tea", "shots": [], "x": NaN}', ["no JSON"]),
    ("[]", ["the whole", "object"]),
    ("{}", ["the whole", "title", "shots"]),
    ('{"title": 7, "shots": []}', ["title", "string"]),
    ('{"title": "Tea", "shots": [{"what": "cup"}, {"what": "p"}]}', ["shots[1].what", "minLength", "2"]),
    ('{"title": "Tea", "shots": [{"what": "cup", "seconds": 9.5}]}', ["shots[0].seconds", "integer"]),
    ('{"title": "Tea", "shots": [{"what": "cup", "when": 1}]}', ["shots[0]", "additionalProperties"]),
]


@pytest.mark.parametrize(("text", "words"), FAULTS)
def test_fault(text: str, words: list[str]) -> None:
    """A text that does not fit is told where and by which rule, in words that a model understands."""
    told = fault(BOARD, text)
    assert told is not None
    assert [word for word in words if word not in told] == []


def test_words_are_few() -> None:
    """However long a rule is, or a field's name, the fault is told in short."""
    told = fault({"enum": [str(number) for number in range(5_000)]}, '"x"')
    assert told is not None
    assert len(told) < MAX_RULE + 100
    told = fault({"additionalProperties": {"type": "null"}}, json.dumps({"x" * 100_000: 1}))
    assert told is not None
    assert len(told) < MAX_RULE + 300


def test_what_must_not_be_there() -> None:
    """A field whose schema is `false` has no rule to name."""
    assert "must not be there" in str(fault({"properties": {"a": False}}, '{"a": 1}'))


@pytest.mark.parametrize(
    ("text", "word"),
    [("{}", None), ('{"a": [1]}', None), ("[]", "object"), ('"{}"', "object"), ("null", "object"), ("{", "no JSON")],
)
def test_any_object(text: str, word: str | None) -> None:
    """Where any object will do, any object does."""
    told = check_object(text)
    assert told is None if word is None else word in str(told)


def test_depth_of_answers() -> None:
    """An answer that could not be written down again is none, whatever its schema allows."""
    deep = '{"a":' * MAX_DEPTH + "{}" + "}" * MAX_DEPTH
    for check in (check_object, answer_check(b"{}")):
        assert "deep" in str(check(deep))
        assert check(deep[5:-1]) is None
        assert check("[" * 100_000) is not None


NO_SCHEMAS: list[tuple[object, str]] = [
    ({"type": "strin"}, "type"),
    ({"type": 7}, "type"),
    ({"properties": []}, "properties"),
    ({"properties": {"a": 7}}, "properties.a"),
    (
        {"properties": {"a": {"type": "object", "properties": {"b": {"minLength": -1}}}}},
        "properties.a.properties.b.minLength",
    ),
    ({"required": "a"}, "required"),
    ({"items": [{}]}, "items"),
    ({"prefixItems": {}}, "prefixItems"),
    ({"$defs": []}, "$defs"),
    ({"$defs": {"a": {"enum": 7}}}, "$defs.a.enum"),
    ({"anyOf": []}, "anyOf"),
    ({"anyOf": [{}, 7]}, "anyOf[1]"),
    ({"multipleOf": 0}, "multipleOf"),
    ({"pattern": "("}, "pattern"),
    ({"properties": {"a": {"pattern": "[z-a]"}}}, "properties.a.pattern"),
    ({"dependentRequired": {"a": "b"}}, "dependentRequired.a"),
    ({"unevaluatedProperties": 7}, "unevaluatedProperties"),
    ({"minContains": "1"}, "minContains"),
]


@pytest.mark.parametrize(("schema", "path"), NO_SCHEMAS)
def test_no_schema(schema: object, path: str) -> None:
    """What is no schema is refused by the place that is wrong in it."""
    assert refused(schema)[0] == path


UNSUPPORTED: list[tuple[object, str]] = [
    ({"patternProperties": {"(a+)+$": {}}}, "patternProperties"),
    ({"properties": {"a": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}}, "properties.a.$schema"),
    ({"items": {"$id": "https://example.com/a"}}, "items.$id"),
    ({"$dynamicRef": "#a"}, "$dynamicRef"),
    ({"properties": {"a": {"$ref": "https://example.com/schema.json"}}}, "properties.a.$ref"),
    ({"$ref": "file:///etc/passwd"}, "$ref"),
    ({"$ref": "other.json"}, "$ref"),
    ({"$ref": "#/$defs/none"}, "$ref"),
    ({"$ref": "#none"}, "$ref"),
    ({"required": ["a"], "items": {"$ref": "#/required/x"}}, "items.$ref"),
    ({"properties": {"const": {"$ref": "#/$defs/none"}}}, "properties.const.$ref"),
    ({"required": ["a"], "items": {"$ref": "#/required"}}, ""),
    ({"properties": {"type": {}, "a": {"$ref": "#/properties"}}}, ""),
]


@pytest.mark.parametrize(("schema", "path"), UNSUPPORTED)
def test_unsupported(schema: object, path: str) -> None:
    """What would lead out of the schema, or out of our limits, is refused where it stands."""
    assert refused(schema)[0] == path


def test_nothing_is_fetched() -> None:
    """A reference to an address, in any place where one may stand, is not followed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for key in ("$ref", "$schema", "$id"):
            schema = {key: address, "type": "string"}
            if key == "$ref":
                refused(schema)
            else:
                assert fault(schema, '"x"') is None
                assert fault(schema, "7") is not None
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("data", ["const", "default", "examples"])
def test_references_that_are_data(data: str) -> None:
    """What only looks like a reference, within an example or a constant, is left alone."""
    value: object = {"$ref": "https://example.com"}
    assert fault({data: [value] if data == "examples" else value}, json.dumps(value)) is None


def test_dialects() -> None:
    """A schema is read as the draft that it names, 2020-12 where it names none."""
    pair = {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}
    draft7 = {"$schema": "http://json-schema.org/draft-07/schema#", **pair}
    assert fault(draft7, '["a", 1]') is None
    assert fault(draft7, '["a", "b"]') is not None
    assert refused(pair)[0] == "items"
    named = {"$defs": {"x": {"$anchor": "here", "type": "string"}}, "prefixItems": [{"$ref": "#here"}]}
    assert fault(named, "[7]") is not None
    assert fault({"definitions": {"x": {"type": "string"}}, "items": {"$ref": "#/definitions/x"}}, "[7]") is not None


def doubled(levels: int) -> dict[str, Any]:
    """A small schema that takes 2 ** levels steps to find that a value does not fit."""
    defs = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**defs, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


ENDLESS: dict[str, object] = {
    "to itself": {"$ref": "#"},
    "by a branch": {"anyOf": [{"type": "string"}, {"$ref": "#"}]},
    "in a circle": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "doubled": doubled(60),
}


BOOLEANS: dict[str, object] = {
    "of one": {"allOf": [{"$ref": "#/x"}] * 300, "x": {"oneOf": [True, *[False] * 2_000]}},
    "of all": {
        "allOf": [{"$ref": "#/y"}] * 40,
        "y": {"allOf": [{"$ref": "#/x"}] * 40},
        "x": {"allOf": [True] * 6_000},
    },
}


@pytest.mark.parametrize("kind", BOOLEANS)
def test_booleans_count(kind: str) -> None:
    """A schema that is only true or false holds no rule, but trying it costs something all the same."""
    with pytest.raises(InvalidRequest, match="too complex"):
        fault(BOOLEANS[kind], "{}")


def test_expressions_cost_what_they_take() -> None:
    """Many that are short and dear to compile are too many; one that only looks dear is left to the provider."""
    dear = {str(number): {"pattern": rf"\w{{99}}{number}"} for number in range(1_000)}
    with pytest.raises(InvalidRequest, match="too complex"):
        fault({"properties": dear}, "{}")
    assert fault({"pattern": "(?i)(?=c)" + "[!-\uffff]" * 2_000}, '"x"') is None


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_schema(kind: str) -> None:
    """A schema that no value can be held against to the end is refused before anything is asked of anyone."""
    assert "complex" in refused(ENDLESS[kind])[1]


def test_recursive_schema() -> None:
    """A schema that describes trees is none of those."""
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert fault(tree, '{"children": [{}, {"children": [{}]}]}') is None
    assert fault(tree, '{"children": [{}, {"children": [7]}]}') is not None


def nested(levels: int) -> str:
    """A JSON text of nested objects."""
    return '{"a":' * levels + "1" + "}" * levels


BRANCH: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#"}}}
HARD: list[tuple[str, object, str]] = [
    ("branches at every level", {"anyOf": [{**BRANCH, "required": ["b"]}, {**BRANCH, "required": ["c"]}]}, nested(40)),
    ("pairs", {"uniqueItems": True}, json.dumps([{"n": n} for n in range(20_000)])),
    ("long errors", {"anyOf": [{"type": "null"}] * 3_000}, json.dumps(["x" * 50] * 2_000)),
    ("long enums", {"items": {"enum": list(range(9_000))}}, json.dumps([8_999] * 9_000)),
    ("many rules", {"items": {"allOf": [{"type": "integer"}] * 100}}, json.dumps([1] * 9_000)),
]


@pytest.mark.parametrize(("schema", "text"), [case[1:] for case in HARD], ids=[case[0] for case in HARD])
def test_hard_check(schema: object, text: str) -> None:
    """What would take minutes to find out is given up, which is a fault of the answer."""
    assert fault(schema, text) == "it takes too long to check"


EXPRESSIONS: list[tuple[str, str, bool]] = [
    (r"^[a-z]+$", "abc", True),
    (r"^[a-z]+$", "abC", False),
    (r"b", "abc", True),
    (r"^\d{3}$", "123", True),
    (r"\p{Lu}", "É", True),
    # Minutes of work for an engine that tries every way.
    (r"^(a+)+$", "a" * 50_000 + "!", False),
    (r"^(a|aa)+$", "a" * 50_000 + "!", False),
    # Beyond the linear engine: left to the provider.
    (r"^(?!x)", "x", True),
    (r"(.)\1", "ab", True),
]


@pytest.mark.parametrize(("pattern", "value", "fits"), EXPRESSIONS)
def test_expressions(pattern: str, value: str, *, fits: bool) -> None:
    """Regular expressions find their match anywhere, in time that grows with the text alone."""
    assert (fault({"pattern": pattern}, json.dumps(value)) is None) is fits


def test_large_schema_and_answer() -> None:
    """The largest schema and the longest answer of honest people are within the limits."""
    fields = {f"field_{n}": {"type": "object", "properties": {"a": {"type": "string"}}} for n in range(900)}
    assert 50_000 < len(orjson.dumps(fields)) < 65_536
    assert fault({"type": "object", "properties": fields}, json.dumps({name: {"a": "b"} for name in fields})) is None
    numbers = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}}
    assert fault(numbers, json.dumps([7] * 16_000)) is None


def test_checks_do_not_share_their_count() -> None:
    """A check in one thread takes nothing from another's, nor from the next in the same."""
    check = answer_check(orjson.dumps({"items": {"type": "integer"}}))
    text, told = json.dumps([1] * 30_000), list[object]()
    threads = [threading.Thread(target=lambda: told.append(check(text))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*told, *(check(text) for _ in range(3))] == [None] * 7


Schema = dict[str, Any]
LEAVES: list[Schema] = [
    {},
    {"type": "string"},
    {"type": "integer", "minimum": 3},
    {"enum": ["a", 1, None]},
    {"const": []},
]


def around(one: Schema, other: Schema, kind: str) -> Schema:
    """A schema of this kind with these two inside."""
    kinds: dict[str, Schema] = {
        "list": {"type": "array", "items": one, "uniqueItems": True},
        "object": {"type": "object", "properties": {"a": one}, "additionalProperties": other},
        "either": {"anyOf": [one, other]},
        "not": {"not": one, "required": ["a"]},
    }
    return kinds[kind]


SIMPLE: st.SearchStrategy[Schema] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.builds(around, inner, inner, st.sampled_from(["list", "object", "either", "not"])),
    max_leaves=6,
)


@settings(max_examples=200)
@given(SIMPLE, json_values(st.sampled_from(["a", "b"])))
def test_agrees_with_the_library(schema: dict[str, Any], value: object) -> None:
    """Counting changes no verdict."""
    library: Any = Draft202012Validator(schema)
    text = json.dumps(value)
    assert (fault(schema, text) is None) is library.is_valid(json.loads(text))


@settings(max_examples=100)
@given(
    json_values(st.sampled_from(["type", "properties", "items", "$ref", "enum", "required", "anyOf", "pattern", "a"]))
)
def test_any_schema(schema: object) -> None:
    """Whatever is sent as a schema is refused, or can be checked by."""
    if not isinstance(schema, dict):
        return
    with suppress(InvalidRequest):
        check = answer_check(json.dumps(schema).encode())
        for text in ("null", "{}", '{"a": [1, "b"]}', "{"):
            assert isinstance(check(text), str | None)

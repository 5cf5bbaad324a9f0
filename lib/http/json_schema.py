"""JSON Schema: whether a caller's schema is one, and whether an answer fits it.

Neither may cost much, whoever wrote schema and answer: what is tried is counted, expressions run in linear time, and
nothing is fetched. Import this in a thread, on first use: the library behind it takes its time, and so may a check.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, cast

import orjson
from jsonschema import Draft7Validator, Draft201909Validator, Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from pydantic_core import SchemaError, SchemaValidator
from pydantic_core.core_schema import str_schema
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from lib.errors import FieldError, InvalidRequest
from lib.http.body import Path, field_path
from lib.providers.base import is_deep

MAX_STEPS = 100_000
"""Rules tried in one check: a second or two at most, and enough for the longest answer that a model may write."""
MESSAGE_STEP = 50
"""Characters of the library's own error texts that weigh as much as a step: they repeat what is wrong in full."""
PAIRS_STEP = 10
"""Comparisons of objects for being unique that weigh as much as a step."""
IN_PLACE = {"$ref", "allOf", "anyOf", "oneOf", "not", "if"}
"""Rules that hold whole schemas against the same value: they take longer, and what never ends is made of them."""
IN_PLACE_STEPS = 3
SCHEMAS_STEP = 3
"""Schemas in the list of such a rule that weigh as much as a step: `true` and `false` hold no rule that would count."""
COMPILING_STEPS_PER_S = 60_000
"""What a second of compiling expressions weighs: a short one may take a tenth of it."""
BEYOND_LINEAR = ("look-around", "backreferences are not supported", "size limit")
"""Why the linear engine refuses what is an expression all the same."""
MAX_RULE = 300
"""Characters of a rule that a model is told it broke."""
DIALECTS: tuple[Any, ...] = (Draft202012Validator, Draft201909Validator, Draft7Validator)
"""The first holds where a schema names none of the others."""
TOO_COMPLEX = "is too complex to check answers by"

UNSUPPORTED = ("$id", "$schema", "$dynamicRef", "$recursiveRef", "patternProperties")
"""Below the top: they would lead out of the counting, or to regular expressions that the library runs by itself."""
NOTHING_ELSE: Any = cast("Any", Registry)()
"""Of schemas to refer to; and it fetches none."""
Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]
_WRONG = {
    "leads": "must lead to a place in this schema, as #/$defs/name does",
    "regex": "is no regular expression",
    "supported": "is not supported",
}
_library: Any = validators  # its own annotations are incomplete
_spent = threading.local()


class _TooComplex(Exception):
    """The check would take too long."""


@lru_cache(maxsize=64)
def answer_check(schema: bytes) -> Callable[[str], str | None]:
    """A function that says in a few words what is wrong with a text by this schema (JSON), or None.

    Raises InvalidRequest, with a path below `schema`, where that is no schema, or none that answers can be checked by.
    """
    _spent.steps = 0
    whole: dict[str, Any] = orjson.loads(schema)
    dialect = _library.validator_for(whole, default=DIALECTS[0])
    dialect = dialect if dialect in DIALECTS else DIALECTS[0]
    rules = {key: value for key, value in whole.items() if key not in {"$schema", "$id"}}
    _refuse_unfit(rules, dialect)
    validator = _counting(dialect)(rules, registry=NOTHING_ELSE)
    for value in ("null", "{}", "[]"):
        # What goes on for ever, or nearly, mostly does so whatever the value.
        _first_error(validator, orjson.loads(value))

    def check(text: str) -> str | None:
        value, fault = _parsed(text)
        if fault is not None:
            return fault
        _spent.steps = 0
        try:
            error = _first_error(validator, value)
        except InvalidRequest:
            return "it takes too long to check"
        return None if error is None else _in_words(error)

    return check


def check_object(text: str) -> str | None:
    """The same for answers that may be any JSON object."""
    value, fault = _parsed(text)
    return fault if fault is not None or isinstance(value, dict) else "it is no JSON object"


def _parsed(text: str) -> tuple[object, str | None]:
    """The JSON value that a text is, or why it is none."""
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return None, f"it is no JSON at line {error.lineno}, column {error.colno}"
    return value, "it is nested too deep" if is_deep(value) else None


def _first_error(validator: Any, value: object) -> Any:
    try:
        return next(validator.iter_errors(value), None)
    except (_TooComplex, RecursionError):
        raise _invalid((), "is too complex to check answers by") from None


def _refuse_unfit(rules: dict[str, Any], dialect: Any) -> None:
    """Raise InvalidRequest unless this is a schema whose every $ref leads to a schema within itself."""
    resolver = NOTHING_ELSE.resolver_with_root(DRAFT202012.create_resource(rules))
    targets: list[Any] = [rules]

    def leads(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        del validator, wanted, schema
        try:
            targets.append(resolver.lookup(instance).contents)
        except (Unresolvable, ValueError):
            yield ValidationError("leads nowhere")

    metaschema = _metaschema(dialect, leads)
    known: set[int] = set()
    for target in targets:
        if id(target) in known:
            continue
        known.add(id(target))
        error = _first_error(metaschema, target)
        if error is not None:
            message = _WRONG.get(error.validator, "is not what JSON Schema allows here")
            raise _invalid(tuple(error.absolute_path) if target is rules else (), message)


def _invalid(path: Path, message: str) -> InvalidRequest:
    where = field_path(("response_format", "json_schema", "schema", *path))
    return InvalidRequest(f"{where} {message}.", errors=(FieldError(where, message),))


def _in_words(error: Any) -> str:
    where = field_path(tuple(error.absolute_path)) or "the whole"
    if error.validator is None:
        return f"{where} holds something that must not be there"
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{where} lacks {orjson.dumps(missing).decode()[:MAX_RULE]}"
    return f"{where} breaks the rule {_rule(error)}"


def _rule(error: Any) -> str:
    rule = orjson.dumps({error.validator: error.validator_value}).decode()
    return rule if len(rule) <= MAX_RULE else f"{rule[:MAX_RULE]}…"


@cache
def _counting(dialect: Any) -> Any:
    """The same validator, but for what would let one request keep a machine busy."""
    return _extended(dialect, {"pattern": _pattern})


def _extended(dialect: Any, keywords: dict[str, Keyword]) -> Any:
    every = {**dialect.VALIDATORS, **keywords}
    return _library.extend(dialect, {name: _counted(name, keyword) for name, keyword in every.items()})


def _counted(name: str, keyword: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _spend(1 + _weight(name, value, instance))
        for error in keyword(validator, value, instance, schema) or ():
            _spend(len(error.message) // MESSAGE_STEP)
            yield error

    return counted


def _weight(name: str, value: Any, instance: Any) -> int:
    """What a rule costs beyond being one, where it goes through something long by itself."""
    if name in IN_PLACE:
        return IN_PLACE_STEPS + (len(cast("list[Any]", value)) // SCHEMAS_STEP if isinstance(value, list) else 0)
    if name == "enum":
        return len(value)
    if name == "uniqueItems" and isinstance(instance, list):
        items = cast("list[Any]", instance)
        in_pairs = any(isinstance(item, dict | list) for item in items)
        return len(items) ** 2 // PAIRS_STEP if in_pairs else len(items)
    return 0


def _spend(steps: int) -> None:
    _spent.steps += steps
    if _spent.steps > MAX_STEPS:
        raise _TooComplex


def _metaschema(dialect: Any, leads: Keyword) -> Any:
    """What schemas must look like: draft 7's rules and what came later, in a form that is quick to check.

    2020-12's own is a dozen schemas that refer to one another dynamically, and takes seconds for a schema of 64 KB.
    `leads` is called with every $ref.
    """
    schema, schemas = {"$ref": "#"}, {"type": "object", "additionalProperties": {"$ref": "#"}}
    draft7: dict[str, Any] = Draft7Validator.META_SCHEMA
    later: dict[str, Any] = {
        "$defs": schemas,
        "$anchor": {"type": "string"},
        "$ref": {"type": "string", "leads": True},
        "dependentSchemas": schemas,
        "dependentRequired": {"type": "object", "additionalProperties": {"$ref": "#/definitions/stringArray"}},
        "prefixItems": {"$ref": "#/definitions/schemaArray"},
        "unevaluatedItems": schema,
        "unevaluatedProperties": schema,
        "minContains": {"$ref": "#/definitions/nonNegativeInteger"},
        "maxContains": {"$ref": "#/definitions/nonNegativeInteger"},
        "pattern": {"type": "string", "regex": True},
        **{name: {"supported": False} for name in UNSUPPORTED},
    }
    if dialect is Draft202012Validator:
        later["items"] = schema
    rules = {key: value for key, value in draft7.items() if key not in {"$schema", "$id"}}
    rules["properties"] = {**draft7["properties"], **later}
    ours = {"leads": leads, "regex": _regex, "supported": _supported}
    return _extended(Draft7Validator, ours)(rules, registry=NOTHING_ELSE)


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """An expression that the linear engine can't run (with a look-around, say) is left to the provider."""
    del validator, schema
    expression = _expression(pattern)[0] if isinstance(instance, str) else None
    if expression is not None and not expression.isinstance_python(instance):
        yield ValidationError("does not match")


def _regex(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Our own rule, in the metaschema alone: this is a regular expression."""
    del validator, wanted, schema
    if not isinstance(instance, str):
        return
    began = time.thread_time()
    fault = _expression(instance)[1]
    _spend(int((time.thread_time() - began) * COMPILING_STEPS_PER_S))
    if fault is not None and not any(reason in fault for reason in BEYOND_LINEAR):
        yield ValidationError("is no regular expression")


def _supported(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Our own rule, in the metaschema alone: nothing may be here."""
    del validator, wanted, instance, schema
    yield ValidationError("is not supported")


@lru_cache(maxsize=256)
def _expression(pattern: str) -> tuple[SchemaValidator | None, str | None]:
    """What matches an expression in linear time, or why nothing does."""
    try:
        return SchemaValidator(str_schema(pattern=pattern, regex_engine="rust-regex")), None
    except SchemaError as error:
        return None, str(error)

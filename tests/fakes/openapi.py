"""Checks bodies against the vendors' own OpenAPI descriptions (tests/specs/), as they publish them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

SPECS = Path(__file__).parent.parent / "specs"


def violations(path: str, body: Any, spec: str = "openai-chat.openapi.json") -> list[str]:
    """What in a POST body does not fit the description of `path`, in words; empty when it fits."""
    return [f"{error.json_path}: {error.message}" for error in _validator(spec, path).iter_errors(body)]


def delta_violations(delta: Any, spec: str = "openai-chat.openapi.json") -> list[str]:
    """The same for the deltas that a chat completion is streamed in."""
    validator = _validator_at(spec, "/components/schemas/ChatCompletionStreamResponseDelta")
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(delta)]


def _validator(spec: str, path: str, method: str = "post") -> Any:
    pointer = path.replace("~", "~0").replace("/", "~1")
    return _validator_at(spec, f"/paths/{pointer}/{method}/requestBody/content/application~1json/schema")


def request_violations(method: str, path: str, body: Any, spec: str) -> list[str]:
    """What in the body of a request with another method than POST does not fit the description of `path`."""
    return [f"{error.json_path}: {error.message}" for error in _validator(spec, path, method.lower()).iter_errors(body)]


def component_violations(name: str, value: Any, spec: str) -> list[str]:
    """What in a value does not fit the component of that name."""
    validator = _validator_at(spec, f"/components/schemas/{name}")
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def example(name: str, spec: str) -> Any:
    """A value that fits the component of that name: what it requires and no more."""
    schemas = _document(spec)["components"]["schemas"]
    return _example(schemas[name], schemas)


def _example(schema: Any, schemas: Any) -> Any:
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    types = schema.get("type", "object")
    if "null" in types or {"type": "null"} in schema.get("anyOf", []):
        return None
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("oneOf", "anyOf", "allOf"):
        if choice in schema:
            return _example(schema[choice][0], schemas)
    if types == "object":
        properties = schema.get("properties", {})
        return {each: _example(properties[each], schemas) for each in schema.get("required", [])}
    plain: dict[str, Any] = {"array": [], "boolean": False, "integer": 1, "number": 1, "string": "x"}
    return plain[types]


def _as_json_schema(value: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has a type `null`."""
    if isinstance(value, list):
        return [_as_json_schema(each) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    schema: dict[str, Any] = {key: _as_json_schema(each) for key, each in cast("dict[str, Any]", value).items()}
    if schema.pop("nullable", None) is True:
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        if isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        else:
            schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


@cache
def _document(spec: str) -> Any:
    return _as_json_schema(json.loads((SPECS / spec).read_text()))


@cache
def _validator_at(spec: str, pointer: str) -> Any:  # its own annotations are incomplete
    resource: Resource[Any] = Resource(contents=_document(spec), specification=DRAFT202012)
    reference = f"urn:spec#{pointer}"
    registry: Registry[Any] = Registry()
    return Draft202012Validator({"$ref": reference}, registry=registry.with_resource("urn:spec", resource))

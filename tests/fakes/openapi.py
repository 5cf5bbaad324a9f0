"""Checks bodies against the vendors' own OpenAPI descriptions (tests/specs/), as they publish them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

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


def _validator(spec: str, path: str) -> Any:
    pointer = path.replace("~", "~0").replace("/", "~1")
    return _validator_at(spec, f"/paths/{pointer}/post/requestBody/content/application~1json/schema")


@cache
def _validator_at(spec: str, pointer: str) -> Any:  # its own annotations are incomplete
    document = json.loads((SPECS / spec).read_text())
    resource: Resource[Any] = Resource(contents=document, specification=DRAFT202012)
    reference = f"urn:spec#{pointer}"
    registry: Registry[Any] = Registry()
    return Draft202012Validator({"$ref": reference}, registry=registry.with_resource("urn:spec", resource))

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


@cache
def _validator(spec: str, path: str) -> Any:  # its own annotations are incomplete
    document = json.loads((SPECS / spec).read_text())
    resource: Resource[Any] = Resource(contents=document, specification=DRAFT202012)
    pointer = path.replace("~", "~0").replace("/", "~1")
    reference = f"urn:spec#/paths/{pointer}/post/requestBody/content/application~1json/schema"
    registry: Registry[Any] = Registry()
    return Draft202012Validator({"$ref": reference}, registry=registry.with_resource("urn:spec", resource))

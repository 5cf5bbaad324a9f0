"""useObject of npm's `@ai-sdk/react`: JSON as it grows, and as it should be."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, hosted_over, local_over
from tests.fakes.vendor import Cut, Gate, Reply, Vendor, failure, words
from tests.js_clients.answers import (
    THOUGHTS,
    problem,
)
from tests.js_clients.node import OpenPage

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "shots": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "shots"],
}


def test_object_grows(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """An object's fields are shown as they are written, and the schema that useObject asks for reaches the vendor."""
    first, second = Gate(), Gate()
    vendor.script(words('{"title": "Tea', first, ' time", "shots": ["cup', second, '", "pot"]}'))
    page = open_page("use_object", url=serve(local_over(vendor)), schema=SCHEMA)
    wanted = {"type": "json_schema", "json_schema": {"name": "storyboard", "schema": SCHEMA}}
    page.act("submit", {"prompt": "A storyboard", "response_format": wanted})
    page.until(object={"title": "Tea"})
    first.open()
    page.until(object={"title": "Tea time", "shots": ["cup"]})
    second.open()
    seen = page.at_rest()
    whole = {"title": "Tea time", "shots": ["cup", "pot"]}
    assert seen["object"] == whole
    assert seen["finishes"] == [{"object": whole, "error": None}]
    assert vendor.requests[0].body["response_format"] == wanted


def test_object_notices_a_broken_answer(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A vendor that goes in mid-answer is an error to useObject, with what there is kept."""
    proceed = Gate()
    vendor.script(words('{"title": "Tea', proceed, Cut()), *[failure(500)] * 3)
    page = open_page("use_object", url=serve(local_over(vendor)), schema=SCHEMA)
    page.act("submit", {"prompt": "A storyboard"})
    page.until(object={"title": "Tea"})
    proceed.open()
    seen = page.at_rest()
    assert (seen["object"], seen["finishes"]) == ({"title": "Tea"}, [])
    assert seen["error"] is not None


@pytest.mark.parametrize("answer", ['{"title": 7, "shots": []}', '{"title": "Tea"}', '{"title": "Tea"'])
def test_object_that_does_not_fit(open_page: OpenPage, serve: Serve, vendor: Vendor, answer: str) -> None:
    """JSON that does not fit the schema that was asked for is an error to useObject, though it was streamed."""
    vendor.script(words(answer))
    page = open_page("use_object", url=serve(local_over(vendor)), schema={})
    wanted = {"type": "json_schema", "json_schema": {"name": "storyboard", "schema": SCHEMA}}
    page.act("submit", {"prompt": "A storyboard", "response_format": wanted})
    seen = page.at_rest()
    assert seen["error"] is not None
    assert seen["finishes"] == []


def test_object_of_a_model_that_thinks(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """What a model thinks before its JSON stays out of useObject's text; any object will do where none is described."""
    vendor.script(Reply([*THOUGHTS, *words('{"title": "Tea", ', '"shots": []}').steps]))
    page = open_page("use_object", url=serve(hosted_over(groq=vendor)), schema=SCHEMA)
    page.act("submit", {"prompt": "A storyboard as JSON", "response_format": {"type": "json_object"}})
    assert page.at_rest()["finishes"] == [{"object": {"title": "Tea", "shots": []}, "error": None}]


def test_object_whose_schema_is_none(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A schema that is none is named in useObject's error, and nothing is asked of the vendor."""
    page = open_page("use_object", url=serve(local_over(vendor)), schema=SCHEMA)
    wanted = {"type": "json_schema", "json_schema": {"name": "storyboard", "schema": {"type": "obj"}}}
    page.act("submit", {"prompt": "A storyboard", "response_format": wanted})
    assert problem(page.at_rest())["errors"][0]["path"] == "response_format.json_schema.schema.type"
    assert vendor.requests == []

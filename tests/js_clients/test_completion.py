"""useCompletion of npm's `@ai-sdk/react`, in both of its protocols."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, local_over
from tests.fakes.vendor import Cut, Gate, Vendor, failure, words
from tests.js_clients.answers import (
    HOSTILE,
    problem,
    said,
)
from tests.js_clients.node import OpenPage

PROTOCOLS = pytest.mark.parametrize("protocol", ["data", "text"])


@PROTOCOLS
def test_completion_gets_text(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """The text is shown as it grows, in both protocols of useCompletion."""
    proceed = Gate()
    vendor.script(words("Hello", proceed, " 🌍"))
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", "Hi")
    assert page.until(text="Hello")["idle"] is False
    proceed.open()
    seen = page.at_rest()
    assert (seen["text"], seen["finishes"], seen["error"]) == ("Hello 🌍", ["Hello 🌍"], None)
    assert said(vendor) == [("user", "Hi")]


@PROTOCOLS
def test_completion_carries_any_text(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """What is hard to frame or to quote arrives unchanged in both protocols of useCompletion."""
    vendor.script(words("So: ", HOSTILE))
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", HOSTILE)
    assert page.at_rest()["text"] == f"So: {HOSTILE}"
    assert said(vendor) == [("user", HOSTILE)]


@PROTOCOLS
def test_completion_stops(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """stop() keeps the text so far and hangs up on the vendor, in both protocols of useCompletion."""
    never = Gate()
    vendor.script(words("Once upon", never, " a time"))
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", "A story")
    page.until(text="Once upon")
    page.act("stop")
    seen = page.at_rest()
    assert vendor.requests[0].hung_up.wait(30)
    never.open()
    assert (seen["text"], seen["finishes"], seen["error"]) == ("Once upon", [], None)


@PROTOCOLS
def test_completion_notices_a_broken_answer(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """A vendor that goes in mid-answer is an error to useCompletion, in both of its protocols, never a short text."""
    proceed = Gate()
    vendor.script(words("Half an", proceed, Cut()), *[failure(500)] * 3)
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", "Hi")
    page.until(text="Half an")
    proceed.open()
    seen = page.at_rest()
    assert (seen["text"], seen["finishes"]) == ("Half an", [])
    assert seen["error"] is not None


def test_completion_shows_why_there_is_no_answer(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Where no provider answers, useCompletion's error is our problem+json."""
    vendor.script(failure(500), failure(500))
    page = open_page("use_completion", url=serve(local_over(vendor)))
    page.act("complete", "Hi")
    assert problem(page.at_rest())["code"] == "no_provider_available"

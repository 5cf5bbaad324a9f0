"""useChat of npm's `@ai-sdk/react`: text, thoughts, files, stops and failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Serve, hosted_over, local_over
from tests.fakes.vendor import Cut, Gate, Vendor, failure, usage, words
from tests.js_clients.answers import (
    HOSTILE,
    PIXEL,
    THINKING,
    everything_at_once,
    in_pieces,
    problem,
    said,
)
from tests.js_clients.node import OpenPage


def test_chat_gets_text_and_metadata(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A chat holds the whole text, who answered, what it took, and why it ended."""
    vendor.script(words("Hello", " world", counted=usage(7, 3)))
    page = open_page("use_chat", url=serve(hosted_over(deepinfra=vendor)))
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    question, answer = seen["messages"]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert answer["parts"] == [{"type": "step-start"}, {"type": "text", "text": "Hello world", "state": "done"}]
    metadata = answer["metadata"]
    assert (metadata["provider"], metadata["model"]) == ("deepinfra", "meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert metadata["usage"] == {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 0}
    assert 0 < metadata["cost_usd"] < 0.0001
    assert 0 <= metadata["timing_ms"]["queue"] <= metadata["timing_ms"]["ttft"] <= metadata["timing_ms"]["total"]
    assert seen["finishes"] == [{"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}]


def test_chat_shows_text_while_it_is_written(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A chat goes from submitted over streaming to ready, and shows each word before the next one exists."""
    before, between = Gate(), Gate()
    vendor.script(words(before, "Hello", between, " world"))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Hi"})
    page.until(status="submitted")
    before.open()
    assert page.until(text="Hello")["status"] == "streaming"
    between.open()
    seen = page.at_rest()
    assert seen["text"] == "Hello world"
    assert seen["statuses"] == ["ready", "submitted", "streaming", "ready"]


def test_chat_sends_the_history(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A chat's second question reaches the vendor together with the first one and its answer."""
    vendor.script(words("Paris."), words("Berlin."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Capital of France?"})
    page.at_rest()
    page.act("send", {"text": "And of Germany?"})
    seen = page.at_rest()
    assert said(vendor) == [("user", "Capital of France?"), ("assistant", "Paris."), ("user", "And of Germany?")]
    assert [message["role"] for message in seen["messages"]] == ["user", "assistant", "user", "assistant"]
    assert len({message["id"] for message in seen["messages"]}) == 4
    assert seen["text"] == "Berlin."


def test_chat_regenerates(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """regenerate() asks the same question again and puts the new answer in the old one's place."""
    vendor.script(words("First."), words("Second."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Say something"})
    page.at_rest()
    page.act("regenerate")
    seen = page.at_rest()
    assert said(vendor) == [("user", "Say something")]
    assert [message["role"] for message in seen["messages"]] == ["user", "assistant"]
    assert seen["text"] == "Second."


def test_chat_stops(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """stop() keeps the text so far, hangs up on the vendor at once, and leaves a chat that goes on."""
    never = Gate()
    vendor.script(words("Once upon", never, " a time"), words("Sure."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "A story"})
    page.until(text="Once upon")
    page.act("stop")
    seen = page.at_rest()
    assert vendor.requests[0].hung_up.wait(30)
    never.open()
    assert (seen["status"], seen["text"], seen["error"]) == ("ready", "Once upon", None)
    assert seen["finishes"][0]["isAbort"] is True
    page.act("send", {"text": "Another one"})
    assert page.at_rest()["text"] == "Sure."
    assert said(vendor) == [("user", "A story"), ("assistant", "Once upon"), ("user", "Another one")]


def test_chat_stops_before_the_first_word(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """stop() before anything was said hangs up on the vendor too, and leaves no error."""
    never = Gate()
    vendor.script(words(never, "Hello"))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Hi"})
    page.until(status="submitted")
    assert vendor.asked.wait(60)
    page.act("stop")
    seen = page.at_rest()
    assert vendor.requests[0].hung_up.wait(30)
    never.open()
    assert (seen["status"], seen["error"]) == ("ready", None)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_chat_keeps_the_text_of_a_broken_answer(
    open_page: OpenPage, serve: Serve, vendor: Vendor, *, reset: bool
) -> None:
    """A vendor that goes in mid-answer leaves useChat with an error, the text so far, and a chance to try again."""
    proceed = Gate()
    vendor.script(words("Half an", proceed, Cut(reset=reset)), words("A whole answer"))
    page = open_page("use_chat", url=serve(local_over(vendor)), body={"on_interrupt": "error"})
    page.act("send", {"text": "Hi"})
    page.until(text="Half an")
    proceed.open()
    seen = page.at_rest()
    assert (seen["status"], seen["text"]) == ("error", "Half an")
    assert seen["error"]["message"] == "The provider broke off in the middle of its answer."
    assert seen["finishes"][0]["isError"] is True
    assert seen["messages"][-1]["metadata"]["error_code"] == "stream_interrupted"
    page.act("regenerate")
    seen = page.at_rest()
    assert (seen["status"], seen["text"], seen["error"]) == ("ready", "A whole answer", None)
    assert len(seen["messages"]) == 2


def test_chat_shows_why_there_is_no_answer(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Where no provider answers, useChat's error is our problem+json: a stable code and nothing secret."""
    environ = hosted_over(xai=vendor)
    vendor.script(failure(401, "invalid_api_key", f"Incorrect API key provided: {environ['XAI_API_KEY']}"))
    page = open_page("use_chat", url=serve(environ))
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], seen["error"]["statusCode"]) == ("error", 503)
    assert problem(seen)["code"] == "no_provider_available"
    assert environ["XAI_API_KEY"] not in json.dumps(seen)


def test_chat_shows_which_field_is_wrong(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A field that we don't know is named in useChat's error, and nothing is asked of the vendor."""
    page = open_page("use_chat", url=serve(local_over(vendor)), body={"temprature": 0.5})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert seen["error"]["statusCode"] == 422
    assert [field["path"] for field in problem(seen)["errors"]] == ["temprature"]
    assert vendor.requests == []


def test_chat_takes_our_options(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """What a page adds to the transport's body (system, temperature, max_tokens) reaches the vendor."""
    body = {"system": "Be brief.", "temperature": 0.5, "max_tokens": 9, "metadata": {"page": "home"}}
    page = open_page("use_chat", url=serve(local_over(vendor)), body=body)
    page.act("send", {"text": "Hi"})
    page.at_rest()
    assert said(vendor) == [("system", "Be brief."), ("user", "Hi")]
    assert (vendor.requests[0].body["temperature"], vendor.requests[0].body["max_tokens"]) == (0.5, 9)


def test_chat_gets_reasoning(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A model's reasoning arrives as a part of its own, before the text, and stays out of the next question."""
    vendor.script(THINKING, words("Yes."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "What is it?"})
    seen = page.at_rest()
    assert seen["messages"][-1]["parts"] == [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Let me think.", "state": "done", "id": "1"},
        {"type": "text", "text": "It is 42.", "state": "done"},
    ]
    page.act("send", {"text": "Sure?"})
    page.at_rest()
    assert said(vendor) == [("user", "What is it?"), ("assistant", "It is 42."), ("user", "Sure?")]


def test_chat_sends_pictures(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A picture that a page attaches reaches a model that can see."""
    page = open_page("use_chat", url=serve(hosted_over(xai=vendor)))
    files = [{"type": "file", "mediaType": "image/png", "filename": "dot.png", "url": PIXEL}]
    page.act("send", {"text": "What is this?", "files": files})
    assert page.at_rest()["status"] == "ready"
    picture, text = {"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "text", "text": "What is this?"}
    assert said(vendor) == [("user", [picture, text])]


def test_chat_may_not_send_other_files(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A file that is no picture is refused by name rather than dropped."""
    page = open_page("use_chat", url=serve(hosted_over(xai=vendor)))
    files = [{"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf;base64,JVBERi0="}]
    page.act("send", {"text": "Read this", "files": files})
    seen = page.at_rest()
    assert seen["error"]["statusCode"] == 422
    assert "messages[0].parts[0].mediaType" in {field["path"] for field in problem(seen)["errors"]}


def test_chat_may_hold_parts_of_other_kinds(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """What a message holds besides text and pictures stays on the page: the vendor gets the text."""
    earlier: list[dict[str, Any]] = [
        {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hi"}], "metadata": {"draft": None}},
        {
            "id": "2",
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hmm", "state": "done"},
                {"type": "tool-weather", "toolCallId": "c", "state": "input-streaming", "input": {}},
                {"type": "source-url", "sourceId": "s", "url": "https://example.com"},
                {"type": "source-document", "sourceId": "s", "mediaType": "text/plain", "title": "A"},
                {"type": "data-progress", "id": "p", "data": {"percent": 50}},
                {"type": "text", "text": "Hello", "state": "done", "providerMetadata": {"x": {"y": 1}}},
            ],
        },
    ]
    page = open_page("use_chat", url=serve(local_over(vendor)), messages=earlier)
    page.act("send", {"text": "And now?"})
    assert page.at_rest()["status"] == "ready"
    assert said(vendor) == [("user", "Hi"), ("assistant", "Hello"), ("user", "And now?")]


def test_chat_carries_any_text(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Emoji, line separators, markup, quotes and what looks like our framing go both ways unchanged."""
    vendor.script(in_pieces(words(*(HOSTILE[start : start + 5] for start in range(0, len(HOSTILE), 5))), 61))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": HOSTILE})
    assert page.at_rest()["text"] == HOSTILE
    assert said(vendor) == [("user", HOSTILE)]


def test_chat_carries_long_text(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A megabyte of text arrives whole, wherever the network cuts it."""
    piece = "Größe 漢字 🎬 " * 1500
    pieces = [f"{number} {piece}" for number in range(1_000_000 // len(piece.encode()) + 1)]
    vendor.script(in_pieces(words(*pieces), 4093))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "A novel"})
    seen = page.at_rest()
    assert seen["text"] == "".join(pieces)
    assert len(seen["text"].encode()) > 1_000_000


def test_chat_takes_everything_at_once(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Two hundred deltas in one network write make one whole answer."""
    numbers = [f"{number} " for number in range(200)]
    vendor.script(everything_at_once(words(*numbers)))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Count"})
    seen = page.at_rest()
    assert (seen["status"], seen["text"]) == ("ready", "".join(numbers))

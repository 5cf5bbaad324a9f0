"""useChat with tools: calls, their results, and conversations that hold both."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import MakeVendor, Serve, hosted_over
from tests.fakes.vendor import Cut, Gate, Reply, Vendor, call_piece, calls, chunk, event, words
from tests.js_clients.answers import (
    PARIS,
    TOOLS,
    WEATHER,
    said,
)
from tests.js_clients.node import Node, OpenPage


def tool_part(**fields: Any) -> dict[str, Any]:
    """A call of the weather tool as a page holds it."""
    return {"type": "tool-weather", "toolCallId": "call_0", "input": {"city": "Paris"}, **fields}


@pytest.mark.parametrize(
    ("output", "told"),
    [({"celsius": 21}, '{"celsius":21}'), ("Sunny", "Sunny"), ({"errorText": "No such city."}, "No such city.")],
    ids=["object", "text", "error"],
)
def test_chat_calls_a_tool(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor, output: Any, told: str) -> None:
    """A call goes to the page, its result back by itself, and both stand before the answer in one message."""
    groq = make_vendor()
    groq.script(calls(("weather", PARIS), text="Let me see."), words("It is ", "sunny."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": output})
    page.act("send", {"text": "The weather in Paris?"})
    seen = page.at_rest()
    assert (seen["status"], seen["error"]) == ("ready", None)
    question, answer = seen["messages"]
    failed = isinstance(output, dict) and "errorText" in output
    came_of_it: dict[str, Any] = {"state": "output-available", "output": output}
    if failed:
        came_of_it = {"state": "output-error", **output}
    assert answer["parts"] == [
        {"type": "step-start"},
        {"type": "text", "text": "Let me see.", "state": "done"},
        tool_part(**came_of_it),
        {"type": "step-start"},
        {"type": "text", "text": "It is sunny.", "state": "done"},
    ]
    assert question["id"] != answer["id"]
    assert [finish["finishReason"] for finish in seen["finishes"]] == ["tool-calls", "stop"]
    first, second = (request.body for request in groq.requests)
    assert first["tools"] == second["tools"] == [WEATHER]
    user, called, result = second["messages"]
    assert user == first["messages"][0]
    assert called["content"] == "Let me see."
    assert [call["id"] for call in called["tool_calls"]] == ["call_0"]
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    assert result == {"role": "tool", "tool_call_id": "call_0", "content": told}


def test_chat_calls_tools_again_and_again(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """Several calls at once, then one more, then the answer: each result stands behind its call, whatever its id."""
    groq = make_vendor()
    groq.script(calls(("weather", PARIS), ("weather", '{"city": "Rome"}')), calls(("time", "{}")), words("Done."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21, "time": "noon"})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], seen["text"], len(seen["messages"])) == ("ready", "Done.", 2)
    assert [message["role"] for message in groq.requests[2].body["messages"]] == [
        *("user", "assistant", "tool", "tool"),
        *("assistant", "tool"),
    ]
    assert said(groq)[2:] == [("tool", "21"), ("tool", "21"), ("assistant", None), ("tool", "noon")]


def test_chat_shows_a_call_while_it_is_written(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """A call's input is shown as it grows; the page's tool runs only when the whole answer is there."""
    groq, between, last = make_vendor(), Gate(), Gate()
    steps = calls(("weather", PARIS), size=13).steps
    groq.script(Reply([*steps[:3], between, steps[3], last, *steps[4:]]), words("Sunny."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    page.until(tools=[["tool-weather", "input-streaming", {"city": "Par"}]])
    between.open()
    page.until(tools=[["tool-weather", "input-streaming", {"city": "Paris"}]])
    assert len(groq.requests) == 1
    last.open()
    assert page.at_rest()["text"] == "Sunny."


@pytest.mark.parametrize("ending", [[Cut()], calls().steps[1:]], ids=["cut", "said to be finished"])
def test_chat_never_runs_half_a_call(
    open_page: OpenPage, serve: Serve, make_vendor: MakeVendor, ending: list[Any]
) -> None:
    """A call that breaks off is shown to have failed and its tool never runs; the chat goes on afterwards."""
    groq = make_vendor()
    half = [event(chunk(call_piece(0, id="call_0", name="weather", arguments='{"city": "Par')))]
    groq.script(Reply([*half, *ending]), words("Sunny."), words("Bye."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], len(groq.requests)) == ("error", 1)
    assert [state for _, state, _ in seen["tools"]] == ["output-error"]
    assert seen["messages"][-1]["metadata"]["error_code"] == "stream_interrupted"
    page.act("regenerate")
    assert page.at_rest()["text"] == "Sunny."
    page.act("send", {"text": "Thanks"})
    assert page.at_rest()["text"] == "Bye."


def test_chat_goes_on_after_a_failed_call(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """Where the page goes on without asking again, the model is told that the call failed, and made none of it."""
    groq = make_vendor()
    groq.script(Reply([event(chunk(call_piece(0, id="call_0", name="weather", arguments='{"city'))), Cut()]))
    groq.script(words("Never mind."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    page.at_rest()
    page.act("send", {"text": "So?"})
    assert page.at_rest()["text"] == "Never mind."
    _, called, result, _ = groq.requests[1].body["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}
    assert result["content"] == "The provider broke off in the middle of its answer."


def test_chat_takes_half_a_call_back(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """A page of AI SDK 7 that says so gets the next vendor's call in place of the half one, and runs only that."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(Reply([event(chunk(call_piece(0, id="call_0", name="weather", arguments='{"city": "Par'))), Cut()]))
    xai.script(calls(("weather", '{"city": "Rome"}')))
    groq.script(words("Sunny in Rome."))
    url, body = serve(hosted_over(groq=groq, xai=xai)), {**TOOLS, "ui_stream": "v7"}
    page = open_page("use_chat", url=url, body=body, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], seen["text"]) == ("ready", "Sunny in Rome.")
    assert seen["tools"] == [["tool-weather", "output-available", {"city": "Rome"}]]


CONVERSATIONS: list[list[dict[str, Any]]] = [
    [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hm"},
        {"type": "text", "text": "One"},
        tool_part(state="output-available", output={"celsius": 21, "sky": None}),
        {"type": "dynamic-tool", "toolName": "time", "toolCallId": "b", "state": "output-available", "output": "noon"},
        {"type": "step-start"},
        tool_part(state="output-error", errorText="No such city.", toolCallId="c"),
        {"type": "text", "text": "Two"},
        {"type": "step-start"},
        {"type": "text", "text": "Three"},
    ],
    [tool_part(state="input-streaming"), {"type": "text", "text": "Stopped"}],
    [tool_part(state="output-denied", approval={"id": "1", "approved": False, "reason": "No."})],
    [tool_part(state="output-available", output=[]), {"type": "source-url", "sourceId": "s", "url": "https://x.y"}],
]


@pytest.mark.parametrize("parts", CONVERSATIONS)
def test_conversations_reach_the_vendor_as_the_sdk_has_them(
    node: Node, serve: Serve, vendor: Vendor, parts: list[dict[str, Any]]
) -> None:
    """The vendor gets a page's tool calls and results in the order of the SDK's own convertToModelMessages."""
    asked = {"role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    messages = [asked, {"id": "m", "role": "assistant", "parts": parts}, asked]
    expected = [each for message in node.ask("convert", messages) for each in in_openai_style(message)]
    node.ask("read", {"url": serve(hosted_over(groq=vendor)), "body": {**TOOLS, "messages": messages}})
    got = vendor.requests[0].body["messages"]
    for call in (call for message in got for call in message.get("tool_calls", [])):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert got == expected


def in_openai_style(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message of the SDK's for its models, as its providers turn it into OpenAI's wire shape."""
    if message["role"] == "tool":
        results = [part for part in message["content"] if part["type"] == "tool-result"]
        outputs = [part["output"]["value"] for part in results]
        texts = [output if isinstance(output, str) else json.dumps(output, separators=(",", ":")) for output in outputs]
        ids = [part["toolCallId"] for part in results]
        return [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in zip(ids, texts, strict=True)]
    texts = [part["text"] for part in message["content"] if part["type"] == "text"]
    made = [
        {
            "id": part["toolCallId"],
            "type": "function",
            "function": {"name": part["toolName"], "arguments": part.get("input", {})},
        }
        for part in message["content"]
        if part["type"] == "tool-call"
    ]
    said = {"role": message["role"], "content": "\n".join(texts) if texts else None}
    return [{**said, "tool_calls": made} if made else said]

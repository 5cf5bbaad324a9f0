"""POST /api/generate with tools: what the vendor is asked, and its calls in every form of the answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from lib.providers.catalog import ROWS
from tests.conftest import KEY_HEADER, InferenceLog, MakeVendor, Serve, hosted_over, local_over
from tests.fakes.vendor import Reply, Vendor, calls, chunk, event, usage, words

JSON = {"accept": "application/json"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ARGUMENTS = '{"city": "Paris"}'
ASKED: dict[str, Any] = {"prompt": "How is the weather in Paris?", "tools": [WEATHER]}
CALLED = [{"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}]
HOSTED = [row.name for row in ROWS if row.key_var]


def post(url: str, body: object, **headers: str) -> httpx.Response:
    """POST a JSON body."""
    return httpx.post(f"{url}/api/generate", json=body, headers=headers, timeout=30)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The UI message stream's chunks; its last event must be [DONE]."""
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(data) for data in events[:-1]]


@pytest.mark.parametrize("name", HOSTED)
def test_json(serve: Serve, vendor: Vendor, name: str) -> None:
    """Every hosted vendor gets the tools as they are; its calls are in the answer as OpenAI's answers have them."""
    vendor.script(calls(("weather", ARGUMENTS)))
    choice = {"type": "function", "function": {"name": "weather"}}
    body = post(serve(hosted_over(**{name: vendor})), {**ASKED, "tool_choice": choice}, **JSON).json()
    assert (body["text"], body["tool_calls"], body["finish_reason"]) == ("", CALLED, "tool_calls")
    assert body["usage"] == {"input_tokens": 20, "output_tokens": 9, "cached_tokens": 0}
    asked = vendor.requests[0].body
    assert (asked["tools"], asked["tool_choice"]) == ([WEATHER], choice)


def test_several_calls_beside_text(serve: Serve, vendor: Vendor) -> None:
    """Text and calls stand side by side, calls in their order."""
    vendor.script(calls(("weather", ARGUMENTS), ("weather", '{"city": "Rome"}'), text="Let me see."))
    body = post(serve(hosted_over(groq=vendor)), ASKED, **JSON).json()
    assert body["text"] == "Let me see."
    assert [call["function"]["arguments"] for call in body["tool_calls"]] == [ARGUMENTS, '{"city": "Rome"}']
    assert "tool_choice" not in vendor.requests[0].body


def test_no_call(serve: Serve, vendor: Vendor) -> None:
    """A model that calls nothing has just answered."""
    vendor.script(words("Sunny."))
    body = post(serve(hosted_over(groq=vendor)), ASKED, **JSON).json()
    assert (body["text"], body["finish_reason"], "tool_calls" in body) == ("Sunny.", "stop", False)


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
def test_ui_message_stream(serve: Serve, vendor: Vendor, reason: str) -> None:
    """Calls are streamed as tool input, made at the end, and finish as tool-calls whatever the vendor calls it."""
    vendor.script(calls(("weather", ARGUMENTS), text="So:", finish_reason=reason))
    got = chunks(post(serve(hosted_over(groq=vendor)), ASKED))
    assert [part["type"] for part in got if part["type"] != "tool-input-delta"] == [
        *("start", "start-step", "text-start", "text-delta", "text-end"),
        *("tool-input-start", "tool-input-available", "finish-step", "finish"),
    ]
    assert "".join(part.get("inputTextDelta", "") for part in got) == ARGUMENTS
    available = got[-3]
    assert available == {
        "type": "tool-input-available",
        "toolCallId": "call_0",
        "toolName": "weather",
        "input": {"city": "Paris"},
    }
    assert (got[-1]["finishReason"], got[-1]["messageMetadata"]["finish_reason"]) == ("tool-calls", "tool_calls")
    assert "null" not in "".join(json.dumps(part) for part in got)


def test_plain_text(serve: Serve, vendor: Vendor) -> None:
    """Plain text has no words for a call: tools are refused there, unless none may be called."""
    url = serve(hosted_over(groq=vendor))
    response = post(url, ASKED, accept="text/plain")
    assert (response.status_code, [error["path"] for error in response.json()["errors"]]) == (422, ["tools"])
    assert vendor.requests == []
    vendor.script(words("Sunny."))
    assert post(url, {**ASKED, "tool_choice": "none"}, accept="text/plain").text == "Sunny."
    assert vendor.requests[0].body["tool_choice"] == "none"


def test_call_that_nobody_asked_for(serve: Serve, vendor: Vendor) -> None:
    """A model that calls a tool where it may not is cut in plain text: what it said before is no answer."""
    vendor.script(calls(("weather", ARGUMENTS), text="Let me see."))
    with pytest.raises(httpx.RemoteProtocolError):
        post(serve(hosted_over(groq=vendor)), {"prompt": "Hi"}, accept="text/plain")


def test_results_reach_the_vendor(serve: Serve, vendor: Vendor, inference_log: InferenceLog) -> None:
    """The second request of a tool's round trip: call and result reach the vendor, and count as input."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "How is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": CALLED},
        {"role": "tool", "tool_call_id": "call_0", "content": "x" * 4_000},
    ]
    vendor.script(words(event(chunk({"content": "Sunny."})), finish_reason=None))
    body = {"messages": messages, "tools": [WEATHER], "on_interrupt": "error"}
    post(serve(hosted_over(groq=vendor)), body, **JSON)
    assert vendor.requests[0].body["messages"] == messages
    assert 1_000 < inference_log.next()["input_tokens"] < 1_200


def test_ui_round_trip(serve: Serve, vendor: Vendor) -> None:
    """The same as the AI SDK's page sends it: the answer goes into the message that the call stands in."""
    part = {"type": "tool-weather", "toolCallId": "call_0", "state": "output-available", "input": {"city": "Paris"}}
    messages = [
        {"id": "u", "role": "user", "parts": [{"type": "text", "text": "How is the weather?"}]},
        {"id": "m-1", "role": "assistant", "parts": [{"type": "step-start"}, {**part, "output": {"celsius": 21}}]},
    ]
    vendor.script(words("Sunny."))
    got = chunks(post(serve(hosted_over(groq=vendor)), {"messages": messages, "tools": [WEATHER]}))
    assert got[0]["messageId"] == "m-1"
    assert got[0]["messageMetadata"]["id"] != "m-1"
    call, result = vendor.requests[0].body["messages"][1:]
    assert call["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}
    assert result == {"role": "tool", "tool_call_id": "call_0", "content": '{"celsius":21}'}


def test_who_can_not_call_is_left_out(serve: Serve, make_vendor: MakeVendor) -> None:
    """A provider whose model can't call tools is not asked; where none can, that is told at once."""
    local, groq = make_vendor(), make_vendor()
    groq.script(calls(("weather", ARGUMENTS)))
    url = serve({**local_over(local), **hosted_over(groq=groq), "FEATURE_AI_PROVIDER": "local"})
    assert post(url, ASKED, **JSON).json()["provider"] == "groq"
    for body in (ASKED, {"messages": [{"role": "user", "content": "Hi"}, *_past_call()]}):
        problem = post(serve(local_over(local)), body, **JSON).json()
        assert (problem["status"], problem["code"]) == (422, "capability_missing")
        assert [error["path"] for error in problem["errors"]] == ["tools"]
    assert local.requests == []


def _past_call() -> list[dict[str, Any]]:
    result = {"role": "tool", "tool_call_id": "call_0", "content": "21 °C"}
    return [{"role": "assistant", "content": None, "tool_calls": CALLED}, result]


def test_tools_beside_a_schema(serve: Serve, make_vendor: MakeVendor) -> None:
    """Not every vendor takes tools and a response_format together: those that do are asked."""
    groq, xai = make_vendor(), make_vendor()
    schema: dict[str, Any] = {"name": "x", "schema": {}}
    both = {**ASKED, "response_format": {"type": "json_schema", "json_schema": schema}}
    url = serve(hosted_over(groq=groq, xai=xai))
    xai.script(calls(("weather", ARGUMENTS)), words('{"sky": "clear"}'))
    called, said = (post(url, both, **JSON).json() for _ in range(2))
    assert (called["provider"], called["tool_calls"], "object" in called) == ("xai", CALLED, False)
    assert (said["object"], "tool_calls" in said) == ({"sky": "clear"}, False)
    assert groq.requests == []
    assert post(serve(hosted_over(groq=groq)), both, **JSON).json()["code"] == "capability_missing"


def test_reasoning_then_call(serve: Serve, vendor: Vendor) -> None:
    """A model that thinks before it calls: thoughts are parts of their own in both forms."""
    thought = event(chunk({"reasoning": "Paris, I think."}))
    reply = calls(("weather", ARGUMENTS))
    for _ in range(2):
        vendor.script(Reply([thought, *reply.steps]))
    url = serve(hosted_over(groq=vendor))
    body = post(url, ASKED, **JSON).json()
    assert (body["reasoning"], body["text"], body["tool_calls"]) == ("Paris, I think.", "", CALLED)
    kinds = [part["type"] for part in chunks(post(url, ASKED))]
    assert kinds[2:6] == ["reasoning-start", "reasoning-delta", "reasoning-end", "tool-input-start"]


def test_vendor_without_ids(serve: Serve, vendor: Vendor) -> None:
    """A vendor that names no call gets its calls told apart all the same, in one request and the next."""
    pieces: list[object] = [
        {"function": {"name": "weather", "arguments": {"city": city}}} for city in ("Paris", "Rome")
    ]
    finish = event(chunk({}, finish_reason="stop", usage=usage()))
    vendor.script(Reply([event(chunk({"tool_calls": pieces})), finish, b"data: [DONE]\n\n"]))
    url = serve(hosted_over(groq=vendor))
    made = post(url, ASKED, **JSON).json()["tool_calls"]
    assert [json.loads(call["function"]["arguments"])["city"] for call in made] == ["Paris", "Rome"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "21 °C"} for call in made]
    assistant = {"role": "assistant", "content": None, "tool_calls": made}
    messages = [{"role": "user", "content": "Hi"}, assistant, *results]
    assert post(url, {"messages": messages, "tools": [WEATHER]}, **JSON).status_code == 200


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"tools": [{**WEATHER, "type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "not a name"}}]}, "tools[0].function.name"),
        ({"tools": [WEATHER] * 2}, "tools[1].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_bad_tools(serve: Serve, vendor: Vendor, fields: dict[str, Any], path: str) -> None:
    """Tools that do not fit are answered at once, naming the field; the vendor never hears of them."""
    response = post(serve(hosted_over(groq=vendor)), {"prompt": "Hi", **fields}, **KEY_HEADER)
    assert (response.status_code, [error["path"] for error in response.json()["errors"]]) == (422, [path])
    assert vendor.requests == []

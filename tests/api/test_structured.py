"""POST /api/generate for JSON by a schema: checked before it is returned, asked for again once, else a clear error."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import InferenceLog, MakeVendor, Serve, hosted_over, local_over
from tests.fakes.vendor import Cut, Gate, Vendor, chunk, event, failure, usage, words

JSON = {"accept": "application/json"}
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string", "enum": ["canary-of-a-schema", "Tea"]}},
    "required": ["title"],
}


def asking(schema: object = SCHEMA, **fields: Any) -> dict[str, Any]:
    """A body that asks for JSON by this schema."""
    json_schema = {"name": "board", "schema": schema}
    return {"prompt": "A title", "response_format": {"type": "json_schema", "json_schema": json_schema}, **fields}


def post(url: str, body: object, **headers: str) -> httpx.Response:
    """POST a JSON body."""
    return httpx.post(f"{url}/api/generate", json=body, headers=headers, timeout=30)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The UI message stream's chunks; its last event must be [DONE]."""
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(data) for data in events[:-1]]


def test_valid(serve: Serve, vendor: Vendor) -> None:
    """An answer that fits is returned as text and as the object that it is."""
    vendor.script(words('{"title"', ': "Tea"}'))
    body = post(serve(local_over(vendor)), asking(), **JSON).json()
    assert (body["text"], body["object"], body["finish_reason"]) == ('{"title": "Tea"}', {"title": "Tea"}, "stop")
    assert vendor.requests[0].body["response_format"] == asking()["response_format"]
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_any_value(serve: Serve, vendor: Vendor, value: object) -> None:
    """What the schema allows may be any JSON value: a null is an object too."""
    vendor.script(words(json.dumps(value)))
    body = post(serve(local_over(vendor)), asking({}), **JSON).json()
    assert "object" in body
    assert body["object"] == value


def test_no_object_without_asking(serve: Serve, vendor: Vendor) -> None:
    """JSON that nobody asked for is text."""
    vendor.script(words("{}"))
    assert "object" not in post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON).json()


def test_any_object(serve: Serve, vendor: Vendor) -> None:
    """OpenAI's json_object: any object will do, anything else is repaired."""
    vendor.script(words('{"a": 1}'), words("[]"), words('{"b": 2}'))
    url, body = serve(local_over(vendor)), {"prompt": "Hi", "response_format": {"type": "json_object"}}
    assert [post(url, body, **JSON).json()["object"] for _ in range(2)] == [{"a": 1}, {"b": 2}]
    assert [request.body["response_format"] for request in vendor.requests] == [{"type": "json_object"}] * 3


INVALID = ['{"title": "Coffee"}', '{"name": "Tea"}', "[]", '{"title": "Tea"', "Sure, here it is:", ""]


@pytest.mark.parametrize("answer", INVALID)
def test_repair(serve: Serve, vendor: Vendor, inference_log: InferenceLog, answer: str) -> None:
    """An answer that does not fit is asked for again, once: the model is shown it and told why; both are paid for."""
    vendor.script(words(answer, counted=usage(10, 5)), words('{"title": "Tea"}', counted=usage(30, 7)))
    body = post(serve(local_over(vendor)), asking(temperature=0.5), **JSON).json()
    assert (body["text"], body["object"]) == ('{"title": "Tea"}', {"title": "Tea"})
    assert body["usage"] == {"input_tokens": 40, "output_tokens": 12, "cached_tokens": 0}
    first, second = (request.body for request in vendor.requests)
    assert second == {**first, "messages": second["messages"]}
    question, shown, told = second["messages"]
    assert question == first["messages"][0]
    assert shown == {"role": "assistant", "content": answer}
    assert told["role"] == "user"
    assert "is not the JSON that was asked for" in told["content"]
    lines = [inference_log.next(), inference_log.next()]
    assert [(line["kind"], line["outcome"], line["error_code"]) for line in lines] == [
        ("first", "error", "invalid_object"),
        ("repair", "ok", None),
    ]
    assert [line["output_tokens"] for line in lines] == [5, 7]


def test_repair_costs_what_both_calls_cost(serve: Serve, vendor: Vendor, inference_log: InferenceLog) -> None:
    """With a priced vendor the answer's cost is that of both calls."""
    vendor.script(words("[]"), words('{"title": "Tea"}'))
    body = post(serve(hosted_over(deepinfra=vendor)), asking(), **JSON).json()
    micro = sum(inference_log.next()["cost_micro_usd"] for _ in range(2))
    assert micro > 0
    assert body["cost_usd"] * 1_000_000 == pytest.approx(micro, abs=1)


def test_invalid_twice(serve: Serve, make_vendor: MakeVendor) -> None:
    """Where the second does not fit either, the caller gets a clear error with neither schema nor answer in it."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(words('{"title": "canary-of-an-answer"}'), words('{"title": "canary-of-an-answer"}'))
    response = post(serve(hosted_over(groq=groq, xai=xai)), asking(), **JSON)
    assert (response.status_code, response.json()["code"]) == (502, "invalid_object")
    assert "canary" not in response.text
    assert (len(groq.requests), len(xai.requests)) == (2, 0)


@pytest.mark.parametrize("fault", [failure(500), failure(400), failure(429), words(Cut()), words("{", Cut())])
def test_repair_that_fails(serve: Serve, vendor: Vendor, fault: Any) -> None:
    """One repair is tried: where it fails, what was wrong before it is what the caller learns."""
    vendor.script(words("[]"), fault)
    response = post(serve(local_over(vendor)), asking(), **JSON)
    assert (response.status_code, response.json()["code"]) == (502, "invalid_object")
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("wish", ["continue", "restart", "error"])
def test_interruption_is_no_invalid_answer(serve: Serve, vendor: Vendor, wish: str) -> None:
    """JSON that breaks off is never gone on with; where it begins anew it is checked as ever."""
    vendor.script(words('{"title": ', Cut()), words('{"title": "Tea"}'))
    response = post(serve(local_over(vendor)), asking(on_interrupt=wish), **JSON)
    if wish == "error":
        assert (response.status_code, response.json()["code"]) == (502, "stream_interrupted")
        return
    assert response.json()["object"] == {"title": "Tea"}
    assert vendor.requests[1].body["messages"] == vendor.requests[0].body["messages"]


def test_reasoning_is_not_checked(serve: Serve, vendor: Vendor) -> None:
    """What a model thinks before its JSON is no part of it."""
    vendor.script(words(event(chunk({"reasoning": "A title..."})), '{"title": "Tea"}'))
    body = post(serve(hosted_over(groq=vendor)), asking(), **JSON).json()
    assert (body["object"], body["reasoning"]) == ({"title": "Tea"}, "A title...")


@pytest.mark.parametrize("accept", ["text/plain", "*/*"])
def test_streamed_as_it_grows(serve: Serve, vendor: Vendor, accept: str) -> None:
    """Streamed, the answer is passed on before it is whole, and ends as any that fits."""
    proceed = Gate()
    vendor.script(words('{"title"', proceed, ': "Tea"}'))
    url, headers = serve(local_over(vendor)), {"accept": accept}
    with httpx.stream("POST", f"{url}/api/generate", json=asking(), headers=headers, timeout=30) as response:
        lines = response.iter_raw()
        seen = b""
        while b"title" not in seen:
            seen += next(lines)
        proceed.open()
        whole = seen + b"".join(lines)
    if accept == "text/plain":
        assert whole == b'{"title": "Tea"}'
    else:
        assert whole.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in whole
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("answer", INVALID[:-1])
def test_invalid_ui_message(serve: Serve, vendor: Vendor, answer: str) -> None:
    """Streamed as a UI message, an answer that does not fit ends in an error with its code; nobody is asked again."""
    vendor.script(words(answer))
    got = chunks(post(serve(local_over(vendor)), asking(ui_stream="v7")))
    assert "".join(part["delta"] for part in got if part["type"] == "text-delta") == answer
    assert [part["type"] for part in got[-3:]] == ["message-metadata", "error", "finish"]
    assert got[-3]["messageMetadata"]["error_code"] == "invalid_object"
    assert got[-3]["messageMetadata"]["usage"]["output_tokens"] == 3
    assert "canary" not in got[-2]["errorText"]
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("answer", INVALID[:-1])
def test_invalid_text(serve: Serve, vendor: Vendor, answer: str) -> None:
    """Streamed as text, an answer that does not fit is cut, as one that broke off is."""
    vendor.script(words(answer))
    with pytest.raises(httpx.RemoteProtocolError):
        post(serve(local_over(vendor)), asking(), accept="text/plain")
    assert len(vendor.requests) == 1


NO_SCHEMAS: list[tuple[object, str]] = [
    ({"type": "strin"}, "type"),
    ({"properties": {"a": {"minLength": -1}}}, "properties.a.minLength"),
    ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "properties.a.$ref"),
    ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "properties.a.$ref"),
]


@pytest.mark.parametrize(("schema", "path"), NO_SCHEMAS)
@pytest.mark.parametrize("accept", ["application/json", "text/plain", "*/*"])
def test_no_schema(serve: Serve, vendor: Vendor, schema: object, path: str, accept: str) -> None:
    """What is no schema, or none that can be checked by, is refused by its place, before anyone is asked or paid."""
    response = post(serve(local_over(vendor)), asking(schema), accept=accept)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [error["path"] for error in response.json()["errors"]] == [f"response_format.json_schema.schema.{path}"]
    assert vendor.requests == []


def test_check_that_takes_too_long(serve: Serve, vendor: Vendor) -> None:
    """An answer that can't be checked in reasonable time is none that was found to fit."""
    branch: dict[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    schema = {"anyOf": [{**branch, "required": ["b"]}, {**branch, "required": ["c"]}]}
    vendor.script(words('{"a":' * 40 + "1" + "}" * 40))
    got = chunks(post(serve(local_over(vendor)), asking(schema)))
    assert got[-3]["messageMetadata"]["error_code"] == "invalid_object"

"""POST /api/generate over a fake vendor: the forms of its answer, its checks, and who may call."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import KEY_HEADER, USER_KEY, InferenceLog, Serve, hosted_over, local_over
from tests.fakes.vendor import Cut, Hang, Reply, Vendor, chunk, event, failure, groq_words, usage, words

JSON = {"accept": "application/json"}


def post(url: str, body: object, **headers: str) -> httpx.Response:
    """POST a JSON body."""
    return httpx.post(f"{url}/api/generate", json=body, headers=headers, timeout=30)


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The UI message stream's chunks; its last event must be [DONE]."""
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(data) for data in events[:-1]]


def test_json(serve: Serve, vendor: Vendor) -> None:
    """Asked for JSON, the whole answer comes at once with what it took."""
    vendor.script(words("Hello", " world", counted=usage(12, 2, cached_tokens=5)))
    response = post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON)
    body = response.json()
    assert response.status_code == 200
    assert body.pop("id") == response.headers["x-request-id"]
    timing = body.pop("timing_ms")
    assert 0 <= timing["queue"] <= timing["ttft"] <= timing["total"]
    assert body == {
        "text": "Hello world",
        "provider": "local",
        "model": "smollm2-135m-instruct",
        "finish_reason": "stop",
        "usage": {"input_tokens": 12, "output_tokens": 2, "cached_tokens": 5},
        "cost_usd": 0.0,
        "flags": [],
        "assets": [],
    }


def test_ui_message_stream(serve: Serve, vendor: Vendor) -> None:
    """By default the answer is the AI SDK's UI message stream, with its headers and its order."""
    vendor.script(words("Hello", " world"))
    response = post(serve(local_over(vendor)), {"prompt": "Hi"})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["x-accel-buffering"] == "no"
    got = chunks(response)
    assert [part["type"] for part in got] == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert got[0]["messageId"] == response.headers["x-request-id"]
    assert got[0]["messageMetadata"]["provider"] == "local"
    assert got[-1]["finishReason"] == "stop"
    assert got[-1]["messageMetadata"]["usage"]["output_tokens"] == 3
    assert "null" not in response.text


def test_plain_text(serve: Serve, vendor: Vendor) -> None:
    """Asked for plain text, the answer is the text and nothing else."""
    vendor.script(words("Olá", " mundo 🌍"))
    response = post(serve(local_over(vendor)), {"prompt": "Hi"}, accept="text/plain")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == "Olá mundo 🌍"


def test_stream_false_beats_accept(serve: Serve, vendor: Vendor) -> None:
    """`stream: false` gives JSON whatever the Accept header says."""
    response = post(serve(local_over(vendor)), {"prompt": "Hi", "stream": False}, accept="text/event-stream")
    assert response.json()["text"] == "You said: Hi"


def test_parameters_reach_the_vendor(serve: Serve, vendor: Vendor) -> None:
    """What the caller asks for is what the vendor is asked for, in its own words."""
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    asked = {"temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 7}
    wanted = {**asked, "response_format": {"type": "json_schema", "json_schema": schema}}
    post(serve(local_over(vendor)), {"prompt": "Hi", "system": "Be brief.", "max_tokens": 99, **wanted}, **JSON)
    assert vendor.requests[0].body == {
        **wanted,
        "model": "smollm2-135m-instruct",
        "max_tokens": 99,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_unset_parameters_are_left_to_the_vendor(serve: Serve, vendor: Vendor) -> None:
    """What the caller does not say, we do not make up, but for a bound on the answer's length."""
    post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON)
    assert set(vendor.requests[0].body) == {"model", "messages", "stream", "stream_options", "max_tokens"}


def test_messages_of_the_ai_sdk(serve: Serve, vendor: Vendor) -> None:
    """What useChat posts is understood: text parts count, the page's own parts are left alone."""
    body: dict[str, Any] = {
        "id": "chat-1",
        "trigger": "submit-message",
        "messages": [
            {"id": "1", "role": "user", "parts": [{"type": "text", "text": "One"}]},
            {"id": "2", "role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": "Two"}]},
            {"id": "3", "role": "user", "parts": [{"type": "text", "text": "Three"}, {"type": "data-x", "data": {}}]},
        ],
    }
    post(serve(local_over(vendor)), body, **JSON)
    assert vendor.requests[0].body["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]


@pytest.mark.parametrize(("name", "reply"), [("groq", groq_words), ("xai", words), ("deepinfra", words)])
def test_hosted_vendor(serve: Serve, vendor: Vendor, name: str, reply: Any) -> None:
    """With a vendor's key set, the same call is answered by that vendor, with a price."""
    vendor.script(reply("Hello"))
    body = post(serve(hosted_over(**{name: vendor})), {"prompt": "Hi"}, **JSON).json()
    assert (body["provider"], body["text"]) == (name, "Hello")
    assert body["usage"]["input_tokens"] == 7
    assert body["cost_usd"] > 0
    received = vendor.requests[0]
    assert received.headers["authorization"] == f"Bearer key-of-{name}-0123456789"
    assert received.path == ("/openai/v1/chat/completions" if name == "groq" else "/v1/chat/completions")


@pytest.mark.parametrize(
    "fault",
    [
        failure(500),
        failure(503, "overloaded"),
        failure(429, "rate_limit_exceeded", **{"retry-after": "30"}),
        failure(401, "invalid_api_key"),
        failure(402),
        failure(404, "model_not_found"),
        words(Cut(reset=True)),
        words(Cut()),
        words(event({"error": {"message": "boom", "code": "server_error"}})),
    ],
    ids=["500", "503", "429", "401", "402", "404", "reset", "cut", "error in the stream"],
)
def test_next_provider_answers(serve: Serve, make_vendor: Any, fault: Any) -> None:
    """A provider that fails before its first token is left for the next, once, without waiting."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(fault)
    body = post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi"}, **JSON).json()
    assert (body["provider"], body["text"]) == ("xai", "You said: Hi")
    assert (len(groq.requests), len(xai.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (failure(400), "request_rejected"),
        (failure(400, "content_policy_violation"), "content_refused"),
        (failure(422), "request_rejected"),
    ],
)
def test_callers_fault_is_not_passed_around(serve: Serve, make_vendor: Any, fault: Any, code: str) -> None:
    """A request that the provider rejects goes back to the caller, not on to the next provider."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(fault)
    response = post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi"})
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert xai.requests == []


def test_too_long_goes_to_a_larger_model_alone(serve: Serve, make_vendor: Any) -> None:
    """A conversation that is too long for one model is passed on to a larger one, and to no other."""
    groq, deepinfra, xai = make_vendor(), make_vendor(), make_vendor()
    for small in (groq, xai):
        small.script(failure(400, "context_length_exceeded"))
    url = serve(hosted_over(groq=groq, deepinfra=deepinfra, xai=xai))
    assert post(url, {"prompt": "Hi"}).json()["code"] == "context_length_exceeded"
    assert post(url, {"prompt": "Hi"}, **JSON).json()["provider"] == "groq"
    groq.script(failure(400, "context_length_exceeded"))
    assert post(url, {"prompt": "Hi"}, **JSON).json()["provider"] == "xai"
    assert (len(groq.requests), len(deepinfra.requests), len(xai.requests)) == (3, 0, 2)


def test_no_provider_left(serve: Serve, make_vendor: Any) -> None:
    """When all have failed, the caller learns it as 503, with who was tried and when to come back."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(failure(429, **{"retry-after": "70"}))
    xai.script(failure(500), failure(500))
    response = post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi"})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "no_provider_available")
    tried = "groq (rate_limited), xai (provider_unavailable), xai (provider_unavailable)"
    assert problem["detail"] == f"No provider could answer; tried {tried}."
    assert 60 <= int(response.headers["retry-after"]) <= 70
    assert problem["retry_after"] == int(response.headers["retry-after"])
    assert problem["request_id"] == response.headers["x-request-id"]
    assert (len(groq.requests), len(xai.requests)) == (1, 2)


@pytest.mark.parametrize("fault", [failure(500), words(Cut(reset=True)), words(Cut())], ids=["500", "reset", "cut"])
def test_only_provider_is_asked_once_more(
    serve: Serve, vendor: Vendor, inference_log: InferenceLog, fault: Any
) -> None:
    """With no other provider left, the same one is tried again, once, and the caller sees nothing of it."""
    vendor.script(fault)
    assert post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON).json()["text"] == "You said: Hi"
    assert [inference_log.next()[field] for field in ("kind", "kind")] == ["first", "retry"]
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("fault", [failure(401), failure(402), failure(404), failure(429)], ids=lambda f: str(f.status))
def test_only_provider_that_says_no(serve: Serve, vendor: Vendor, fault: Any) -> None:
    """Where a moment changes nothing, the only provider is not asked again."""
    vendor.script(fault)
    assert post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON).status_code == 503
    assert len(vendor.requests) == 1


LINE = "The sea is wide and blue, and nobody has counted all of its waves, though some have tried."


@pytest.mark.parametrize("accept", ["text/plain", "*/*"])
def test_interrupted_text_is_continued(
    serve: Serve, make_vendor: Any, inference_log: InferenceLog, accept: str
) -> None:
    """Text that breaks off is gone on with by another provider, from where it broke off; the bill holds both."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(words(LINE[:20], LINE[20:60], Cut(reset=True)))
    xai.script(words(LINE[20:50], LINE[50:], counted=usage(40, 20)))
    response = post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi", "max_tokens": 99}, accept=accept)
    if accept == "text/plain":
        assert response.text == LINE
    else:
        got = chunks(response)
        assert "".join(part["delta"] for part in got if part["type"] == "text-delta") == LINE
        assert (got[0]["messageMetadata"]["provider"], got[-1]["messageMetadata"]["provider"]) == ("groq", "xai")
    asked = xai.requests[0].body
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "user"]
    assert asked["messages"][1]["content"] == LINE[:60]
    assert asked["messages"][2]["content"].endswith(LINE[20:60])
    first, second = inference_log.next(), inference_log.next()
    assert (first["kind"], first["outcome"], first["estimated"]) == ("first", "interrupted", True)
    assert (second["kind"], second["outcome"], second["input_tokens"]) == ("continuation", "ok", 40)
    if accept != "text/plain":
        bill = chunks(response)[-1]["messageMetadata"]
        assert bill["usage"]["input_tokens"] == first["input_tokens"] + second["input_tokens"]
        assert bill["usage"]["output_tokens"] == first["output_tokens"] + second["output_tokens"]
        assert bill["usage"]["estimated"] is True
        micro = first["cost_micro_usd"] + second["cost_micro_usd"]
        assert bill["cost_usd"] * 1_000_000 == pytest.approx(micro, abs=1)


def test_interrupted_text_is_continued_by_the_same(serve: Serve, vendor: Vendor) -> None:
    """With no other provider the same one goes on; one that is known to do so goes on from its own message."""
    vendor.script(words("Hello", Cut()), words(" world"))
    response = post(serve(local_over(vendor)), {"prompt": "Hi"}, accept="text/plain")
    assert response.text == "Hello world"
    assert vendor.requests[1].body["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_new_client_gets_a_fresh_answer(serve: Serve, make_vendor: Any) -> None:
    """A UI client that can drop a step gets the answer anew where it can't be continued."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(words(LINE[:60], Cut()), words(LINE))
    xai.script(words("Something else. " * 20))
    got = chunks(post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi", "ui_stream": "v7"}))
    kinds = [part["type"] for part in got]
    assert kinds.count("reset-step") == 1
    after = got[kinds.index("reset-step") + 1 :]
    assert [part["delta"] for part in after if part["type"] == "text-delta"] == [LINE]
    assert [part["delta"] for part in got if part["type"] == "text-delta"] == [LINE[:60], LINE]
    assert kinds[-2:] == ["finish-step", "finish"]


def test_old_client_is_told(serve: Serve, make_vendor: Any) -> None:
    """A UI client that can't drop a step is told that the answer broke off, where it can't be continued."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(words(LINE[:60], Cut()))
    xai.script(words("Something else. " * 20))
    got = chunks(post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi"}))
    assert [part["delta"] for part in got if part["type"] == "text-delta"] == [LINE[:60]]
    assert [part["type"] for part in got[-2:]] == ["error", "finish"]


def test_structured_text_is_never_joined(serve: Serve, make_vendor: Any) -> None:
    """An answer in JSON that breaks off is not continued: a stream of it ends in an error."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(words('{"sea": "wide', Cut()))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    got = chunks(post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi", "response_format": schema}))
    assert [part["type"] for part in got[-2:]] == ["error", "finish"]
    assert xai.requests == []


def test_interrupted_ui_stream(serve: Serve, vendor: Vendor) -> None:
    """An answer that breaks off ends in an explicit error, never in a tidy short one."""
    vendor.script(words("Hello", Cut()))
    got = chunks(post(serve(local_over(vendor)), {"prompt": "Hi", "on_interrupt": "error"}))
    assert [part["type"] for part in got[-4:]] == ["text-end", "message-metadata", "error", "finish"]
    assert got[-1]["finishReason"] == "error"
    assert got[-3]["messageMetadata"]["usage"]["estimated"] is True
    assert got[-3]["messageMetadata"]["error_code"] == "stream_interrupted"


def test_text_before_an_error_is_kept(serve: Serve, vendor: Vendor) -> None:
    """Text that arrives in the same network read as an error is the reader's all the same."""
    error = event({"error": {"message": "boom", "code": "server_error"}})
    vendor.script(Reply([event(chunk({"content": "Hello"})) + error]))
    response = post(serve(local_over(vendor)), {"prompt": "Hi", "on_interrupt": "error"})
    assert [part["delta"] for part in chunks(response) if part["type"] == "text-delta"] == ["Hello"]


def test_nothing_to_resume(serve: Serve, vendor: Vendor) -> None:
    """The attempt of useChat to resume a stream is told that there is none; other GETs are not taken."""
    url = serve(local_over(vendor))
    assert httpx.get(f"{url}/api/generate/chat-1/stream").status_code == 204
    assert httpx.get(f"{url}/api/generate").status_code == 405


def test_nul_of_a_vendor_is_dropped(serve: Serve, vendor: Vendor) -> None:
    """A NUL in an answer would make the conversation's next turn unacceptable."""
    vendor.script(words("Hel\0lo"))
    assert post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON).json()["text"] == "Hello"


def test_interrupted_plain_text(serve: Serve, vendor: Vendor) -> None:
    """Plain text has no words for an error: the connection is cut, so that the reader can tell."""
    url = serve(local_over(vendor))
    for wish in ("error", "restart"):
        vendor.script(words("Hello", Cut()))
        with pytest.raises(httpx.RemoteProtocolError):
            post(url, {"prompt": "Hi", "on_interrupt": wish}, accept="text/plain")
    assert len(vendor.requests) == 2


def test_interrupted_json(serve: Serve, vendor: Vendor) -> None:
    """A whole answer that breaks off begins anew; where it breaks off every time, it is a 502."""
    url = serve(local_over(vendor))
    vendor.script(words("Half", Cut()))
    response = post(url, {"prompt": "Hi"}, **JSON)
    assert (response.status_code, response.json()["text"]) == (200, "You said: Hi")
    assert vendor.requests[1].body == vendor.requests[0].body
    vendor.script(*[words("Half", Cut())] * 4)
    response = post(url, {"prompt": "Hi"}, **JSON)
    assert (response.status_code, response.json()["code"]) == (502, "stream_interrupted")
    assert len(vendor.requests) == 2 + 4


def test_interrupted_json_as_an_error(serve: Serve, vendor: Vendor) -> None:
    """Who wants no second try gets the 502 at once."""
    vendor.script(words("Half", Cut()))
    response = post(serve(local_over(vendor)), {"prompt": "Hi", "on_interrupt": "error"}, **JSON)
    assert (response.status_code, response.json()["code"]) == (502, "stream_interrupted")
    assert len(vendor.requests) == 1


def test_answer_that_never_finishes(serve: Serve, vendor: Vendor) -> None:
    """A body that ends without the vendor's word that the answer is complete counts as broken off."""
    vendor.script(words("Hello", finish_reason=None))
    response = post(serve(local_over(vendor)), {"prompt": "Hi", "on_interrupt": "error"}, **JSON)
    assert (response.status_code, response.json()["code"]) == (502, "stream_interrupted")


def test_one_malformed_event_is_skipped(serve: Serve, vendor: Vendor) -> None:
    """One event that can't be read costs that event alone."""
    vendor.script(words("Hello", b"data: {broken\n\n", " world"))
    assert post(serve(local_over(vendor)), {"prompt": "Hi"}, **JSON).json()["text"] == "Hello world"


def test_reasoning_is_kept_apart(serve: Serve, vendor: Vendor) -> None:
    """What a model thinks is not part of what it says."""
    vendor.script(
        words(event(chunk({"reasoning": "Hmm. "})), "Yes."), words(event(chunk({"reasoning": "Hmm. "})), "Yes.")
    )
    url = serve(local_over(vendor))
    body = post(url, {"prompt": "Hi"}, **JSON).json()
    assert (body["text"], body["reasoning"]) == ("Yes.", "Hmm. ")
    kinds = [part["type"] for part in chunks(post(url, {"prompt": "Hi"}))]
    assert kinds[2:5] == ["reasoning-start", "reasoning-delta", "reasoning-end"]


BAD_BODIES: list[tuple[Any, int, str]] = [
    ({"prompt": "Hi", "temprature": 1}, 422, "temprature"),
    ({"prompt": "Hi", "temperature": "1"}, 422, "temperature"),
    ({"prompt": "Hi", "temperature": 2.5}, 422, "temperature"),
    ({"prompt": "Hi", "max_tokens": 0}, 422, "max_tokens"),
    ({"prompt": "Hi", "max_tokens": 10**9}, 422, "max_tokens"),
    ({"prompt": "Hi", "stop": []}, 422, "stop"),
    ({"prompt": "Hi", "stop": ["a", ""]}, 422, "stop[1]"),
    ({"prompt": "Hi", "seed": -1}, 422, "seed"),
    ({"prompt": "Hi", "metadata": {"a": 1}}, 422, "metadata.a"),
    ({"prompt": "Hi", "outputs": ["song"]}, 422, "outputs[0]"),
    ({"prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}, 422, "prompt"),
    ({}, 422, "prompt"),
    ({"prompt": ""}, 422, "prompt"),
    ({"prompt": " \n"}, 422, "prompt"),
    ({"prompt": None, "messages": []}, 422, "messages"),
    ({"messages": [{"role": "user"}]}, 422, "messages[0].content"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, 422, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 422, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "parts": [{"type": []}]}]}, 422, "messages[0].parts[0].type"),
    ({"messages": [{"role": "user", "content": "  "}]}, 422, "messages[0]"),
    ({"messages": [{"role": "system", "content": "Hi"}]}, 422, "messages"),
    ({"prompt": "a\x00b"}, 422, "prompt"),
    ({"messages": [{"role": "user", "content": "a\ud800"}]}, 422, "messages[0].content"),
    ({"prompt": "Hi", "provider": "nobody"}, 422, "provider"),
    ({"prompt": "Hi", "provider": "groq"}, 422, "provider"),
    ({"prompt": "Hi", "model": "gpt-2"}, 422, "model"),
]


@pytest.mark.parametrize(("body", "status", "path"), BAD_BODIES)
def test_bad_body(serve: Serve, vendor: Vendor, body: Any, status: int, path: str) -> None:
    """A body that does not fit is answered at once, naming the field, and the vendor never hears of it."""
    response = httpx.post(
        f"{serve(local_over(vendor))}/api/generate",
        content=json.dumps(body),
        headers={"content-type": "application/json", **KEY_HEADER},
    )
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, problem["status"]) == (status, status)
    assert path in [error["path"] for error in problem["errors"]]
    assert vendor.requests == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"prompt": NaN}',
        b'{"prompt": 1e400}',
        b"\xff",
        b'{"prompt": "\x01"}',
        b"[" * 100_000,
    ],
    ids=["empty", "cut", "list", "null", "NaN", "infinite", "not UTF-8", "control", "deep"],
)
def test_not_json(serve: Serve, vendor: Vendor, content: bytes) -> None:
    """A body that is no JSON object is answered as the caller's mistake."""
    headers = {"content-type": "application/json", **KEY_HEADER}
    response = httpx.post(f"{serve(local_over(vendor))}/api/generate", content=content, headers=headers)
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"


def test_deep_schema(serve: Serve, vendor: Vendor) -> None:
    """A schema nested too deep to be encoded again is refused by its name."""
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"properties": deep}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": deep}}
    response = post(serve(local_over(vendor)), {"prompt": "Hi", "response_format": schema})
    assert response.status_code == 422
    assert response.json()["errors"][0]["path"].startswith("response_format")


@pytest.mark.parametrize("chunked", [False, True])
def test_body_of_6_mb(serve: Serve, vendor: Vendor, *, chunked: bool) -> None:
    """A body over the limit is answered 413, whether its length was told or not."""
    data = b'{"prompt": "' + b"a" * 6_000_000 + b'"}'
    content = (data[start : start + 65_536] for start in range(0, len(data), 65_536)) if chunked else data
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{serve(local_over(vendor))}/api/generate", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


def test_wrong_content_type(serve: Serve, vendor: Vendor) -> None:
    """Only JSON is taken: a form could be posted by any site without asking."""
    response = httpx.post(f"{serve(local_over(vendor))}/api/generate", data={"prompt": "Hi"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_wrong_method(serve: Serve, vendor: Vendor, method: str) -> None:
    """Other methods are answered 405 with the one that works."""
    response = httpx.request(method, f"{serve(local_over(vendor))}/api/generate")
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    assert response.headers["x-request-id"]


def test_unknown_path(serve: Serve, vendor: Vendor) -> None:
    """A path that does not exist is a 404 in our shape."""
    response = httpx.get(f"{serve(local_over(vendor))}/api/nothing")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_deployed_without_access(serve: Serve, vendor: Vendor) -> None:
    """Where neither keys nor guests are set up, nobody may call."""
    response = post(serve({"LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1"}), {"prompt": "Hi"})
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert vendor.requests == []


def test_guest_is_known_again(serve: Serve, vendor: Vendor, inference_log: InferenceLog) -> None:
    """A guest gets a cookie and stays the same guest by it."""
    with httpx.Client(base_url=serve(local_over(vendor))) as client:
        first = client.post("/api/generate", json={"prompt": "Hi", "stream": False})
        second = client.post("/api/generate", json={"prompt": "Hi", "stream": False})
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "set-cookie" not in second.headers
    assert inference_log.next()["caller_id"] == inference_log.next()["caller_id"]


def test_wrong_key_is_refused(serve: Serve, vendor: Vendor) -> None:
    """A key that does not hold is refused even where guests are welcome."""
    response = post(serve(local_over(vendor)), {"prompt": "Hi"}, authorization=f"Bearer {USER_KEY}x")
    assert response.status_code == 401


def test_guests_do_not_choose(serve: Serve, vendor: Vendor) -> None:
    """Only callers with a key choose what is paid for; `auto` is no choice."""
    url = serve(local_over(vendor))
    assert post(url, {"prompt": "Hi", "provider": "local"}).status_code == 403
    assert post(url, {"prompt": "Hi", "provider": "auto", "model": "auto"}).status_code == 200


def test_callers_with_a_key_choose(serve: Serve, make_vendor: Any) -> None:
    """A named provider is asked and no other; a named model goes to whoever offers it."""
    groq, xai = make_vendor(), make_vendor()
    url = serve(hosted_over(groq=groq, xai=xai))
    assert (
        post(url, {"prompt": "Hi", "provider": "xai", "model": "strong"}, **JSON, **KEY_HEADER).json()["model"]
        == "grok-4.7"
    )
    xai.script(failure(500), failure(500))
    assert post(url, {"prompt": "Hi", "provider": "xai"}, **KEY_HEADER).status_code == 503
    assert len(xai.requests) == 3
    assert groq.requests == []
    assert (
        post(url, {"prompt": "Hi", "model": "openai/gpt-oss-120b"}, **JSON, **KEY_HEADER).json()["provider"] == "groq"
    )


def test_flag_decides_who_is_first(serve: Serve, make_vendor: Any) -> None:
    """The flag's provider and model come first, and the answer says so."""
    groq, xai = make_vendor(), make_vendor()
    url = serve({**hosted_over(groq=groq, xai=xai), "FEATURE_AI_PROVIDER": "xai/grok-4.7"})
    body = post(url, {"prompt": "Hi"}, **JSON).json()
    assert (body["provider"], body["model"]) == ("xai", "grok-4.7")
    assert body["flags"] == [{"name": "feature_ai_provider", "arm": "xai", "provider": "xai", "model": "grok-4.7"}]


def test_other_origins(serve: Serve, vendor: Vendor) -> None:
    """Pages of allowed origins may call with their cookie and read the id; others may not."""
    url = serve({**local_over(vendor), "ALLOWED_ORIGINS": "https://a.example"})
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = httpx.options(f"{url}/api/generate", headers={"origin": "https://a.example", **asking})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert allowed.headers["access-control-allow-credentials"] == "true"
    answer = post(url, {"prompt": "Hi"}, origin="https://a.example")
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    refused = httpx.options(f"{url}/api/generate", headers={"origin": "https://b.example", **asking})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in post(url, {"prompt": "Hi"}, origin="https://b.example").headers


def test_every_attempt_is_logged(serve: Serve, make_vendor: Any, inference_log: InferenceLog) -> None:
    """One line per call to a provider: who, how long, how much, and from whom it was taken over."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(failure(503))
    post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi", "metadata": {"page": "home"}}, **JSON)
    failed, served = inference_log.next(), inference_log.next()
    assert (failed["attempt"], failed["outcome"], failed["error_code"]) == (1, "error", "provider_unavailable")
    assert (failed["kind"], served["kind"]) == ("first", "fallback")
    assert (failed["cost_micro_usd"], failed["ttft_ms"]) == (0, None)
    assert (served["attempt"], served["outcome"], served["fallback_from"]) == (2, "ok", "groq")
    assert served["cost_micro_usd"] > 0
    assert 0 < served["ttft_ms"] <= served["latency_ms"]
    assert failed["request_id"] == served["request_id"]
    assert served["metadata"] == {"page": "home"}


def test_hanging_provider_is_left(serve: Serve, make_vendor: Any) -> None:
    """A provider that accepts and says nothing is left for the next, and its connection closed."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(words(Hang()))
    body = post(serve(hosted_over(groq=groq, xai=xai)), {"prompt": "Hi"}, **JSON).json()
    assert body["provider"] == "xai"
    assert groq.requests[0].hung_up.wait(5)

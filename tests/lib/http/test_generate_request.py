"""The body of POST /api/generate: what it may hold, what is said of what it may not, and the request it becomes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.control.parameters import DEFAULT_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS
from lib.errors import AppError, InvalidRequest
from lib.http.generate_request import (
    GenerateRequest,
    read_generate_request,
)
from lib.http.problem import problem
from lib.providers.base import ChatRequest
from tests.lib.values import json_values

HI = {"prompt": "Hi"}
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def refused(body: object) -> InvalidRequest:
    """The error that this body earns, when it is read or when it is turned into a request."""
    with pytest.raises(InvalidRequest) as caught:
        read_generate_request(body).chat()
    assert (caught.value.status, caught.value.code) == (422, "invalid_request")
    return caught.value


def paths(body: object) -> list[str]:
    """The fields that this body is refused for."""
    return [error.path for error in refused(body).errors]


def messages(body: Any) -> list[dict[str, object]]:
    """The messages that this body becomes."""
    return list(read_generate_request(body).chat().messages)


def says(content: Any) -> dict[str, Any]:
    """A body of one user's message, in OpenAI's style."""
    return {"messages": [{"role": "user", "content": content}]}


def shows(*parts: Any) -> dict[str, Any]:
    """A body of one user's message, in the AI SDK's style."""
    return {"messages": [{"role": "user", "parts": list(parts)}]}


def formatted(**fields: Any) -> dict[str, Any]:
    """A body that asks for JSON by this json_schema."""
    return {**HI, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, **fields}}}


@pytest.mark.parametrize("body", [None, [], "text", 7, 1.5, True, [HI]])
def test_no_object(body: object) -> None:
    """A body that is no object is refused as a whole."""
    assert "object" in refused(body).message


REFUSED: list[tuple[Any, str]] = [
    ({}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": None, "messages": None}, "prompt"),
    ({"system": "Be brief."}, "prompt"),
    ({**HI, **says("Hi")}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": " \t\n\u00a0"}, "prompt"),
    ({"prompt": 7}, "prompt"),
    ({"prompt": ["Hi"]}, "prompt"),
    ({"prompt": {"text": "Hi"}}, "prompt"),
    ({**HI, "system": ""}, "system"),
    ({**HI, "system": []}, "system"),
    ({**HI, "temprature": 1}, "temprature"),
    ({**HI, "Prompt": "Hi"}, "Prompt"),
    ({**HI, "": 1}, ""),
    ({**HI, "message_id": "x"}, "message_id"),
    ({**HI, "temperature": "1"}, "temperature"),
    ({**HI, "temperature": True}, "temperature"),
    ({**HI, "temperature": -0.1}, "temperature"),
    ({**HI, "temperature": 2.1}, "temperature"),
    ({**HI, "temperature": float("nan")}, "temperature"),
    ({**HI, "temperature": float("inf")}, "temperature"),
    ({**HI, "top_p": 0}, "top_p"),
    ({**HI, "top_p": 1.1}, "top_p"),
    ({**HI, "max_tokens": 0}, "max_tokens"),
    ({**HI, "max_tokens": MAX_OUTPUT_TOKENS + 1}, "max_tokens"),
    ({**HI, "max_tokens": 10**9}, "max_tokens"),
    ({**HI, "max_tokens": 1.0}, "max_tokens"),
    ({**HI, "max_tokens": True}, "max_tokens"),
    ({**HI, "max_tokens": None}, "max_tokens"),
    ({**HI, "max_tokens": 2.0**70}, "max_tokens"),
    ({**HI, "seed": -1}, "seed"),
    ({**HI, "seed": 2**63}, "seed"),
    ({**HI, "seed": "7"}, "seed"),
    ({**HI, "stop": ""}, "stop"),
    ({**HI, "stop": []}, "stop"),
    ({**HI, "stop": ["a", ""]}, "stop[1]"),
    ({**HI, "stop": [["a"]]}, "stop[0]"),
    ({**HI, "stop": ["a"] * 5}, "stop"),
    ({**HI, "stop": {"a": 1}}, "stop"),
    ({**HI, "outputs": []}, "outputs"),
    ({**HI, "outputs": ["song"]}, "outputs[0]"),
    ({**HI, "outputs": [["text"]]}, "outputs[0]"),
    ({**HI, "outputs": ["text", "text"]}, "outputs"),
    ({**HI, "provider": 7}, "provider"),
    ({**HI, "provider": ""}, "provider"),
    ({**HI, "model": "x" * 257}, "model"),
    ({**HI, "stream": "false"}, "stream"),
    ({**HI, "stream": 0}, "stream"),
    ({**HI, "reasoning_effort": "extreme"}, "reasoning_effort"),
    ({**HI, "reasoning_effort": []}, "reasoning_effort"),
    ({**HI, "metadata": []}, "metadata"),
    ({**HI, "metadata": {"a": 1}}, "metadata.a"),
    ({**HI, "metadata": {"a": {"b": "c"}}}, "metadata.a"),
    ({**HI, "metadata": {"a": "x" * 513}}, "metadata.a"),
    ({**HI, "metadata": {str(number): "x" for number in range(17)}}, "metadata"),
    ({**HI, "response_format": "json"}, "response_format"),
    (
        {**formatted(), "response_format": {**formatted()["response_format"], "type": "json_object"}},
        "response_format.json_schema",
    ),
    (
        {**formatted(), "response_format": {**formatted()["response_format"], "type": "text"}},
        "response_format.type",
    ),
    ({**HI, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (formatted(name="two words"), "response_format.json_schema.name"),
    (formatted(schema=[]), "response_format.json_schema.schema"),
    (formatted(scheme={}), "response_format.json_schema.scheme"),
    (formatted(strict="yes"), "response_format.json_schema.strict"),
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [[]]}, "messages[0]"),
    ({"messages": says("Hi")["messages"] * 1001}, "messages"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "parts": []}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (says(None), "messages[0].content"),
    (says(7), "messages[0].content"),
    (says({"type": "text"}), "messages[0].content"),
    (says([7]), "messages[0].content[0]"),
    (says([{"type": "text"}]), "messages[0].content[0].text"),
    (says([{"type": "text", "text": 7}]), "messages[0].content[0].text"),
    (says([{"type": [], "text": "Hi"}]), "messages[0].content[0].type"),
    (says([{"type": "input_audio", "text": "Hi"}]), "messages[0].content[0].type"),
    (says([{"type": "image_url"}]), "messages[0].content[0].image_url"),
    (says([{"type": "image_url", "image_url": IMAGE}]), "messages[0].content[0].image_url"),
    (says([{"type": "image_url", "image_url": {"url": []}}]), "messages[0].content[0].image_url.url"),
    (says(""), "messages[0]"),
    (says(" \n"), "messages[0]"),
    (says([]), "messages[0]"),
    (says([{"type": "text", "text": " "}]), "messages[0]"),
    (shows(), "messages[0]"),
    (shows({"type": "step-start"}), "messages[0]"),
    (shows("text"), "messages[0].parts[0]"),
    (shows({}), "messages[0].parts[0].type"),
    (shows({"type": []}), "messages[0].parts[0].type"),
    (shows({"type": {}}), "messages[0].parts[0].type"),
    (shows({"type": None}), "messages[0].parts[0].type"),
    (shows({"type": "text"}), "messages[0].parts[0].text"),
    (shows({"type": "file", "url": IMAGE}), "messages[0].parts[0].mediaType"),
    (shows({"type": "file", "mediaType": "application/pdf", "url": IMAGE}), "messages[0].parts[0].mediaType"),
    (shows({"type": "file", "mediaType": "image/png"}), "messages[0].parts[0].url"),
    ({"messages": [{"role": "user", "parts": None}]}, "messages[0].parts"),
    ({"messages": [{"role": "user", "parts": {"type": "text"}}]}, "messages[0].parts"),
    ({"messages": [{"role": "system", "content": "Hi"}]}, "messages"),
    ({"messages": [{"role": "assistant", "content": ""}]}, "messages"),
    ({"messages": [{"role": "assistant", "parts": []}, {"role": "system", "content": "Hi"}]}, "messages"),
]


@pytest.mark.parametrize(("body", "path"), REFUSED)
def test_refused_field(body: Any, path: str) -> None:
    """What does not fit is refused by the name of the field, and only for that field."""
    assert paths(body) == [path]


def test_every_wrong_field_is_named() -> None:
    """All that is wrong is said at once."""
    assert paths({"temperature": 3, "seed": -1, "nonsense": 1, "prompt": 7}) == [
        "prompt",
        "temperature",
        "seed",
        "nonsense",
    ]


@pytest.mark.parametrize("name", ["<b>", "<list>"])
def test_field_with_a_pointed_name(name: str) -> None:
    """An unknown field is named whatever its name looks like."""
    assert paths({**HI, name: 1}) == [name]
    assert paths({**HI, "metadata": {name: 1}}) == [f"metadata.{name}"]


@pytest.mark.parametrize("key", ["", "x" * 65])
def test_metadata_key(key: str) -> None:
    """A name in the metadata that is too short or too long is refused at that name, in the form of all paths."""
    assert paths({**HI, "metadata": {key: "x"}}) == [f"metadata.{key}"]


WRONG_FORMS: list[tuple[Any, str]] = [
    ({"prompt": " "}, "must say something"),
    ({**HI, "stop": ["a", "\n"]}, "must say something"),
    (formatted(name="two words"), "pattern"),
    (says([{"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}]), "https"),
    (shows({"type": "file", "mediaType": "application/pdf", "url": IMAGE}), "image"),
    (shows({"type": "file", "mediaType": "image/png", "url": "blob:https://example.com/1"}), "https"),
]


@pytest.mark.parametrize(("body", "words"), WRONG_FORMS)
def test_reason_fits_the_rule(body: Any, words: str) -> None:
    """What is said of a text of the wrong form is what its form should be: only an empty one is called empty."""
    (error,) = refused(body).errors
    assert words in error.message
    assert ("say something" in error.message) == ("say something" in words)


@pytest.mark.parametrize(
    "body",
    [shows(*[7] * 20_000), {**HI, **{f"field{number}": 1 for number in range(10_000)}}, {**HI, "x" * 1_000_000: 1}],
    ids=["parts", "fields", "long name"],
)
def test_answer_to_a_hostile_body_is_small(body: object) -> None:
    """However much is wrong with a body, the answer to it stays of a size that can be sent and read."""
    assert len(problem(refused(body), "id").body) < 65_536


def test_defaults() -> None:
    """A prompt alone is a whole request: nothing is made up but a bound on the answer."""
    body = read_generate_request(HI)
    assert (body.stream, body.provider, body.model, body.metadata, body.outputs) == (None, None, None, {}, ["text"])
    request = body.chat()
    assert request.messages == ({"role": "user", "content": "Hi"},)
    assert request.max_tokens == DEFAULT_OUTPUT_TOKENS
    assert (request.temperature, request.top_p, request.seed, request.stop) == (None, None, None, ())
    assert (request.response_format, request.reasoning_effort) == (None, None)


def test_parameters() -> None:
    """Only what the caller has set is its own; a null leaves the choice as open as silence."""
    assert read_generate_request(HI).parameters() == {}
    body = {**HI, "temperature": 0, "top_p": None, "max_tokens": DEFAULT_OUTPUT_TOKENS}
    assert read_generate_request(body).parameters() == {
        "temperature": 0,
        "top_p": None,
        "max_tokens": DEFAULT_OUTPUT_TOKENS,
    }


def test_smallest_and_largest() -> None:
    """What lies just within the limits is taken."""
    small = {"prompt": "a", "system": "b", "provider": "c", "model": "d", "temperature": 0, "top_p": 0.01, "stop": "e"}
    read_generate_request({**small, "max_tokens": 1, "seed": 0, "metadata": {"f": ""}, "id": "g"})
    large = {"provider": "x" * 256, "model": "x" * 256, "temperature": 2, "top_p": 1, "stop": ["a"] * 4}
    metadata = {f"{number:064}": "x" * 512 for number in range(16)}
    read_generate_request({**says("Hi"), **large, "max_tokens": 16_384, "seed": 2**63 - 1, "metadata": metadata})
    assert len(messages({"messages": says("Hi")["messages"] * 1000})) == 1000


@pytest.mark.parametrize(
    "body", [shows(*[{"type": "text", "text": "x"}] * 50_000), says([{"type": "text", "text": "x"}] * 50_000)]
)
def test_parts_have_a_limit(body: Any) -> None:
    """A message has a bounded number of parts, as a chat has of messages: checking millions would take seconds."""
    (path,) = paths(body)
    assert path in {"messages[0].parts", "messages[0].content"}


@pytest.mark.parametrize(("body", "word"), [({}, "missing"), ({**HI, **says("Hi")}, "both there")])
def test_neither_or_both(body: Any, word: str) -> None:
    """Who sends neither or both of prompt and messages is told which."""
    assert word in refused(body).message


def test_null_is_absent() -> None:
    """A null is as good as nothing, for clients that write out all their fields."""
    names = ["messages", "system", "provider", "model", "temperature", "top_p", "stop", "seed", "response_format"]
    assert read_generate_request({**HI, **dict.fromkeys([*names, "reasoning_effort", "stream"])}) == (
        read_generate_request(HI)
    )


def test_everything_that_may_be_said() -> None:
    """Every parameter finds its way into the request."""
    schema = {"name": "x", "schema": {"type": "object", "properties": {"a": {"const": None}}}, "strict": True}
    parameters: dict[str, Any] = {"temperature": 0, "top_p": 1, "max_tokens": 5, "seed": 2**63 - 1}
    response_format = {"type": "json_schema", "json_schema": schema}
    body = read_generate_request(
        {
            **HI,
            **parameters,
            "stop": ["a", "b"],
            "response_format": response_format,
            "reasoning_effort": "low",
            "metadata": {"page": ""},
            "outputs": ["text"],
            "id": "chat",
            "trigger": "submit-message",
            "messageId": None,
        }
    )
    request = body.chat()
    assert {name: getattr(request, name) for name in parameters} == parameters
    assert (request.stop, request.response_format, request.reasoning_effort) == (("a", "b"), response_format, "low")
    assert body.metadata == {"page": ""}


def test_one_stop_word() -> None:
    """A stop word may stand alone."""
    assert read_generate_request({**HI, "stop": "END"}).chat().stop == ("END",)
    assert read_generate_request({**HI, "stop": ["END"]}).chat().stop == ("END",)


def test_schema_is_handed_on_as_it_is() -> None:
    """Nulls within the caller's schema are the schema's own, and no description is made up."""
    schema = {"enum": ["a", None], "default": None}
    request = read_generate_request(formatted(schema=schema, description=None)).chat()
    assert request.response_format == {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def test_openai_messages() -> None:
    """OpenAI's messages: texts as they are, a developer is a system, fields that we do not use are left alone."""
    assert messages(
        {
            "messages": [
                {"role": "developer", "content": "Be brief.", "name": "x"},
                {"role": "user", "content": " Hi\n"},
                {"role": "assistant", "content": [{"type": "text", "text": "Yes?"}], "refusal": None},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ]
        }
    ) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi\n"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "a\nb"},
    ]


def test_messages_of_the_ai_sdk() -> None:
    """The AI SDK's messages: their texts, without what belongs to the page; an empty answer is passed over."""
    text, thought = {"type": "text", "text": "One", "state": "done"}, {"type": "reasoning", "text": "Hm"}
    assert messages(
        {
            "messages": [
                {"id": "1", "role": "system", "parts": [text], "metadata": {"a": 1}},
                {"id": "2", "role": "user", "parts": [text, {"type": "data-x", "data": {"text": "no"}}]},
                {"id": "3", "role": "assistant", "parts": [{"type": "step-start"}, thought]},
                {"id": "4", "role": "assistant", "parts": [{"type": "source-url", "url": "x"}, text, text]},
                {"id": "5", "role": "user", "parts": [text], "content": "of older clients"},
            ]
        }
    ) == [
        {"role": "system", "content": "One"},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "One\nOne"},
        {"role": "user", "content": "One"},
    ]


@pytest.mark.parametrize("url", [IMAGE, "https://example.com/a.png?b=c"])
def test_pictures(url: str) -> None:
    """Pictures arrive in OpenAI's shape, in order with the text, from both styles, and need a model that sees."""
    words, picture = {"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}
    expected = [{"role": "user", "content": [picture, words]}]
    assert messages(says([{**picture, "image_url": {"url": url, "detail": "low"}}, words])) == expected
    file = {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": url}
    assert messages(shows(file, {"type": "text", "text": " "}, words)) == expected
    assert "vision" in read_generate_request(shows(file)).chat().needs
    assert read_generate_request(says("What?")).chat().needs == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "file:///etc/passwd",
        "javascript:1",
        "data:text/html;base64,AA",
        "//x",
        "",
        " https://x",
    ],
)
def test_addresses_that_are_no_pictures(url: str) -> None:
    """Only https and data URLs of pictures are taken."""
    assert paths(says([{"type": "image_url", "image_url": {"url": url}}])) == ["messages[0].content[0].image_url.url"]
    assert paths(shows({"type": "file", "mediaType": "image/png", "url": url})) == ["messages[0].parts[0].url"]


def test_system_comes_first() -> None:
    """`system` is put before the messages, or before the prompt."""
    first = {"role": "system", "content": "Be brief."}
    assert messages({**HI, "system": "Be brief."}) == [first, {"role": "user", "content": "Hi"}]
    assert messages({**says("Hi"), "system": "Be brief."}) == [first, {"role": "user", "content": "Hi"}]


def test_characters() -> None:
    """The length of a prompt is that of its texts, pictures apart."""
    body = {"messages": [{"role": "user", "content": "four"}, *shows({"type": "text", "text": "five5"})["messages"]]}
    assert read_generate_request(body).chat().characters == 9
    picture = {"type": "image_url", "image_url": {"url": IMAGE}}
    assert read_generate_request(says([picture, {"type": "text", "text": "four"}])).chat().characters == 4


CANARY = "canary-of-a-prompt"
FIELDS = st.sampled_from(
    [
        *(field.alias or name for name, field in GenerateRequest.model_fields.items()),
        *("role", "content", "parts", "type", "text", "image_url", "url", "mediaType", "json_schema", "name", "schema"),
        *(
            "function",
            "tool_calls",
            "tool_call_id",
            "toolCallId",
            "state",
            "input",
            "output",
            "arguments",
            "parameters",
        ),
        "unknown",
    ]
)
LEAVES = st.one_of(
    st.sampled_from([CANARY, f" {CANARY}", f"data:{CANARY}", CANARY * 100]),
    st.sampled_from(["user", "assistant", "text", "file", "image_url", "json_schema", "", " "]),
    st.sampled_from(["tool", "function", "tool-x", "output-available", "input-available", "{}", "auto"]),
    st.none() | st.booleans() | st.integers(-9, 2**64) | st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = json_values(FIELDS, LEAVES)
PARTS = st.dictionaries(st.sampled_from(["type", "text", "url", "mediaType", "image_url"]), VALUES, max_size=4) | VALUES
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]) | VALUES},
    optional={"content": st.lists(PARTS, max_size=2) | VALUES, "parts": st.lists(PARTS, max_size=2) | VALUES},
)
BODIES = st.dictionaries(FIELDS, VALUES, max_size=3).flatmap(
    lambda body: (
        st.lists(MESSAGES | VALUES, max_size=2).map(lambda some: {**body, "messages": some})
        | st.just({**body, "prompt": "Hi"})
        | st.just(body)
    )
)


@settings(max_examples=150)
@given(BODIES | VALUES)
@example({"messages": [{"role": "user", "parts": [{"type": []}]}]})
@example({"prompt": CANARY, "temperature": CANARY, "stop": [CANARY, {CANARY: CANARY}], "model": CANARY * 300})
def test_any_json(body: object) -> None:
    """Any JSON is a request, or an error that can be told and repeats no value of the body: it may be private."""
    got = outcome(body)
    if isinstance(got, AppError):
        told = orjson.loads(problem(got, "id").body)
        assert told["status"] == 422
        assert CANARY not in f"{told} {got!r} {got.__cause__!r}"
    else:
        assert got.messages
        assert all(message["role"] in {"system", "user", "assistant", "tool"} for message in got.messages)
        assert all(message["content"] or message.keys() & {"tool_calls", "tool_call_id"} for message in got.messages)


def outcome(body: object) -> ChatRequest | AppError:
    """The request that this body becomes, or the error that it earns."""
    try:
        return read_generate_request(body).chat()
    except AppError as error:
        return error

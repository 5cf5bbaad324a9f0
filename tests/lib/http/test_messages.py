"""Tools in a request, and conversations in which they were called: what is taken, refused, and handed to the vendor."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import InvalidRequest
from lib.http.generate_request import GenerateRequest, read_generate_request
from lib.http.messages import DENIED, MAX_TOOLS, NEVER_RAN
from tests.lib.conversations import TOOLS

HI = {"role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ARGUMENTS = '{"city":"Paris"}'


def read(**fields: Any) -> GenerateRequest:
    """A request with these fields."""
    return read_generate_request({"prompt": "Hi", **fields} if "messages" not in fields else fields)


def refused(**fields: Any) -> list[str]:
    """The fields for which a request is refused."""
    with pytest.raises(InvalidRequest) as caught:
        read(**fields).chat()
    assert caught.value.status == 422
    return [error.path for error in caught.value.errors]


def sent(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What a vendor gets of these messages after a user's."""
    return [dict(message) for message in read(messages=[HI, *messages]).chat().messages[1:]]


def call(id_: str = "a", **function: Any) -> dict[str, Any]:
    """A call in OpenAI's style."""
    return {"id": id_, "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS, **function}}


def calling(*ids: str, content: Any = None) -> dict[str, Any]:
    """An assistant's message in OpenAI's style that makes these calls."""
    return {"role": "assistant", "content": content, "tool_calls": [call(id_) for id_ in ids]}


def result(id_: str = "a", content: Any = "21 °C") -> dict[str, Any]:
    """A tool's message in OpenAI's style."""
    return {"role": "tool", "tool_call_id": id_, "content": content}


def part(state: str = "output-available", **fields: Any) -> dict[str, Any]:
    """A tool part in the AI SDK's style."""
    return {"type": "tool-weather", "toolCallId": "a", "state": state, "input": {"city": "Paris"}, **fields}


def parts(*some: dict[str, Any]) -> dict[str, Any]:
    """An assistant's message in the AI SDK's style."""
    return {"id": "m", "role": "assistant", "parts": list(some)}


def text(said: str) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "text": said}


STEP = {"type": "step-start"}


@pytest.mark.parametrize(
    "choice", [None, "none", "auto", "required", {"type": "function", "function": {"name": "weather"}}]
)
def test_tools_are_handed_on(choice: Any) -> None:
    """Tools and the choice among them reach the vendor as they came, and need a model that can call tools."""
    parameters = {"type": "object", "properties": {"city": {"enum": ["Paris", None], "default": None}}}
    function = {"name": "weather", "description": "The weather", "parameters": parameters, "strict": True}
    request = read(tools=[{"type": "function", "function": function}], tool_choice=choice).chat()
    assert request.tools == ({"type": "function", "function": function},)
    assert request.tool_choice == choice
    assert request.needs == {"tools"}
    assert request.characters == len("Hi") + len(orjson.dumps(request.tools))


def test_absent_fields_of_a_tool() -> None:
    """What is not said of a tool is not made up."""
    function = {"name": "now", "description": None, "parameters": None, "strict": None}
    (tool,) = read(tools=[{"type": "function", "function": function}]).chat().tools
    assert tool == {"type": "function", "function": {"name": "now"}}


def test_no_tools() -> None:
    """An empty list of tools, or none, is nothing to choose from and needs nothing."""
    nothing: list[object] = []
    for tools in (nothing, None):
        request = read(tools=tools).chat()
        assert (request.tools, request.tool_choice, request.needs) == ((), None, frozenset())


def test_tools_and_schema() -> None:
    """Tools beside a response_format need a vendor that takes both together."""
    schema: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    assert read(tools=[TOOL], response_format=schema).chat().needs == {"tools", "json_schema", "json_schema_with_tools"}
    assert read(response_format={"type": "json_object"}).chat().needs == {"json_schema"}


@given(TOOLS)
def test_any_tools(tools: list[dict[str, Any]]) -> None:
    """Whatever the tools, what is handed on differs from them by their nulls alone."""
    expected = [
        {**tool, "function": {key: value for key, value in tool["function"].items() if value is not None}}
        for tool in tools
    ]
    assert list(read(tools=tools).chat().tools) == expected


def tool(**function: Any) -> dict[str, Any]:
    """A tool with these fields."""
    return {"type": "function", "function": {"name": "weather", **function}}


REFUSED_TOOLS: list[tuple[dict[str, Any], str]] = [
    ({"tools": {}}, "tools"),
    ({"tools": [TOOL] * (MAX_TOOLS + 1)}, "tools"),
    ({"tools": ["weather"]}, "tools[0]"),
    ({"tools": [{**TOOL, "type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{**TOOL, "name": "x"}]}, "tools[0].name"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [tool(name="")]}, "tools[0].function.name"),
    ({"tools": [tool(name="two words")]}, "tools[0].function.name"),
    ({"tools": [tool(name="x" * 65)]}, "tools[0].function.name"),
    ({"tools": [tool(name="wétter")]}, "tools[0].function.name"),
    ({"tools": [tool(), tool()]}, "tools[1].function.name"),
    ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
    ({"tools": [tool(parameters={"description": "x" * 65_536})]}, "tools[0].function.parameters"),
    ({"tools": [tool(inputSchema={})]}, "tools[0].function.inputSchema"),
    ({"tools": [tool(strict="yes")]}, "tools[0].function.strict"),
    ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": ["auto"]}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "function": {"name": "weather"}}}, "tool_choice.type"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "time"}}}, "tool_choice.function.name"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [], "tool_choice": "none"}, "tool_choice"),
]


@pytest.mark.parametrize(("fields", "path"), REFUSED_TOOLS)
def test_refused_tools(fields: dict[str, Any], path: str) -> None:
    """What does not fit is refused by the name of the field, and only for that field."""
    assert refused(**fields) == [path]


def test_openai_round_trip() -> None:
    """A call and its result in OpenAI's style reach the vendor unchanged, in order; text counts wherever it stands."""
    messages = [
        calling("a", "b", content="Let me see."),
        result("b"),
        result("a", "It rains."),
        calling("c"),
        result("c", ""),
    ]
    assert sent(*messages) == messages
    request = read(messages=[HI, *messages]).chat()
    assert request.needs == {"tools"}
    calls = 3 * (len("weather") + len(ARGUMENTS))
    assert request.characters == len("Hi" + "Let me see." + "21 °C" + "It rains.") + calls


def test_openai_content() -> None:
    """Content may be left out beside calls, or come in parts; a call's type may be left out."""
    no_content = {"role": "assistant", "tool_calls": [{"id": "a", "function": call()["function"]}]}
    assert sent(no_content, result("a", [text("21"), text("°C")])) == [calling("a"), result("a", "21\n°C")]
    assert sent({**calling("a", content=[text("So.")]), "refusal": None}, result())[0] == calling("a", content="So.")
    assert sent({**calling("a", content=" "), "audio": None}, result())[0] == calling("a")


@pytest.mark.parametrize("content", [None, "", " ", []])
def test_assistant_who_neither_spoke_nor_called(content: Any) -> None:
    """That is what a stopped answer leaves behind: it is passed over."""
    assert sent({"role": "assistant", "content": content, "tool_calls": None}, HI) == [HI]
    assert sent({"role": "assistant", "content": content, "tool_calls": []}, HI) == [HI]


REFUSED_MESSAGES: list[tuple[list[dict[str, Any]], str]] = [
    ([result()], "messages[1].tool_call_id"),
    ([calling("a"), result("b")], "messages[2].tool_call_id"),
    ([calling("a"), result("a"), result("a")], "messages[3].tool_call_id"),
    ([calling("a"), HI, result("a")], "messages[1].tool_calls[0]"),
    ([calling("a", "b"), result("a"), HI], "messages[1].tool_calls[1]"),
    ([calling("a", "b"), result("a")], "messages[1].tool_calls[1]"),
    ([calling("a")], "messages[1].tool_calls[0]"),
    ([calling("a", "a"), result("a")], "messages[1].tool_calls[1]"),
    ([{"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
    ([calling("a"), {"role": "tool", "tool_call_id": "a"}], "messages[2].content"),
    ([calling("a"), result("a", None)], "messages[2].content"),
    ([calling("a"), result("a", {"temperature": 21})], "messages[2].content"),
    ([calling("a"), result("a", [{"type": "refusal", "text": "x"}])], "messages[2].content[0].type"),
    ([calling("a"), result("")], "messages[2].tool_call_id"),
    ([{"role": "assistant", "tool_calls": {}}], "messages[1].tool_calls"),
    ([{"role": "assistant", "tool_calls": [call()] * (MAX_TOOLS + 1)}], "messages[1].tool_calls"),
    ([{"role": "assistant", "tool_calls": [{"id": "a"}]}], "messages[1].tool_calls[0].function"),
    ([{"role": "assistant", "tool_calls": [{**call(), "type": "custom"}]}], "messages[1].tool_calls[0].type"),
    ([{"role": "assistant", "tool_calls": [{**call(), "id": "x" * 257}]}], "messages[1].tool_calls[0].id"),
    ([{"role": "assistant", "tool_calls": [call(name="a.b")]}], "messages[1].tool_calls[0].function.name"),
    *(
        (
            [{"role": "assistant", "tool_calls": [call(arguments=arguments)]}],
            "messages[1].tool_calls[0].function.arguments",
        )
        for arguments in ("", "{", "[]", "null", "{}{}", {"city": "Paris"})
    ),
    ([parts({**part(), "type": "tool-"})], "messages[1].parts[0].type"),
    ([parts({**part(), "type": "tool-a.b"})], "messages[1].parts[0].type"),
    ([parts({**part(), "type": "dynamic-tool"})], "messages[1].parts[0].toolName"),
    ([parts(part(toolCallId=7))], "messages[1].parts[0].toolCallId"),
    ([parts(part("done"))], "messages[1].parts[0].state"),
    ([parts({"type": "tool-weather", "toolCallId": "a"})], "messages[1].parts[0].state"),
    ([parts(part(errorText=7))], "messages[1].parts[0].errorText"),
]


@pytest.mark.parametrize(("messages", "path"), REFUSED_MESSAGES)
def test_refused_messages(messages: list[dict[str, Any]], path: str) -> None:
    """What no vendor would take is refused before any is asked, by the name of the field."""
    assert refused(messages=[HI, *messages]) == [path]


@pytest.mark.parametrize("style", ["openai", "ui"])
def test_pending_call_before_another_style(style: str) -> None:
    """A call needs its result before anything else, whatever style that comes in."""
    other = HI if style == "openai" else {"role": "user", "parts": [text("Hi")]}
    assert refused(messages=[HI, calling("a"), other]) == ["messages[1].tool_calls[0]"]


STATES: list[tuple[dict[str, Any], str]] = [
    (part(output={"t": 21, "sky": [None, "clear"]}), '{"t":21,"sky":[null,"clear"]}'),
    (part(output="clear"), "clear"),
    (part(output=""), ""),
    (part(output=None), "null"),
    (part(), "null"),
    (part(output=[1.5, True], preliminary=True), "[1.5,true]"),
    (part("output-error", errorText="No such city."), "No such city."),
    (part("output-error"), ""),
    (part("output-denied", approval={"id": "1", "approved": False, "reason": "Not now."}), "Not now."),
    (part("output-denied"), DENIED),
    (part("approval-responded", approval={"id": "1", "approved": False}), DENIED),
    (part("approval-responded", approval={"id": "1", "approved": True}), NEVER_RAN),
    (part("approval-requested", approval={"id": "1"}), NEVER_RAN),
    (part("input-available"), NEVER_RAN),
]


@pytest.mark.parametrize(("said", "told"), STATES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_states(said: dict[str, Any], told: str, *, dynamic: bool) -> None:
    """A tool part is a call and what the model is told of it; a call that never ran gets an answer too."""
    said = {**said, "type": "dynamic-tool", "toolName": "weather"} if dynamic else said
    assert sent(parts(said)) == [calling("a"), result("a", told)]


def test_call_that_is_still_written() -> None:
    """A call whose input was cut, as a stopped or broken answer leaves it, was never made."""
    assert sent(parts(part("input-streaming")), HI) == [HI]
    assert sent(parts(text("So."), part("input-streaming", input={"ci": 1}))) == [
        {"role": "assistant", "content": "So."}
    ]


@pytest.mark.parametrize("input_", ['{"city": "Par', 7, ["Paris"], None])
def test_input_that_was_none(input_: Any) -> None:
    """Where a page was told that a call's input can't be read, the call is repeated without it."""
    failed = part("output-error", input=input_, rawInput='{"city": "Par', errorText="No JSON.")
    assert sent(parts(failed)) == [
        {**calling(), "tool_calls": [call(arguments="{}")]},
        result("a", "No JSON."),
    ]


def test_steps() -> None:
    """Each step is a message of its own, its calls together, then their results, as convertToModelMessages has it."""
    message = parts(
        STEP,
        {"type": "reasoning", "text": "Hm."},
        text("First."),
        part(output="1"),
        part(toolCallId="b", output="2"),
        text("And then."),
        STEP,
        part("output-error", toolCallId="c", errorText="3"),
        {"type": "data-x", "data": {}},
        STEP,
        STEP,
        text("Done."),
    )
    assert sent(message) == [
        calling("a", "b", content="First.\nAnd then."),
        result("a", "1"),
        result("b", "2"),
        calling("c"),
        result("c", "3"),
        {"role": "assistant", "content": "Done."},
    ]


def test_tool_parts_of_others() -> None:
    """Only the assistant calls tools: such parts in a user's message are the page's business."""
    assert sent({"role": "user", "parts": [text("Hi"), part(output="1")]}) == [HI]


def test_same_id_in_another_step() -> None:
    """Ids tell the calls of one step apart: a vendor that counts from 0 in each answer is no mistake of the page's."""
    assert len(sent(parts(part(output="1"), STEP, part(output="2")))) == 4
    assert refused(messages=[HI, parts(part(output="1"), part(output="2"))]) == ["messages[1].tool_calls[1]"]


@pytest.mark.parametrize(
    ("messages", "id_"),
    [
        ([parts(part(output="1"))], "m"),
        ([parts(part(output="1")), HI], None),
        ([{**parts(part(output="1")), "id": ""}], None),
        ([{**parts(part(output="1")), "id": 7}], None),
        ([{"role": "user", "id": "u", "parts": [text("Hi")]}], None),
        ([calling("a"), {**result(), "id": "t"}], None),
    ],
)
def test_message_that_goes_on(messages: list[dict[str, Any]], id_: str | None) -> None:
    """An answer after an assistant's message of the AI SDK's is a part of it, and says so by its id."""
    assert read(messages=[HI, *messages]).continued_message_id == id_
    assert read().continued_message_id is None


@pytest.mark.parametrize(
    ("fields", "may"),
    [({}, False), ({"tools": [TOOL]}, True), ({"tools": [TOOL], "tool_choice": "none"}, False), ({"tools": []}, False)],
)
def test_who_may_call(fields: dict[str, Any], may: bool) -> None:  # noqa: FBT001 - a column of the table
    """Whether an answer may be a call."""
    assert read(**fields).may_call_tools is may


PARTS = st.lists(
    st.one_of(
        st.just(STEP),
        st.sampled_from(["", " ", "a", "b"]).map(text),
        st.builds(
            part,
            st.sampled_from(["input-streaming", "input-available", "output-available", "output-error"]),
            output=st.sampled_from([None, "x", {"y": 1}]),
        ),
    ),
    max_size=8,
)


@given(PARTS)
def test_any_parts(some: list[dict[str, Any]]) -> None:
    """Whatever a message holds: calls are followed by their results, one each, and nothing of the text is lost."""
    for number, each in enumerate(some):
        if "toolCallId" in each:
            each["toolCallId"] = str(number)
    got = sent(parts(*some))
    for index, message in enumerate(got):
        ids = [made["id"] for made in message.get("tool_calls", [])]
        assert [after["tool_call_id"] for after in got[index + 1 : index + 1 + len(ids)]] == ids
        assert message["role"] in {"assistant", "tool"}
    said = [message["content"] for message in got if message["role"] == "assistant" and message["content"]]
    assert "\n".join(said) == "\n".join(each["text"] for each in some if each.get("text", "").strip())
    assert len([message for message in got if message["role"] == "tool"]) == len(
        [each for each in some if each.get("state", "input-streaming") != "input-streaming"]
    )

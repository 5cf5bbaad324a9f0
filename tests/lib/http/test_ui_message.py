"""The AI SDK's UI message stream: its grammar holds whatever an answer is made of."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.http.ui_message import DONE, HEADERS, MEDIA_TYPE, UIMessageWriter, frame
from lib.providers.base import Delta, FinishReason, ToolCallDelta, Usage
from lib.router.attempt import Reset

Chunk = dict[str, Any]


def chunks(stream: bytes) -> list[Chunk]:
    """The chunks of a stream whose every event is one `data:` line of JSON; a last [DONE] is left out."""
    events = stream.removesuffix(DONE).decode().split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def types(stream: bytes) -> list[str]:
    """Their types, in order."""
    return [chunk["type"] for chunk in chunks(stream)]


def test_order() -> None:
    """Start, step, one part of text, finish: the order that every client takes."""
    writer = UIMessageWriter()
    stream = writer.start("id-1", {"provider": "groq"})
    stream += writer.write([Delta(text="Hel"), Delta(text="lo")]) + writer.write([Delta(text="!")])
    stream += writer.finish("stop", {"cost_usd": 0.1})
    assert stream.endswith(b"\n\n" + DONE)
    assert chunks(stream) == [
        {"type": "start", "messageId": "id-1", "messageMetadata": {"provider": "groq"}},
        {"type": "start-step"},
        {"type": "text-start", "id": "1"},
        {"type": "text-delta", "id": "1", "delta": "Hel"},
        {"type": "text-delta", "id": "1", "delta": "lo"},
        {"type": "text-delta", "id": "1", "delta": "!"},
        {"type": "text-end", "id": "1"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop", "messageMetadata": {"cost_usd": 0.1}},
    ]


def test_answer_without_text() -> None:
    """An answer that says nothing opens no part."""
    writer = UIMessageWriter()
    stream = writer.start("x", {}) + writer.write([Delta(usage=Usage(1, 0))]) + writer.finish("length", {})
    assert types(stream) == ["start", "start-step", "finish-step", "finish"]


def test_broken_off() -> None:
    """An answer that broke off closes its part, tells its account, then the error, and finishes as one that failed."""
    writer = UIMessageWriter()
    writer.write([Delta(reasoning="Hm")])
    stream = writer.fail("It broke.", {"error_code": "stream_interrupted"})
    assert stream.endswith(DONE)
    assert chunks(stream) == [
        {"type": "reasoning-end", "id": "1"},
        {"type": "message-metadata", "messageMetadata": {"error_code": "stream_interrupted"}},
        {"type": "error", "errorText": "It broke."},
        {"type": "finish", "finishReason": "error"},
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content-filter"),
        ("tool_calls", "tool-calls"),
        ("other", "other"),
        (None, "other"),
    ],
)
def test_finish_reasons(ours: FinishReason | None, theirs: str) -> None:
    """Finish reasons are spelled as the AI SDK spells them."""
    assert chunks(UIMessageWriter().finish(ours, {}))[-1]["finishReason"] == theirs


@pytest.mark.parametrize("text", ["a\nb", "\r\n\r\n", "data: [DONE]\n\n", "\u2028", '"\\', "🌍"])
def test_text_that_looks_like_framing(text: str) -> None:
    """No text breaks out of its event."""
    assert chunks(frame({"type": "text-delta", "delta": text})) == [{"type": "text-delta", "delta": text}]


def test_headers() -> None:
    """The headers by which clients know the stream, and proxies leave it alone."""
    assert MEDIA_TYPE == "text/event-stream"
    assert HEADERS["x-vercel-ai-ui-message-stream"] == "v1"
    assert "no-transform" in HEADERS["cache-control"]


CALL = ToolCallDelta(0, "call_1", "weather")
ARGUMENTS = '{"city": "Paris"}'


def test_calls() -> None:
    """A call is shown as it is written, and may be made only at the end, with its whole input, when all is there."""
    writer = UIMessageWriter()
    stream = writer.start("x", {}) + writer.write([Delta(text="Let me see."), Delta(tool_calls=(CALL,))])
    stream += writer.write([Delta(tool_calls=(ToolCallDelta(0, arguments=ARGUMENTS[:8]),))])
    second = ToolCallDelta(1, "call_2", "time", "{}")
    stream += writer.write([Delta(tool_calls=(ToolCallDelta(0, arguments=ARGUMENTS[8:]), second))])
    before, at_end = chunks(stream), chunks(writer.finish("tool_calls", {}))
    assert before[4:] == [
        {"type": "text-end", "id": "1"},
        {"type": "tool-input-start", "toolCallId": "call_1", "toolName": "weather"},
        {"type": "tool-input-delta", "toolCallId": "call_1", "inputTextDelta": ARGUMENTS[:8]},
        {"type": "tool-input-delta", "toolCallId": "call_1", "inputTextDelta": ARGUMENTS[8:]},
        {"type": "tool-input-start", "toolCallId": "call_2", "toolName": "time"},
        {"type": "tool-input-delta", "toolCallId": "call_2", "inputTextDelta": "{}"},
    ]
    assert at_end == [
        {"type": "tool-input-available", "toolCallId": "call_1", "toolName": "weather", "input": {"city": "Paris"}},
        {"type": "tool-input-available", "toolCallId": "call_2", "toolName": "time", "input": {}},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls", "messageMetadata": {}},
    ]


def test_calls_of_an_answer_that_broke_off() -> None:
    """No call of an answer that broke off may be made, whole or not: each is told to have failed, before the error."""
    writer = UIMessageWriter()
    writer.write([Delta(tool_calls=(CALL, ToolCallDelta(0, arguments="{}"), ToolCallDelta(1, "call_2", "time", "{")))])
    assert chunks(writer.fail("It broke.", {})) == [
        {
            "type": "tool-input-error",
            "toolCallId": "call_1",
            "toolName": "weather",
            "input": "{}",
            "errorText": "It broke.",
        },
        {
            "type": "tool-input-error",
            "toolCallId": "call_2",
            "toolName": "time",
            "input": "{",
            "errorText": "It broke.",
        },
        {"type": "message-metadata", "messageMetadata": {}},
        {"type": "error", "errorText": "It broke."},
        {"type": "finish", "finishReason": "error"},
    ]


def test_calls_that_were_taken_back() -> None:
    """After a reset nothing is said of the calls before it."""
    writer = UIMessageWriter()
    writer.write([Delta(tool_calls=(CALL, ToolCallDelta(0, arguments="{")))])
    assert types(writer.write(Reset())) == ["reset-step"]
    writer.write([Delta(tool_calls=(ToolCallDelta(0, "call_9", "time", '{"a": 1}'),))])
    available, *rest = chunks(writer.finish("tool_calls", {}))
    assert (available["toolCallId"], available["input"]) == ("call_9", {"a": 1})
    assert [chunk["type"] for chunk in rest] == ["finish-step", "finish"]


def test_arguments_that_look_like_framing() -> None:
    """Line ends between the tokens of a call's JSON stay out of the framing."""
    writer = UIMessageWriter()
    stream = writer.write([Delta(tool_calls=(ToolCallDelta(0, "a", "f", '{\n\n"a":\r\n"\\n"}'),))])
    assert chunks(stream)[1]["inputTextDelta"] == '{\n\n"a":\r\n"\\n"}'
    assert chunks(writer.finish(None, {}))[0]["input"] == {"a": "\n"}


def test_another_speaks() -> None:
    """Thoughts of another model are a part of their own; text goes on where it was."""
    writer = UIMessageWriter()
    writer.write([Delta(reasoning="Hm")])
    assert types(writer.another()) == ["reasoning-end"]
    assert types(writer.write([Delta(reasoning="Hm")])) == ["reasoning-start", "reasoning-delta"]
    writer.write([Delta(text="Yes")])
    assert writer.another() == b""
    assert types(writer.write([Delta(text="!")])) == ["text-delta"]


PIECES = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
DELTAS = st.builds(
    Delta,
    text=PIECES,
    reasoning=PIECES,
    usage=st.none() | st.just(Usage(1, 1)),
    tool_calls=st.lists(st.sampled_from([CALL, replace(CALL, arguments="{}")]), max_size=2).map(tuple),
)


def numbered(batches: list[list[Delta]]) -> list[list[Delta]]:
    """The same, with calls that are told apart."""
    number = itertools.count()
    for batch in batches:
        for delta in batch:
            calls = zip(delta.tool_calls, number, strict=False)
            delta.tool_calls = tuple(replace(call, index=index, id=str(index)) for call, index in calls)
    return batches


@given(st.lists(st.lists(DELTAS, max_size=3), max_size=5), st.booleans())
def test_grammar(batches: list[list[Delta]], fails: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
    """Whatever the deltas are: each part is opened once, fed and closed, one at a time, and nothing is lost."""
    writer, batches = UIMessageWriter(), numbered(batches)
    stream = writer.start("x", {}) + b"".join(writer.write(batch) for batch in batches)
    stream += writer.fail("broke", {}) if fails else writer.finish("stop", {})
    calls = [call.id for batch in batches for delta in batch for call in delta.tool_calls]
    got, said, open_part, seen = chunks(stream), {"text": "", "reasoning": ""}, ("", ""), set[str]()
    tail = ["message-metadata", "error", "finish"] if fails else ["finish-step", "finish"]
    assert [chunk["type"] for chunk in got[:2] + got[-len(tail) :]] == ["start", "start-step", *tail]
    started, last = (
        [chunk["toolCallId"] for chunk in got if chunk["type"] == "tool-input-start"],
        len(calls) + len(tail),
    )
    assert started == calls
    assert [chunk["toolCallId"] for chunk in got[len(got) - last : -len(tail)]] == calls
    for chunk in got[2:-last]:
        if chunk["type"].startswith("tool-input"):
            assert open_part == ("", "")
            continue
        kind, _, step = chunk["type"].partition("-")
        if step == "start":
            assert open_part == ("", "")
            assert chunk["id"] not in seen
            open_part = (kind, chunk["id"])
            seen.add(chunk["id"])
        assert open_part == (kind, chunk["id"])
        if step == "delta":
            assert chunk["delta"] != ""
            said[kind] += chunk["delta"]
        if step == "end":
            open_part = ("", "")
    assert open_part == ("", "")
    deltas = [delta for batch in batches for delta in batch]
    assert said == {
        "text": "".join(delta.text for delta in deltas),
        "reasoning": "".join(delta.reasoning for delta in deltas),
    }

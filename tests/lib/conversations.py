"""Tools, and conversations in which they were called, in both styles."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
WITH_CALLS: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
    {"role": "tool", "tool_call_id": "call_2", "content": "21 °C"},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": ""}]},
]
WITH_PARTS: list[dict[str, Any]] = [
    {
        "role": "assistant",
        "parts": [
            {"type": "tool-weather", "toolCallId": "a", "state": "output-available", "input": {}, "output": [1, None]},
            {"type": "dynamic-tool", "toolName": "b", "toolCallId": "b", "state": "output-error", "errorText": "no"},
            {"type": "step-start"},
            {"type": "tool-weather", "toolCallId": "a", "state": "input-available", "input": {"city": "Rome"}},
        ],
    }
]
_TOOL: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)},
    optional={
        "description": st.none() | st.text(min_size=1, max_size=9),
        "parameters": st.none() | st.just({"type": "object", "properties": {"a": {"enum": [None]}}}),
        "strict": st.none() | st.booleans(),
    },
).map(lambda function: {"type": "function", "function": function})

TOOLS = st.lists(_TOOL, min_size=1, max_size=3, unique_by=lambda tool: tool["function"]["name"])
"""A request's tools."""

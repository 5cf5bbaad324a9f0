"""Calls of tools as vendors stream them: the same come out, whatever the vendor's manners and the network's cuts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, AnyStr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.errors import BrokenStream, ProviderError
from lib.providers.base import MAX_DEPTH, ChatRequest, Delta, ToolCallDelta, json_object
from lib.providers.chat import ChatStream
from lib.providers.tool_calls import MAX_ID, MAX_TOOL_CALLS, ToolCallReader
from tests.fakes.openapi import delta_violations
from tests.fakes.vendor import Reply, call_piece, calls, chunk, event, usage
from tests.lib.conversations import WITH_CALLS

DONE = b"data: [DONE]\n\n"
FINISH = event(chunk({}, finish_reason="tool_calls"))
PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
Call = tuple[str, str, str]
"""Id, name, arguments."""


def read(*chunks: bytes) -> list[Delta]:
    """What these bytes of a whole body say. Raises what is wrong with them."""
    stream = ChatStream()
    got: list[Delta] = []
    for data in chunks:
        got += stream.feed(data)
        if stream.error is not None:
            raise stream.error
    got += stream.close()
    if stream.error is not None:
        raise stream.error
    return got


def put_together(deltas: Sequence[Delta]) -> list[Call]:
    """The calls in these deltas, which must follow ToolCallDelta's rules."""
    made: list[list[str]] = []
    for piece in (piece for delta in deltas for piece in delta.tool_calls):
        if piece.name:
            assert piece.index == len(made)
            assert piece.id
            made.append([piece.id, piece.name, piece.arguments])
        else:
            assert piece.id == ""
            assert piece.arguments != ""
            made[piece.index][2] += piece.arguments
    assert len({id_ for id_, _, _ in made}) == len(made)
    return [(id_, name, arguments) for id_, name, arguments in made]


def pieces(*deltas: dict[str, object]) -> list[Call]:
    """The calls in a whole answer of these deltas."""
    return put_together(read(*(event(chunk(delta)) for delta in deltas), FINISH, DONE))


def body(reply: Reply) -> bytes:
    """All of a reply's bytes."""
    return b"".join(step for step in reply.steps if isinstance(step, bytes))


def test_openai() -> None:
    """OpenAI's shape: index, id and name first, then the arguments piece by piece, two calls one after the other."""
    reply = calls(("weather", PARIS), ("weather", ROME), text="Let me see.")
    got = read(body(reply))
    assert put_together(got) == [("call_0", "weather", PARIS), ("call_1", "weather", ROME)]
    assert got[0] == Delta(text="Let me see.")
    assert got[1] == Delta(tool_calls=(ToolCallDelta(0, "call_0", "weather"),))
    assert got[2] == Delta(tool_calls=(ToolCallDelta(0, arguments=PARIS[:7]),))
    assert [delta.finish_reason for delta in got if delta.finish_reason] == ["tool_calls"]
    assert got[-1].usage is not None


def test_the_fake_keeps_to_the_description() -> None:
    """What our fake vendor streams of calls fits OpenAI's published description of a delta."""
    events = body(calls(("weather", PARIS), text="Well.")).split(b"\n\n")[:-2]
    choices = [choice for data in events for choice in json.loads(data.removeprefix(b"data: "))["choices"]]
    assert [violation for choice in choices for violation in delta_violations(choice["delta"])] == []
    assert delta_violations(call_piece(None, name="no index")) != []


MANNERS: dict[str, list[dict[str, object]]] = {
    "whole calls, one per event": [
        call_piece(0, id="a", name="weather", arguments=PARIS),
        call_piece(1, id="b", name="weather", arguments=ROME),
    ],
    "whole calls in one event": [
        {
            "tool_calls": [
                {"index": 0, "id": "a", "function": {"name": "weather", "arguments": PARIS}},
                {"index": 1, "id": "b", "function": {"name": "weather", "arguments": ROME}},
            ]
        }
    ],
    "an index of 0 for each": [
        call_piece(0, id="a", name="weather", arguments=PARIS),
        call_piece(0, id="b", name="weather", arguments=ROME),
    ],
    "no index, whole": [
        call_piece(None, id="a", name="weather", arguments=PARIS),
        call_piece(None, id="b", name="weather", arguments=ROME),
    ],
    "no index, in pieces": [
        call_piece(None, id="a", name="weather", arguments=PARIS[:5]),
        call_piece(None, arguments=PARIS[5:]),
        call_piece(None, id="b", name="weather", arguments=""),
        call_piece(None, arguments=ROME),
    ],
    "no index, the id with every piece": [
        call_piece(None, id="a", name="weather", arguments=PARIS[:5]),
        call_piece(None, id="a", arguments=PARIS[5:]),
        call_piece(None, id="b", name="weather", arguments=ROME[:5]),
        call_piece(None, id="b", arguments=ROME[5:]),
    ],
    "no index, one within the other": [
        call_piece(None, id="a", name="weather", arguments=PARIS[:5]),
        call_piece(None, id="b", name="other", arguments=ROME[:5]),
        call_piece(None, id="a", arguments=PARIS[5:]),
        call_piece(None, id="b", name="other", arguments=ROME[5:]),
    ],
    "id and name with every piece": [
        *(call_piece(0, id="a", name="weather", arguments=piece) for piece in (PARIS[:3], PARIS[3:9], PARIS[9:])),
        *(call_piece(1, id="b", name="weather", arguments=piece) for piece in (ROME[:3], ROME[3:])),
    ],
    "a fresh id with every piece": [
        *(
            call_piece(0, id=id_, name="weather", arguments=piece)
            for id_, piece in (("a", PARIS[:3]), ("x", PARIS[3:]))
        ),
        *(call_piece(1, id=id_, name="weather", arguments=piece) for id_, piece in (("b", ROME[:3]), ("y", ROME[3:]))),
    ],
    "the whole once more": [
        call_piece(0, id="a", name="weather", arguments=PARIS[:5]),
        call_piece(0, arguments=PARIS[5:]),
        call_piece(0, id="a", name="weather", arguments=PARIS),
        call_piece(1, id="b", name="weather", arguments=ROME),
        call_piece(1, id="b", name="weather", arguments=ROME),
    ],
    "the name later": [
        call_piece(0, id="a", arguments="{"),
        call_piece(0, arguments=PARIS[1:5]),
        call_piece(0, name="weather", arguments=PARIS[5:]),
        call_piece(1, id="b", name=None, arguments=None),
        call_piece(1, name="weather", arguments=ROME),
    ],
    "arguments as objects": [
        call_piece(0, id="a", name="weather", arguments=json.loads(PARIS)),
        call_piece(1, id="b", name="weather", arguments=json.loads(ROME)),
    ],
    "nulls and blanks": [
        {"tool_calls": None, "content": None},
        {"tool_calls": []},
        call_piece(0, id="a", name="weather", arguments=None),
        call_piece(0, id=None, name=None, arguments=PARIS),
        call_piece(1, id="b", name="weather", arguments=""),
        call_piece(1, id="", name="", arguments=ROME),
        {"tool_calls": [{"index": 1}]},
    ],
    "odd numbers": [
        call_piece(7, id="a", name="weather", arguments=PARIS),
        call_piece(-3, id="b", name="weather", arguments=ROME),
    ],
}


@pytest.mark.parametrize("manner", MANNERS)
def test_manners(manner: str) -> None:
    """However a vendor says it, the same two calls are understood."""
    got = [(id_, name, json.loads(arguments)) for id_, name, arguments in pieces(*MANNERS[manner])]
    second = "other" if "within" in manner else "weather"
    assert got == [("a", "weather", {"city": "Paris"}), ("b", second, {"city": "Rome"})]


@pytest.mark.parametrize("index", [0, None])
def test_no_id(index: int | None) -> None:
    """A call without an id gets one, so that its result can be told apart; an id that comes late changes nothing."""
    second = None if index is None else 1
    got = pieces(
        call_piece(index, name="weather", arguments=PARIS[:5]),
        call_piece(index, id="late", arguments=PARIS[5:]),
        call_piece(second, name="weather", arguments=ROME),
    )
    assert [call[1:] for call in got] == [("weather", PARIS), ("weather", ROME)]
    assert all(id_.startswith("call_") and len(id_) > 20 for id_, _, _ in got)


@pytest.mark.parametrize("id_", ["same", "x" * (MAX_ID + 1), "\0"], ids=["twice", "too long", "nothing but NUL"])
def test_ids_that_can_not_be_used(id_: str) -> None:
    """No two calls share an id, and no caller gets one that it could not send back."""
    got = pieces(
        call_piece(0, id=id_, name="weather", arguments=PARIS), call_piece(1, id=id_, name="weather", arguments=ROME)
    )
    assert len({call[0] for call in got}) == 2
    assert all(0 < len(call[0]) <= MAX_ID for call in got)
    assert [call[2] for call in got] == [PARIS, ROME]


def test_ids_of_earlier_answers() -> None:
    """A vendor that counts its calls anew in each answer gets no page to take one for another."""
    messages: tuple[dict[str, object], ...] = tuple(WITH_CALLS)
    stream = ChatStream(ChatRequest(messages, 16).call_ids)
    got = put_together(
        stream.feed(event(chunk(call_piece(0, id="call_1", name="weather", arguments=PARIS[:4]))))
        + stream.feed(event(chunk(call_piece(0, id="call_1", arguments=PARIS[4:]))))
        + stream.feed(event(chunk(call_piece(1, id="call_9", name="weather", arguments=ROME))))
    )
    assert [call[2] for call in got] == [PARIS, ROME]
    assert got[0][0] not in {"call_1", "call_2"}
    assert got[1][0] == "call_9"


@pytest.mark.parametrize("tail", [[FINISH, DONE], [DONE], [FINISH]])
def test_call_without_a_name(tail: list[bytes]) -> None:
    """A call that names no tool can't be made, so the answer that holds it is not whole; nothing of it is handed on."""
    stream = ChatStream()
    got = stream.feed(event(chunk(call_piece(0, id="a", arguments=PARIS))))
    for data in tail:
        got += stream.feed(data)
    assert got == []
    assert isinstance(stream.error, BrokenStream)
    assert not stream.finished


@pytest.mark.parametrize("broken_at", [0, 1, 2])
def test_no_call_survives_a_lost_event(broken_at: int) -> None:
    """An event that can't be read may have held a digit of an argument: where calls are about, none is skipped."""
    events = [event(chunk(call_piece(0, id="a", name="pay", arguments=piece))) for piece in ('{"sum": 1', "}")]
    events.insert(broken_at, b"data: {broken\n\n")
    with pytest.raises(BrokenStream):
        read(*events, FINISH, DONE)


NONSENSE: list[Any] = [
    7,
    "text",
    {"0": {}},
    [7],
    [None],
    [[]],
    [{"index": "0", "id": "a", "function": {"name": "f"}}],
    [{"index": True, "id": "a", "function": {"name": "f"}}],
    [{"index": 0, "id": 7, "function": {"name": "f"}}],
    [{"index": 0, "function": {"name": 7}}],
    [{"index": 0, "function": "f"}],
    [{"index": 0, "function": {"name": "f", "arguments": 7}}],
    [{"index": 0, "function": {"name": "f", "arguments": ["a"]}}],
]


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense(said: Any) -> None:
    """Pieces of a wrong shape make an event that can't be read; no call comes of them."""
    stream = ChatStream()
    got = stream.feed(event(chunk({"tool_calls": said}))) + stream.feed(event(chunk({"content": "Hi"})))
    assert stream.malformed == 1 or isinstance(stream.error, BrokenStream)
    assert all(delta.tool_calls == () for delta in got)


def test_endless_calls() -> None:
    """More calls than any request may define tools are not an answer."""
    reader = ToolCallReader()
    for index in range(MAX_TOOL_CALLS):
        assert reader.read([{"index": index, "id": str(index), "function": {"name": "f"}}])
    with pytest.raises(BrokenStream):
        reader.read([{"index": MAX_TOOL_CALLS, "id": "x", "function": {"name": "f"}}])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": [1]}\n', {"a": [1]}),
        ('{"a":' * (MAX_DEPTH - 1) + "{}" + "}" * (MAX_DEPTH - 1), ...),
        ('{"a":' * MAX_DEPTH + "{}" + "}" * MAX_DEPTH, None),
        ("[" * 100_000, None),
        ("", None),
        (" ", None),
        ("{", None),
        ('{"a": 1', None),
        ('{"a": 1}}', None),
        ("{}{}", None),
        ("null", None),
        ("[]", None),
        ('"{}"', None),
        ("{'a': 1}", None),
        ('{"a": NaN}', None),
    ],
)
def test_json_object(text: str, value: object) -> None:
    """A complete JSON object and nothing else, and none that is too deep to be sent back."""
    got = json_object(text)
    assert got is not None if value is ... else got == value


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
VALUES = st.recursive(
    TEXT | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(TEXT, VALUES, max_size=3).map(lambda value: json.dumps(value, ensure_ascii=False))
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
CUTS = st.lists(st.integers(0, 200), max_size=6)


def cut(whole: AnyStr, places: Sequence[int]) -> list[AnyStr]:
    """A text or bytes, cut at these places."""
    ends = [0, *sorted({min(place, len(whole)) for place in places}), len(whole)]
    return [whole[begin:end] for begin, end in itertools.pairwise(ends)]


@st.composite
def said(draw: st.DrawFn) -> tuple[list[tuple[str, str]], bytes]:
    """Some calls, and the body of an answer that makes them, said in one vendor's manner."""
    made = draw(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=3))
    has_index, repeats, has_id = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    deltas: list[dict[str, object]] = []
    for number, (name, arguments) in enumerate(made):
        first, *rest = cut(arguments, draw(CUTS))
        for place, piece in enumerate([first, *filter(None, rest)]):
            names = {"id": f"id-{number}"} if has_id and (repeats or place == 0) else {}
            names |= {"name": name} if repeats or place == 0 else {}
            deltas.append(call_piece(number if has_index else None, **names, arguments=piece))
    events = [event(chunk(delta)) for delta in deltas]
    return made, b"".join([*events, FINISH, event(chunk(None, usage=usage())), DONE])


@settings(max_examples=200)
@given(said(), st.lists(st.integers(0, 3000), max_size=8))
@example(([("f", "{}")], body(calls(("f", "{}")))), list(range(3000)))
def test_any_split_of_the_bytes(answer: tuple[list[tuple[str, str]], bytes], places: list[int]) -> None:
    """Wherever the network cuts an answer, and however its vendor says it, the same calls come out of it."""
    made, whole = answer
    got = put_together(read(*cut(whole, places)))
    assert [(name, json.loads(arguments)) for _, name, arguments in got] == [
        (name, json.loads(arguments)) for name, arguments in made
    ]
    assert got == put_together(read(whole)) or all(id_.startswith("call_") for id_, _, _ in got)


@settings(max_examples=200)
@given(said(), st.integers(0, 3000))
def test_any_cut_of_the_bytes(answer: tuple[list[tuple[str, str]], bytes], place: int) -> None:
    """An answer that ends anywhere before its finish reason is no whole answer, whatever its calls look like."""
    _, whole = answer
    end = min(place, whole.index(b'"finish_reason": "tool_calls"') - 1)
    with pytest.raises(ProviderError):
        read(whole[:end])

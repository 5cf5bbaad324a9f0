"""Request bodies: read up to a limit, parsed, and refused by field where no later part could store them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Message

from lib.errors import AppError, BadRequest, InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from lib.http.body import MAX_BODY_BYTES, MAX_DEPTH, field_path, parse_json, read_body
from tests.lib.values import json_values

JSON = "application/json"
CHUNK = b"x" * 65_536


def read(chunks: Iterable[bytes], content_length: str | None = None, *, gone: bool = False) -> tuple[bytes | None, int]:
    """The body that arrives in these chunks (the client leaving after the last, if `gone`), and how many were read."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if gone else {"type": "http.request"})
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return messages[taken - 1]

    return asyncio.run(read_body(receive, content_length)), taken


def test_body_in_pieces() -> None:
    """A body is its pieces together."""
    assert read([b"ab", b"", b"c"]) == (b"abc", 4)


def test_empty_body() -> None:
    """A request without a body has an empty one."""
    assert read([]) == (b"", 1)


def test_client_left() -> None:
    """Half a body of a client who left is nothing."""
    assert read([b"ab"], gone=True)[0] is None


def test_largest_body() -> None:
    """A body of exactly the limit passes, whether its length is told or not."""
    chunks = [CHUNK] * (MAX_BODY_BYTES // len(CHUNK))
    assert len(read(chunks)[0] or b"") == MAX_BODY_BYTES
    assert len(read(chunks, str(MAX_BODY_BYTES))[0] or b"") == MAX_BODY_BYTES


def test_body_over_the_limit() -> None:
    """A body is refused at the first byte over the limit; what follows is not read."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    with pytest.raises(PayloadTooLarge):
        asyncio.run(read_body(receive, "7"))
    assert taken == MAX_BODY_BYTES // len(CHUNK) + 1


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 30, "9" * 5000], ids=["one over", "huge", "absurd"])
def test_length_over_the_limit(length: str) -> None:
    """A body that says that it is too large is refused unread."""
    with pytest.raises(PayloadTooLarge):
        read([], length)


@given(st.text(max_size=8) | st.integers(max_value=MAX_BODY_BYTES).map(str))
@example("-1")
@example("²")
@example("1e9")
def test_odd_length(length: str) -> None:
    """A length that makes no sense is left to the bytes themselves."""
    assert read([b"ab"], length)[0] == b"ab"


@pytest.mark.parametrize(
    "content_type", [JSON, "Application/JSON", "application/json; charset=utf-8", " application/json ;"]
)
def test_json(content_type: str) -> None:
    """JSON is taken, with or without a charset."""
    assert parse_json('{"a": [1, "ü"]}'.encode(), content_type) == {"a": [1, "ü"]}


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/problem+json", ";"],
)
def test_other_content_types(content_type: str | None) -> None:
    """Anything else is refused, above all what a form can send."""
    with pytest.raises(UnsupportedMediaType):
        parse_json(b"{}", content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e400}',
        b'{"a": -1e400}',
        b'{"a": "\x01"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"\x00{}",
        b"{}{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\\ud800", "b": NaN',
        b"[" * 2000 + b'"\\ud800"' + b"]" * 2000,
    ],
)
def test_not_json(body: bytes) -> None:
    """What is no JSON is refused, by place and without repeating it."""
    with pytest.raises(BadRequest) as caught:
        parse_json(body, JSON)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    assert "line" in caught.value.message


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"prompt": "a\\u0000b"}', "prompt"),
        (b'{"messages": [{"content": "a"}, {"content": "\\u0000"}]}', "messages[1].content"),
        (b'{"prompt": "\\ud800"}', "prompt"),
        (b'{"prompt": "\\uDBFF x"}', "prompt"),
        (b'{"prompt": "\\udc00\\ud800"}', "prompt"),
        (b'{"messages": [{"parts": [{"text": "\\ud83d"}]}]}', "messages[0].parts[0].text"),
        (b'{"a": {"b": ["x", "\\udfff"]}}', "a.b[1]"),
    ],
)
def test_text_that_can_not_be_stored(body: bytes, path: str) -> None:
    """A NUL or half a surrogate pair is refused, naming the field."""
    with pytest.raises(InvalidRequest) as caught:
        parse_json(body, JSON)
    assert [error.path for error in caught.value.errors] == [path]


@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800"])
@pytest.mark.parametrize(
    ("body", "path"), [('{"metadata": {"@": "x"}}', "metadata"), ('{"@": {}}', ""), ('[{"@": 1}]', "[0]")]
)
def test_names_that_can_not_be_stored(name: str, body: str, path: str) -> None:
    """The names of fields are texts too: those of metadata and of a schema are stored and sent on."""
    with pytest.raises(InvalidRequest) as caught:
        parse_json(body.replace("@", name).encode(), JSON)
    assert [error.path for error in caught.value.errors] == [path]
    assert caught.value.message == caught.value.message.strip()


@pytest.mark.parametrize("body", [b'{"a": "\\ud83d\\ude00"}', b'{"a": "\\\\u0000"}', b'{"a": "\\\\ud800"}'])
def test_text_that_only_looks_bad(body: bytes) -> None:
    """A whole surrogate pair, and a backslash before a `u`, are ordinary text."""
    assert parse_json(body, JSON) == json.loads(body)


def test_big_numbers() -> None:
    """A number of any length is a number."""
    assert parse_json(b"[" + b"9" * 300 + b", 18446744073709551616, -9223372036854775809]", JSON) == [
        float("9" * 300),
        float(2**64),
        float(-(2**63) - 1),
    ]


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth(opening: bytes, closing: bytes) -> None:
    """The deepest body that may be is taken; one level more is refused, naming where it begins."""
    assert parse_json(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH, JSON) is not None
    with pytest.raises(InvalidRequest) as caught:
        parse_json(opening * (MAX_DEPTH + 1) + b"1" + closing * (MAX_DEPTH + 1), JSON)
    assert caught.value.errors[0].path == ("a.a.a" if opening != b"[" else "[0][0][0]")


def test_many_shallow_brackets() -> None:
    """Depth is what counts, not the number of brackets."""
    assert parse_json(b"[" + b"[]," * 1000 + b'"[[["]', JSON) == [*[[]] * 1000, "[[["]


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ((), ""),
        (("prompt",), "prompt"),
        (("messages", 0, "content"), "messages[0].content"),
        ((0, 1), "[0][1]"),
        (("a", "b", 2, 3, "c"), "a.b[2][3].c"),
        (("a" * 100, "b" * 101), "a" * 100 + "." + "b" * 100 + "…"),
    ],
)
def test_field_path(steps: tuple[str | int, ...], path: str) -> None:
    """A path reads as people write it; what nobody would write is cut short."""
    assert field_path(steps) == path


@given(st.binary(max_size=60) | json_values(st.text(max_size=3)).map(lambda value: json.dumps(value).encode()))
@example(b'{"\\ud800": "\\ud800"}')
def test_any_body(body: bytes) -> None:
    """Any bytes are a JSON value or an error that can be told: in UTF-8, as every answer is."""
    try:
        parse_json(body, JSON)
    except AppError as error:
        "".join([error.message, *(field.path + field.message for field in error.errors)]).encode()

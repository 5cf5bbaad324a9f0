"""Server-sent events: the same data whatever the network's cuts and the vendor's line ends are."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lib.errors import BrokenStream
from lib.providers.sse import MAX_EVENT_BYTES, EventParser

LINE_TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
NOISE = st.sampled_from([": a comment", ":", "event: message", "id: 7", "retry: 10", "database: x", "dat"])
DataLine = tuple[str, bool]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream's bytes, and the data that it holds."""
    out, last_end = bytearray(), ""

    def line(text: str) -> None:
        nonlocal last_end
        end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
        if not text and last_end == "\r" and end == "\n":
            end = "\r"  # CR and then LF would be the end of one line, not of two
        out.extend((text + end).encode())
        last_end = end

    expected: list[bytes] = []
    for _ in range(draw(st.integers(0, 5))):
        data = draw(st.lists(LINE_TEXT, max_size=3))
        for text in data:
            for noise in draw(st.lists(NOISE, max_size=1)):
                line(noise)
            line(f"data: {text}" if text.startswith(" ") or draw(st.booleans()) else f"data:{text}")
        for _ in range(draw(st.integers(1, 3))):
            line("")
        if data:
            expected.append("\n".join(data).encode())
    return bytes(out), expected


def parsed(*chunks: bytes) -> list[bytes]:
    """The data of the events in these chunks."""
    parser = EventParser()
    data = [event for chunk in chunks for event in parser.feed(chunk)]
    return data + parser.close()


@given(streams(), st.data())
def test_cuts_and_line_ends_change_nothing(stream: tuple[bytes, list[bytes]], data: st.DataObject) -> None:
    """Wherever the network cuts, also inside a character or a CRLF, the events are the same."""
    content, expected = stream
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(content))))), len(content)]
    assert parsed(*(content[start:end] for start, end in pairwise(edges))) == expected


@given(streams())
def test_single_bytes(stream: tuple[bytes, list[bytes]]) -> None:
    """Bytes that arrive one by one make the same events."""
    content, expected = stream
    assert parsed(*(content[at : at + 1] for at in range(len(content)))) == expected


@pytest.mark.parametrize("content", [b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", b"data: a\rdata: b\r\rdata: c\r\r"])
def test_every_cut_in_two_and_an_empty_piece_between(content: bytes) -> None:
    """A CRLF that is cut in two is one line end, also where nothing at all arrives between its halves."""
    for at in range(len(content) + 1):
        assert parsed(content[:at], b"", content[at:]) == [b"a\nb", b"c"]


@given(streams(), st.data())
def test_events_come_as_soon_as_they_are_complete(stream: tuple[bytes, list[bytes]], data: st.DataObject) -> None:
    """What is complete so far is returned so far: a prefix of the stream gives a prefix of the events."""
    content, expected = stream
    prefix = content[: data.draw(st.integers(0, len(content)))]
    got = EventParser().feed(prefix)
    assert got == expected[: len(got)]
    complete = EventParser().feed(content + b"\n\n")
    assert complete == expected


@given(st.lists(st.binary(max_size=40), max_size=5))
@example([b"\r", b"\n", b"\n\r\r\n", b"\xff\n\ndata:\xfe"])
def test_any_bytes_are_taken(chunks: list[bytes]) -> None:
    """No bytes whatever upset the parser."""
    assert all(b"\r" not in data for data in parsed(*chunks))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b": ping\n\n", []),
        (b": ping\n\ndata: x\n\n", [b"x"]),
        (b"event: a\nid: 1\ndata: x\nretry: 3\n\n", [b"x"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata:\ndata: b\n\n", [b"a\n\nb"]),
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data:\tx\n\n", [b"\tx"]),
        (b"data: a: b\n\n", [b"a: b"]),
        (b"data: data: x\n\n", [b"data: x"]),
        (b" data: x\n\n", []),
        (b"DATA: x\n\n", []),
        (b"database: x\n\n", []),
        (b"\n\n\n\ndata: x\n\n\n\n", [b"x"]),
        (b"", []),
    ],
)
def test_fields(content: bytes, expected: list[bytes]) -> None:
    """Only data lines count; several are joined by LF; one space after the colon is not part of the value."""
    assert EventParser().feed(content) == expected


@pytest.mark.parametrize("tail", [b"data: b", b"data: b\n", b"data: b\r\n", b"data: b\r", b": x\ndata: b"])
def test_last_event_without_a_blank_line(tail: bytes) -> None:
    """The end of the stream completes the last event, and completes it once."""
    parser = EventParser()
    assert parser.feed(b"data: a\n\n" + tail) == [b"a"]
    assert parser.close() == [b"b"]
    assert parser.close() == []


def test_byte_order_mark() -> None:
    """A byte order mark before the first line is not part of it, as the standard says."""
    content = b"\xef\xbb\xbfdata: x\n\n"
    assert parsed(content) == parsed(*(content[at : at + 1] for at in range(len(content)))) == [b"x"]


def test_byte_order_mark_later_on() -> None:
    """Anywhere else it is part of a line, which then is no data."""
    assert parsed(b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n", b"data: c\n\n") == [b"a", b"c"]


def test_event_of_the_largest_size() -> None:
    """An event of exactly the limit is still an event."""
    data = b"x" * (MAX_EVENT_BYTES - len(b"data: "))
    assert parsed(b"data: " + data, b"\n\n") == parsed(b"data: " + data + b"\n\n") == [data]


def test_endless_event() -> None:
    """An event that never ends breaks the stream before it fills the memory."""
    parser, chunk = EventParser(), b"x" * 65_536
    tracemalloc.start()
    try:
        for _ in range(MAX_EVENT_BYTES // len(chunk)):
            assert parser.feed(chunk) == []
        with pytest.raises(BrokenStream):
            parser.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_EVENT_BYTES


@pytest.mark.parametrize("size", [1000, 65_536, 2 * MAX_EVENT_BYTES])
def test_oversized_event_breaks_at_every_cut(size: int) -> None:
    """An event over the limit breaks the stream however large the pieces are in which it arrives."""
    content = b"data: " + b"x" * (MAX_EVENT_BYTES + 1) + b"\n\n"
    with pytest.raises(BrokenStream):
        parsed(*(content[at : at + size] for at in range(0, len(content), size)))


@pytest.mark.parametrize("end", [b"", b"\n\n", b"\n\ndata: b\n\n"])
def test_oversized_event_among_small_ones(end: bytes) -> None:
    """The limit holds for each event of a piece, also for one that only the stream's end completes."""
    with pytest.raises(BrokenStream):
        parsed(b"data: a\n\ndata: " + b"x" * (MAX_EVENT_BYTES + 1) + end)


def test_many_small_events_never_break() -> None:
    """The limit is for one event: a long stream of small ones passes, in whatever pieces it comes."""
    content = b"data: " + b"x" * 90 + b"\n\n"
    assert len(parsed(*[content * 4000] * 3)) == 12_000

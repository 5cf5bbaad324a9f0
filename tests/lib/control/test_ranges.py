"""What parameters' values may be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.ranges import Delay, Names, Number, Range, Refused, Switch, Text, Whole
from tests.lib.values import json_values

NAME = Text(re.compile("[a-z]{1,3}"), "short name")
RANGES: dict[str, Range[object]] = {
    "number": Number(0, 2),
    "share": Number(0, 1, above=True),
    "whole": Whole(1, 10),
    "switch": Switch(),
    "text": NAME,
    "names": Names(NAME, "list of short names"),
    "delay": Delay(Whole(50, 1000)),
}


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("number", 0, 0.0),
        ("number", 2, 2.0),
        ("number", 0.7, 0.7),
        ("share", 1, 1.0),
        ("share", 5e-324, 5e-324),
        ("whole", 1, 1),
        ("whole", 10.0, 10),
        ("switch", True, True),
        ("switch", False, False),
        ("text", "abc", "abc"),
        ("names", [], ()),
        ("names", ["b", "a"], ("b", "a")),
        ("delay", "off", "off"),
        ("delay", "auto", "auto"),
        ("delay", 50, 50),
        ("delay", 250.0, 250),
        ("delay", "250", 250),
    ],
)
def test_fit(name: str, value: object, read: object) -> None:
    """What fits is read in the type that the code works with."""
    assert RANGES[name].read(value) == read
    assert type(RANGES[name].read(value)) is type(read)


UNFIT: dict[str, list[Any]] = {
    "number": [-0.1, 2.1, True, "1", [1], float("nan"), float("inf"), 10**400],
    "share": [0, 0.0, 1.01],
    "whole": [0, 11, 1.5, True, "5", float("nan"), -(10**400)],
    "switch": [0, 1, "true"],
    "text": ["", "abcd", "A", "abc\n", 1, ["a"]],
    "names": ["a", ["a", "a"], ["A"], [1], [None], {"a": 1}, [chr(97 + i) for i in range(21)]],
    "delay": [49, 1001, "on", "OFF", "", "-100", "1e2", "٢٥٠", True, 0.5, ["off"], {}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in UNFIT.items() for value in values])
def test_unfit(name: str, value: Any) -> None:
    """Another type or a value out of range is refused."""
    with pytest.raises(Refused):
        RANGES[name].read(value)


@given(st.sampled_from(sorted(RANGES)), json_values(st.text(max_size=3)) | st.floats())
def test_anything(name: str, value: Any) -> None:
    """Whatever stands there is read or refused, and what was read reads as itself once more."""
    try:
        read: Any = RANGES[name].read(value)
    except Refused:
        return
    as_json: Any = [*read] if isinstance(read, tuple) else read
    assert RANGES[name].read(as_json) == read


def test_words() -> None:
    """Each says what it takes."""
    assert [values.words for values in RANGES.values()] == [
        "number from 0 to 2",
        "number above 0 up to 1",
        "whole number from 1 to 10",
        "true or false",
        "short name",
        "list of short names",
        "`off`, `auto` or milliseconds, a whole number from 50 to 1000",
    ]

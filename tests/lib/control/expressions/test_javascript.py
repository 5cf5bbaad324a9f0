"""Numbers, URLs and hashes as JavaScript has them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.expressions import javascript

VECTORS = json.loads((Path(__file__).parents[3] / "vectors/hypertune/hash_vectors.json").read_text())["vectors"]
INF, NAN = math.inf, math.nan


def same(a: float, b: float) -> bool:
    """Whether two numbers are alike, NaN and the sign of zero included."""
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))


@pytest.mark.parametrize(("text", "expected"), VECTORS)
def test_hash(text: str, expected: int) -> None:
    """cyrb53 gives what the TypeScript SDK gives, whole or absorbed in two parts."""
    assert javascript.cyrb53(javascript.absorb(javascript.EMPTY_HASH, text)) == expected
    begun = javascript.absorb(javascript.EMPTY_HASH, text[:5])
    assert javascript.cyrb53(javascript.absorb(begun, text[5:])) == expected


def test_hash_of_half_a_character() -> None:
    """Half a surrogate pair is a code unit like any other."""
    assert javascript.absorb(javascript.EMPTY_HASH, "\ud83d\ude00") == javascript.absorb(javascript.EMPTY_HASH, "😀")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.5625, "0.5625"),
        (-0.25, "-0.25"),
        (0.1 + 0.2, "0.30000000000000004"),
        (100, "100"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (-1.25e-7, "-1.25e-7"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (5e-324, "5e-324"),
        (123456789012345680000.0, "123456789012345680000"),
        (2**53 - 1, "9007199254740991"),
        (INF, "Infinity"),
        (-INF, "-Infinity"),
        (NAN, "NaN"),
    ],
)
def test_text_of_numbers(value: float, text: str) -> None:
    """Numbers are written as JavaScript writes them."""
    assert javascript.text_of(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_of_numbers_reads_back(value: float) -> None:
    """What is written reads back as the same number, whatever the layout."""
    assert float(javascript.text_of(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.5, 3.0),
        (-2.5, -2.0),
        (0.49999999999999994, 0.0),
        (-0.5, -0.0),
        (-0.2, -0.0),
        (2.0**52 + 1, 2.0**52 + 1),
        (INF, INF),
        (NAN, NAN),
    ],
)
def test_rounding(value: float, expected: float) -> None:
    """Halves go up, towards positive infinity."""
    assert same(javascript.rounded(value), expected)


@pytest.mark.parametrize(
    ("operation", "a", "b", "expected"),
    [
        (javascript.divided, 1.0, 0.0, INF),
        (javascript.divided, -1.0, 0.0, -INF),
        (javascript.divided, 1.0, -0.0, -INF),
        (javascript.divided, 0.0, 0.0, NAN),
        (javascript.divided, INF, 0.0, INF),
        (javascript.divided, INF, INF, NAN),
        (javascript.remainder, -3.0, 3.0, -0.0),
        (javascript.remainder, -5.0, 3.0, -2.0),
        (javascript.remainder, 5.0, 0.0, NAN),
        (javascript.remainder, INF, 3.0, NAN),
        (javascript.remainder, 5.0, INF, 5.0),
        (javascript.remainder, NAN, 3.0, NAN),
        (javascript.power, 2.0, 10.0, 1024.0),
        (javascript.power, -8.0, 1 / 3, NAN),
        (javascript.power, 0.0, -1.0, INF),
        (javascript.power, -0.0, -1.0, -INF),
        (javascript.power, -0.0, -2.0, INF),
        (javascript.power, 1.0, INF, NAN),
        (javascript.power, -1.0, -INF, NAN),
        (javascript.power, 1.0, NAN, NAN),
        (javascript.power, NAN, 0.0, 1.0),
        (javascript.power, -10.0, 999.0, -INF),
        (javascript.power, -10.0, 998.0, INF),
        (javascript.power, 10.0, 1e300, INF),
    ],
)
def test_arithmetic(operation: Callable[[float, float], float], a: float, b: float, expected: float) -> None:
    """Where Python raises, JavaScript has infinities and NaN."""
    assert same(operation(a, b), expected)


@given(st.floats(), st.floats())
def test_arithmetic_never_raises(a: float, b: float) -> None:
    """Any two floats give a float."""
    for operation in (javascript.divided, javascript.remainder, javascript.power):
        assert isinstance(operation(a, b), float)
    assert isinstance(javascript.rounded(a), float)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.0, 2), (-0.0, -0.0), (0.5, 0.5), (2**53, 2.0**53), (10**400, INF), (-(10**400), -INF), (7, 7)],
)
def test_number(value: float, expected: float) -> None:
    """Whole numbers that are exact are ints; nothing is ever a huge int."""
    number = javascript.number(value)
    assert same(number, expected)
    assert type(number) is type(expected)


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("https://x.test/?utm=a&utm=b", "a"),
        ("https://x.test?a=1&utm=%C3%A9+%2B#utm=z", "é +"),
        (" HTTPS://user:pw@x.test:8080/p?utm=1\t2 ", "12"),
        ("http:x.test?utm=1", "1"),
        ("https://[::1]:80/?utm=1", "1"),
        ("file:///p?utm=1", "1"),
        ("mailto:a@x.test?utm=1", "1"),
        ("https://x.test/?utm=%80", "\ufffd"),
        ("https://x.test/?utm", ""),
        ("https://x.test/?UTM=1", ""),
        ("https://x.test/", ""),
        ("", ""),
        ("/p?utm=1", ""),
        ("x.test?utm=1", ""),
        ("http://?utm=1", ""),
        ("https://a b/?utm=1", ""),
        ("https://x.test:99999/?utm=1", ""),
        ("https://x.test:a/?utm=1", ""),
        ("https://x.test:123456789/?utm=1", ""),
    ],
)
def test_query_parameter(url: str, value: str) -> None:
    """The first value of that name; nothing from what is no absolute URL."""
    assert javascript.query_parameter(url, "utm") == value


@given(st.text(), st.text())
def test_query_parameter_never_raises(url: str, name: str) -> None:
    """Any text may stand where a URL should."""
    javascript.query_parameter(url, name)
    javascript.query_parameter(f"https://x.test/?{url}", name)

"""JavaScript's regular expressions on RE2. Every row was checked in Node 20."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.expressions.regex import MAX_CHARACTERS, Refused, pattern

FOUND = [
    (r"(?i)@example\.(com|org)$", "A@EXAMPLE.com"),
    ("pro", "a pro plan"),
    ("/PRO/i", "pro"),
    ("/PRO/GI", "pro"),
    ("(?i)(?m)^b$", "a\nB\nc"),
    ("(?s)a.c", "a\nc"),
    ("(?aj)foo", "foo"),
    (r"\s", "\ufeff"),
    (r"\s", "\xa0"),
    (r"^[\s]$", "\u2029"),
    (r"[^\S]", "\t"),
    (r"\x41\u0042\/\-", "AB/-"),
    (r"[\b]", "\x08"),
    (r"[\w-.]+", "-"),
    (r"[a-\d]", "-"),
    ("[]|a", "a"),
    ("[^]", "\n"),
    ("[[:alpha:]]", ":]"),
    (r"[a\]b]{3}", "a]b"),
    ("a{,2}", "a{,2}"),
    (r"(?<name>a)b", "ab"),
    ("(?u)^\\p{L}+$", "héllo"),
    ("(?y)a", "ab"),
    ("é$", "café"),
    (r"\0", "\x00"),
    ("", ""),
]
NOT_FOUND = [
    (r"(?i)@example\.(com|org)$", "a@example.com\n"),
    ("pro", "PRO"),
    ("/(?-i)foo/i", "FOO"),
    ("(?i)(?-i)PRO", "pro"),
    ("(?im)(?-m)^foo$", "bar\nfoo"),
    ("^b$", "a\nb"),
    ("a.c", "a\nc"),
    ("a.c", "a\rc"),
    ("a.c", "a\u2028c"),
    (r"\d", "\u0661"),
    (r"\w", "é"),
    (r"\S", "\u3000"),
    ("[]", "]"),
    ("(?y)b", "ab"),
    ("(?y)b|c", "ac"),
]
REFUSED = {
    "(": "malformed",
    "[": "set",
    "[a": "set",
    "\\": "escape",
    "a**": "malformed",
    "(?=a)": "look-around",
    "(?!a)": "look-around",
    "(?<=a)b": "look-around",
    "(?i:a)": "Hypertune refuses",
    "(?:a)": "Hypertune refuses",
    r"(a)\1": "escape",
    r"(?<n>a)\k<n>": "escape",
    r"\p{L}": "escape",
    r"\u{61}": "escape",
    r"\cA": "escape",
    r"\Aa\z": "escape",
    r"\Qa\E": "escape",
    r"\01": "escape",
    r"[\B]": "escape",
    "((a{100}){100}){100}": "malformed",
    r"\S{900}": "too large",
    "a" * (MAX_CHARACTERS + 1): "too long",
    "\ud800": "malformed",
}


@pytest.mark.parametrize(("source", "text"), FOUND)
def test_found(source: str, text: str) -> None:
    """What JavaScript finds is found."""
    assert pattern(source).found_in(text)


@pytest.mark.parametrize(("source", "text"), NOT_FOUND)
def test_not_found(source: str, text: str) -> None:
    """What JavaScript does not find is not found, though Python's or RE2's own reading would."""
    assert not pattern(source).found_in(text)


@pytest.mark.parametrize("source", REFUSED, ids=range(len(REFUSED)))
def test_refused(source: str) -> None:
    """What can't be read as JavaScript reads it is refused, time and again, without a word of the pattern."""
    for _ in range(2):
        with pytest.raises(Refused, match=REFUSED[source]) as caught:
            pattern(source)
        assert len(source) < 2 or source not in str(caught.value)


@pytest.mark.parametrize("text", ["a\rb", "a\u2028b", "a\u2029b"])
def test_lines_that_end_otherwise(text: str) -> None:
    """By lines, RE2 knows line feeds alone: where there is another end, nothing is said rather than something wrong."""
    with pytest.raises(Refused, match="line feed"):
        pattern("(?m)^b$").found_in(text)
    assert not pattern("^b$").found_in(text)


def test_half_a_character() -> None:
    """Half a surrogate pair can't be matched."""
    with pytest.raises(Refused, match="half a character"):
        pattern("a").found_in("\ud83d")


@pytest.mark.parametrize("source", ["(a+)+$", "(a|aa)+$", "(a*)*b", "a*a*a*a*a*a*a*a*b", "(.*a){20}$"])
def test_what_hangs_other_engines_is_cheap_here(source: str) -> None:
    """The patterns at which backtracking engines hang: with one, this test would not end."""
    assert not pattern(source).found_in("a" * 5_000 + "!")


@given(st.text(alphabet=r"ab.*+?{}[]()|\^$/-,:<>=!0123dswbBkpuxic" + "é\u2028\n", max_size=20), st.text(max_size=20))
def test_any_pattern(source: str, text: str) -> None:
    """Anything is either a pattern or refused."""
    with suppress(Refused):
        assert pattern(source).found_in(text) in {True, False}

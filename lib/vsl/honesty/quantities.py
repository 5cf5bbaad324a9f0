"""The quantities in a text, written in digits or in words: what they count, and how much of it. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

TOKEN = re.compile(r"R\$|[$€£¥%#]|\d+(?:[.,\u00a0\u202f]\d+)*|[^\W\d_]+")
MAX_DIGITS = 15
SYMBOLS = {"$": "usd", "R$": "brl", "€": "eur", "£": "gbp", "¥": "jpy", "%": "percent"}
Unit = tuple[str, Decimal]
"""What it measures, and how many of the smallest unit of that it is."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a language says numbers and units; all in lower case and without accents.

    `counted` are words of numbers below a hundred, `scales` those that multiply. `joins` may stand within a number.
    `thousands` is what groups digits. `halves` say half of the unit that follows.
    """

    counted: Mapping[str, int]
    scales: Mapping[str, int]
    joins: frozenset[str]
    thousands: str
    units: Mapping[str, Unit]
    halves: frozenset[str]
    fillers: frozenset[str]
    """May stand between a number and what it counts."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what it counts: `kind` is what a unit measures, else None and `counts` are the words after it."""

    value: Decimal
    kind: str | None
    counts: frozenset[str]
    text: str = field(compare=False)
    in_digits: bool = field(compare=False)
    said: Decimal = field(compare=False)
    """The number itself, before its unit made it `value`."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number in digits or a symbol of a unit: as it stands there, and plain."""

    text: str
    plain: str
    start: int
    end: int


def plain(text: str) -> str:
    """In lower case, without accents."""
    decomposed = unicodedata.normalize("NFD", text.casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


def stem(word: str) -> str:
    """What forms of a word have in common, roughly: enough to see that two texts speak of the same."""
    word = word[:-1] if len(word) > 3 and word.endswith("s") else word  # noqa: PLR2004 - a plural
    return word[:5]


def tokens(text: str) -> tuple[Token, ...]:
    """The words, numbers and symbols of a text."""
    return tuple(Token(each[0], plain(each[0]), each.start(), each.end()) for each in TOKEN.finditer(text))


def quantities(text: str, words: Words) -> tuple[Quantity, ...]:
    """All quantities in a text, in order. A number has a unit before it ($) or after it."""
    return tuple(_quantities(text, tokens(text), words))


def _quantities(text: str, found: Sequence[Token], words: Words) -> Iterator[Quantity]:
    at = 0
    while at < len(found):
        value, after = _number(found, at, words)
        if value is None:
            at += 1
            continue
        in_digits = any(each.text[0].isdecimal() for each in found[at:after])
        following = [each.plain for each in found[after : after + 4] if each.plain not in words.fillers]
        before = found[at - 1].text if at else ""
        kind, factor, last = None, Decimal(1), after
        if before in SYMBOLS and before != "%":
            kind = SYMBOLS[before]
        elif after < len(found) and found[after].text in SYMBOLS and found[after].text != "R$":
            kind, last = SYMBOLS[found[after].text], after + 1
        elif following and following[0] in words.units:
            kind, factor = words.units[following[0]]
        counts = frozenset(stem(word) for word in following[:2] if word.isalpha() and word not in words.counted)
        end = found[last - 1].end
        yield Quantity(value * factor, kind, counts, text[found[at].start : end], in_digits, value)
        at = after


def _number(found: Sequence[Token], at: int, words: Words) -> tuple[Decimal | None, int]:
    """The number that begins here, and the place after it; None where none does."""
    first = found[at]
    if first.text[0].isdecimal():
        return _scaled(_digits(first.text, words.thousands), found, at + 1, words)
    if first.plain in words.halves and at + 1 < len(found):
        following = found[at + 1 : at + 3]
        near = next((each.plain for each in following if each.plain not in words.fillers), "")
        return (Decimal("0.5"), at + 1) if near in words.units else (None, at)
    if first.plain in words.scales and words.scales[first.plain] >= 100:  # noqa: PLR2004 - cem, mil; a hundred
        return _in_words(found, at, words)
    return _in_words(found, at, words) if first.plain in words.counted else (None, at)


def _in_words(found: Sequence[Token], at: int, words: Words) -> tuple[Decimal, int]:
    total, part, lowest = 0, 0, 10**12
    place = at
    while place < len(found):
        word = found[place].plain
        if word in words.counted and words.counted[word] < lowest:
            part += words.counted[word]
            lowest = _magnitude(words.counted[word])
        elif word in words.scales:
            scale = words.scales[word]
            part = max(part, 1) * scale
            if scale > 100:  # noqa: PLR2004 - thousands and above begin anew
                total, part = total + part, 0
            lowest = scale
        elif not (word in words.joins and _goes_on(found, place + 1, words, lowest)):
            break
        place += 1
    return Decimal(total + part), place


def _goes_on(found: Sequence[Token], at: int, words: Words, lowest: int) -> bool:
    following = found[at].plain if at < len(found) else ""
    return following in words.counted and words.counted[following] < lowest


def _magnitude(value: int) -> int:
    """The least that may not follow: after twenty at most nine, after nineteen nothing."""
    for size in (100, 10):
        if value >= size and value % size == 0:
            return size
    return 0


def _scaled(value: Decimal, found: Sequence[Token], at: int, words: Words) -> tuple[Decimal, int]:
    if at < len(found) and words.scales.get(found[at].plain, 0) >= 1000:  # noqa: PLR2004 - 20 thousand
        return value * words.scales[found[at].plain], at + 1
    return value, at


def _digits(text: str, thousands: str) -> Decimal:
    text = text.replace("\u00a0", "").replace("\u202f", "").replace(thousands, "")
    text = re.sub(r"[.,]", ".", text)
    whole, _, rest = text.partition(".")
    rest = rest.replace(".", "")
    digits = (whole + "." + rest if rest else whole)[:MAX_DIGITS]
    # Digits of other scripts are digits to Decimal as well.
    return Decimal(digits.rstrip(".") or "0")

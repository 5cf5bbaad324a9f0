"""English text as it is said: numbers, sums of money, times and abbreviations in words, each where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import num2words

MAX_DIGITS = 15
"""A longer number is read digit by digit."""
MAX_SENTENCE_TOKENS = 60
ABBREVIATIONS = {
    "mr.": "mister",
    "mrs.": "missus",
    "ms.": "miz",
    "dr.": "doctor",
    "prof.": "professor",
    "st.": "saint",
    "jr.": "junior",
    "sr.": "senior",
    "vs.": "versus",
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "et cetera",
    "approx.": "approximately",
    "inc.": "incorporated",
    "ltd.": "limited",
    "a.m.": "ay em",
    "p.m.": "pee em",
    "u.s.": "you ess",
    "u.k.": "you kay",
}
TITLES = {"mr.", "mrs.", "ms.", "dr.", "prof.", "st."}
"""What a capital letter may follow without a new sentence."""
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "sen", "sen"),
}
MAGNITUDES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
UNITS = {
    "%": "percent",
    "km": "kilometers",
    "kg": "kilograms",
    "cm": "centimeters",
    "mm": "millimeters",
    "mb": "megabytes",
    "gb": "gigabytes",
    "tb": "terabytes",
    "kb": "kilobytes",
    "mph": "miles per hour",
    "km/h": "kilometers per hour",
    "h": "hours",
    "min": "minutes",
    "ms": "milliseconds",
    "x": "times",
}
SYMBOLS = {
    "&": "and",
    "+": "plus",
    "=": "equals",
    "%": "percent",
    "@": "at",
    "#": "number",
    "°": "degrees",
}

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_MONEY = re.compile(rf"([$€£¥])({_NUMBER})(k|m|bn|b|tn)?", re.IGNORECASE)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)", re.IGNORECASE)
_MEASURE = re.compile(rf"({_NUMBER})({'|'.join(map(re.escape, sorted(UNITS, key=len, reverse=True)))})", re.IGNORECASE)
_RANGE = re.compile(rf"({_NUMBER})[-\u2013]({_NUMBER})(%?)")
_YEAR = re.compile(r"1[1-9]\d\d|20\d\d")
_PIECE = re.compile(rf"{_NUMBER}|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\S")
_DOTTED = re.compile(r"(?<=[^\W\d_])\.(?=[^\W_])")
_CORE = re.compile(r"(?P<lead>[^\w$€£¥&+=%@#°]*)(?P<core>.*?)(?P<trail>[^\w&+=%@#°]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """What stands between white space, from `start` to `end` of the text, with its core from `core` to `core_end`.

    `said` are the words that it is read as, none for a mere sign; `pause` the punctuation that follows.
    """

    start: int
    end: int
    core: int
    core_end: int
    said: tuple[str, ...]
    pause: str

    @property
    def ends_sentence(self) -> bool:
        """Whether the voice comes to rest here."""
        return bool({*self.pause} & {*".!?"})


def sentences(text: str) -> Iterator[list[Token]]:
    """The text's tokens, a sentence at a time: at full stops, at ends of lines, and where one never ends."""
    sentence: list[Token] = []
    for token in _tokens(text):
        if sentence and ("\n" in text[sentence[-1].end : token.start] or len(sentence) == MAX_SENTENCE_TOKENS):
            yield sentence
            sentence = []
        sentence.append(token)
        if token.ends_sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _tokens(text: str) -> Iterator[Token]:
    found = list(re.finditer(r"\S+", text))
    owed = ""
    for number, match in enumerate(found):
        following = found[number + 1][0].strip(".,;:!?").lower() if number + 1 < len(found) else ""
        new = number + 1 == len(found) or found[number + 1][0][:1].isupper()
        token = _token(match, before_new=new)
        core = text[token.core : token.core_end]
        money = _MONEY.fullmatch(core)
        if owed:  # "$2 million": the million comes before the dollars
            token, owed = _with(token, (*token.said, owed)), ""
        elif money is not None and money[3] is None and following in MAGNITUDES.values():
            token, owed = _with(token, _words(money[2])), CURRENCIES[money[1]][1]
        yield token


def _token(match: re.Match[str], *, before_new: bool) -> Token:
    text, start = match[0], match.start()
    parts = _CORE.fullmatch(text)
    assert parts is not None  # noqa: S101 - each of its parts may be empty
    core, core_end, trail = parts.start("core"), parts.end("core"), parts["trail"]
    written = f"{parts['core']}.".lower()
    if trail.startswith(".") and written in ABBREVIATIONS:
        core_end += 1
        trail = trail if before_new and written not in TITLES else trail[1:]
        said = tuple(ABBREVIATIONS[written].split())
    else:
        said = _said(parts["core"])
    pause = "".join(sign for sign in trail if sign in ",.;:!?")
    if not said and set(text) & {*"-\u2013\u2014"}:
        pause = ","  # a dash between words
    return Token(start, match.end(), start + core, start + core_end, said, pause)


def _with(token: Token, said: tuple[str, ...]) -> Token:
    return Token(token.start, token.end, token.core, token.core_end, said, token.pause)


def _said(core: str) -> tuple[str, ...]:  # noqa: PLR0911 - one per form
    """The words of a token without the punctuation around it."""
    if money := _MONEY.fullmatch(core):
        return _money(money[1], money[2], money[3])
    if time := _TIME.fullmatch(core):
        return _clock(int(time[1]), int(time[2]))
    if ordinal := _ORDINAL.fullmatch(core):
        return _words(ordinal[1], "ordinal")
    if span := _RANGE.fullmatch(core):
        return (*_words(span[1]), "to", *_words(span[2]), *(["percent"] if span[3] else []))
    if measure := _MEASURE.fullmatch(core):
        return (*_words(measure[1]), *UNITS[measure[2].lower()].split())
    if _YEAR.fullmatch(core):
        return _words(core, "year")
    pieces = _PIECE.findall(_DOTTED.sub(" dot ", core))
    return tuple(word for piece in pieces for word in _piece(piece))


def _piece(piece: str) -> tuple[str, ...]:
    if piece[0].isdigit() and piece.isascii():
        return _words(piece)
    if piece[0].isalpha():
        return (piece.replace("\u2019", "'"),)
    return tuple(SYMBOLS.get(piece, "").split())


def _money(sign: str, amount: str, magnitude: str | None) -> tuple[str, ...]:
    one, many, cent, cents = CURRENCIES[sign]
    if magnitude is not None:
        return (*_words(amount), MAGNITUDES[magnitude.lower()], many)
    whole, _, rest = amount.partition(".")
    if len(rest) == 2:  # noqa: PLR2004 - cents have two digits
        small = () if rest == "00" else ("and", *_words(rest), cent if rest == "01" else cents)
        return (*_words(whole), one if whole == "1" else many, *small)
    return (*_words(amount), one if amount == "1" else many)


def _clock(hour: int, minute: int) -> tuple[str, ...]:
    if not minute:
        return (*_words(str(hour)), "o'clock")
    return (*_words(str(hour)), *(["oh"] if minute < 10 else []), *_words(str(minute)))  # noqa: PLR2004 - one digit


def _words(number: str, form: str = "cardinal") -> tuple[str, ...]:
    """A number of ASCII digits in words."""
    digits = number.replace(",", "")
    if len(digits.replace(".", "")) > MAX_DIGITS:
        return tuple(word for digit in digits if digit.isdigit() for word in _words(digit))
    value: Any = cast("Any", num2words).num2words(digits if "." in digits else int(digits), to=form)
    return tuple(str(value).replace(",", " ").replace("-", " ").split())

"""JavaScript's regular expressions on RE2, whose time is linear in the text: no pattern can make it hang.

A pattern is rewritten where the two read it differently. What RE2 cannot do (look-around, back-references) and what
JavaScript and Hypertune's SDK refuse is refused here as well. Known to differ: a character outside the Basic
Multilingual Plane counts as one, as with JavaScript's flag u; case beyond ASCII folds as Unicode says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

MAX_CHARACTERS = 1_000
MAX_PROGRAM_BYTES = 1 << 18
_LITERAL = re.compile(r"/([\s\S]*)/([A-Za-z]*)")
_INLINE = re.compile(r"\(\?([A-Za-z]*)(?:-([A-Za-z]*))?\)")
_SCOPED = re.compile(r"\(\?[A-Za-z]*(?:-[A-Za-z]*)?:")
_ESCAPE = r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,6}\}|[pP]\{[A-Za-z_]+\}|[\s\S])"
_PIECE = re.compile(rf"{_ESCAPE}|\[\^?(?:\\[\s\S]|[^\]\\])*\]|\(\?<[A-Za-z_]\w*>|[\s\S]", re.ASCII)
_SET_PIECE = re.compile(rf"{_ESCAPE}|[\s\S]")
_LINE_ENDS_UNKNOWN_TO_RE2 = re.compile("[\r\u2028\u2029]")
_SPACE = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_NO_SPACE = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}"
)
_SETS = {r"\s": _SPACE, r"\S": _NO_SPACE, r"\d": r"\d", r"\D": r"\D", r"\w": r"\w", r"\W": r"\W"}
_SAME_IN_BOTH = {r"\t", r"\n", r"\r", r"\f", r"\v"}
_ANYTHING = r"\x{0}-\x{10ffff}"
_BUT_LINE_ENDS = r"[^\n\r\x{2028}\x{2029}]"


class Refused(ValueError):
    """The pattern can't be used; the message says why, never what it is."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that is ready to be used; `size` counts RE2's instructions, which bound the work per character."""

    regex: Any
    size: int
    by_lines: bool

    def found_in(self, text: str) -> bool:
        """Whether it is found anywhere in the text. Raises Refused."""
        if self.by_lines and _LINE_ENDS_UNKNOWN_TO_RE2.search(text):
            raise Refused("matches by lines that end in other ways than by a line feed")
        try:
            return self.regex.search(text) is not None
        except UnicodeEncodeError:
            raise Refused("is matched against half a character") from None


def pattern(source: str) -> Pattern:
    """The pattern as JavaScript reads it: a bare body, /body/flags or with leading groups of flags such as (?i-s).

    Raises Refused.
    """
    made = _made(source)
    if isinstance(made, str):
        raise Refused(made)
    return made


@lru_cache(maxsize=128)
def _made(source: str) -> Pattern | str:
    """The pattern, or why there is none."""
    re2: Any = import_module("re2")  # only who matches patterns pays for it, and it has no types
    options = re2.Options()
    options.max_mem = MAX_PROGRAM_BYTES
    options.log_errors = False
    try:
        if len(source) > MAX_CHARACTERS:
            return "is a pattern that is too long"
        body, flags = _body_and_flags(source)
        for_re2 = "".join(sorted(flags & set("ims")))
        body = _rewritten(body, flags)
        regex = re2.compile(f"(?{for_re2}){body}" if for_re2 else body, options=options)
    except Refused as error:
        return str(error)
    except (re2.error, UnicodeEncodeError):
        return "is a pattern that is malformed, too large or not supported"
    return Pattern(regex, regex.programsize, "m" in flags)


def _body_and_flags(source: str) -> tuple[str, set[str]]:
    literal = _LITERAL.fullmatch(source)
    body, flags = (literal[1], set(literal[2].lower())) if literal else (source, set[str]())
    while group := _INLINE.match(body):
        flags = (flags | set(group[1].lower())) - set((group[2] or "").lower())
        body = body[group.end() :]
    if _SCOPED.search(body):
        # Hypertune's SDK takes it for a scoped flag, even in (?:…).
        raise Refused("is a pattern with a non-capturing group or a flag for a part, which Hypertune refuses")
    return body, flags


def _rewritten(body: str, flags: set[str]) -> str:
    pieces = _PIECE.findall(body)
    written: list[str] = []
    for piece, following in zip(pieces, [*pieces[1:], ""], strict=False):
        if piece[0] == "\\":
            written.append(_escape(piece, following, flags))
        elif piece == ".":
            written.append("." if "s" in flags else _BUT_LINE_ENDS)
        elif piece[0] == "[":
            written.append(_set(piece, flags))
        elif piece == "?" and written and written[-1] == "(":
            raise Refused("is a pattern with look-around or a group that is not supported")
        else:
            written.append(piece)
    rewritten = "".join(written)
    return rf"\A(?:{rewritten})" if "y" in flags else rewritten


def _escape(piece: str, following: str, flags: set[str]) -> str:
    if piece in {r"\s", r"\S"}:
        return f"[{_SETS[piece]}]"
    if piece in _SETS or piece in {r"\b", r"\B"}:
        return piece
    return _character(piece, following, flags)


def _character(piece: str, following: str, flags: set[str]) -> str:
    """The escape of a character, or of one of Unicode's classes, as RE2 takes it inside and outside of a set."""
    kind = piece[1:2]
    if piece in _SAME_IN_BOTH or (kind in {"p", "P"} and len(piece) > 2 and "u" in flags):  # noqa: PLR2004
        return piece
    if kind in {"x", "u"} and len(piece) > 2 and (piece[2] != "{" or "u" in flags):  # noqa: PLR2004
        return rf"\x{{{piece[2:].strip('{}')}}}"
    if piece == r"\0" and not following[:1].isdigit():
        return r"\x{0}"
    if len(piece) > 1 and kind.isascii() and not kind.isalnum() and kind.isprintable():
        return piece
    raise Refused("is a pattern with an escape that is not supported")


def _set(piece: str, flags: set[str]) -> str:
    if len(piece) == 1:
        raise Refused("is a pattern with a set that does not end")
    negated = piece.startswith("[^")
    pieces = _SET_PIECE.findall(piece[2 if negated else 1 : -1])
    if not pieces:
        return f"[{'' if negated else '^'}{_ANYTHING}]"
    written: list[str] = []
    for before, item, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
        if item == "[" or (item == "-" and (before in _SETS or after in _SETS)):
            written.append(f"\\{item}")
        elif item in _SETS:
            written.append(_SETS[item])
        elif item == r"\b":
            written.append(r"\x{8}")
        elif item[0] == "\\":
            written.append(_character(item, after, flags))
        else:
            written.append(item)
    return f"[{'^' if negated else ''}{''.join(written)}]"

"""Going on with an answer that broke off: what the next model is asked, and where its text joins what was delivered.

And asking for one again that is whole but not as it should be.

A seam is proven by text: the continuation repeats the end of what was delivered (the anchor), or begins from the start
with exactly what was delivered, or comes from a model that is known to go on from an unfinished assistant message.
Everything else is Unproven, and the caller is told that the answer broke off. Nothing is guessed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from lib.providers.base import ChatRequest, Delta

Habit = Literal["prefix", "anchor"]
"""How a model is asked to go on: from its own unfinished message, or by repeating an anchor."""

ANCHOR_CHARACTERS = 40
LONGEST_ANCHOR = 160
HELD_CHARACTERS = 240
"""How much of a continuation is held back, at most, before its seam is decided."""
SHORTEST_RESTART = 16
"""An end of the delivered text, of this length or more, that is also its beginning makes a fresh start ambiguous."""
CHARACTERS_PER_TOKEN = 4
INSTRUCTION = (
    "Your last message was cut off. Continue it, in the same language and form, with no introduction: first repeat its "
    "last characters exactly as they stand here, then go on without a break.\n{anchor}"
)
REPAIR = (
    "Your last message is not the JSON that was asked for: {fault}. Write it again, corrected: the JSON alone, whole."
)
LEAD = " \t\n…."
"""What a model may put before the text that it repeats."""
WRAPPING = "\"'`*[«“"
"""What it may wrap around it; the other half would stay in the text, so that is no proof."""


class Unproven(Exception):
    """It can't be shown where the continuation joins."""


def continuation(request: ChatRequest, delivered: str, habit: Habit) -> ChatRequest:
    """The request that asks a model to go on after `delivered`."""
    messages: list[dict[str, object]] = [*request.messages, {"role": "assistant", "content": delivered}]
    if habit == "anchor":
        messages.append({"role": "user", "content": INSTRUCTION.format(anchor=anchor_of(delivered))})
    spent = len(delivered) // CHARACTERS_PER_TOKEN
    return dataclasses.replace(request, messages=tuple(messages), max_tokens=max(request.max_tokens - spent, 16))


def repair(request: ChatRequest, answer: str, fault: str) -> ChatRequest:
    """The request that asks a model for `answer` again, without its fault."""
    messages = (
        *request.messages,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": REPAIR.format(fault=fault)},
    )
    return dataclasses.replace(request, messages=messages)


def joined(seam: Seam, deltas: Sequence[Delta]) -> list[Delta]:
    """What of these deltas of a continuation is new to the reader: text, and calls of tools once the seam is proven.

    What a model thinks before it goes on with another's answer is no part of that answer. Raises Unproven.
    """
    new: list[Delta] = []
    for delta in deltas:
        text = seam.feed(delta.text) if delta.text else ""
        if delta.tool_calls and not seam.joined:
            raise Unproven
        if text or delta.tool_calls:
            new.append(Delta(text=text, tool_calls=delta.tool_calls))
    return new


def anchor_of(delivered: str) -> str:
    """The shortest end of `delivered`, from 40 to 160 characters, that occurs in it only once; else the longest."""
    for length in range(ANCHOR_CHARACTERS, LONGEST_ANCHOR, 20):
        anchor = delivered[-length:]
        if _is_unique(anchor, delivered):
            return anchor
    return delivered[-LONGEST_ANCHOR:]


class Seam:
    """Joins one continuation to what was delivered."""

    def __init__(self, delivered: str, habit: Habit) -> None:
        anchor = anchor_of(delivered)
        self._delivered = delivered
        self._anchor = anchor if _is_unique(anchor, delivered) and _says_something(anchor) else None
        # Where the end of a text is also its beginning, a fresh start can't be told from a continuation.
        self._can_restart = _longest_border(delivered) < SHORTEST_RESTART and _says_something(delivered)
        self._held = ""
        self._matched: int | None = None
        self.joined = habit == "prefix"
        self.may_be_empty = self.joined
        """Whether the answer may end at the seam: not where a model only repeated what there was, and stopped."""

    def feed(self, text: str) -> str:
        """Take the continuation's next text; return what of it is new to the reader. Raises Unproven."""
        if self.joined:
            return text
        if self._matched is not None:
            return self._follow(text)
        self._held += text
        return self._decide()

    def _decide(self) -> str:
        held, delivered = self._held, self._delivered
        after = self._after_anchor()
        if after is not None:
            return self._join(after)
        restarts = self._can_restart and delivered.startswith(held[: len(delivered)])
        if len(held) < min(len(delivered), HELD_CHARACTERS):
            return ""
        if restarts:
            self._held, self._matched = "", 0
            return self._follow(held)
        if len(held) >= HELD_CHARACTERS:
            raise Unproven
        return ""

    def _after_anchor(self) -> str | None:
        """What follows the anchor in what is held, or None where it is not there yet.

        What stands before the anchor must be what stands before it in the answer: after an introduction of the
        model's own, nothing says that this is the place and not a quotation of it. Raises Unproven.
        """
        if self._anchor is None:
            return None
        before, found, after = self._held.partition(self._anchor)
        if not found:
            return None
        is_wrapped = bool(before.strip(LEAD)) and not _says_something(before)
        for lead in (before, before.lstrip(LEAD)):
            if not is_wrapped and self._delivered.endswith(lead + self._anchor):
                return after
        raise Unproven

    def _follow(self, text: str) -> str:
        """The model began anew: drop what it repeats, as long as it repeats it character for character."""
        assert self._matched is not None  # noqa: S101 - for the type checker
        rest = self._delivered[self._matched :]
        if not rest.startswith(text[: len(rest)]):
            raise Unproven
        self._matched += len(text)
        return self._join(text[len(rest) :]) if len(text) >= len(rest) else ""

    def _join(self, text: str) -> str:
        self.joined = True
        self._held = ""
        return text


def _is_unique(anchor: str, text: str) -> bool:
    return bool(anchor) and text.find(anchor) == len(text) - len(anchor)


def _says_something(text: str) -> bool:
    """Whether it is more than what a model may put around any text."""
    return bool(text.strip(LEAD + WRAPPING))


def _longest_border(text: str) -> int:
    """The length of the longest proper beginning of `text` that is also its end (Knuth, Morris and Pratt, 1977)."""
    borders = [0] * len(text)
    for index in range(1, len(text)):
        length = borders[index - 1]
        while length and text[index] != text[length]:
            length = borders[length - 1]
        borders[index] = length + (text[index] == text[length])
    return borders[-1] if borders else 0

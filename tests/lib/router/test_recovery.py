"""Seams: whatever the text, the cut, the pieces and the model's habit, the joined text is right or it is none."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.providers.base import ChatRequest
from lib.router.recovery import (
    ANCHOR_CHARACTERS,
    HELD_CHARACTERS,
    LONGEST_ANCHOR,
    Seam,
    Unproven,
    anchor_of,
    continuation,
)

TEXTS = {
    "text": "The sea is wide and blue. Nobody has counted all of its waves, though some have tried; the last of them, "
    'a clerk from Lisbon, gave up at nine million and said: "There is always one more." After that he fished. '
    "His sons fish still, and on quiet days the eldest counts a little, under his breath, for the company of it. "
    "He would not call it counting.\n\nAsked what he does call it, he looks out over the water for a while.",
    "JSON": '{"user": {"id": 17, "name": "Ana", "tags": ["a", "b"], "active": true}, '
    '"items": [{"sku": "x-1", "n": 1}, '
    '{"sku": "x-2", "n": 2}, {"sku": "x-3", "n": 3}], "total": 6.0, "note": "said \\"yes\\" twice", "next": null}',
    "code": "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n\n\n"
    "def mul(a, b):\n    return a * b\n"
    "\n\nif __name__ == '__main__':\n    print(add(1, 2))\n    print(sub(1, 2))\n    print(`mul`(1, 2))\n",
    "CJK": "海は広くて青い。誰もその波を数え切ったことはないが、"
    "試みた人はいる。最後の一人は九百万で諦めて、「いつももう一つある」と言った。"
    "それから彼は漁師になった。息子たちは今も漁をしていて、静かな日には長男が少しだけ数える。",
    "emoji": "Waves 🌊🌊🌊 and more 🌊! 👩‍👩‍👧‍👦 went 🏖️ with 🇵🇹 flags, "
    "👍🏽👍🏿 all day; then 🌅 fell — e\u0301te\u0301 was over 🍂🍂.",
    "quoted": '\n"**Olá**", she said. "`x` is *here*…" And there: "«Sim»", [1] "“no”".' + " " * 45 + '"so"',
    "repetitive": "ha " * 150,
    "one character": "=" * 90,
    "chorus": "Row, row, row your boat, gently down the stream. " * 6 + "Merrily, merrily, life is but a dream. " * 3,
    "border": "Once upon a time there was a sea. It told a story. Once upon a time there was a sea. It told no other.",
}
Habit = Callable[[str, str], str]
"""What a model writes, given what was delivered and the rest."""
OBEY: dict[str, Habit] = {
    "anchor": lambda delivered, rest: anchor_of(delivered) + rest,
    "anchor after a line break": lambda delivered, rest: f"\n{anchor_of(delivered)}{rest}",
    "more context": lambda delivered, rest: delivered[-len(anchor_of(delivered)) - 30 :] + rest,
    "dots first": lambda delivered, rest: f"…{anchor_of(delivered)}{rest}",
}
ANEW: dict[str, Habit] = {"starts over": lambda delivered, rest: delivered + rest}
WRAPS: dict[str, Habit] = {
    "all in quotes": lambda delivered, rest: f'"{anchor_of(delivered)}{rest}"',
    "anchor in quotes": lambda delivered, rest: f'"{anchor_of(delivered)}"{rest}',
    "code fence": lambda delivered, rest: f"```\n{anchor_of(delivered)}{rest}\n```",
    "quotes that bend": lambda delivered, rest: f"“{anchor_of(delivered)}”{rest}",
    "bold": lambda delivered, rest: f"**{anchor_of(delivered)}**{rest}",
}
DISOBEY: dict[str, Habit] = {
    "paraphrases": lambda delivered, rest: "~ " + (delivered + rest)[::-1],
    "introduces": lambda delivered, rest: f"~ Sure, here it goes on: {anchor_of(delivered)}{rest}",
    "introduces on a line of its own": lambda delivered, rest: f"~ Sure:\n\n{anchor_of(delivered)}{rest}",
    "introduces and starts over": lambda delivered, rest: f"~ From the start: {delivered}{rest}",
    "quotes, then goes on": lambda delivered, rest: f'~ I stopped at "{anchor_of(delivered)}". Going on: {rest}',
    "starts over, one character changed at the start": lambda delivered, rest: "~" + delivered[1:] + rest,
    "starts over, one character changed in the middle": lambda delivered, rest: (
        delivered[: len(delivered) // 2] + "~" + delivered[len(delivered) // 2 + 1 :] + rest
    ),
    "starts over, the last character changed": lambda delivered, rest: delivered[:-1] + "~" + rest,
    "starts over, one character left out": lambda delivered, rest: "~" + delivered[2:] + rest,
    "says nothing": lambda _, __: "",
    "says little": lambda _, __: "~ ok",
    "says a lot": lambda _, __: "~ no " * 200,
}
HABITS = {**OBEY, **ANEW, **WRAPS, **DISOBEY}


def pieces(reply: str, cuts: Sequence[int]) -> list[str]:
    """The reply cut at these places."""
    places = [0, *sorted({min(cut, len(reply)) for cut in cuts}), len(reply)]
    return [reply[begin:end] for begin, end in itertools.pairwise(places) if end > begin]


def joined(delivered: str, reply: str, cuts: Sequence[int]) -> str | None:
    """The whole text that a reader ends up with, or None where the seam is unproven."""
    seam, text, unread = Seam(delivered, "anchor"), delivered, 0
    try:
        for piece in pieces(reply, cuts):
            new = seam.feed(piece)
            unread = 0 if seam.joined else unread + len(piece)
            assert new == "" or seam.joined
            text += new
            # What follows exactly what was delivered is not held, it is dropped.
            assert unread < HELD_CHARACTERS or delivered.startswith(reply[:unread])
    except Unproven:
        return None
    return text if seam.joined else None


def cuts_of(reply: str, chance: random.Random) -> list[int]:
    """Some places to cut at."""
    return chance.sample(range(len(reply) + 1), min(len(reply), chance.choice((0, 1, 5, 40))))


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("kind", TEXTS)
def test_every_cut(kind: str, habit: str) -> None:
    """Cut at every place: the text is whole again, or the seam is unproven; never anything else."""
    text, chance = TEXTS[kind], random.Random(kind + habit)  # noqa: S311 - places to cut, not secrets
    proven = 0
    for cut in range(1, len(text)):
        delivered, rest = text[:cut], text[cut:]
        reply = HABITS[habit](delivered, rest)
        got = joined(delivered, reply, cuts_of(reply, chance))
        assert got in {None, text}, cut
        proven += got is not None
    if habit in {**WRAPS, **DISOBEY}:
        assert proven == 0
    elif kind in {"text", "JSON", "code", "CJK", "emoji"}:
        assert proven == len(text) - 1
    elif kind == "quoted" and habit in OBEY:
        assert proven >= 0.8 * len(text)


@pytest.mark.parametrize("kind", TEXTS)
def test_one_character_at_a_time(kind: str) -> None:
    """However finely a reply comes, the outcome is the one that it has when it comes at once."""
    text = TEXTS[kind]
    for cut in range(1, len(text), 7):
        for habit in HABITS.values():
            reply = habit(text[:cut], text[cut:])
            assert joined(text[:cut], reply, range(len(reply))) == joined(text[:cut], reply, [])


@given(
    st.one_of(st.text(min_size=2, max_size=400), st.text("ab", min_size=2, max_size=400)),
    st.data(),
    st.sampled_from(list(HABITS)),
)
def test_any_text(text: str, data: st.DataObject, habit: str) -> None:
    """Of any text at any cut, in any pieces, by any habit: the text itself or nothing."""
    text = text.replace("~", "-")
    cut = data.draw(st.integers(1, len(text) - 1))
    reply = HABITS[habit](text[:cut], text[cut:])
    cuts = data.draw(st.lists(st.integers(0, len(reply)), max_size=10))
    got = joined(text[:cut], reply, cuts)
    assert got in {None, text}
    assert got is None or habit not in DISOBEY


@given(st.text(min_size=1, max_size=400), st.lists(st.text(max_size=50)))
def test_any_reply(delivered: str, replies: list[str]) -> None:
    """Whatever comes, no more is held than may be, and a join is proven by what came."""
    seam, came, text = Seam(delivered, "anchor"), "", ""
    try:
        for piece in replies:
            came += piece
            text += seam.feed(piece)
    except Unproven:
        assert text == ""
        return
    if seam.joined:
        repeated = came[: len(came) - len(text)]
        assert repeated.endswith(anchor_of(delivered)) or repeated == delivered
    else:
        assert text == ""
        assert len(came) < HELD_CHARACTERS or delivered.startswith(came)


@given(st.text(), st.lists(st.text(max_size=50)))
def test_prefix(delivered: str, replies: list[str]) -> None:
    """A model that is known to go on from its own message is taken at its word."""
    seam = Seam(delivered, "prefix")
    assert seam.joined
    assert [seam.feed(piece) for piece in replies] == replies


@given(st.one_of(st.text(min_size=1, max_size=500), st.text("ab", min_size=1, max_size=500)))
def test_anchor(delivered: str) -> None:
    """The anchor is the end of the text, of 40 to 160 characters, and the shortest of them that occurs once."""
    anchor = anchor_of(delivered)
    assert delivered.endswith(anchor)
    assert min(ANCHOR_CHARACTERS, len(delivered)) <= len(anchor) <= LONGEST_ANCHOR
    if len(anchor) > ANCHOR_CHARACTERS:
        shorter = delivered[-(len(anchor) - 20) :] if len(anchor) % 20 == 0 else delivered[-(len(anchor) // 20 * 20) :]
        assert delivered.find(shorter) < len(delivered) - len(shorter)


def test_border_makes_a_fresh_start_ambiguous() -> None:
    """Where the end of the text is its beginning too and no anchor is unique, a fresh start is not trusted."""
    delivered = "ha " * 100
    assert joined(delivered, delivered + "ha ha, she said.", []) is None
    assert joined("x" + delivered, "x" + delivered + "ha ha, she said.", []) == "x" + delivered + "ha ha, she said."


@pytest.mark.parametrize("habit", ["prefix", "anchor"])
def test_continuation(habit: str) -> None:
    """The request to go on holds the conversation, the unfinished message, the anchor and the length that is left."""
    request = ChatRequest(({"role": "user", "content": "Hi"},), 100, temperature=0.5, stop=("END",), seed=7)
    delivered = TEXTS["text"][:120]
    asked = continuation(request, delivered, "prefix" if habit == "prefix" else "anchor")
    assert asked.messages[:2] == (*request.messages, {"role": "assistant", "content": delivered})
    assert (asked.max_tokens, asked.temperature, asked.stop, asked.seed) == (70, 0.5, ("END",), 7)
    assert request.messages == ({"role": "user", "content": "Hi"},)
    if habit == "prefix":
        assert len(asked.messages) == 2
    else:
        assert asked.messages[2]["role"] == "user"
        assert str(asked.messages[2]["content"]).endswith("\n" + anchor_of(delivered))


def test_continuation_is_never_left_without_room() -> None:
    """However long the text is already, there is room for an end."""
    assert continuation(ChatRequest(({"role": "user", "content": "Hi"},), 10), "x" * 10_000, "anchor").max_tokens == 16


@pytest.mark.parametrize("anchor", ["{", "}", "{anchor}", "{0}", "%s", "{{"])
def test_anchor_is_no_template(anchor: str) -> None:
    """Braces in the text reach the model as they are."""
    asked = continuation(ChatRequest(({"role": "user", "content": "Hi"},), 100), anchor, "anchor")
    assert str(asked.messages[2]["content"]).endswith(f"\n{anchor}")

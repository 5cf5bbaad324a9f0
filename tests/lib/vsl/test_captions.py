"""Words become captions that read well, and files that say nothing else than the words."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from html import unescape

import pytest

from lib.providers.speech import Word
from lib.vsl import ass, subtitles
from lib.vsl.captions import (
    GAP_MS,
    MAX_CPS,
    MAX_MS,
    MIN_MS,
    TALL_WIDTH,
    WIDTH,
    Cue,
    Passage,
    columns,
    cues,
    estimate,
    timed,
)

ENGLISH = (
    "You know the feeling: the sun goes down, the lamp flickers, and the evening is over before it began. "
    "This small lamp collects light all day and gives it back for forty hours, without a cable and without a battery "
    "to buy. Order today, because the first hundred get a second one for free."
)
PORTUGUESE = (
    "Você conhece a sensação: o sol se põe, a lâmpada falha e a noite acaba antes de começar. "
    "Esta pequena lâmpada junta luz o dia inteiro e a devolve por quarenta horas, sem cabo e sem pilhas para comprar. "
    "Peça hoje, porque os cem primeiros recebem a segunda de graça."
)
NASTY = (
    *("'", '"', "%", "%{n}", "\n", "\r\n", "\u202eabc\u202c", "\u2067", "\U0001f600", "[in]scale=1;", "</c>", " --> "),
    *("\\N", "{\\b1}", "}", "<b>", "&amp;", "\x00", "\x1b[0m", "\ud800", "\u2028", "\ufeff", "NOTE", "WEBVTT", "STYLE"),
    *("1", "00:00:00.000 --> 00:00:09.000", "<00:00:01.000>", "-->", "a" * 90, "日本語", "ção", "e\u0301", ":", ","),
    *(
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "file:///etc/passwd",
        "$(id)",
        "`id`",
        "\u05e2\u05d1\u05e8\u05d9\u05ea",
    ),
)


def shown(captions: tuple[Cue, ...]) -> list[str]:
    """All words of the captions; parts of one word put together again."""
    words = list[str]()
    for piece in (piece for cue in captions for line in cue.lines for piece in line):
        if piece.glued:
            words[-1] += piece.text
        else:
            words.append(piece.text)
    return words


def said(text: str) -> list[str]:
    """The words of a text as captions show them."""
    return [word.text for word in estimate(text, 0.0, 1.0)]


def spoken(text: str, words_per_minute: float = 150) -> Passage:
    """A text as a voice of the usual pace reads it."""
    lasts_s = len(text.split()) / words_per_minute * 60
    return Passage(estimate(text, 0.0, lasts_s), 0.0, lasts_s + 0.6)


def hostile(seed: int) -> str:
    """A text of ordinary words and of what breaks files."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    parts = chance.choices(NASTY, k=chance.randrange(1, 9)) + chance.choices(PORTUGUESE.split(), k=chance.randrange(9))
    chance.shuffle(parts)
    return chance.choice(["", " "]).join(parts)


@pytest.mark.parametrize(("text", "language"), [(ENGLISH, "en"), (PORTUGUESE, "pt-BR")])
@pytest.mark.parametrize("width", [WIDTH, TALL_WIDTH])
def test_captions_read_well(text: str, language: str, width: int) -> None:
    """At most two lines of this width, shown long enough and not too long, slow enough, without short gaps."""
    captions = cues([spoken(text)], language=language, width=width)
    assert shown(captions) == text.split()
    for cue in captions:
        assert len(cue.lines) <= 2
        assert max(map(columns, cue.text)) <= width
        assert MIN_MS <= cue.end_ms - cue.start_ms <= MAX_MS
        assert cue.characters_per_s <= MAX_CPS
    for cue, following in itertools.pairwise(captions):
        assert following.start_ms == cue.end_ms or following.start_ms - cue.end_ms >= GAP_MS


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        (
            "The lamp shines all night long. It needs no cable and it never asks for a battery.",
            "en",
            [["The lamp shines all night long."], ["It needs no cable", "and it never asks for a battery."]],
        ),
        (
            "A lâmpada brilha a noite inteira. Não precisa de cabo e nunca pede uma pilha nova.",
            "pt",
            [["A lâmpada brilha a noite inteira."], ["Não precisa de cabo", "e nunca pede uma pilha nova."]],
        ),
    ],
)
def test_breaks(text: str, language: str, expected: list[list[str]]) -> None:
    """Cues end with a sentence, lines before a conjunction, and no line ends in an article."""
    assert [list(cue.text) for cue in cues([spoken(text)], language=language)] == expected


def test_exact_times() -> None:
    """A cue comes with its first word, as the voice told it, and stays until the next or until it has been read."""
    words = (Word("Look", 1.0, 1.3), Word("here.", 1.3, 1.6), Word("And", 4.0, 4.2), Word("there.", 4.2, 4.7))
    captions = cues([Passage(words, 0.0, 6.0)])
    assert [(cue.start_ms, cue.end_ms, cue.text) for cue in captions] == [
        (1000, 1834, ("Look here.",)),
        (4000, 4834, ("And there.",)),
    ]


def test_times_that_a_voice_told_are_taken() -> None:
    """Words of this very text within the narration keep their times."""
    words = (Word("Olá,", 0.0, 0.5), Word("mundo!", 0.5, 1.9))
    assert timed("Olá, mundo!", words, 2.0) == (words, False)


@pytest.mark.parametrize(
    "words",
    [
        (),
        (Word("Olá,", 0.0, 0.5), Word("gente!", 0.5, 1.9)),
        (Word("Olá,", 0.0, 0.5), Word("mundo!", 0.5, 9.0)),
        (Word("Olá,", 1.5, 1.6), Word("mundo!", 0.5, 1.9)),
        (Word("Olá,", float("nan"), 0.5), Word("mundo!", 0.5, 1.9)),
        (Word("Olá,", 1.9, 1.9), Word("mundo!", 1.9, 1.9)),
    ],
)
def test_times_that_cannot_be_true_are_estimated(words: tuple[Word, ...]) -> None:
    """No times, other words, times out of order or beyond the narration: the words share its time by their length."""
    found, estimated = timed("Olá, mundo!", words, 2.0)
    assert estimated
    assert [(word.text, round(word.start_s, 2), round(word.end_s, 2)) for word in found] == [
        ("Olá,", 0.0, 0.42),
        ("mundo!", 0.74, 1.37),
    ]


def test_karaoke() -> None:
    """Each word but the first carries its time; the same file without them shows the same lines."""
    words = (Word("R&B", 0.0, 0.5), Word("<3", 0.5, 1.0))
    captions = cues([Passage(words, 0.0, 1.5)])
    assert subtitles.webvtt(captions, estimated=True) == (
        "WEBVTT\n\nNOTE timing: estimated\n\n00:00:00.000 --> 00:00:01.000\nR&amp;B &lt;3\n"
    )
    assert "<c>R&amp;B</c> <00:00:00.500><c>&lt;3</c>\n" in subtitles.webvtt(captions, karaoke=True)


def test_srt() -> None:
    """Numbered cues with commas in their times; markup is taken its meaning."""
    captions = cues([Passage((Word("<b>x", 0.0, 1.0), Word("-->", 1.0, 2.0)), 0.0, 2.0)])
    assert subtitles.srt(captions) == "1\n00:00:00,000 --> 00:00:02,000\n<\u2060b>x --\u2060>\n\n"


def test_ass_of_a_clip() -> None:
    """Only the cues of a clip, counted from its beginning; braces and backslashes are text."""
    captions = cues([Passage((Word("Hi", 0.0, 0.9),), 0.0, 1.0), Passage((Word("{\\b1}", 1.0, 2.0),), 1.0, 3.0)])
    text = ass.captions(captions, 1280, 720, from_ms=1000, until_ms=3000, karaoke=True)
    assert re.findall(r"(?m)^Dialogue: .*", text) == [
        "Dialogue: 0,0:00:00.00,0:00:01.00,Text,,0,0,0,,{\\k0}{\\kf100}\\{\\\u2060b1\\}"
    ]


def vtt_cues(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """What a player reads out of WebVTT: blocks between blank lines; those with an arrow are cues."""
    for block in text.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        if match := re.fullmatch(r"(\d\d):(\d\d):(\d\d)\.(\d{3}) --> (\d\d):(\d\d):(\d\d)\.(\d{3})", head):
            numbers = list(map(int, match.groups()))
            start, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
            yield start, end, [unescape(re.sub(r"<[^>]*>", "", line)) for line in lines]


def check_hostile(seed: int) -> None:
    """Any text at all: each word once and in order, in all formats, none overlapping."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    text, tall, karaoke = hostile(seed), chance.random() < 0.5, chance.random() < 0.5
    lasts_s = chance.uniform(0.3, 12.0)
    words, _ = timed(text, (), lasts_s)
    if chance.random() < 0.3:  # whatever a voice might tell
        words = tuple(Word(word.text, chance.uniform(-1, 12), chance.uniform(-1, 12)) for word in words)
    captions = cues([Passage(words, 2.0, 3.0 + lasts_s)], language=chance.choice(["en", "pt", "de"]))
    if tall:
        captions = cues([Passage(words, 2.0, 3.0 + lasts_s)], width=TALL_WIDTH)
    assert shown(captions) == said(text)
    assert all(cue.start_ms < cue.end_ms and len(cue.lines) <= 2 for cue in captions)
    assert all(cue.end_ms <= after.start_ms for cue, after in itertools.pairwise(captions))
    assert all(columns(line) <= (TALL_WIDTH if tall else WIDTH) for cue in captions for line in cue.text)
    read = list(vtt_cues(subtitles.webvtt(captions, karaoke=karaoke)))
    assert read == [(cue.start_ms, cue.end_ms, list(cue.text)) for cue in captions]
    blocks = subtitles.srt(captions).split("\n\n")[:-1]
    assert [block.split("\n")[0] for block in blocks] == [str(number) for number in range(1, len(captions) + 1)]
    assert [block.count("-->") for block in blocks] == [1] * len(blocks)
    events = ass.captions(captions, 1280, 720, from_ms=0, until_ms=20_000, karaoke=karaoke).partition("[Events]\n")[2]
    lines = events.splitlines()[1:]
    assert len(lines) == len(captions)
    assert all(
        re.fullmatch(r"Dialogue: 0,\d:\d\d:\d\d\.\d\d,\d:\d\d:\d\d\.\d\d,Text,,0,0,0,,.*", line) for line in lines
    )
    # Nothing is left that would be an override: those that are ours, then escaped braces, then no brace.
    assert not any(re.search(r"[{}]", re.sub(r"\{\\kf?\d+\}|\\[{}]", "", line)) for line in lines)


def test_fault_49_hostile_captions() -> None:
    """Two hundred texts of quotes, markup, controls, bidi marks, emoji; the slow test has ten thousand."""
    for seed in range(200):
        check_hostile(seed)


@pytest.mark.slow
def test_fault_49_ten_thousand_hostile_captions() -> None:
    """Ten thousand texts that break files: captions hold their words, in order, and nothing that is obeyed."""
    for seed in range(200, 10_200):
        check_hostile(seed)

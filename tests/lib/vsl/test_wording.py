"""Our own wording, scripts of one's own, and what each frame shows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import InvalidRequest
from lib.vsl.beats import BEATS
from lib.vsl.brief import read_brief
from lib.vsl.honesty import Grounds, sentences
from lib.vsl.own import own_script
from lib.vsl.screenplay import Script, grounds_of, parts_of
from lib.vsl.script import slots_of
from lib.vsl.storyboard import COMPOSITIONS, image_prompt
from lib.vsl.worded import template
from lib.vsl.wording import MAX_HEADLINE, WORDINGS, sentence, short_name, shortened, ways
from tests.lib.vsl.briefs import LAMP, corpus, job_request

BRIEFS = list({told["product"]: told for told in (sentence.brief for sentence in corpus())}.values())
SEEDS = range(6)


def letter(**fields: Any) -> Script:
    """A letter in our own wording."""
    request = job_request(**fields)
    return template(request, slots_of(request))


@pytest.mark.parametrize("language", ["en", "pt"])
def test_wording_claims_nothing(language: str) -> None:
    """Nothing that we say of any product is a claim: the extractor finds none in it, whatever the brief."""
    grounds = Grounds(language, {}, ["It"])
    wording = WORDINGS[language]
    said = [*wording.said.values(), *wording.said_to_all.values(), *wording.rest.values(), *wording.told.values()]
    lines = [line for ways_to_say in said for way in ways_to_say for line in ([way] if isinstance(way, str) else way)]
    lines += [line for lines in wording.headlines.values() for line in lines]
    assert len(lines) > 50
    assert {line: found for line in lines if (found := grounds.findings(re.sub(r"\{\w+\}", "it", line)))} == {}


@pytest.mark.parametrize("told", BRIEFS, ids=lambda told: told["product"])
def test_honest(told: dict[str, Any]) -> None:
    """For every brief of the corpus and any seed the letter claims nothing but what the brief says."""
    for seed in SEEDS:
        request = job_request(**{**dict.fromkeys(LAMP), **told, "guarantee": told["guarantee"] or None, "seed": seed})
        found = template(request, slots_of(request))
        grounds = grounds_of(request)
        assert [grounds.findings(frame.narration) for frame in found.frames] == [()] * len(found.frames)
        assert [grounds.findings(frame.on_screen) for frame in found.frames] == [()] * len(found.frames)


@pytest.mark.parametrize("language", ["en", "pt"])
@pytest.mark.parametrize("duration_s", [20, 45, 60, 90, 240])
def test_length(language: str, duration_s: int) -> None:
    """A letter is never much longer than wanted, but for what the brief says, which is never cut."""
    request = job_request(language=language, duration_s=duration_s)
    for slot in slots_of(request):
        for line in ways(slot, {**request, "beats": []}):
            assert len(line.text.split()) <= slot.words * 1.3 or line.is_told or len(sentences(line.text)) == 1


def test_whole_brief_is_told() -> None:
    """Every fact, the offer, the guarantee and the address are said, once each."""
    for duration_s in (15, 60, 200):
        said = " ".join(frame.narration for frame in letter(duration_s=duration_s, frames=9).frames)
        for text in (*(fact["text"] for fact in LAMP["facts"]), LAMP["offer"], LAMP["guarantee"], "brasa.example"):
            assert said.count(text) == 1


def test_seed() -> None:
    """The same seed words it the same, others otherwise."""
    assert letter(seed=1) == letter(seed=1)
    assert len({letter(seed=seed) for seed in SEEDS}) > 2


@given(st.integers(1, 24), st.sampled_from([20, 60, 120, 600]), st.sampled_from(["en", "pt-BR"]))
def test_many_frames(count: int, duration_s: int, language: str) -> None:
    """However many frames are wanted: none says what another has said, and there are no more than that."""
    frames = letter(frames=count, duration_s=duration_s, language=language).frames
    assert 1 <= len(frames) <= count
    assert len({frame.narration for frame in frames}) == len(frames)
    assert all(frame.narration and frame.on_screen and frame.alt and frame.image_prompt for frame in frames)
    order = [BEATS.index(frame.beat) for frame in frames]
    assert order == sorted(order)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_hostile_brief(product: str, audience: str, fact: str) -> None:
    """Braces, quotes and the like in a brief are words like others."""
    try:
        found = letter(product=product, audience=audience or None, facts=[{"id": "a", "text": fact}])
    except InvalidRequest:
        return
    told = read_brief({"product": product, "facts": [{"id": "a", "text": fact}]}).facts[0].text
    assert found.frames[0].beat == "hook"
    assert sentence(told) in " ".join(frame.narration for frame in found.frames)


def test_nothing_but_a_product() -> None:
    """A product alone makes a letter of those beats that need nothing else."""
    found = letter(**dict.fromkeys(name for name in LAMP if name != "product"))
    assert [frame.beat for frame in found.frames] == ["hook", "problem", "solution", "cta"]
    assert "None" not in " ".join(frame.narration for frame in found.frames)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Order now.", "Order now"),
        ("Really?", "Really?"),
        ("Two lanterns for $59, shipping included for as long as you wish", "Two lanterns for $59"),
        ("a" * 60, "a" * 41 + "…"),
        ("one two three four five six seven eight nine ten", "one two three four five six seven eight…"),
    ],
)
def test_shortened(text: str, expected: str) -> None:
    """A headline is the first clause that fits, else as many words as do."""
    assert shortened(text) == expected
    assert len(expected) <= MAX_HEADLINE


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("Habla, a course of spoken Spanish", "Habla"),
        ("Terra (coffee)", "Terra"),
        ("Lamp", "Lamp"),
        (", odd", ", odd"),
        ("a b c d e f g", "a b c d e"),
    ],
)
def test_short_name(product: str, name: str) -> None:
    """What a product is called in mid-sentence."""
    assert short_name(product) == name


TEXT = "First this. Then that, and a little more of it. Now a third thing! Is it over? It is."


def test_own_text() -> None:
    """A text becomes frames of whole sentences, all of it, in order; lines are frames where nobody says how many."""
    for count in range(1, 6):
        frames = own_script(job_request(script=TEXT, frames=count)).frames
        assert len(frames) == count
        assert " ".join(frame.narration for frame in frames) == TEXT
    lines = own_script(job_request(script="One line here.\n\nAnother one. Of two.\n")).frames
    assert [frame.narration for frame in lines] == ["One line here.", "Another one. Of two."]
    assert [frame.beat for frame in lines] == ["hook", "cta"]


def test_own_frames() -> None:
    """What the author said stays; what is left open is made; their claims are told, not judged."""
    frame = {
        "narration": "Best lamp ever: 40 hours on one charge!",
        "beat": "story",
        "image_prompt": "a lamp",
        "alt": "Lamp",
    }
    plain = {"narration": "Weighs 310 grams."}
    found = own_script(job_request(script={"title": "Mine", "frames": [frame, plain]}))
    first, second = found.frames
    assert (found.title, found.degraded) == ("Mine", False)
    assert (first.narration, first.beat, first.image_prompt, first.alt) == (
        "Best lamp ever: 40 hours on one charge!",
        "story",
        "a lamp",
        "Lamp",
    )
    assert (first.claims, second.claims) == (("light",), ("weight",))
    assert second.image_prompt == image_prompt("cta", job_request())
    assert {each.source for each in found.frames} == {"own"}


def test_own_script_in_any_language() -> None:
    """A script of one's own needs no wording of ours, and no product."""
    found = own_script(job_request(product=None, script="Guten Tag. Das ist eine Lampe.", language="de", frames=2))
    assert [frame.narration for frame in found.frames] == ["Guten Tag.", "Das ist eine Lampe."]
    assert found.title == "Guten Tag"


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1, max_size=30), st.integers(1, 24))
def test_parts(said: list[str], count: int) -> None:
    """Sentences are parted in order, none is lost, and there are as many parts as wanted where there can be."""
    parts = parts_of(said, count)
    assert " ".join(parts) == " ".join(said)
    assert len(parts) == min(count, len(said))


def test_pictures_show_beats() -> None:
    """Each beat has its composition; whatever is drawn, it asks for no text, and begins with the subject."""
    prompts = {beat: image_prompt(beat, job_request()) for beat in BEATS}
    assert set(COMPOSITIONS) == set(BEATS)
    assert len(set(prompts.values())) == len(BEATS)
    for prompt in prompts.values():
        assert prompt.startswith("Brasa solar lantern: ")
        assert "No text, no letters, no numbers" in prompt
        assert len(prompt) <= 900
    assert len(image_prompt("hook", job_request(), "x" * 5_000)) <= 900

"""Which beats a letter has, and how many words each gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.vsl.beats import BEATS, LEAST_WORDS, SHARES, Beat, beats, placed, slots, words_per_s

SHORT = ("hook", "problem", "solution", "proof", "offer", "cta")
DURATIONS = st.floats(10, 600, allow_nan=False)
COUNTS = st.integers(1, 24)
WITHOUT: st.SearchStrategy[frozenset[Beat]] = st.frozensets(st.sampled_from(["proof", "offer", "guarantee"]))


def test_shares_are_the_whole() -> None:
    """The beats' shares are a hundred percent, each beat has one."""
    assert sum(SHARES.values()) == 100
    assert set(SHARES) == set(BEATS)


@pytest.mark.parametrize(("duration_s", "expected"), [(60, SHORT), (90, SHORT), (90.1, BEATS), (600, BEATS)])
def test_usual(duration_s: float, expected: tuple[Beat, ...]) -> None:
    """An advert has six beats, a letter nine, one frame each."""
    assert beats(duration_s) == expected


def test_nothing_to_say() -> None:
    """A beat without a ground is not there."""
    assert beats(60, without=frozenset({"proof", "offer"})) == ("hook", "problem", "solution", "cta")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ("hook",)),
        (3, ("hook", "solution", "cta")),
        (4, ("hook", "problem", "solution", "cta")),
        (8, ("hook", "problem", "problem", "solution", "solution", "proof", "offer", "cta")),
    ],
)
def test_frames(count: int, expected: tuple[Beat, ...]) -> None:
    """With fewer frames the weightiest beats stay, with more the longest are told in several."""
    assert beats(60, count) == expected


def test_little_time() -> None:
    """Where only so much is said there are no more frames than have something to say."""
    assert len(beats(10, words=24)) == 4
    assert len(beats(10, 6, words=24)) == 6


@given(DURATIONS, COUNTS, WITHOUT)
def test_any_count(duration_s: float, count: int, without: frozenset[Beat]) -> None:
    """As many frames as wanted, in the order of beats, each beat in one piece, none that was left out."""
    found = beats(duration_s, count, without=without)
    assert len(found) == count
    assert list(found) == sorted(found, key=BEATS.index)
    assert not without & set(found)


@given(DURATIONS, COUNTS, st.sampled_from(["en", "pt", "pt-BR", "de"]), st.floats(0.7, 1.2))
def test_words(duration_s: float, count: int, language: str, speed: float) -> None:
    """The words of all slots are what can be said in the time, but for rounding and the least that a slot needs."""
    found = slots(beats(duration_s, count), duration_s, language, speed)
    spoken_s = sum(slot.words for slot in found) / words_per_s(language, speed)
    assert all(slot.words >= LEAST_WORDS for slot in found)
    assert spoken_s <= duration_s + count * (LEAST_WORDS + 0.5) / words_per_s(language, speed)
    if duration_s / count > 10:
        assert spoken_s >= duration_s * 0.85


def test_portuguese_takes_longer() -> None:
    """Fewer words per minute, and a faster voice says more of them."""
    assert words_per_s("pt") < words_per_s("en") == 2.5
    assert words_per_s("en-GB", 1.2) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, ("hook",)), (2, ("hook", "cta")), (3, ("hook", "solution", "cta")), (6, SHORT)]
)
def test_placed(count: int, expected: tuple[Beat, ...]) -> None:
    """Frames whose author named no beat get one by their place."""
    assert placed(count) == expected

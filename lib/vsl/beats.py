"""The beats of a sales letter: which ones a brief has something to say for, and how many words each gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from lib.vsl.timeline import PAUSE_S, TAIL_S

Beat = Literal["hook", "problem", "agitation", "story", "solution", "proof", "offer", "guarantee", "cta"]
BEATS: tuple[Beat, ...] = get_args(Beat)
SHARES: Mapping[Beat, int] = {
    "hook": 8,
    "problem": 14,
    "agitation": 12,
    "story": 12,
    "solution": 16,
    "proof": 14,
    "offer": 12,
    "guarantee": 6,
    "cta": 6,
}
"""Of the whole, in percent."""
SHORT_S = 90
"""Up to here a letter is an advert, and has fewer beats; its guarantee is told with the offer."""
SHORT_BEATS: frozenset[Beat] = frozenset({"hook", "problem", "solution", "proof", "offer", "cta"})
BY_WEIGHT: tuple[Beat, ...] = (
    "hook",
    "solution",
    "cta",
    "problem",
    "offer",
    "proof",
    "guarantee",
    "agitation",
    "story",
)
"""Which beats are kept where there are fewer frames, the weightiest first."""
WORDS_PER_MINUTE = {"en": 150, "pt": 140}
"""As people read aloud."""
LEAST_WORDS = 5


@dataclass(frozen=True, slots=True)
class Slot:
    """One frame to be filled: what it is for, and about how many words it has time for."""

    beat: Beat
    words: int


def words_per_s(language: str, speed: float = 1.0) -> float:
    """How many words are spoken in a second; `speed` 1.0 is a voice's own pace."""
    return WORDS_PER_MINUTE.get(language.partition("-")[0], WORDS_PER_MINUTE["en"]) * speed / 60


def beats(
    duration_s: float, count: int | None = None, *, without: frozenset[Beat] = frozenset(), words: int | None = None
) -> tuple[Beat, ...]:
    """The beats of so many frames, in order; None is one per beat. `without` are those there is nothing to say for.

    More frames than beats: the longest are told in several. Fewer: the weightiest stay. Where all that is said has only
    so many `words`, no more frames are made than have something to say.
    """
    usual = SHORT_BEATS if duration_s <= SHORT_S else frozenset(BEATS)
    there: list[Beat] = [beat for beat in BY_WEIGHT if beat in usual and beat not in without]
    most = len(there) if count is None else count
    if words is not None and count is None:
        most = max(1, min(most, words // LEAST_WORDS))
    kept: list[Beat] = there[:most]
    frames: dict[Beat, int] = {beat: 1 for beat in kept}  # noqa: C420 - fromkeys forgets that these are beats
    while sum(frames.values()) < most:
        longest = kept[0]
        for beat in kept:
            longest = beat if SHARES[beat] / frames[beat] > SHARES[longest] / frames[longest] else longest
        frames[longest] += 1
    return tuple(beat for beat in BEATS for _ in range(frames.get(beat, 0)))


def slots(chosen: Sequence[Beat], duration_s: float, language: str, speed: float = 1.0) -> tuple[Slot, ...]:
    """The frames' words: what can be said in the time without the silences, by the beats' shares."""
    silent_s = PAUSE_S * (len(chosen) - 1) + TAIL_S
    total = max(duration_s - silent_s, 0) * words_per_s(language, speed)
    whole = sum(SHARES[beat] for beat in set(chosen))
    return tuple(
        Slot(beat, max(round(total * SHARES[beat] / whole / chosen.count(beat)), LEAST_WORDS)) for beat in chosen
    )


def placed(count: int) -> tuple[Beat, ...]:
    """Beats for frames whose author named none: a short letter's, by their place."""
    order = [beat for beat in BEATS if beat in SHORT_BEATS]
    if count == 1:
        return ("hook",)
    return tuple(cast("Beat", order[round(at * (len(order) - 1) / (count - 1))]) for at in range(count))

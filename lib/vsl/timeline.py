"""When each picture is on the screen: pictures follow the measured narration, never the other way round.

Everything is cut on the grid of video frames. Since a clip's length depends on its own narration alone, a sentence that
is spoken anew moves the clips after it but changes none of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FPS = 25
PAUSE_S = 0.3
"""Silence after each narration but the last."""
TAIL_S = 0.6
"""Silence after the last one."""
CROSSFADE_S = 0.4
SHORTEST_S = 1.0
"""No picture is on the screen for less: below, it would flash, and no caption could be read."""


@dataclass(frozen=True, slots=True)
class Span:
    """One picture's time, in video frames; its narration begins with it and lasts `speech_s`.

    During its first `fade` frames the picture before it is still seen, fainter and fainter.
    """

    start: int
    end: int
    speech_s: float
    fade: int = 0

    @property
    def frames(self) -> int:
        """How long it lasts, in video frames."""
        return self.end - self.start

    @property
    def start_s(self) -> float:
        """When it begins, in seconds."""
        return self.start / FPS

    @property
    def end_s(self) -> float:
        """When it ends, in seconds."""
        return self.end / FPS


@dataclass(frozen=True, slots=True)
class Timeline:
    """All spans, each beginning where the one before it ends."""

    spans: tuple[Span, ...]

    @property
    def frames(self) -> int:
        """How long all of it lasts, in video frames."""
        return self.spans[-1].end

    @property
    def duration_s(self) -> float:
        """How long all of it lasts, in seconds."""
        return self.frames / FPS


def timeline(
    speech_s: Sequence[float], *, pause_s: float = PAUSE_S, tail_s: float = TAIL_S, crossfade_s: float = CROSSFADE_S
) -> Timeline:
    """The spans of pictures whose narrations last so many seconds each, as measured.

    Every time is rounded up to whole video frames. A crossfade takes at most half of either picture.
    Raises ValueError for no narration at all, or for one that lasts no time.
    """
    if not speech_s:
        raise ValueError("A timeline needs a narration.")
    spans = list[Span]()
    for index, lasts in enumerate(speech_s):
        if not (math.isfinite(lasts) and lasts > 0):
            raise ValueError(f"Narration {index} lasts no time.")
        silence = tail_s if index == len(speech_s) - 1 else pause_s
        frames = _frames(max(lasts + silence, SHORTEST_S))
        before = spans[-1] if spans else None
        fade = min(_frames(crossfade_s), before.frames // 2, frames // 2) if before else 0
        start = before.end if before else 0
        spans.append(Span(start, start + frames, lasts, fade))
    return Timeline(tuple(spans))


def _frames(seconds: float) -> int:
    # 0.28 s are 7 frames, though 0.28 * 25 is a little more than 7 in binary.
    return math.ceil(round(seconds * FPS, 6))

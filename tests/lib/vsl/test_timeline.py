"""Pictures follow the measured narration."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.vsl.timeline import FPS, SHORTEST_S, timeline


def test_spans() -> None:
    """Each span holds its narration and a pause, in whole video frames; the last one the tail."""
    spans = timeline([2.0, 3.01], pause_s=0.28, tail_s=0.6, crossfade_s=0.4).spans
    assert [(span.start, span.end, span.fade) for span in spans] == [(0, 57, 0), (57, 57 + 91, 10)]


def test_a_short_picture_is_neither_a_flash_nor_all_crossfade() -> None:
    """A word of a tenth of a second is on the screen for a second, half of it alone."""
    first, second = timeline([0.1, 0.1], tail_s=0.0, crossfade_s=5.0).spans
    assert (first.frames, second.frames, second.fade) == (SHORTEST_S * FPS, SHORTEST_S * FPS, 12)


@given(st.lists(st.floats(0.05, 60.0), min_size=1, max_size=24), st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_pictures_follow_the_narration(speech_s: list[float], pause_s: float, crossfade_s: float) -> None:
    """Spans meet, hold their narrations, and last no frame longer than asked; no fade is longer than half a picture."""
    line = timeline(speech_s, pause_s=pause_s, crossfade_s=crossfade_s)
    assert [span.start for span in line.spans] == [0, *(span.end for span in line.spans[:-1])]
    for index, span in enumerate(line.spans):
        silence = pause_s if index + 1 < len(speech_s) else 0.6
        wanted = max(speech_s[index] + silence, SHORTEST_S)
        assert wanted - 1e-6 <= span.frames / FPS <= wanted + 1 / FPS
        assert span.fade <= span.frames / 2
        assert span.fade == 0 if index == 0 else span.fade <= line.spans[index - 1].frames / 2


@given(st.lists(st.floats(0.05, 9.0), min_size=2, max_size=9), st.floats(0.05, 9.0))
def test_another_sentence_moves_the_others_but_does_not_change_them(speech_s: list[float], anew: float) -> None:
    """When the first narration gets another length, every other picture still lasts exactly as long."""
    before, after = timeline(speech_s), timeline([anew, *speech_s[1:]])
    assert [span.frames for span in before.spans[1:]] == [span.frames for span in after.spans[1:]]


@pytest.mark.parametrize("speech_s", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_no_narration(speech_s: list[float]) -> None:
    """Without a narration there is no time line."""
    with pytest.raises(ValueError, match=r"[Nn]arration"):
        timeline(speech_s)

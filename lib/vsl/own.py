"""The caller's own script: as it is, with what it leaves open made from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.vsl.beats import Beat, placed
from lib.vsl.brief import MAX_FRAMES, WRITTEN_IN
from lib.vsl.honesty import Grounds, sentences
from lib.vsl.screenplay import MAX_TITLE, Frame, Script, grounds_of, parts_of
from lib.vsl.storyboard import image_prompt
from lib.vsl.wording import illustration, short_name, shortened

WORDS_PER_FRAME = 25
"""Where nobody says how many frames a text is to have: ten seconds each."""


def own_script(request: Mapping[str, Any]) -> Script:
    """The caller's script as it is; what it leaves open (pictures, words on the screen) is made from it."""
    own: Mapping[str, Any] = request["script"]
    frames = own["frames"] or [{"narration": part} for part in _parts(own["text"], request)]
    usual = placed(len(frames))
    grounds = grounds_of(request) if request["language"].partition("-")[0] in WRITTEN_IN else None
    made = [_own_frame(request, frame, usual[number], grounds) for number, frame in enumerate(frames)]
    title = own.get("title") or shortened(short_name(request["product"] or made[0].narration), MAX_TITLE)
    return Script(title, tuple(made))


def _own_frame(request: Mapping[str, Any], frame: Mapping[str, Any], usual: Beat, grounds: Grounds | None) -> Frame:
    beat: Beat = frame.get("beat") or usual
    narration: str = frame["narration"]
    on_screen = frame.get("on_screen") or shortened(narration)
    scene = None if request["product"] else shortened(narration, 120)
    return Frame(
        beat,
        narration,
        on_screen,
        frame.get("image_prompt") or image_prompt(beat, request, scene),
        frame.get("alt") or illustration(request, on_screen),
        grounds.claims(narration) if grounds else (),
        frame.get("source") or "own",
        frame.get("image"),
        frame.get("narration_audio"),
    )


def _parts(text: str, request: Mapping[str, Any]) -> list[str]:
    """A text in as many parts of whole sentences as there are to be frames, as even as that allows.

    Blocks of lines are frames of their own where nobody says how many there are to be.
    """
    lines = text.splitlines()
    if request["frames"] is None and 1 < len(lines) <= MAX_FRAMES:
        return lines
    count: int = request["frames"] or round(len(text.split()) / WORDS_PER_FRAME)
    return parts_of(sentences(text), min(count, MAX_FRAMES))

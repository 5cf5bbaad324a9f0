"""What each frame shows: the prompt of its picture, its alternative text, and the words on the screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.vsl.beats import Beat
from lib.vsl.wording import short_name, shortened

COMPOSITIONS: Mapping[Beat, str] = {
    "hook": "one bold subject close up, strong light, much empty space around it",
    "problem": "an everyday scene in which something does not go well, muted colours, nobody looks at the camera",
    "agitation": "the same everyday scene later and darker, long shadows, closer to the subject",
    "story": "a warm candid moment seen from the side, soft light, a sense of a quiet evening",
    "solution": "the subject in use, seen from slightly above, clear light, calm background",
    "proof": "a sober close view of material and detail, even light, plain ground",
    "offer": "the subject laid out neatly on a plain surface, seen from above, generous margins",
    "guarantee": "two open hands holding the subject, warm light, plain ground",
    "cta": "the subject in the foreground, a bright way leading into the distance, morning light",
}
NO_TEXT = "No text, no letters, no numbers, no logos, no watermark, no famous people."
LOWER_THIRD = "Keep the lower third quiet."
"""Captions stand there."""
MAX_PROMPT = 900
MAX_ALT = 160


def image_prompt(beat: Beat, request: Mapping[str, Any], scene: str | None = None) -> str:
    """What to draw: a scene where somebody thought of one, else the product as the beat wants it shown.

    The style is the request's and comes with it to whoever draws. The subject stands first: models weigh it most.
    """
    subject = scene.rstrip(". ") if scene else short_name(request["product"] or "a simple object")
    return f"{subject[: MAX_PROMPT - 400]}: {COMPOSITIONS[beat]}. {LOWER_THIRD} {NO_TEXT}"


def alt_text(text: str) -> str:
    """A picture's description, of a length that is read out at once."""
    return shortened(text, MAX_ALT)

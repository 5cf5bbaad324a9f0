"""Scripts in our own wording, and models too small to write one: these choose among our ways to say each slot.

Asked to write freely, such models invent; docs/vsl-script.md shows what.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from lib.errors import AppError, LimitReached
from lib.providers.base import ChatRequest
from lib.vsl.asking import Ask, json_format
from lib.vsl.beats import BEATS, Beat, Slot
from lib.vsl.honesty import sentences
from lib.vsl.screenplay import MAX_TITLE, Frame, Script, grounds_of, parts_of
from lib.vsl.storyboard import image_prompt
from lib.vsl.wording import Line, headline, illustration, short_name, shortened, ways

MAX_ABOUT = 300
"""Characters of product and audience that a small model is told."""

log = logging.getLogger("vsl")


class _Choice(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    line: str


def template(request: Mapping[str, Any], wanted: Sequence[Slot], chosen: Mapping[Beat, int] | None = None) -> Script:
    """A script in our own wording: `chosen` says in which way each beat is said; else the seed does.

    A beat of several frames is said once and parted at its sentences: there may be fewer frames than slots.
    """
    grounds = grounds_of(request)
    frames: list[Frame] = []
    for slot, lines in _by_beat(request, wanted).items():
        variant = (chosen or {}).get(slot.beat, _drawn(request, slot.beat))
        line = lines[variant % len(lines)]
        count = sum(each.beat == slot.beat for each in wanted)
        for place, part in enumerate(parts_of(sentences(line.text), count)):
            on_screen = shortened(part) if place else headline(slot.beat, request, variant)
            frames.append(
                Frame(
                    slot.beat,
                    part,
                    on_screen,
                    image_prompt(slot.beat, request),
                    illustration(request, on_screen),
                    grounds.claims(part),
                    "facts" if line.is_told else "template",
                )
            )
    return Script(shortened(short_name(request["product"]), MAX_TITLE), tuple(frames))


async def chosen_wording(request: Mapping[str, Any], wanted: Sequence[Slot], ask: Ask) -> Script:
    """One short prompt for each beat that is not the brief's own words: which of our ways to say it fits this product.

    A beat for which the model names none, or nobody answers, is drawn by the seed. Raises LimitReached.
    """
    chosen: dict[Beat, int] = {}
    for slot, lines in _by_beat(request, wanted).items():
        # One after another: side by side in one batch, the same question may get another answer.
        if not lines[0].is_told and (answer := await _choice(request, slot.beat, lines, ask)) is not None:
            chosen[slot.beat] = answer
    return template(request, wanted, chosen)


def _by_beat(request: Mapping[str, Any], wanted: Sequence[Slot]) -> dict[Slot, tuple[Line, ...]]:
    """The ways to say each beat, in the time of all its frames."""
    beats: list[Beat] = [each for each in BEATS if any(slot.beat == each for slot in wanted)]
    words = {beat: sum(slot.words for slot in wanted if slot.beat == beat) for beat in beats}
    told = {**request, "beats": beats}
    return {slot: ways(slot, told) for slot in (Slot(beat, words[beat]) for beat in beats)}


async def _choice(request: Mapping[str, Any], beat: Beat, lines: Sequence[Line], ask: Ask) -> int | None:
    """The place of a way to say it; None where the model named none.

    The seed turns the list, since small models like what stands first: so it is what gives other seeds other letters.
    """
    turn = _drawn(request, beat)
    turned = [(place + turn) % len(lines) for place in range(len(lines))]
    names = [chr(ord("A") + place) for place in range(len(lines))]
    listed = "\n".join(f"{name}. {sentences(lines[place].text)[0]}" for name, place in zip(names, turned, strict=True))
    about = f"Product: {request['product']}\nFor: {request['audience'] or 'everyone'}"[:MAX_ABOUT]
    schema = {
        "type": "object",
        "properties": {"line": {"type": "string", "enum": names}},
        "required": ["line"],
        "additionalProperties": False,
    }

    def fault(text: str) -> str | None:
        return None if _line_in(text) in names else f"line must be one of {', '.join(names)}"

    asked = ChatRequest(
        ({"role": "user", "content": f"{about}\nWhich line fits best?\n{listed}"},),
        max_tokens=16,
        temperature=0.0,
        seed=seed_of(request, 0),
        response_format=json_format("choice", schema),
    )
    try:
        return turned[names.index(_line_in(await ask(asked, fault)) or names[0])]
    except LimitReached:
        raise
    except AppError as error:
        log.warning("nobody chose a wording: %s", error.code)
        return None


def _line_in(text: str) -> str | None:
    try:
        return _Choice.model_validate_json(text).line
    except ValidationError:
        return None


def seed_of(request: Mapping[str, Any], number: int) -> int:
    """The seed of one of a request's questions."""
    return ((request["seed"] or 0) + number) % 2**31


def _drawn(request: Mapping[str, Any], beat: Beat) -> int:
    """Which way of saying a beat is taken, by the seed and the product."""
    return hashlib.sha256(orjson.dumps([request["seed"] or 0, request["product"], beat])).digest()[0]

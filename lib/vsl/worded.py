"""Scripts in our own wording, and models too small to write one: these choose among our ways to say each slot.

Asked to write freely, such models invent; docs/vsl.md shows what.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from lib.errors import AppError, LimitReached
from lib.providers.base import ChatRequest
from lib.vsl.asking import Ask, json_format
from lib.vsl.beats import Slot
from lib.vsl.honesty import sentences
from lib.vsl.screenplay import MAX_TITLE, Frame, Script, grounds_of
from lib.vsl.storyboard import image_prompt
from lib.vsl.wording import Line, headline, illustration, short_name, shortened, ways

MAX_ABOUT = 300
"""Characters of product and audience that a small model is told."""

log = logging.getLogger("vsl")


class _Choice(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    line: str


def template(request: Mapping[str, Any], wanted: Sequence[Slot], chosen: Mapping[int, int] | None = None) -> Script:
    """A script in our own wording: `chosen` says which way of saying each slot; else the seed does."""
    told = _with_beats(request, wanted)
    grounds = grounds_of(request)
    frames: list[Frame] = []
    for number, slot in enumerate(wanted):
        variant = (chosen or {}).get(number, _drawn(request, number, wanted))
        line = _among(ways(slot, told), variant)
        on_screen = headline(slot.beat, request, variant)
        frames.append(
            Frame(
                slot.beat,
                line.text,
                on_screen,
                image_prompt(slot.beat, request),
                illustration(request, on_screen),
                grounds.claims(line.text),
                "facts" if line.is_told else "template",
            )
        )
    return Script(shortened(short_name(request["product"]), MAX_TITLE), tuple(frames))


async def chosen_wording(request: Mapping[str, Any], wanted: Sequence[Slot], ask: Ask) -> Script:
    """One short prompt per slot that is not the brief's own words: which of our ways to say it fits this product.

    A slot for which the model names none, or nobody answers, is drawn by the seed. Raises LimitReached.
    """
    told = _with_beats(request, wanted)
    lines = {number: ways(slot, told) for number, slot in enumerate(wanted)}
    numbers = [number for number, each in lines.items() if len(each) > 1 and not each[0].is_told]
    answers = await asyncio.gather(*(_choice(request, number, lines[number], ask) for number in numbers))
    chosen = {number: answer for number, answer in zip(numbers, answers, strict=True) if answer is not None}
    return template(request, wanted, _distinct(wanted, chosen))


async def _choice(request: Mapping[str, Any], number: int, lines: Sequence[Line], ask: Ask) -> int | None:
    """The number of a way to say it; None where the model named none."""
    names = [chr(ord("A") + place) for place in range(len(lines))]
    listed = "\n".join(f"{name}. {sentences(line.text)[0]}" for name, line in zip(names, lines, strict=True))
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
        temperature=1.0,
        seed=seed_of(request, number),
        response_format=json_format("choice", schema),
    )
    try:
        return names.index(_line_in(await ask(asked, fault)) or names[0])
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


def _distinct(wanted: Sequence[Slot], chosen: Mapping[int, int]) -> dict[int, int]:
    """No two frames of a beat in the same words, where there are others."""
    found: dict[int, int] = {}
    for number, variant in chosen.items():
        taken = {found[each] for each in found if wanted[each].beat == wanted[number].beat}
        found[number] = next((variant + by for by in range(len(taken) + 1) if variant + by not in taken), variant)
    return found


def _among(lines: Sequence[Line], variant: int) -> Line:
    return lines[variant % len(lines)]


def _with_beats(request: Mapping[str, Any], wanted: Sequence[Slot]) -> dict[str, Any]:
    return {**request, "beats": [slot.beat for slot in wanted]}


def seed_of(request: Mapping[str, Any], number: int) -> int:
    """The seed of one of a request's questions."""
    return ((request["seed"] or 0) + number) % 2**31


def _drawn(request: Mapping[str, Any], number: int, wanted: Sequence[Slot]) -> int:
    """Which way of saying a slot is taken, by the seed and the product; frames of one beat take turns."""
    beat = wanted[number].beat
    told = orjson.dumps([request["seed"] or 0, request["product"], beat])
    return hashlib.sha256(told).digest()[0] + [slot.beat for slot in wanted[:number]].count(beat)

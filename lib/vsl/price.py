"""What a sales letter will cost, stage by stage, before anything is paid: by the lengths planned and prices.json. Pure.

What is kept from before costs nothing again, so a job may cost less than this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lib.providers.base import Usage
from lib.providers.images import ImageRequest
from lib.router.plan import Candidate
from lib.telemetry.cost import image_price, own_price, speech_price, worst_case_usd
from lib.telemetry.worst_case import worst_case_microusd
from lib.vsl.brief import planned
from lib.vsl.own import own_script
from lib.vsl.plan import SHAPES
from lib.vsl.script import script_request, spoken_words

MICRO = 1_000_000
CHARACTERS_PER_WORD = {"en": 5.8, "pt": 6.1}
"""White space and punctuation included: the scripts in tests/lib/vsl measure so."""
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_FRAME = 220
"""Of a written frame: its narration, its scene, its alternative text and the names of the fields."""
MOST_CALLS = 4
"""A draft and its repair, slots written again and their repair."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much of everything a letter takes, as far as can be said before."""

    input_tokens: int
    output_tokens: int
    images: int
    size: tuple[int, int]
    characters: int


@dataclass(frozen=True, slots=True)
class Route:
    """Whose model is asked first."""

    provider: str
    model: str


def work_of(request: Mapping[str, Any]) -> Work:
    """What a job's request (Brief.request) takes. Own pictures and narrations take nothing."""
    asked = script_request(request)
    per_word = CHARACTERS_PER_WORD.get(request["language"].partition("-")[0], CHARACTERS_PER_WORD["en"])
    size = ImageRequest("", SHAPES[request["aspect"]]).pixels
    if asked is None:
        frames = own_script(request).frames
        images = sum(frame.image is None for frame in frames)
        characters = sum(len(frame.narration) for frame in frames if frame.narration_audio is None)
        return Work(0, 0, images, size, characters)
    images = len(planned(request))
    characters = round(spoken_words(request) * per_word)
    return Work(asked.characters // CHARACTERS_PER_TOKEN, TOKENS_PER_FRAME * images, images, size, characters)


def estimate(request: Mapping[str, Any], *, text: Route | None, picture: Route, voice: Route) -> dict[str, Any]:
    """The price by stage, in US dollars: `{stages: {script, frames, narration}, total_usd, unknown}`.

    `text` None where nobody is asked. A stage whose price nobody knows has null and stands in `unknown`: then the total
    is what the others cost. After `stop_after: "script"` nothing else is paid.
    """
    work = work_of(request)
    stages: dict[str, dict[str, Any]] = {}
    if text is not None and work.output_tokens:
        usage = Usage(work.input_tokens, work.output_tokens)
        own = own_price(text.provider, text.model, usage)
        usd = worst_case_usd(text.provider, text.model, usage) if own is None else own
        stages["script"] = _stage(text, usd, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    if request["stop_after"] is None:
        drawn = image_price(picture.provider, picture.model, [work.size] * work.images)
        stages["frames"] = _stage(picture, drawn, images=work.images, width=work.size[0], height=work.size[1])
        read = speech_price(voice.provider, voice.model, work.characters)
        stages["narration"] = _stage(voice, read, characters=work.characters)
    costs = {name: stage["usd"] for name, stage in stages.items()}
    return {
        "stages": stages,
        "total_usd": round(sum(usd for usd in costs.values() if usd is not None), 6),
        "unknown": [name for name, usd in costs.items() if usd is None],
    }


def worst_script_microusd(request: Mapping[str, Any], candidates: Sequence[Candidate]) -> int:
    """The most that the script can cost, in millionths of a dollar: all its calls, each as dear as it may become."""
    asked = script_request(request)
    return 0 if asked is None else MOST_CALLS * worst_case_microusd(candidates, asked)


def _stage(route: Route, usd: Decimal | None, **amounts: int) -> dict[str, Any]:
    return {
        "provider": route.provider,
        "model": route.model,
        **amounts,
        "usd": None if usd is None else float(usd),
    }

"""From a request to its script: written by whoever serves text, or the caller's own.

What a model writes is checked (lib/vsl/honesty): a slot that claims what the brief does not say is written again once;
what it still claims then is left out, sentence by sentence; where nothing remains, our own wording stands there, marked
as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.providers.base import ChatRequest
from lib.vsl.asking import Ask, json_format
from lib.vsl.beats import Slot, slots, words_per_s
from lib.vsl.brief import planned
from lib.vsl.drafts import draft_request, drafted
from lib.vsl.own import own_script
from lib.vsl.screenplay import Script
from lib.vsl.worded import chosen_wording

SMALL_CONTEXT_TOKENS = 4_096
"""A model with less than this does not hold a brief and an answer to it."""


async def write_script(request: Mapping[str, Any], ask: Ask) -> Script:
    """The script of a job's request (Brief.request). One of the caller's own asks nobody.

    Raises AppError where nobody answers.
    """
    if request["script"] is not None:
        return own_script(request)
    wanted = slots_of(request)
    if max(candidate.model.context_tokens for candidate in ask.plan(_probe())) < SMALL_CONTEXT_TOKENS:
        return await chosen_wording(request, wanted, ask)
    return await drafted(request, wanted, ask)


def slots_of(request: Mapping[str, Any]) -> tuple[Slot, ...]:
    """What a script that is to be written must fill."""
    return slots(planned(request), request["duration_s"], request["language"], request["voice_speed"])


def script_request(request: Mapping[str, Any]) -> ChatRequest | None:
    """What a model with room for it is asked first, for estimates; None for a script of the caller's own."""
    if request["script"] is not None:
        return None
    wanted = slots(planned(request), request["duration_s"], request["language"], request["voice_speed"])
    return draft_request(request, wanted)


def spoken_words(request: Mapping[str, Any]) -> int:
    """About how many words will be spoken."""
    if request["script"] is None:
        return round(request["duration_s"] * words_per_s(request["language"], request["voice_speed"]))
    return sum(len(frame.narration.split()) for frame in own_script(request).frames)


def _probe() -> ChatRequest:
    """So little that also a small model could be asked it."""
    return ChatRequest(({"role": "user", "content": ""},), 16, response_format=json_format("probe", {"type": "object"}))

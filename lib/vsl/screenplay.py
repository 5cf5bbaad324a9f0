"""What a script is: frames in order, each said and shown; and what a request allows them to claim. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib.vsl.beats import Beat
from lib.vsl.brief import Source
from lib.vsl.honesty import Grounds

MAX_TITLE = 80
LEAST_WORDS = 3
"""A narration of fewer says nothing."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: what is said and shown; `claims` are the ids of the facts it makes use of."""

    beat: Beat
    narration: str
    on_screen: str
    image_prompt: str
    alt: str
    claims: tuple[str, ...]
    source: Source
    image: str | None = None
    narration_audio: str | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """A title and frames. It may be sent back as the `script` of a request, changed or not."""

    title: str
    frames: tuple[Frame, ...]

    @property
    def degraded(self) -> bool:
        """Whether some of it is our wording where a model's was wanted."""
        return any(frame.source == "template" for frame in self.frames)

    def told(self) -> dict[str, Any]:
        """As JSON, without what is not there."""
        frames = [
            {name: value for name, value in asdict(frame).items() if value is not None} | {"claims": [*frame.claims]}
            for frame in self.frames
        ]
        return {"title": self.title, "frames": frames, "degraded": self.degraded}


def grounds_of(request: Mapping[str, Any], language: str | None = None) -> Grounds:
    """What a script of this request may claim; the language of what is checked, else the request's."""
    cta: Mapping[str, str | None] = request["cta"] or {}
    others: list[str | None] = [
        request["product"],
        request["audience"],
        request["offer"],
        request["guarantee"],
        *cta.values(),
    ]
    facts = {fact["id"]: fact["text"] for fact in request["facts"]}
    return Grounds(language or request["language"], facts, [text for text in others if text])


def parts_of(said: Sequence[str], count: int) -> list[str]:
    """Sentences in so many parts, as even as whole sentences allow; in fewer where there are fewer sentences."""
    count = max(min(count, len(said)), 1)
    total = sum(len(each.split()) for each in said)
    parts: list[list[str]] = [[]]
    spoken = 0
    for place, each in enumerate(said):
        left, needed = len(said) - place, count - len(parts)
        if parts[-1] and needed and (left <= needed or spoken >= total * len(parts) / count):
            parts.append([])
        parts[-1].append(each)
        spoken += len(each.split())
    return [" ".join(part) for part in parts]

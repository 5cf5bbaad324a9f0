"""The body of POST /api/vsl, checked, and the request that a job keeps: with nothing left open."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

SAYS_SOMETHING = r"\S"
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=SAYS_SOMETHING)]
Passage = Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=SAYS_SOMETHING)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
"""An asset's id, or an https address."""
MAX_FRAMES = 24


class Ours(BaseModel):
    """An unknown field is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class OwnFrame(Ours):
    """One frame of a script of one's own; `image` and `audio` are an asset's id or an https address."""

    narration: Passage
    beat: str = "story"
    on_screen: str = ""
    image_prompt: str = ""
    alt: str = ""
    image: Source | None = None
    audio: Source | None = None


class OwnScript(Ours):
    """A script of one's own, frame by frame."""

    title: Line
    frames: Annotated[list[OwnFrame], Field(min_length=1, max_length=MAX_FRAMES)]


class Captions(Ours):
    """How what is said is shown."""

    style: Literal["lines", "karaoke"] = "lines"
    burn_in: bool = False


class Brief(Ours):
    """STAND-IN."""

    product: Line | None = None
    script: OwnScript
    language: Literal["en", "pt"] = "en"
    aspect: Literal["16:9", "9:16", "1:1"] = "16:9"
    resolution: Literal["720p", "1080p"] = "720p"
    motion: bool = True
    voice_id: str | None = None
    voice_speed: float | None = None
    img_style: str | None = None
    music: Source | None = None
    captions: Captions = Field(default_factory=Captions)
    strict: bool = False
    budget_usd: Decimal | None = None
    seed: int | None = 7
    webhook_url: str | None = None
    stop_after: Literal["script"] | None = None
    estimate: bool = False
    reuse: bool = True
    duration_s: int = 60
    audience: str | None = None
    offer: str | None = None
    guarantee: str | None = None
    tone: str | None = None
    facts: list[Any] = []
    cta: Any = None

    def told(self) -> Any:
        return self.model_dump(mode="json")

    def request(self, parameters: Any) -> dict[str, Any]:
        return {
            **self.model_dump(mode="json", exclude={"budget_usd", "webhook_url", "estimate", "reuse"}),
            "voice_id": self.voice_id or parameters.voice_id,
            "voice_model": parameters.voice_model,
            "voice_speed": self.voice_speed or parameters.voice_speed,
            "img_style": self.img_style or parameters.img_style,
            "img_model": parameters.img_model,
        }

    def estimate_of(self, request: Any, worst: Any) -> Any:
        return {}


def read_brief(value: object) -> Brief:
    return Brief.model_validate(value)

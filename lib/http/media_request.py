"""What POST /api/generate takes beside text: a picture to draw, speech to read, a recording to clean up."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from lib.control.parameters import ID, LANGUAGE, Parameters
from lib.errors import FieldError, InvalidRequest
from lib.http.messages import Filled, Ours
from lib.media.plan import ReadingRequest
from lib.media.styles import STYLES
from lib.providers.images import ImageRequest, SizeName
from lib.providers.speech import VoiceSettings

MAX_IMAGE_PROMPT = 4_000
MAX_SPEECH_CHARACTERS = 40_000
"""What the model that reads the longest texts reads."""
FORMATS = (
    *(f"mp3_{name}" for name in ("44100_128", "22050_32", "24000_48", "44100_32", "44100_64", "44100_96", "44100_192")),
    *(f"wav_{rate}" for rate in (8000, 16000, 22050, 24000, 32000, 44100, 48000)),
    *(f"opus_48000_{kbits}" for kbits in (32, 64, 96, 128, 192)),
)
"""ElevenLabs' names of those formats that browsers play and the bucket takes: codec, sample rate in Hz, kbit/s."""
Side = Annotated[int, Field(ge=64, le=2048)]


def _one_of_the_styles(name: str) -> str:
    if name not in STYLES:
        raise PydanticCustomError("unknown_style", "must be one of {names}", {"names": ", ".join(STYLES)})
    return name


def _one_of_the_formats(name: str) -> str:
    if name not in FORMATS:
        raise PydanticCustomError("unknown_format", "must be one of {names}", {"names": ", ".join(FORMATS)})
    return name


class Size(Ours):
    """A picture's size in pixels."""

    width: Side
    height: Side


class ImageOptions(Ours):
    """The picture; without a prompt of its own it is drawn from the user's."""

    prompt: Annotated[Filled, StringConstraints(max_length=MAX_IMAGE_PROMPT)] | None = None
    style: Annotated[str, AfterValidator(_one_of_the_styles)] | None = None
    size: Annotated[
        Annotated[SizeName, Tag("\0word")] | Annotated[Size, Tag("\0pixels")],
        Discriminator(lambda size: "\0pixels" if isinstance(size, dict) else "\0word"),
    ] = "landscape_16_9"
    count: Annotated[int, Field(ge=1, le=4)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    def request(self, prompt: str) -> ImageRequest:
        """What is to be drawn, from the user's prompt where there is none of its own."""
        size = self.size if isinstance(self.size, str) else (self.size.width, self.size.height)
        return ImageRequest(self.prompt or prompt[:MAX_IMAGE_PROMPT], size, self.count, self.seed)


class SpeechOptions(Ours):
    """The speech: of a text of its own, else of what is written; or a recording of the caller's, enhanced."""

    text: Annotated[Filled, StringConstraints(max_length=MAX_SPEECH_CHARACTERS)] | None = None
    voice_id: Annotated[str, StringConstraints(pattern=f"^{ID.pattern.pattern}$")] | None = None
    language: Annotated[str, StringConstraints(pattern=f"^{LANGUAGE.pattern.pattern}$")] | None = None
    format: Annotated[str, AfterValidator(_one_of_the_formats)] = FORMATS[0]
    enhance: Annotated[UUID, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _nothing_beside_enhance(self) -> SpeechOptions:
        for name in sorted(self.model_fields_set - {"enhance"}) if self.enhance is not None else ():
            if getattr(self, name) is not None:
                message = "has no place beside enhance"
                raise InvalidRequest(f"speech.{name} {message}.", errors=(FieldError(f"speech.{name}", message),))
        return self

    @property
    def needs_text(self) -> bool:
        """Whether it reads what is written in the same request."""
        return self.text is None and self.enhance is None

    def request(self, text: str, parameters: Parameters) -> ReadingRequest:
        """What is to be read, as the operator's parameters have it where the caller says nothing."""
        return ReadingRequest(
            text=self.text or text,
            voice_id=self.voice_id,
            language=self.language or parameters.voice_language,
            format=self.format,
            settings=VoiceSettings(
                speed=parameters.voice_speed,
                stability=parameters.voice_stability,
                similarity_boost=parameters.voice_similarity_boost,
                style=parameters.voice_style,
                use_speaker_boost=parameters.voice_speaker_boost,
            ),
            usual_voice_id=parameters.voice_id,
            usual_model=parameters.voice_model,
        )


Output = Literal["text", "image", "speech"]

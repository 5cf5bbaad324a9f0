"""What its callers and the adapters say to one another about speech."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "opus": "audio/ogg",
    "ulaw": "audio/basic",
    "alaw": "audio/basic",
}
"""By what a format's name begins with: mp3_44100_128 is codec, sample rate in Hz, kbit/s."""


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """A model that reads a text of up to `max_characters` aloud.

    `languages` None means more than are worth a list. `takes_language` is off for a model that hears it from the text
    and refuses to be told.
    """

    id: str
    max_characters: int
    languages: frozenset[str] | None = None
    takes_language: bool = True


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """How to speak; None means as the voice is. `speed` 1.0 is its own pace, the others are shares from 0 to 1."""

    speed: float | None = None
    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A text to read aloud, free of any vendor. `language` is an ISO 639-1 code."""

    text: str
    voice_id: str
    language: str | None = None
    format: str = "mp3_44100_128"
    settings: VoiceSettings = field(default_factory=VoiceSettings)
    seed: int | None = None
    previous_text: str | None = None
    next_text: str | None = None

    @property
    def content_type(self) -> str:
        """Of the audio."""
        return CONTENT_TYPES[self.format.partition("_")[0]]


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is heard, in seconds from the beginning of the audio."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """When each character of the text is heard, in seconds from the beginning of the audio."""

    characters: tuple[str, ...]
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]

    def words(self) -> Iterator[Word]:
        """The text at its white space."""
        text, start, end = "", 0.0, 0.0
        for character, starts, ends in zip(self.characters, self.starts_s, self.ends_s, strict=True):
            if character.isspace():
                if text:
                    yield Word(text, start, end)
                text = ""
                continue
            text, start, end = text + character, start if text else starts, ends
        if text:
            yield Word(text, start, end)


@dataclass(frozen=True, slots=True)
class Speech:
    """Audio, whole or a piece of it, and the times of the text that it holds, if the vendor told them."""

    audio: bytes
    alignment: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that a vendor offers; `languages` are ISO 639-1 codes, as far as it says."""

    id: str
    name: str
    languages: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    preview_url: str | None = None


class SpeechProvider(Protocol):
    """A vendor of speech. Everything raises ProviderError alone; cancelling closes the upstream connection."""

    name: str

    async def speak(self, request: SpeechRequest, model: SpeechModel) -> Speech:
        """The whole text as audio, with times."""
        ...

    def stream(self, request: SpeechRequest, model: SpeechModel) -> AsyncGenerator[Speech, None]:
        """The same in pieces as they are made. Ends normally only when the vendor's answer did."""
        ...

    async def voices(self) -> tuple[Voice, ...]:
        """All voices of the account."""
        ...

    async def isolate(self, audio: bytes, content_type: str) -> bytes:
        """The speech of a recording without its noise (audio enhancement), as MP3."""
        ...

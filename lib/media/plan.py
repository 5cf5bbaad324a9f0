"""Which vendors of pictures and of speech are asked, in which order: pure functions of the catalogue and the request.

As for text: vendors as the fallback order names them, the others after them in the catalogue's order; whoever is off,
killed, or can't do what is asked is left out; the embedded engine serves only where no hosted vendor is on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lib.errors import ContextTooLong, FieldError, InvalidRequest, NoProvider
from lib.providers.base import Model
from lib.providers.catalog import ImageRow, SpeechRow
from lib.providers.images import ImageModel, ImageRequest
from lib.providers.speech import SpeechModel, SpeechRequest, VoiceSettings
from lib.router.plan import Candidate

AnyRow = TypeVar("AnyRow", ImageRow, SpeechRow)
ISOLATION = SpeechModel("audio_isolation", 1)
"""What ElevenLabs' endpoint stands for in a plan, a price and an event; it has no model to choose."""
UNLISTED_CHARACTERS = 5_000


@dataclass(frozen=True, slots=True)
class Vendors:
    """Who may be asked: those that are `on`, but for the `killed`; `fallback_order` names vendors, best first."""

    on: Collection[str]
    killed: Collection[str] = ()
    fallback_order: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Painter:
    """A vendor of pictures and the model that it is asked for."""

    provider: str
    model: ImageModel

    @property
    def route(self) -> Candidate:
        """The same as the router's core knows it: a model with one size, so that none is too short for the others."""
        return Candidate(self.provider, Model(self.model.id, 1, 0))


@dataclass(frozen=True, slots=True)
class Reader:
    """A vendor of speech, the model that it is asked for, and the voice."""

    provider: str
    model: SpeechModel
    voice_id: str

    @property
    def route(self) -> Candidate:
        """The same as the router's core knows it: its context is the longest text that it reads."""
        return Candidate(self.provider, Model(self.model.id, self.model.max_characters, 0))


@dataclass(frozen=True, slots=True)
class ReadingRequest:
    """A text to read aloud, before anybody is chosen for it. `language` is an ISO 639-1 code.

    `voice_id` is the caller's own choice: no other voice takes its place. `usual_voice_id` and `usual_model` are the
    operator's, for whoever has them.
    """

    text: str
    voice_id: str | None = None
    language: str | None = None
    format: str = "mp3_44100_128"
    settings: VoiceSettings = field(default_factory=VoiceSettings)
    usual_voice_id: str | None = None
    usual_model: str | None = None

    def by(self, reader: Reader) -> SpeechRequest:
        """What this reader is asked for."""
        return SpeechRequest(self.text, reader.voice_id, self.language, self.format, self.settings)


def plan_pictures(
    request: ImageRequest, usual_model: str | None, rows: Sequence[ImageRow], vendors: Vendors
) -> tuple[Painter, ...]:
    """Who may draw this, best first. `usual_model` is for whoever offers it, and may be newer than the catalogue.

    Raises NoProvider where nobody is on, InvalidRequest where nobody can.
    """
    offered = [Painter(row.name, _image_model(row, usual_model, rows)) for row in _willing(rows, vendors, "pictures")]
    return _able(offered, lambda painter: _unpaintable(request, painter.model), "drawn")


def plan_reading(request: ReadingRequest, rows: Sequence[SpeechRow], vendors: Vendors) -> tuple[Reader, ...]:
    """Who may read this aloud, best first. Raises NoProvider where nobody is on, InvalidRequest where nobody can."""
    willing = _willing(rows, vendors, "speech")
    faults = {row.name: list(_unreadable(request, row, _speech_model(row, request, rows))) for row in willing}
    readers = [Reader(row.name, _speech_model(row, request, rows), _voice(row, request)) for row in willing]
    return _able(readers, lambda reader: faults[reader.provider], "read aloud")


def plan_isolation(rows: Sequence[SpeechRow], vendors: Vendors) -> tuple[Reader, ...]:
    """Who may take the noise out of a recording. Raises NoProvider where nobody is on that can."""
    able = [row for row in _willing(rows, vendors, "speech") if row.isolates]
    if not able:
        raise NoProvider("No vendor that is on can enhance a recording.")
    return tuple(Reader(row.name, ISOLATION, "") for row in able)


def _willing(rows: Sequence[AnyRow], vendors: Vendors, what: str) -> Sequence[AnyRow]:
    places = {name: place for place, name in enumerate(vendors.fallback_order)}
    on = [row for row in rows if row.name in vendors.on]
    # Before the killed ones go: the embedded engine does not step forward for a vendor that was switched off.
    on = [row for row in on if not row.demo] or on
    willing = sorted(
        (row for row in on if row.name not in vendors.killed), key=lambda row: places.get(row.name, len(places))
    )
    if not willing:
        raise NoProvider(f"No vendor of {what} is on. GET /api/health names the variables that turn one on.")
    return willing


AnyCandidate = TypeVar("AnyCandidate", Painter, Reader)


def _able(
    offered: Sequence[AnyCandidate], faults: Callable[[AnyCandidate], Iterable[FieldError]], what: str
) -> tuple[AnyCandidate, ...]:
    """Those without a fault. Raises InvalidRequest with the faults of the first where all have one."""
    found = [tuple(faults(candidate)) for candidate in offered]
    able = tuple(candidate for candidate, wrong in zip(offered, found, strict=True) if not wrong)
    if not able:
        first = found[0][0]
        code = ContextTooLong.code if first.path == "speech.text" else "capability_missing"
        message = f"This can't be {what} by a vendor that is on: {first.path} {first.message}."
        raise InvalidRequest(message, code=code, errors=found[0])
    return able


def _image_model(row: ImageRow, name: str | None, rows: Sequence[ImageRow]) -> ImageModel:
    """The one of that name, if it is this vendor's. What nobody is known to offer is asked of hosted vendors."""
    own = next((model for model in row.models if model.id == name), None)
    unknown = name is not None and not row.demo and not any(model.id == name for each in rows for model in each.models)
    return ImageModel(name) if unknown and name is not None else own or row.models[0]


def _speech_model(row: SpeechRow, request: ReadingRequest, rows: Sequence[SpeechRow]) -> SpeechModel:
    name = request.usual_model
    own = next((model for model in row.models if model.id == name), None)
    unknown = name is not None and not row.demo and not any(model.id == name for each in rows for model in each.models)
    return SpeechModel(name, UNLISTED_CHARACTERS) if unknown and name is not None else own or row.models[0]


def _voice(row: SpeechRow, request: ReadingRequest) -> str:
    """The embedded engine has a voice of its own: an id of a hosted vendor's means nothing to it."""
    return request.voice_id or (None if row.demo else request.usual_voice_id) or row.voice


def _unpaintable(request: ImageRequest, model: ImageModel) -> Iterator[FieldError]:
    if request.count > model.max_images:
        yield FieldError("image.count", f"must be at most {model.max_images}")


def _unreadable(request: ReadingRequest, row: SpeechRow, model: SpeechModel) -> Iterator[FieldError]:
    if len(request.text) > model.max_characters:
        yield FieldError("speech.text", f"must have at most {model.max_characters} characters")
    if request.language is not None and model.languages is not None and request.language not in model.languages:
        yield FieldError("speech.language", f"must be one of {', '.join(sorted(model.languages))}")
    if request.format.partition("_")[0] not in row.codecs:
        yield FieldError("speech.format", f"must be one of {', '.join(row.codecs)}")
    if row.demo and request.voice_id not in {None, row.voice}:
        yield FieldError("speech.voice_id", f"must be {row.voice}: it is the embedded engine's one voice")

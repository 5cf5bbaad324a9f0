"""The request of POST /api/vsl: checked, and made into the plain JSON that a job is made of."""

from __future__ import annotations

import hashlib
import ipaddress
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, cast
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lib.errors import FieldError, InvalidRequest
from lib.vsl.beats import Beat, beats, words_per_s

MAX_BODY_BYTES = 256 * 1024
MAX_FRAMES = 24
MAX_FACTS = 50
MAX_ERRORS = 20
MAX_NAME = 100
"""Characters of a field's name that an error repeats."""
WRITTEN_IN = ("en", "pt")
"""Languages that a script can be written in; a script of one's own may be in any."""
BREAKS = frozenset({"Cc", "Zl", "Zp"})
NOT_IN_HOSTS = frozenset(' "#%/<>?@[\\]^`{|}')
"""WHATWG URL, forbidden domain code points, without the controls, which no address may hold anyway, and the colon."""
LOCAL_NAMES = ("localhost", "local", "internal", "lan", "home", "localdomain")
Source = Literal["own", "model", "template", "facts"]
"""Whose words a frame's narration is: the caller's script, a model's, our own wording, or the brief's word for word."""


class Usual(Protocol):
    """What counts where a request says nothing: the runtime parameters."""

    @property
    def voice_id(self) -> str | None:
        """Whose voice."""
        ...

    @property
    def voice_model(self) -> str | None:
        """Which model reads."""
        ...

    @property
    def voice_speed(self) -> float | None:
        """How fast; 1.0 is the voice's own pace."""
        ...

    @property
    def img_style(self) -> str | None:
        """How pictures look."""
        ...

    @property
    def img_model(self) -> str | None:
        """Which model draws."""
        ...


def _told(text: str) -> str:
    """On one line, without what no voice says and no screen shows: control characters, marks of writing direction."""
    kept = "".join(" " if unicodedata.category(each) in BREAKS else each for each in text)
    kept = "".join(each for each in kept if unicodedata.category(each) != "Cf")
    text = " ".join(unicodedata.normalize("NFC", kept).split())
    if not text:
        raise PydanticCustomError("says_nothing", "must say something")
    return text


def _spoken(text: str) -> str:
    if not any(map(str.isalnum, text)):
        raise PydanticCustomError("says_nothing", "must say something")
    return _told(text)


def _paragraphs(text: str) -> str:
    """Those with words: a line of dashes between two of them is none."""
    lines = [line for line in text.splitlines() if any(map(str.isalnum, line))]
    if not lines:
        raise PydanticCustomError("says_nothing", "must say something")
    return "\n".join(map(_told, lines))


def _web_address(text: str, schemes: frozenset[str]) -> str:
    try:
        parts = urlsplit(text)
        host = parts.hostname if parts.scheme in schemes and parts.username is None and text.isprintable() else None
    except ValueError:
        host = None
    if host is None or set(host) & NOT_IN_HOSTS:
        raise PydanticCustomError("address", "must be an {schemes} address", {"schemes": " or ".join(sorted(schemes))})
    if _is_private(host):
        raise PydanticCustomError("private_address", "must be a public address")
    return text


def _is_private(host: str) -> bool:
    """As far as the name tells; what it stands for is looked at when it is called."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # Also "127.1" and "0x7f.1", which some resolvers take for numbers.
        name = host.rstrip(".").rpartition(".")
        return not name[0] or name[2].lower() in LOCAL_NAMES or not name[2][:1].isalpha()


def _media(text: str) -> str:
    """An asset's id, or an https address."""
    try:
        return str(UUID(text))
    except ValueError:
        pass
    if "://" not in text:
        raise PydanticCustomError("media", "must be the id of an asset or an https address")
    return _web_address(text, frozenset({"https"}))


def _empty_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _as_script(value: object) -> object:
    return {"text": value} if isinstance(value, str) else value


Maybe = Annotated[
    Annotated[str, StringConstraints(max_length=1_000), AfterValidator(_told)] | None, BeforeValidator(_empty_is_none)
]
"""A text that may be left empty, as forms leave it."""
Media = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_media)]
PublicUrl = Annotated[
    str, StringConstraints(max_length=2_000), AfterValidator(lambda url: _web_address(url, frozenset({"https"})))
]
LinkUrl = Annotated[
    str,
    StringConstraints(max_length=2_000),
    AfterValidator(lambda url: _web_address(url, frozenset({"http", "https"}))),
]
Narration = Annotated[str, StringConstraints(max_length=4_000), AfterValidator(_spoken)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _Ours(BaseModel):
    """An object of our own contract: an unknown field is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Fact(_Ours):
    """Something that a script may claim."""

    id: Name
    text: Annotated[str, StringConstraints(max_length=500), AfterValidator(_told)]
    source: Maybe = None


class Cta(_Ours):
    """What to do next."""

    text: Annotated[str, StringConstraints(max_length=200), AfterValidator(_told)]
    url: LinkUrl | None = None


class OwnFrame(_Ours):
    """A frame of a script of one's own, or of one that was written here before: `claims` and `source` are of those."""

    narration: Narration
    beat: Beat | None = None
    on_screen: Maybe = None
    image_prompt: Maybe = None
    alt: Maybe = None
    image: Media | None = None
    narration_audio: Media | None = None
    claims: Annotated[list[Name], Field(max_length=MAX_FACTS)] | None = None
    source: Source | None = None


class OwnScript(_Ours):
    """A script of one's own: its text, or its frames."""

    title: Maybe = None
    text: Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_paragraphs)] | None = None
    frames: Annotated[list[OwnFrame], Field(min_length=1, max_length=MAX_FRAMES)] | None = None
    degraded: bool | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> OwnScript:
        if (self.text is None) == (self.frames is None):
            raise PydanticCustomError("text_or_frames", "needs either text or frames")
        return self


class Captions(_Ours):
    """How captions look. There are always files of them; `burn_in` also writes them into the picture."""

    style: Literal["lines", "karaoke"] = "lines"
    burn_in: bool = False


class Brief(_Ours):
    """POST /api/vsl."""

    product: Annotated[str, StringConstraints(max_length=500), AfterValidator(_told)] | None = None
    audience: Maybe = None
    offer: Maybe = None
    guarantee: Maybe = None
    cta: Cta | None = None
    facts: Annotated[list[Fact], Field(max_length=MAX_FACTS)] = []
    tone: Annotated[str, StringConstraints(max_length=100), AfterValidator(_told)] | None = None
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    script: Annotated[OwnScript | None, BeforeValidator(_as_script)] = None
    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = None
    duration_s: Annotated[float, Field(ge=10, le=600)] = 60
    aspect: Literal["16:9", "9:16", "1:1"] = "16:9"
    resolution: Literal["720p", "1080p"] = "720p"
    voice_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    voice_speed: Annotated[float, Field(ge=0.7, le=1.2)] | None = None
    img_style: Annotated[str, StringConstraints(max_length=200), AfterValidator(_told)] | None = None
    motion: bool = True
    music: Media | None = None
    captions: Captions = Captions()
    strict: bool = False
    budget_usd: Annotated[float, Field(ge=1e-6, le=1_000)] | None = 2.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stop_after: Literal["script"] | None = None
    estimate: bool = False
    reuse: bool = True
    webhook_url: PublicUrl | None = None
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ],
        Field(max_length=16),
    ] = {}

    @model_validator(mode="after")
    def _enough_to_write(self) -> Brief:
        if self.script is None and self.product is None:
            raise _refused("product", "is missing: there is no script either")
        if self.script is None and self.language.partition("-")[0] not in WRITTEN_IN:
            languages = " or ".join(WRITTEN_IN)
            raise _refused("language", f"must be {languages}, unless you send a script of your own")
        if self.script is not None and self.script.frames is not None and self.frames is not None:
            raise _refused("frames", "has no place beside script.frames")
        ids = [fact.id for fact in self.facts]
        for place, name in enumerate(ids):
            if name in ids[:place]:
                raise _refused(f"facts[{place}].id", "must be no other fact's id")
        return self

    def told(self) -> dict[str, Any]:
        """All that was sent, and the defaults; for comparing two requests under one key."""
        return self.model_dump()

    def request(self, usual: Usual) -> dict[str, Any]:
        """What a job is made of, as JSON: what decides nothing about the video is left out.

        `usual` fills in where nothing was said. Equal requests have equal videos.
        """
        left_out = {"budget_usd", "estimate", "reuse", "webhook_url", "metadata"}
        request = self.model_dump(exclude=left_out)
        request["voice_id"] = self.voice_id or usual.voice_id
        request["voice_model"] = usual.voice_model
        request["voice_speed"] = self.voice_speed or usual.voice_speed or 1.0
        request["img_style"] = self.img_style or usual.img_style
        request["img_model"] = usual.img_model
        if self.script is None:
            request["frames"] = len(planned(request))
        return request


def read_brief(value: object) -> Brief:
    """Check a body's JSON. Raises InvalidRequest naming every field that is wrong, never what was sent."""
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    try:
        return Brief.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
        fields = tuple(FieldError(_path(detail["loc"]), _in_words(cast("dict[str, Any]", detail))) for detail in found)
        raise InvalidRequest(f"{fields[0].path}: {fields[0].message}", errors=fields) from None


def planned(request: Mapping[str, Any]) -> tuple[Beat, ...]:
    """The beats of a script that is to be written, one per frame. Proof needs facts, an offer and a promise theirs."""
    without: set[Beat] = set()
    if len(request["facts"]) < 2:  # noqa: PLR2004 - the first one is told with the solution
        without.add("proof")
    if request["offer"] is None:
        without.add("offer")
    if request["guarantee"] is None:
        without.add("guarantee")
    words = int(request["duration_s"] * words_per_s(request["language"], request["voice_speed"]))
    return beats(request["duration_s"], request["frames"], without=frozenset(without), words=words)


def request_hash(request: Mapping[str, Any]) -> str:
    """The SHA-256, in hex, of a request as canonical JSON: what a manifest tells the video was made from."""
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _in_words(detail: Mapping[str, Any]) -> str:
    known: dict[str, str] = {
        "extra_forbidden": "unknown field",
        "missing": "is missing",
        "model_type": "must be an object",
    }
    return known.get(detail["type"]) or str(detail["msg"])


def _path(steps: Sequence[str | int]) -> str:
    """As people write it: `facts[0].id`."""
    text = ""
    for step in steps:
        name = str(step) if len(str(step)) <= MAX_NAME else f"{str(step)[:MAX_NAME]}…"
        text += f"[{name}]" if isinstance(step, int) else f".{name}" if text else name
    return text


def _refused(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {message}.", errors=(FieldError(path, message),))

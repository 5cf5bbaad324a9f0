"""The body of POST /api/generate, checked, and the request it stands for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)
from pydantic import model_validator as validator
from pydantic_core import PydanticCustomError

from lib.control.parameters import DEFAULT_OUTPUT_TOKENS, MAX_TOKENS, TEMPERATURE, TOP_P
from lib.errors import FieldError, InvalidRequest
from lib.http.body import field_path
from lib.providers.base import ChatRequest

MAX_ERRORS = 20
MAX_MESSAGES = 1_000
MAX_PARTS = 1_000
MAX_SCHEMA_BYTES = 64 * 1024

TAG = "\0"
"""Begins the names by which pydantic tells the alternatives of a union apart: they are no part of a field's path, and
no field's name can begin so."""
_SAYS_SOMETHING = r"\S"
_IMAGE_TYPE = r"^image/"
_IMAGE_URL = r"^(https://|data:image/[a-z.+-]+;base64,)"
_IN_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "is missing",
    "model_type": "must be an object",
    "too_short": "must hold at least one",
    _SAYS_SOMETHING: "must say something",
    _IMAGE_TYPE: "must be an image's type: only pictures are taken",
    _IMAGE_URL: "must be an https URL or a picture as a base64 data URL",
}

Filled = Annotated[str, StringConstraints(min_length=1, pattern=_SAYS_SOMETHING)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ImageUrl = Annotated[str, StringConstraints(pattern=_IMAGE_URL)]


class _Ours(BaseModel):
    """An object of our own contract: an unknown field is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Foreign(BaseModel):
    """An object of OpenAI's or the AI SDK's making: fields that we do not use are left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(_Foreign):
    """Text, in both styles."""

    type: Literal["text"]
    text: str


class _ImageUrl(_Foreign):
    url: ImageUrl


class ImagePart(_Foreign):
    """A picture, in OpenAI's style."""

    type: Literal["image_url"]
    image_url: _ImageUrl

    @property
    def url(self) -> str:
        """Where the picture is, or the picture itself as a data URL."""
        return self.image_url.url


class FilePart(_Foreign):
    """A picture, in the AI SDK's style."""

    type: Literal["file"]
    media_type: Annotated[str, Field(alias="mediaType", pattern=_IMAGE_TYPE)]
    url: ImageUrl


class OtherPart(_Foreign):
    """What the AI SDK keeps in a message besides: reasoning, steps, sources, data."""

    type: str


def _part_tag(part: Any) -> str:
    kind: Any = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None
    return f"\0{kind}" if kind in ("text", "file", "image_url") else "\0other"


OpenAIPart = Annotated[
    Annotated[TextPart, Tag("\0text")] | Annotated[ImagePart, Tag("\0image_url")],
    Discriminator(lambda part: "\0image_url" if _part_tag(part) == "\0image_url" else "\0text"),
]
UIPart = Annotated[
    Annotated[TextPart, Tag("\0text")] | Annotated[FilePart, Tag("\0file")] | Annotated[OtherPart, Tag("\0other")],
    Discriminator(lambda part: tag if (tag := _part_tag(part)) != "\0image_url" else "\0other"),
]


class OpenAIMessage(_Foreign):
    """A message in OpenAI's style."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("\0string")]
        | Annotated[list[OpenAIPart], Field(max_length=MAX_PARTS, fail_fast=True), Tag("\0list")],
        Discriminator(lambda content: "\0list" if isinstance(content, list) else "\0string"),
    ]

    @property
    def pieces(self) -> list[TextPart | ImagePart]:
        """The message's text and pictures, in order."""
        return self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content)]


class UIMessage(_Foreign):
    """A message in the AI SDK's style."""

    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[UIPart], Field(max_length=MAX_PARTS, fail_fast=True)]

    @property
    def pieces(self) -> list[TextPart | FilePart]:
        """The message's text and pictures, in order; other parts are the page's business."""
        return [part for part in self.parts if not isinstance(part, OtherPart)]


Message = Annotated[
    Annotated[OpenAIMessage, Tag("\0openai")] | Annotated[UIMessage, Tag("\0ui")],
    Discriminator(lambda message: "\0ui" if isinstance(message, dict) and "parts" in message else "\0openai"),
]


def _of_bounded_size(schema: dict[str, Any]) -> dict[str, Any]:
    """A grammar is made of it at the provider: a huge one would keep that busy for minutes."""
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise PydanticCustomError("schema_too_large", "must be smaller than 64 KB as JSON")
    return schema


class JsonSchema(_Ours):
    """What the answer must look like, as OpenAI's `json_schema`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema"), AfterValidator(_of_bounded_size)]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(_Ours):
    """OpenAI's `response_format`, of type json_schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class GenerateRequest(_Ours):
    """POST /api/generate: exactly one of `prompt` and `messages`; the rest has defaults."""

    prompt: Filled | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] | None = None
    system: Filled | None = None
    outputs: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] = ["text"]
    provider: Label | None = None
    model: Label | None = None
    temperature: Annotated[float, Field(ge=TEMPERATURE.low, le=TEMPERATURE.high)] | None = None
    top_p: Annotated[float, Field(gt=TOP_P.low, le=TOP_P.high)] | None = None
    max_tokens: Annotated[int, Field(ge=MAX_TOKENS.low, le=MAX_TOKENS.high)] = DEFAULT_OUTPUT_TOKENS
    stop: (
        Annotated[
            Annotated[Filled, Tag("\0string")]
            | Annotated[list[Filled], Field(min_length=1, max_length=4), Tag("\0list")],
            Discriminator(lambda stop: "\0list" if isinstance(stop, list) else "\0string"),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    stream: bool | None = None
    on_interrupt: Literal["continue", "restart", "error"] = "continue"
    ui_stream: Literal["v7"] | None = None
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ],
        Field(max_length=16),
    ] = {}
    # What useChat sends along: the conversation's name, and what nothing here needs.
    id: Label | None = None
    trigger: Label | None = None
    message_id: Annotated[Label | None, Field(alias="messageId")] = None

    @validator(mode="after")
    def _one_input(self) -> GenerateRequest:
        if (self.prompt is None) == (self.messages is None):
            which = "are both there: send one" if self.prompt is not None else "are both missing: send one"
            raise InvalidRequest(
                f"prompt and messages {which}.",
                errors=(FieldError("prompt", "exactly one of prompt and messages"),),
            )
        return self

    def parameters(self) -> dict[str, object]:
        """The runtime parameters that the caller sets."""
        return {
            name: getattr(self, name)
            for name in ("temperature", "top_p", "max_tokens")
            if name in self.model_fields_set
        }

    def chat(self) -> ChatRequest:
        """The same request, free of HTTP. Raises InvalidRequest where a message says nothing."""
        prompt: dict[str, object] = {"role": "user", "content": self.prompt}
        messages = _chat_messages(self.messages) if self.messages else [prompt]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        response_format = self.response_format
        return ChatRequest(
            messages=tuple(messages),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            seed=self.seed,
            response_format=response_format.model_dump(by_alias=True, exclude_none=True) if response_format else None,
            reasoning_effort=self.reasoning_effort,
        )


def read_generate_request(value: object) -> GenerateRequest:
    """Check a body's JSON. Raises InvalidRequest naming every field that is wrong."""
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    try:
        return GenerateRequest.model_validate(value)
    except ValidationError as error:
        # Only the places and the rules: the values may be private.
        details = error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
        fields = tuple(_field_error(detail) for detail in details)
        first = f"{fields[0].path}: {fields[0].message}"
        raise InvalidRequest(first, errors=fields) from None


def _field_error(detail: Any) -> FieldError:
    path = [step for step in detail["loc"] if not (isinstance(step, str) and step.startswith(TAG))]
    if detail["loc"][0] == "metadata" and detail["loc"][2:] == ("[key]",):
        path.pop()
    pattern: str = detail["ctx"]["pattern"] if detail["type"] == "string_pattern_mismatch" else ""
    return FieldError(field_path(path), _IN_WORDS.get(pattern) or _IN_WORDS.get(detail["type"]) or detail["msg"])


def _chat_messages(messages: list[OpenAIMessage | UIMessage]) -> list[dict[str, object]]:
    chat: list[dict[str, object]] = []
    for index, message in enumerate(messages):
        # No vendor takes a picture from anyone but the user: those that were drawn earlier stay with the page.
        pieces = [
            piece
            for piece in message.pieces
            if (piece.text.strip() if isinstance(piece, TextPart) else message.role == "user")
        ]
        if pieces:
            chat.append(
                {"role": "system" if message.role == "developer" else message.role, "content": _content(pieces)}
            )
        elif message.role != "assistant":
            # An assistant's empty message is what a stopped answer leaves behind; anyone else's is a mistake.
            where = field_path(("messages", index))
            raise InvalidRequest(f"{where} says nothing.", errors=(FieldError(where, "must say something"),))
    if all(message["role"] == "system" for message in chat):
        raise InvalidRequest("messages hold no question.", errors=(FieldError("messages", "needs a user's message"),))
    return chat


def _content(pieces: list[Any]) -> str | list[dict[str, object]]:
    """Plain text wherever there is nothing else: every vendor takes that."""
    if all(isinstance(piece, TextPart) for piece in pieces):
        return "\n".join(piece.text for piece in pieces)
    return [
        {"type": "text", "text": piece.text}
        if isinstance(piece, TextPart)
        else {"type": "image_url", "image_url": {"url": piece.url}}
        for piece in pieces
    ]

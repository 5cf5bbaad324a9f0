"""The messages of a chat, in OpenAI's style or the AI SDK's: checked, and turned into what every vendor takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    model_validator,
)
from pydantic_core import PydanticCustomError

from lib.errors import FieldError, InvalidRequest
from lib.http.body import Path, field_path
from lib.providers.base import json_object

MAX_PARTS = 1_000
MAX_TOOLS = 128
"""Defined by a request, or called by a message: OpenAI's limit."""
IMAGE_TYPE = r"^image/"
IMAGE_URL = r"^(https://|data:image/[a-z.+-]+;base64,)"
SAYS_SOMETHING = r"\S"
TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"
TOOL_PART = r"^tool-[A-Za-z0-9_-]{1,64}$"
DENIED = "Tool call execution denied."
"""What the AI SDK tells a model of a call that the user denied without a reason."""
NEVER_RAN = "There is no result: the tool was not run."

Filled = Annotated[str, StringConstraints(min_length=1, pattern=SAYS_SOMETHING)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ImageUrl = Annotated[str, StringConstraints(pattern=IMAGE_URL)]
ToolName = Annotated[str, StringConstraints(pattern=TOOL_NAME)]
Chat = dict[str, object]
"""A message in OpenAI's wire shape."""


class Ours(BaseModel):
    """An object of our own contract: an unknown field is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Foreign(BaseModel):
    """An object of OpenAI's or the AI SDK's making: fields that we do not use are left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(Foreign):
    """Text, in both styles."""

    type: Literal["text"]
    text: str


class _ImageUrl(Foreign):
    url: ImageUrl


class ImagePart(Foreign):
    """A picture, in OpenAI's style."""

    type: Literal["image_url"]
    image_url: _ImageUrl

    @property
    def url(self) -> str:
        """Where the picture is, or the picture itself as a data URL."""
        return self.image_url.url


class FilePart(Foreign):
    """A picture, in the AI SDK's style."""

    type: Literal["file"]
    media_type: Annotated[str, Field(alias="mediaType", pattern=IMAGE_TYPE)]
    url: ImageUrl


class _Approval(Foreign):
    approved: bool | None = None
    reason: str | None = None


class ToolPart(Foreign):
    """A call of a tool and what came of it, in the AI SDK's style; its type holds the tool's name."""

    type: str
    id: Annotated[Label, Field(alias="toolCallId")]
    state: Literal[
        "input-streaming",
        "input-available",
        "approval-requested",
        "approval-responded",
        "output-available",
        "output-error",
        "output-denied",
    ]
    input: object = None
    output: object = None
    error_text: Annotated[str | None, Field(alias="errorText")] = None
    approval: _Approval | None = None

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.type.removeprefix("tool-")

    @property
    def arguments(self) -> str:
        """What it was called with, as JSON; where the page was told that this can't be read, nothing."""
        return orjson.dumps(cast("object", self.input)).decode() if isinstance(self.input, dict) else "{}"

    @property
    def result(self) -> str:
        """What the model is told of it, as the AI SDK tells it; a call always gets an answer, or no vendor goes on."""
        reason = self.approval.reason if self.approval else None
        match self.state:
            case "output-available":
                return self.output if isinstance(self.output, str) else orjson.dumps(self.output).decode()
            case "output-error":
                return self.error_text or ""
            case "output-denied":
                return reason or DENIED
            case "approval-responded" if self.approval and self.approval.approved is False:
                return reason or DENIED
            case _:
                return NEVER_RAN


class StaticToolPart(ToolPart):
    """Of a tool that the page knows."""

    type: Annotated[str, StringConstraints(pattern=TOOL_PART)]


class DynamicToolPart(ToolPart):
    """Of one that it does not: the type is `dynamic-tool`, the name stands beside it."""

    tool_name: Annotated[ToolName, Field(alias="toolName")]

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.tool_name


class OtherPart(Foreign):
    """What the AI SDK keeps in a message besides: reasoning, steps, sources, data."""

    type: str


def _part_tag(part: Any) -> str:
    kind: Any = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None
    if kind in ("text", "file", "image_url", "dynamic-tool"):
        return f"\0{kind}"
    return "\0tool" if isinstance(kind, str) and kind.startswith("tool-") else "\0other"


OpenAIPart = Annotated[
    Annotated[TextPart, Tag("\0text")] | Annotated[ImagePart, Tag("\0image_url")],
    Discriminator(lambda part: "\0image_url" if _part_tag(part) == "\0image_url" else "\0text"),
]
UIPart = Annotated[
    Annotated[TextPart, Tag("\0text")]
    | Annotated[FilePart, Tag("\0file")]
    | Annotated[StaticToolPart, Tag("\0tool")]
    | Annotated[DynamicToolPart, Tag("\0dynamic-tool")]
    | Annotated[OtherPart, Tag("\0other")],
    Discriminator(lambda part: tag if (tag := _part_tag(part)) != "\0image_url" else "\0other"),
]


def _content_tag(content: Any) -> str:
    return "\0list" if isinstance(content, list) else "\0string"


OpenAIContent = Annotated[
    Annotated[str, Tag("\0string")]
    | Annotated[list[OpenAIPart], Field(max_length=MAX_PARTS, fail_fast=True), Tag("\0list")],
    Discriminator(_content_tag),
]


class OpenAIMessage(Foreign):
    """A message in OpenAI's style, of someone who calls no tool."""

    # Those of the last two roles have classes of their own; they stand here for the error that names them all.
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: OpenAIContent

    def chat(self) -> Iterator[Chat]:
        """What of it a vendor gets; nothing where it says nothing."""
        # No vendor takes a picture from anyone but the user: those that were drawn earlier stay with the page.
        pieces = [
            piece for piece in _pieces(self.content) if (_says(piece) if _is_text(piece) else self.role == "user")
        ]
        if pieces:
            yield {"role": "system" if self.role == "developer" else self.role, "content": _content(pieces)}


def _json_object(arguments: str) -> str:
    """Half a call would be taken up as a whole one."""
    if json_object(arguments) is None:
        raise PydanticCustomError("no_json_object", "must be a JSON object, as text")
    return arguments


class _CalledFunction(Foreign):
    name: ToolName
    arguments: Annotated[str, AfterValidator(_json_object)]


class ToolCall(Foreign):
    """A call that the model wanted made, in OpenAI's style."""

    id: Label
    type: Literal["function"] = "function"
    function: _CalledFunction


class AssistantMessage(Foreign):
    """What the model said, in OpenAI's style, and which tools it called."""

    role: Literal["assistant"]
    content: OpenAIContent | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None

    def chat(self) -> Iterator[Chat]:
        """What of it a vendor gets; nothing where it says nothing, which is what a stopped answer leaves behind."""
        texts = [piece for piece in _pieces(self.content or "") if _is_text(piece) and _says(piece)]
        calls = [_call(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ()]
        yield from _said(texts, calls)


class ToolMessage(Foreign):
    """What came of a call, in OpenAI's style."""

    role: Literal["tool"]
    id: Annotated[Label, Field(alias="tool_call_id")]
    content: Annotated[
        Annotated[str, Tag("\0string")]
        | Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True), Tag("\0list")],
        Discriminator(_content_tag),
    ]

    def chat(self) -> Iterator[Chat]:
        """The same for a vendor. A tool may have nothing to say."""
        yield _result(self.id, str(_content(_pieces(self.content))))


class UIMessage(Foreign):
    """A message in the AI SDK's style."""

    id: Any = None
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[UIPart], Field(max_length=MAX_PARTS, fail_fast=True)]

    @model_validator(mode="before")
    @classmethod
    def _own_files_aside(cls, message: Any) -> Any:
        """Pictures and speech of an earlier answer are the page's business: whatever they are, they are no input."""
        parts: Any = message.get("parts")
        if message.get("role") != "assistant" or not isinstance(parts, list):
            return message
        kept = [{"type": "data-file"} if _part_tag(part) == "\0file" else part for part in cast("list[Any]", parts)]
        return {**message, "parts": kept}

    def chat(self) -> Iterator[Chat]:
        """What of it a vendor gets: text, users' pictures and tool calls; other parts are the page's business.

        In the order of the AI SDK's convertToModelMessages: a message per step, its calls, then their results.
        """
        if self.role == "assistant":
            for step in self._steps():
                texts = [part for part in step if _is_text(part) and _says(part)]
                called = [part for part in step if isinstance(part, ToolPart) and part.state != "input-streaming"]
                yield from _said(texts, [_call(part.id, part.name, part.arguments) for part in called])
                yield from (_result(part.id, part.result) for part in called)
            return
        shown = self.role == "user"
        pieces = [part for part in self.parts if (_says(part) if _is_text(part) else shown and _is_picture(part))]
        if pieces:
            yield {"role": self.role, "content": _content(pieces)}

    def _steps(self) -> Iterator[list[Any]]:
        step: list[Any] = []
        for part in self.parts:
            if part.type == "step-start":
                yield step
                step = []
            else:
                step.append(part)
        yield step


def _message_tag(message: Any) -> str:
    if not isinstance(message, dict):
        return "\0openai"
    fields = cast("dict[str, Any]", message)
    if "parts" in fields:
        return "\0ui"
    role: Any = fields.get("role")
    return f"\0{role}" if role in ("assistant", "tool") else "\0openai"


Message = Annotated[
    Annotated[OpenAIMessage, Tag("\0openai")]
    | Annotated[AssistantMessage, Tag("\0assistant")]
    | Annotated[ToolMessage, Tag("\0tool")]
    | Annotated[UIMessage, Tag("\0ui")],
    Discriminator(_message_tag),
]


def chat_messages(messages: Sequence[OpenAIMessage | AssistantMessage | ToolMessage | UIMessage]) -> list[Chat]:
    """What a vendor gets. Raises InvalidRequest where a message says nothing, or a tool's result has no call."""
    chat: list[Chat] = []
    open_calls: dict[object, Path] = {}
    for index, message in enumerate(messages):
        where: Path = ("messages", index)
        said = list(message.chat())
        if not said and message.role != "assistant":
            raise _wrong(where, "must say something", "says nothing")
        for each in said:
            _follow(each, open_calls, where)
        chat += said
    for where in open_calls.values():
        raise _wrong(where, "needs a message of role tool with its result")
    if all(message["role"] == "system" for message in chat):
        raise InvalidRequest("messages hold no question.", errors=(FieldError("messages", "needs a user's message"),))
    return chat


def last_question(messages: Sequence[OpenAIMessage | AssistantMessage | ToolMessage | UIMessage]) -> str:
    """The words of the last message of a user's; empty where it has none."""
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    content: object = next((each["content"] for each in last.chat()), "") if last is not None else ""
    if isinstance(content, str):
        return content.strip()
    return "\n".join(part["text"] for part in cast("list[Any]", content) if part["type"] == "text").strip()


def _follow(message: Chat, open_calls: dict[object, Path], where: Path) -> None:
    """Keep track of the calls without a result: no vendor goes on where one is missing, or answers no call."""
    if message["role"] == "tool":
        if open_calls.pop(message["tool_call_id"], None) is None:
            raise _wrong((*where, "tool_call_id"), "must be the id of a call in the assistant's message before")
        return
    for call_at in open_calls.values():
        raise _wrong(call_at, "needs a message of role tool with its result")
    calls = cast("list[dict[str, Any]]", message.get("tool_calls", []))
    for number, call in enumerate(calls):
        call_at = (*where, "tool_calls", number)
        if call["id"] in open_calls:
            raise _wrong(call_at, "must have an id of its own")
        open_calls[call["id"]] = call_at


def _wrong(where: Path, message: str, in_a_sentence: str | None = None) -> InvalidRequest:
    path = field_path(where)
    return InvalidRequest(f"{path} {in_a_sentence or message}.", errors=(FieldError(path, message),))


def _said(texts: list[Any], calls: list[Chat]) -> Iterator[Chat]:
    """An assistant's message, where it says or does anything."""
    if calls:
        yield {"role": "assistant", "content": _content(texts) if texts else None, "tool_calls": calls}
    elif texts:
        yield {"role": "assistant", "content": _content(texts)}


def _call(id_: str, name: str, arguments: str) -> Chat:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(id_: str, text: str) -> Chat:
    return {"role": "tool", "tool_call_id": id_, "content": text}


def _pieces(content: str | list[Any]) -> list[Any]:
    return content if isinstance(content, list) else [TextPart(type="text", text=content)]


def _is_text(piece: Any) -> bool:
    return isinstance(piece, TextPart)


def _is_picture(piece: Any) -> bool:
    return isinstance(piece, FilePart)


def _says(piece: Any) -> bool:
    return bool(piece.text.strip())


def _content(pieces: list[Any]) -> str | list[dict[str, object]]:
    """Plain text wherever there is nothing else: every vendor takes that."""
    if all(map(_is_text, pieces)):
        return "\n".join(piece.text for piece in pieces)
    return [
        {"type": "text", "text": piece.text}
        if _is_text(piece)
        else {"type": "image_url", "image_url": {"url": piece.url}}
        for piece in pieces
    ]

"""The body of POST /api/generate, checked, and the request it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import (
    AfterValidator,
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
from lib.http.body import MAX_ERRORS, Path, field_path
from lib.http.media_request import ImageOptions, Output, SpeechOptions
from lib.http.messages import (
    IMAGE_TYPE,
    IMAGE_URL,
    MAX_TOOLS,
    SAYS_SOMETHING,
    TOOL_NAME,
    TOOL_PART,
    Filled,
    Label,
    Message,
    Ours,
    ToolName,
    UIMessage,
    chat_messages,
    last_question,
)
from lib.providers.base import ChatRequest

MAX_MESSAGES = 1_000
MAX_SCHEMA_BYTES = 64 * 1024

TAG = "\0"
"""Begins the names by which pydantic tells the alternatives of a union apart: they are no part of a field's path, and
no field's name can begin so."""
_IN_WORDS = {
    "extra_forbidden": "unknown field",
    "missing": "is missing",
    "model_type": "must be an object",
    "too_short": "must hold at least one",
    SAYS_SOMETHING: "must say something",
    IMAGE_TYPE: "must be an image's type: only pictures are taken",
    IMAGE_URL: "must be an https URL or a picture as a base64 data URL",
    TOOL_NAME: "must fit the pattern of names: 1 to 64 letters, digits, _ or -",
    TOOL_PART: "must be tool- and a tool's name of 1 to 64 letters, digits, _ or -",
}


def _of_bounded_size(schema: dict[str, Any]) -> dict[str, Any]:
    """A grammar is made of it at the provider: a huge one would keep that busy for minutes."""
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise PydanticCustomError("schema_too_large", "must be smaller than 64 KB as JSON")
    return schema


class JsonSchema(Ours):
    """What the answer must look like, as OpenAI's `json_schema`."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema"), AfterValidator(_of_bounded_size)]
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(Ours):
    """OpenAI's `response_format`, of type json_schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class ObjectFormat(Ours):
    """OpenAI's `response_format` for any JSON object."""

    type: Literal["json_object"]


class _Function(Ours):
    name: ToolName
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_of_bounded_size)] | None = None
    strict: bool | None = None


class Tool(Ours):
    """A tool that the model may call, as OpenAI's function tool."""

    type: Literal["function"]
    function: _Function


class _Named(Ours):
    name: ToolName


class NamedTool(Ours):
    """OpenAI's `tool_choice`, where it names the one tool to call."""

    type: Literal["function"]
    function: _Named


class GenerateRequest(Ours):
    """POST /api/generate: exactly one of `prompt` and `messages`, where either is needed; the rest has defaults."""

    prompt: Filled | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] | None = None
    system: Filled | None = None
    outputs: Annotated[list[Output], Field(min_length=1, max_length=3, default_factory=lambda: ["text"])]
    image: ImageOptions | None = None
    speech: SpeechOptions | None = None
    cache: bool | None = None
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
    response_format: (
        Annotated[
            Annotated[SchemaFormat, Tag("\0schema")] | Annotated[ObjectFormat, Tag("\0object")],
            Discriminator(lambda value: "\0object" if _type_of(value) == "json_object" else "\0schema"),
        ]
        | None
    ) = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: (
        Annotated[
            Annotated[Literal["none", "auto", "required"], Tag("\0word")] | Annotated[NamedTool, Tag("\0named")],
            Discriminator(lambda choice: "\0named" if isinstance(choice, dict) else "\0word"),
        ]
        | None
    ) = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    stream: bool | None = None
    on_interrupt: Literal["continue", "restart", "error"] = "continue"
    ui_stream: Literal["v7"] | None = None
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(min_length=1, max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ],
        Field(max_length=16, default_factory=dict),
    ]
    # What useChat sends along: the conversation's name, and what nothing here needs.
    id: Label | None = None
    trigger: Label | None = None
    message_id: Annotated[Label | None, Field(alias="messageId")] = None

    @validator(mode="after")
    def _outputs_as_described(self) -> GenerateRequest:
        if len(set(self.outputs)) < len(self.outputs):
            raise _refused(("outputs",), "must not name one twice")
        for name, options in (("image", self.image), ("speech", self.speech)):
            if options is not None and name not in self.outputs:
                raise _refused((name,), "is described, but not among the outputs")
        return self

    @validator(mode="after")
    def _one_input(self) -> GenerateRequest:
        neither_or_both = (self.prompt is None) == (self.messages is None)
        if neither_or_both and (self.prompt is not None or self.writes_text or self.draws_from_the_question):
            which = "are both there: send one" if self.prompt is not None else "are both missing: send one"
            raise InvalidRequest(
                f"prompt and messages {which}.",
                errors=(FieldError("prompt", "exactly one of prompt and messages"),),
            )
        return self

    @validator(mode="after")
    def _tools_of_their_own(self) -> GenerateRequest:
        names = [tool.function.name for tool in self.tools or ()]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise _refused(("tools", index, "function", "name"), "must be no other tool's name")
        if self.tool_choice is not None and not names:
            raise _refused(("tool_choice",), "needs tools to choose from")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise _refused(("tool_choice", "function", "name"), "must be the name of one of the tools")
        return self

    @property
    def writes_text(self) -> bool:
        """Whether a model has to write: for an answer in words, or for speech that has no other words to read."""
        return "text" in self.outputs or ("speech" in self.outputs and (self.speech or SpeechOptions()).needs_text)

    @property
    def draws_from_the_question(self) -> bool:
        """Whether the user's prompt is the picture's, too."""
        return "image" in self.outputs and (self.image is None or self.image.prompt is None)

    @property
    def makes_media(self) -> bool:
        """Whether there will be files."""
        return self.outputs != ["text"]

    def question(self) -> str:
        """What the user says, or said last, in words. Raises InvalidRequest where that is nothing."""
        question = self.prompt or (last_question(self.messages) if self.messages else "")
        if not question:
            raise _refused(("image", "prompt"), "is missing, and the last message has no words to draw from")
        return question

    @property
    def continued_message_id(self) -> str | None:
        """The id of the AI SDK's message that the answer becomes a part of: the last one, where it is the assistant's.

        Its client takes an answer under another id for another message, and shows what both hold twice.
        """
        last = self.messages[-1] if self.messages else None
        id_: object = last.id if isinstance(last, UIMessage) and last.role == "assistant" else None
        return id_ if isinstance(id_, str) and id_ else None

    @property
    def may_call_tools(self) -> bool:
        """Whether the answer may be a call of a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    def answer_check(self) -> Callable[[str], str | None]:
        """What says whether a text is the JSON that `response_format` asks for: see json_schema.answer_check.

        For a thread: the first call imports a library, and a large schema takes its time. Raises InvalidRequest.
        """
        from lib.http import json_schema  # noqa: PLC0415 - only who asks for JSON pays for the import

        if isinstance(self.response_format, SchemaFormat):
            return json_schema.answer_check(orjson.dumps(self.response_format.json_schema.schema_))
        return json_schema.check_object

    def parameters(self) -> dict[str, object]:
        """The runtime parameters that the caller sets."""
        return {
            name: getattr(self, name)
            for name in ("temperature", "top_p", "max_tokens")
            if name in self.model_fields_set
        }

    def chat(self) -> ChatRequest:
        """The same request, free of HTTP. Raises InvalidRequest where the messages make no conversation."""
        prompt: dict[str, object] = {"role": "user", "content": self.prompt}
        messages = chat_messages(self.messages) if self.messages else [prompt]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        response_format, tool_choice = self.response_format, self.tool_choice
        return ChatRequest(
            messages=tuple(messages),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            seed=self.seed,
            response_format=response_format.model_dump(by_alias=True, exclude_none=True) if response_format else None,
            reasoning_effort=self.reasoning_effort,
            tools=tuple(tool.model_dump(exclude_none=True) for tool in self.tools or ()),
            tool_choice=tool_choice.model_dump() if isinstance(tool_choice, NamedTool) else tool_choice,
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


def _refused(path: Path, message: str) -> InvalidRequest:
    where = field_path(path)
    return InvalidRequest(f"{where} {message}.", errors=(FieldError(where, message),))


def _type_of(value: Any) -> Any:
    return cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else None

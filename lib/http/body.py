"""Request bodies: read up to a limit, parsed as JSON, free of what no later part can store or encode."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from starlette.types import Receive

from lib.errors import BadRequest, FieldError, InvalidRequest, PayloadTooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Below the platform's own 4.5 MB, so that the error is ours."""
MAX_LENGTH_DIGITS = 20
MAX_ERRORS = 20
MAX_DEPTH = 64
MAX_VALUES = 100_000
"""In objects and lists together: checking more would keep everyone else waiting."""
MAX_NAME = 100
"""Characters of a field's name that an error repeats."""

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound="BaseModel")


async def read_body(receive: Receive, content_length: str | None) -> bytes | None:
    """The whole body, or None when the client left. Raises PayloadTooLarge, at once where the length says so."""
    # Nobody counts that far: more digits than these can't be read as a number, and need not be.
    told = content_length if content_length is not None and content_length.isdecimal() else "0"
    if len(told) > MAX_LENGTH_DIGITS or int(told) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def parse_json(body: bytes, content_type: str | None) -> object:
    """The body's JSON value. Raises UnsupportedMediaType, BadRequest or, naming the field, InvalidRequest."""
    if (content_type or "").partition(";")[0].strip().lower() != "application/json":
        # A form's content types would also let other sites' pages post without asking first (CORS).
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _refuse_surrogates(body)
        raise BadRequest(f"The body is not valid JSON (line {error.lineno}, column {error.colno}).") from error
    _refuse_unfit(value, is_suspect=b"\\u0000" in body)
    return value


def field_path(path: Sequence[str | int]) -> str:
    """A path in a body as people write it: `messages[0].content`."""
    text = ""
    for step in path:
        name = str(step) if len(str(step)) <= MAX_NAME else f"{str(step)[:MAX_NAME]}…"
        text += f"[{name}]" if isinstance(step, int) else f".{name}" if text else name
    return text


def validated(model: type[Model], value: object) -> Model:
    """A body's JSON as a model. Raises InvalidRequest naming every field that is wrong, never what was sent."""
    from pydantic import ValidationError  # noqa: PLC0415 - who brings a model has loaded it

    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:MAX_ERRORS]
        fields = tuple(FieldError(field_path(detail["loc"]), detail["msg"]) for detail in found)
        raise InvalidRequest(f"{fields[0].path}: {fields[0].message}", errors=fields) from None


def _refuse_surrogates(body: bytes) -> None:
    """Where orjson failed, see whether half a surrogate pair is why: then the field can be named."""
    if b"\\ud" not in body.lower():
        return
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    _refuse_unfit(value, is_suspect=True)


def _refuse_unfit(value: object, *, is_suspect: bool) -> None:
    """Refuse what is too much or too deep, and name bad texts where there may be any: that costs a walk with paths."""
    if _is_too_deep(value) or is_suspect:
        _refuse_fields(value)


def _is_too_deep(value: Any) -> bool:
    """Whether something lies deeper than MAX_DEPTH. Raises InvalidRequest where there is too much to look at."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    values = 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            values += len(item)
            if values > MAX_VALUES:
                raise InvalidRequest(f"The body holds more than {MAX_VALUES} values.", code="too_many_values")
            below += [child for _, child in _children(item) if isinstance(child, dict | list)]
        if not below:
            return False
        level = below
    return True


def _refuse_fields(value: object) -> None:
    for path, message in _unfit(value):
        where = field_path(path)
        raise InvalidRequest(f"{where or 'The body'} {message}.", errors=(FieldError(where, message),))


def _unfit(value: Any) -> Iterator[tuple[Path, str]]:
    """Strings with a NUL or half a surrogate pair, and what lies deeper than MAX_DEPTH; without recursion."""
    todo: list[tuple[Path, Any]] = [((), value)]
    while todo:
        path, item = todo.pop()
        if isinstance(item, str):
            if (fault := _fault(item)) is not None:
                yield path, f"holds {fault}"
        elif isinstance(item, dict | list):
            if len(path) >= MAX_DEPTH:
                yield path[:3], f"is nested deeper than {MAX_DEPTH} levels"
            for key, child in _children(item):
                if isinstance(key, str) and (fault := _fault(key)) is not None:
                    yield path, f"has a field whose name holds {fault}"
                todo.append(((*path, key), child))


def _children(item: Any) -> Iterator[tuple[str | int, Any]]:
    yield from item.items() if isinstance(item, dict) else enumerate(item)


def _fault(text: str) -> str | None:
    if "\x00" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body may hold {MAX_BODY_BYTES // 1024 // 1024} MB at most.")

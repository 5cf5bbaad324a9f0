"""The chat-completions protocol as OpenAI published it and the compatible vendors speak it: bodies, events, errors."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from lib.errors import (
    BrokenStream,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from lib.providers.base import ChatRequest, Delta, FinishReason, Model, Usage
from lib.providers.catalog import Row
from lib.providers.sse import EventParser
from lib.providers.tool_calls import ToolCallReader, clean

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_BY_STATUS: dict[int, type[ProviderError]] = {
    400: RequestRejected,
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelUnavailable,
    410: ModelUnavailable,
    413: RequestRejected,
    422: RequestRejected,
    429: RateLimited,
}
"""Every other status says nothing of the request: it may be well with someone else."""
_BY_CODE: dict[str, type[ProviderError]] = {
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    "content_filter": ContentRefused,
    "content_policy_violation": ContentRefused,
    "insufficient_quota": QuotaExhausted,
    "invalid_api_key": CredentialsRejected,
    "model_not_found": ModelUnavailable,
    "model_decommissioned": ModelUnavailable,
    "rate_limit_exceeded": RateLimited,
}
MALFORMED_EVENTS_ALLOWED = 1
ABSURD_TOKENS = 1_000_000_000
"""No answer has so many; a count beyond is not believed."""


def request_arguments(request: ChatRequest, model: Model, row: Row) -> dict[str, object]:
    """The body of POST …/chat/completions for this request, always streamed; what is unset is left out."""
    optional: dict[str, object | None] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "response_format": request.response_format,
        "reasoning_effort": request.reasoning_effort if "reasoning" in model.can else None,
        "tools": list(request.tools) or None,
        "tool_choice": request.tool_choice,
    }
    return {
        **dict(model.arguments),
        "model": model.id,
        "messages": list(request.messages),
        "stream": True,
        row.max_tokens_field: min(request.max_tokens, model.max_output_tokens),
        **{name: value for name, value in optional.items() if value is not None},
    }


def request_headers(request: ChatRequest, row: Row) -> dict[str, str]:
    """The headers that this vendor wants beside the usual ones."""
    headers: dict[str, str] = {}
    if not row.keep_alive:
        headers["connection"] = "close"
    if row.conversation_header is not None and request.conversation is not None:
        headers[row.conversation_header] = request.conversation.key
    return headers


def error_for(status: int | None, body: Any, headers: Mapping[str, str], now: float) -> ProviderError:
    """Name what a provider's error means, by its status and the codes in its body, never by its message.

    `body` is the parsed error body, `{"error": {"code", "type"}}` or what lies below `error`; `now` a Unix time.
    """
    codes = _codes(body)
    kind = next((_BY_CODE[code] for code in codes if isinstance(code, str) and code in _BY_CODE), None)
    if status is None:
        # An error inside a stream that began as 200; some vendors give a status as its code.
        status = next((code for code in codes if isinstance(code, int)), None)
    if kind is None:
        kind = _BY_STATUS.get(status or 0, Overloaded)
    return kind(status=status, retry_after_s=retry_after(headers.get("retry-after"), now))


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None


class ChatStream:
    """Turns the bytes of a chat-completions stream into deltas, each event parsed once."""

    def __init__(self, call_ids: Collection[object] = ()) -> None:
        """`call_ids` are those of the calls that were made earlier in the conversation."""
        self._events = EventParser()
        self._calls = ToolCallReader(call_ids)
        self._finished = False
        self.done = False
        self.malformed = 0
        self.error: ProviderError | None = None

    def feed(self, chunk: bytes) -> list[Delta]:
        """The deltas that these bytes complete. What fails among them is in `error`, after the deltas before it."""
        try:
            events = self._events.feed(chunk)
        except ProviderError as error:
            self.error = error
            return []
        return self._deltas(events)

    @property
    def finished(self) -> bool:
        """Whether the vendor has said that the answer is complete: then losing the connection loses nothing."""
        return self._finished and self.error is None

    def close(self) -> list[Delta]:
        """The body is over; where the vendor never said that the answer is complete, `error` says so."""
        deltas = self._deltas(self._events.close())
        if self.error is None and not self._finished:
            self.error = BrokenStream()
        return deltas

    def _deltas(self, events: Iterable[bytes]) -> list[Delta]:
        deltas: list[Delta] = []
        for data in events:
            if data == b"[DONE]":
                self._finished = self.done = True
                if self._calls.nameless:
                    self.error = BrokenStream()
                break
            try:
                delta = self._read(data)
            except ProviderError as error:
                self.error = error
                break
            if delta is not None:
                self._finished = self._finished or delta.finish_reason is not None
                deltas.append(delta)
        return deltas

    def _read(self, data: bytes) -> Delta | None:
        delta = None
        try:
            delta = self._delta(orjson.loads(data))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            # One event that cannot be read loses a few characters at most; two mean that the stream is not sane.
            self.malformed += 1
            if self.malformed > MALFORMED_EVENTS_ALLOWED:
                raise BrokenStream from error
        if self._calls.begun and (self.malformed or (delta and delta.finish_reason and self._calls.nameless)):
            # A call with characters missing may still look like one, and would be made.
            raise BrokenStream
        return delta

    def _delta(self, event: Any) -> Delta | None:
        """One `chat.completion.chunk`, or None where it holds nothing for us (a role, an empty piece)."""
        if event.get("error"):
            raise error_for(None, event, {}, time.time())
        choices = event.get("choices")
        choice: Any = choices[0] if choices else {}
        piece: Any = choice.get("delta") or {}
        calls: Any = piece.get("tool_calls")
        delta = Delta(
            text=_text(piece.get("content")),
            reasoning=_text(piece.get("reasoning") or piece.get("reasoning_content")),
            finish_reason=_finish_reason(choice.get("finish_reason")),
            usage=_usage_if_sane(event),
            tool_calls=self._calls.read(calls) if calls else (),
        )
        holds_anything = delta.text or delta.reasoning or delta.tool_calls or delta.finish_reason or delta.usage
        return delta if holds_anything else None


def _text(value: object) -> str:
    return "" if value is None else clean(value)


def _finish_reason(value: object) -> FinishReason | None:
    """None while the answer goes on; some servers send a blank with every piece."""
    return FINISH_REASONS.get(str(value), "other") if value else None


def _usage_if_sane(event: Any) -> Usage | None:
    """Counts that make no sense cost no text: they are as good as untold."""
    try:
        return _usage(event)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError):
        return None


def _usage(event: Any) -> Usage | None:
    """Token counts, from `usage` or, at Groq, from `x_groq.usage`."""
    groq: Any = event.get("x_groq")
    usage: Any = event.get("usage") or (groq and groq.get("usage"))
    if not usage:
        return None
    return Usage(
        input_tokens=_count(usage["prompt_tokens"]),
        output_tokens=_count(usage["completion_tokens"]),
        cached_tokens=_detail(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_detail(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _detail(details: Any, name: str) -> int:
    return _count(details.get(name) or 0) if details else 0


def _count(value: Any) -> int:
    count = int(value)
    if not 0 <= count <= ABSURD_TOKENS:
        raise ValueError
    return count


def _codes(body: Any) -> tuple[object, object]:
    try:
        inner = body.get("error", body)
        return inner.get("code"), inner.get("type")
    except AttributeError:
        return None, None

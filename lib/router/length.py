"""How long a conversation is, at the very least: for leaving out the models that surely can't hold it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from lib.providers.base import ChatRequest


def least_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """A number of tokens that no model of ours gets below: one for each word that stands between white space.

    Every tokenizer in the catalogue (byte-level BPE, SentencePiece) cuts a text at its white space before anything
    else, so no token holds parts of two words. English takes about a third more than that, languages written without
    spaces many times more: what this lets through although it is too long, the provider refuses. Pictures count
    nothing.
    """
    return sum(len(text.split()) for message in messages for text in _texts(message["content"]))


def _texts(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        return (content,)
    return (part.get("text") or "" for part in content or ())


TOKENS_PER_MESSAGE = 64
"""Roles and marks around a message; more than any chat template of ours takes."""
TOKENS_PER_PICTURE = 4_096


def most_tokens(request: ChatRequest) -> int:
    """A number of tokens that the prompt surely stays below: a token stands for one byte of UTF-8 at least.

    Four times too many for English; a prompt costs little beside its answer, and this is only held, not paid.
    """
    tokens = sum(map(_most_tokens, request.messages)) + TOKENS_PER_MESSAGE
    for extra in (request.tools, request.response_format):
        tokens += len(orjson.dumps(extra)) if extra else 0
    return tokens


def _most_tokens(message: Mapping[str, Any]) -> int:
    tokens = TOKENS_PER_MESSAGE + (len(orjson.dumps(message["tool_calls"])) if "tool_calls" in message else 0)
    content: Any = message["content"] or ""
    if isinstance(content, str):
        return tokens + len(content.encode())
    return tokens + sum(len(part["text"].encode()) if "text" in part else TOKENS_PER_PICTURE for part in content)

"""How long a conversation is, at the very least: for leaving out the models that surely can't hold it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


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

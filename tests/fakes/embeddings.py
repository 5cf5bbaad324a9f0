"""What a vendor of embeddings answers, in both of OpenAI's encodings."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Sequence

from tests.fakes.vendor import Reply

JSON_HEAD = {"content-type": "application/json"}


def vectors(
    *values: Sequence[float], base64: bool = True, tokens: int | None = 7, order: Sequence[int] | None = None
) -> Reply:
    """An embeddings answer with these vectors; `order` is the indexes' order in it, `tokens` None leaves usage out."""
    indexes = list(order) if order is not None else list(range(len(values)))
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(value) if base64 else list(value)}
        for index, value in zip(indexes, values, strict=True)
    ]
    counted = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return raw(json.dumps({"object": "list", "model": "fake", "data": data, **counted}).encode())


def raw(body: bytes) -> Reply:
    """Any body, as JSON."""
    return Reply([body], headers=JSON_HEAD)


def _encoded(vector: Sequence[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

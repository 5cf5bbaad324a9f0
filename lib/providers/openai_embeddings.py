"""Embeddings from whoever speaks OpenAI's protocol, through OpenAI's SDK."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from array import array
from base64 import b64decode
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from lib.errors import BrokenStream, ConnectionFailed, ProviderError
from lib.providers.base import Usage
from lib.providers.catalog import EmbeddingRow
from lib.providers.chat import ABSURD_TOKENS, error_for
from lib.providers.embeddings import Embedded, EmbeddingModel, EmbeddingRequest, Vector
from lib.providers.transport import Loaded, lost, whole

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest request that we let through has an answer of 6 MB, or 25 MB from a server that writes its floats out."""
Create = Callable[..., AbstractAsyncContextManager[Any]]


class OpenAIEmbeddings:
    """One vendor through OpenAI's SDK: imported on first use and in a thread, never retrying by itself."""

    def __init__(
        self, row: EmbeddingRow, *, api_key: str | None, base_url: str, http: Callable[[], httpx.AsyncClient]
    ) -> None:
        """`http` makes or returns the process's one HTTP client; it is called in a thread."""
        self.name = row.name
        self._row = row
        self._api_key = api_key
        self._base_url = base_url
        self._http = http
        self._create: Loaded[Create] = Loaded(self._load)

    async def embed(self, request: EmbeddingRequest, model: EmbeddingModel) -> Embedded:
        """See EmbeddingProvider.embed."""
        create = await self._create.get()
        begun = False
        try:
            async with create(**self._arguments(request, model)) as response:
                begun = True
                body = await whole(response.iter_bytes(), MAX_ANSWER_BYTES)
        except ProviderError:
            raise
        except Exception as error:
            raise _translate(error, begun=begun) from error
        return await asyncio.to_thread(read_answer, body, len(request.input), request.dimensions or model.dimensions)

    def _arguments(self, request: EmbeddingRequest, model: EmbeddingModel) -> dict[str, object]:
        """What the SDK's `create` is given. A vector in base64 takes a third of the bytes that its digits take."""
        return {
            "model": model.id,
            "input": list(request.input),
            "encoding_format": "base64",
            **({} if request.dimensions is None else {"dimensions": request.dimensions}),
            **({} if self._row.keep_alive else {"extra_headers": {"connection": "close"}}),
        }

    def _load(self) -> Create:
        """Import the SDK and make the client: the better part of a second, so not on the event loop's thread."""
        openai = importlib.import_module("openai")
        # It sets its own level from the environment when it is imported; at DEBUG it logs whole prompts.
        logging.getLogger("openai").setLevel(logging.WARNING)
        client = openai.AsyncOpenAI(
            # Without a key the SDK looks for one in the environment; the embedded server takes any.
            api_key=self._api_key or "none",
            base_url=self._base_url,
            http_client=self._http(),
            max_retries=0,
        )
        return client.embeddings.with_streaming_response.create


def read_answer(body: bytes, count: int, dimensions: int) -> Embedded:
    """The vectors of an embeddings answer: base64 of little-endian 32-bit floats, or lists of numbers.

    Raises BrokenStream unless there is exactly one vector for each of `count` texts, each of `dimensions` numbers, all
    finite: a missing or mixed-up vector would be stored beside the wrong text.
    """
    try:
        answer = orjson.loads(body)
        by_index = {item["index"]: _vector(item["embedding"]) for item in answer["data"]}
        vectors = tuple(by_index[index] for index in range(count))
        complete = len(answer["data"]) == count
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BrokenStream from error
    # A sum is finite exactly when all of its 32-bit terms are: a double can't overflow by so few of them.
    if not complete or any(len(vector) != dimensions or not isfinite(sum(vector)) for vector in vectors):
        raise BrokenStream
    return Embedded(vectors, _usage(answer))


def _vector(value: str | list[float]) -> Vector:
    """Servers that do not know base64 send the list although they were asked for the other."""
    vector = array("f")
    if isinstance(value, str):
        vector.frombytes(b64decode(value, validate=True))
    else:
        vector.extend(value)
    return vector


def _usage(answer: Any) -> Usage | None:
    """The tokens that were read, or None where the count is missing or makes no sense."""
    try:
        tokens = int(answer["usage"]["prompt_tokens"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    return Usage(tokens, 0) if 0 <= tokens <= ABSURD_TOKENS else None


def _translate(error: Any, *, begun: bool) -> Exception:
    """Our name for what the SDK or the HTTP client below it raised, by type, status and code."""
    openai: Any = importlib.import_module("openai")
    if isinstance(error, openai.APIStatusError):
        return error_for(error.status_code, error.body, error.response.headers, time.time())
    failure = lost(error, begun=begun)
    if failure is None and isinstance(error, openai.APIConnectionError):
        return BrokenStream() if begun else ConnectionFailed()
    return failure or error

"""The embedded language model goes on from an unfinished message, which the catalogue says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from lib.app import App
from lib.providers.base import ChatRequest
from lib.providers.catalog import ROWS
from lib.router.recovery import continuation
from lib.settings import from_environ
from local.engine import Engine
from tests.fakes.loop import LoopThread

QUESTION: dict[str, object] = {"role": "user", "content": "Why is the sky blue?"}
MODEL = next(row.models[0] for row in ROWS if row.name == "local")


@pytest.fixture(scope="module")
def url(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running engine's base URL."""
    engine = Engine("local.text", tmp_path_factory.mktemp("engine") / "text.log")
    yield loop.run(engine.start())
    loop.run(engine.stop())


@pytest.mark.parametrize("begun", ["The sky", "The sky ", "The sky is blue.\n\n", "\n \U0001f30a «"])
def test_template_leaves_the_last_message_open(url: str, begun: str) -> None:
    """What the model is given ends with the unfinished message, to the last character."""
    assert MODEL.continues_prefix
    body = {"messages": [QUESTION, {"role": "assistant", "content": begun}]}
    answer = httpx.post(f"{url.removesuffix('/v1')}/apply-template", json=body, headers={"connection": "close"})
    assert answer.json()["prompt"].endswith(f"<|im_start|>assistant\n{begun}")


def test_goes_on_word_for_word(url: str) -> None:
    """The answer does not repeat the message that it goes on from, and is what would have followed without a cut."""

    async def say(*requests: ChatRequest) -> list[str]:
        app = App(from_environ({"LOCAL_TEXT_BASE_URL": url}))
        provider = app.text_provider("local")
        said: list[str] = []
        for request in requests:
            texts = [delta.text async for batch in provider.stream(request, MODEL) for delta in batch]
            said.append("".join(texts))
        await app.aclose()
        return said

    request = ChatRequest((QUESTION,), 24, temperature=0)
    (whole,) = asyncio.run(say(request))
    begun = whole[: whole.index(" ", 20)]
    (rest,) = asyncio.run(say(continuation(request, begun, "prefix")))
    assert whole.startswith(begun + rest)
    assert rest.strip()

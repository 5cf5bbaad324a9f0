"""The embedded embeddings: the real engine, behind the port that starts it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from operator import mul
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from lib.app import App
from lib.errors import InvalidRequest, NoProvider
from lib.providers.embeddings import EmbeddingRequest, Vector
from lib.router.embeddings import EmbeddingContext, Embeddings
from lib.settings import from_environ
from local.engine import Engine
from local.on_demand import OnDemand

Result = TypeVar("Result")
TRIPLES = [
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch.", "Interest rates rose by half a point."),
    ("How do I reset my password?", "I forgot my password and need a new one.", "The train to Berlin leaves at noon."),
    ("The stock market fell sharply.", "Share prices dropped steeply this afternoon.", "She baked a chocolate cake."),
    ("He plays the guitar in a band.", "He is a musician who plays guitar.", "The recipe needs two cups of flour."),
]
"""Two sentences that mean nearly the same, and a third about something else."""


class Watched(Engine):
    """The engine, counting its starts."""

    starts = 0

    async def start(self) -> str:
        """See Engine."""
        self.starts += 1
        return await super().start()


@asynccontextmanager
async def embedded(engine: Engine) -> AsyncGenerator[App]:
    """The product over the engine, as `make run` wires it."""
    on_demand = OnDemand(engine)
    app = App(from_environ({"LOCAL_EMBEDDINGS_BASE_URL": await on_demand.start()}))
    try:
        yield app
    finally:
        await app.aclose()
        await on_demand.stop()


def over(engine: Engine, work: Callable[[App], Coroutine[None, None, Result]]) -> Result:
    """Do this with the product over the engine."""

    async def do() -> Result:
        async with embedded(engine) as app:
            return await work(app)

    return asyncio.run(do())


async def embed(app: App, *texts: str) -> Embeddings:
    """Their vectors."""
    return await app.embedding_router.get_embeddings(EmbeddingRequest(texts), EmbeddingContext()).result()


def cosine(left: Vector, right: Vector) -> float:
    """Of vectors of unit length."""
    return sum(map(mul, left, right))


def test_similar_sentences_are_closer(tmp_path: Path) -> None:
    """Real vectors: of the documented length, of unit length, near where the meaning is, the same alone and in a batch.

    The engine is started once, by the first of two calls at the same time, and not before.
    """
    engine = Watched("local.embeddings", tmp_path / "engine.log")

    async def work(app: App) -> tuple[Embeddings, Sequence[Embeddings]]:
        assert engine.starts == 0
        flat = [text for triple in TRIPLES for text in triple]
        batch, *alone = await asyncio.gather(embed(app, *flat), *(embed(app, text) for text in flat[:2]))
        assert engine.starts == 1
        return batch, alone

    batch, alone = over(engine, work)
    assert (batch.provider, batch.model, batch.dimensions) == ("local", "smollm2-135m-mean", 576)
    assert all(cosine(vector, vector) == pytest.approx(1, abs=1e-4) for vector in batch.vectors)
    for first, same, other in zip(*[iter(batch.vectors)] * 3, strict=True):
        assert cosine(first, same) > max(cosine(first, other), cosine(same, other))
    for together, single in zip(batch.vectors, alone, strict=False):
        assert cosine(together, single.vectors[0]) == pytest.approx(1, abs=1e-3)


def test_what_fits_and_what_does_not(tmp_path: Path) -> None:
    """The longest text that is let through has room in the engine, at a token a byte; a longer one is not sent."""
    engine = Watched("local.embeddings", tmp_path / "engine.log")

    async def work(app: App) -> None:
        with pytest.raises(InvalidRequest):
            await embed(app, "a" * 2_049)
        assert engine.starts == 0
        assert (await embed(app, "a b" * 160)).dimensions == 576

    over(engine, work)


def test_engine_that_does_not_start(tmp_path: Path) -> None:
    """It is an error of its own, at each call anew, and nobody waits for it in vain."""
    engine = Watched("local.no_such_engine", tmp_path / "engine.log")

    async def work(app: App) -> None:
        for _ in range(2):
            with pytest.raises(NoProvider, match="connection_failed"):
                await embed(app, "Hi")

    over(engine, work)
    assert engine.starts >= 2


def test_caller_who_leaves_is_passed_on(tmp_path: Path) -> None:
    """A connection that its caller closes is closed towards the engine as well, and the other way round."""

    class Elsewhere(Engine):
        url = ""

        async def start(self) -> str:
            """An engine that runs already."""
            return self.url

        async def stop(self) -> None:
            """It is not ours."""

    async def work() -> None:
        def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.put_nowait((reader, writer))

        arrived: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        listener = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(arrive, sock=listener)
        engine = Elsewhere("local.embeddings", tmp_path / "engine.log")
        engine.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        on_demand = OnDemand(engine)
        port = urlsplit(await on_demand.start()).port
        _, caller = await asyncio.open_connection("127.0.0.1", port)
        caller.write(b"ping")
        reading, writing = await arrived.get()
        assert await reading.readexactly(4) == b"ping"
        caller.close()
        assert await reading.read() == b""
        writing.close()
        answered, caller = await asyncio.open_connection("127.0.0.1", port)
        _, writing = await arrived.get()
        writing.write(b"x" * 1_000_000)
        writing.close()
        assert len(await answered.read()) == 1_000_000
        caller.close()
        await on_demand.stop()
        server.close()

    asyncio.run(work())

"""One contender in a process of its own: `python benchmarks/router/calls.py NAME UPSTREAM ROUNDS` prints its figures.

Runs in the product's environment or in the peers', so it imports nothing but what the contender needs. Each call is an
answer of 20 chunks in one write, read to its end. Prints `{"p50_us", "cpu_us", "cpu_32_us"}`: how long a call takes
alone, its CPU alone, and its CPU with 32 callers at once.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

MODEL = "burst-20"
MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]
WARM_UP = 20
CALLERS = 32

Call = Callable[[], Awaitable[int]]
"""Asks once; returns how many chunks there were."""


def router(upstream: str) -> Call:
    """The product's router, as api/generate calls it."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from lib.app import App  # noqa: PLC0415
    from lib.providers.base import ChatRequest  # noqa: PLC0415
    from lib.router.plan import ProviderFlag  # noqa: PLC0415
    from lib.router.router import Context  # noqa: PLC0415
    from lib.settings import from_environ  # noqa: PLC0415

    app = App(from_environ({"GROQ_API_KEY": "key-0123456789", "GROQ_BASE_URL": upstream}))
    flag, request, context = ProviderFlag(provider="groq", model=MODEL), ChatRequest(tuple(MESSAGES), 100), Context()

    async def call() -> int:
        answer = app.router.get_completion(flag, request, context)
        return sum([len(deltas) async for deltas in answer if isinstance(deltas, list)])

    return call


def openai_sdk(upstream: str) -> Call:
    """OpenAI's SDK as its documentation shows it."""
    from openai import AsyncOpenAI  # noqa: PLC0415

    return _by_sdk(AsyncOpenAI(api_key="none", base_url=f"{upstream}/v1", max_retries=0))


def openai_sdk_aiohttp(upstream: str) -> Call:
    """OpenAI's SDK over the product's own connections."""
    return _by_sdk(_over_aiohttp(upstream))


def openai_sdk_bytes(upstream: str) -> Call:
    """The same, but its stream is read as bytes: what is left then is the call."""
    client = _over_aiohttp(upstream)

    async def call() -> int:
        create = client.chat.completions.with_streaming_response.create
        async with create(model=MODEL, messages=MESSAGES, stream=True) as response:
            return b"".join([chunk async for chunk in response.iter_bytes()]).count(b"data: ")

    return call


def litellm_router(upstream: str) -> Call:
    """LiteLLM's Router."""
    litellm: Any = importlib.import_module("litellm")
    given = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
    made = litellm.Router(model_list=[{"model_name": "m", "litellm_params": given}])

    async def call() -> int:
        return len([chunk async for chunk in await made.acompletion(model="m", messages=MESSAGES, stream=True)])

    return call


def any_llm(upstream: str) -> Call:
    """any-llm, its client made once."""
    module: Any = importlib.import_module("any_llm")
    made = module.AnyLLM.create("openai", api_key="none", api_base=f"{upstream}/v1")

    async def call() -> int:
        return len([chunk async for chunk in await made.acompletion(MODEL, MESSAGES, stream=True)])

    return call


def _over_aiohttp(upstream: str) -> Any:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from openai import AsyncOpenAI  # noqa: PLC0415

    from lib.outbound import Outbound  # noqa: PLC0415

    http: Any = Outbound().httpx()
    return AsyncOpenAI(api_key="none", base_url=f"{upstream}/v1", max_retries=0, http_client=http)


def _by_sdk(client: Any) -> Call:
    async def call() -> int:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        return len([chunk async for chunk in stream])

    return call


async def measure(make: Callable[[str], Call], upstream: str, rounds: int) -> dict[str, float]:
    """The figures of one contender."""
    call = make(upstream)
    for _ in range(WARM_UP):
        if await call() < 20:  # noqa: PLR2004
            raise RuntimeError("The answer is not whole.")
    taken: list[float] = []
    cpu = time.process_time()
    for _ in range(rounds):
        begin = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - begin)
    alone = time.process_time() - cpu

    async def caller() -> None:
        for _ in range(rounds // CALLERS + 1):
            await call()

    cpu = time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    together = time.process_time() - cpu
    return {
        "p50_us": statistics.median(taken) * 1e6,
        "cpu_us": alone / rounds * 1e6,
        "cpu_32_us": together / ((rounds // CALLERS + 1) * CALLERS) * 1e6,
    }


CONTENDERS: dict[str, Callable[[str], Call]] = {
    "router": router,
    "openai_sdk": openai_sdk,
    "openai_sdk_aiohttp": openai_sdk_aiohttp,
    "openai_sdk_bytes": openai_sdk_bytes,
    "litellm_router": litellm_router,
    "any_llm": any_llm,
}

if __name__ == "__main__":
    import uvloop

    name, url, count = sys.argv[1:]
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # noqa: TID251 - or it would be fetched
    print(json.dumps(uvloop.run(measure(CONTENDERS[name], url, int(count)))))

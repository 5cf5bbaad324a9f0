"""The servers that are measured, each in a process of its own on the measured core, and how each is called."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.client import KEY, Target
from benchmarks.tools import on_one_core
from tests.runtime import Runtime

USUAL = "burst-20"
PROMPT = {"prompt": "Hi"}


@dataclass(frozen=True)
class Server:
    """What to call, and the process that answers."""

    target: Target
    pid: int


def chat(model: str) -> dict[str, object]:
    """A streamed request in OpenAI's shape."""
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def direct(upstream: str, model: str = USUAL) -> Target:
    """The vendor itself."""
    return Target("direct", upstream, "/v1/chat/completions", chat(model))


@contextmanager
def pass_through(
    upstream: str, model: str = USUAL, engine: str = "aiohttp", *, settled: bool = False
) -> Generator[Server]:
    """The least that a handler can do; see passthrough.py."""
    environ = {"UPSTREAM": upstream, "ENGINE": engine, **({"SETTLED": "1"} if settled else {})}
    name = f"pass-through, {engine}{', settled' if settled else ''}"
    with _under_runtime("benchmarks/passthrough.py", environ) as runtime:
        yield Server(Target(name, runtime.url, "/", chat(model)), runtime.pid)


@contextmanager
def handler(upstream: str, model: str = USUAL, more: Mapping[str, str] | None = None) -> Generator[Server]:
    """The product: /api/generate over Groq's adapter."""
    environ = {
        "API_KEYS": f"bench:user:{KEY}",
        # By its catalogue name, so that it has a price: what the vendor does not know is the usual to it.
        "FEATURE_AI_PROVIDER": "groq" if model == USUAL else f"groq/{model}",
        "GROQ_API_KEY": "key-0123456789",
        "GROQ_BASE_URL": upstream,
        **(more or {}),
    }
    with _under_runtime("benchmarks/generate.py", environ) as runtime:
        yield Server(Target("/api/generate", runtime.url, "/api/generate", PROMPT), runtime.pid)


@contextmanager
def _under_runtime(file: str, environ: Mapping[str, str]) -> Generator[Runtime]:
    with ExitStack() as stack:
        with on_one_core():
            runtime = stack.enter_context(Runtime.of_file(file, environ))
        yield runtime

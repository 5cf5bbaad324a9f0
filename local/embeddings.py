"""The embedded embeddings: SmolLM2-135M's states, averaged over a text. Demo quality: it was trained to chat.

Runs like local/text.py: `python -m local.embeddings [port]`. Its vectors have the weights' hidden size, 576, and unit
length. A text of one token per byte still fits: the catalogue lets through four bytes for each of 512 tokens.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from local.text import parameters, serve

MODEL_NAME = "smollm2-135m-mean"
CONTEXT_TOKENS = 2_048


def main(port: int) -> None:
    """Serve until standard input ends; port 0 takes a free one."""
    xllamacpp: Any = importlib.import_module("xllamacpp")  # a native module without types
    common = parameters(xllamacpp, MODEL_NAME, port)
    common.embedding = True
    common.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # One text at a time: where several share a batch, this llama.cpp's averages are wrong.
    common.n_parallel = 1
    # A text has to fit into one batch, or its states can't be averaged.
    common.n_ctx = common.n_batch = common.n_ubatch = CONTEXT_TOKENS
    serve(xllamacpp, common)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

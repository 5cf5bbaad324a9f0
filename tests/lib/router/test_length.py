"""The least number of tokens: what it counts, and that a real tokenizer never gets below it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.router.length import least_tokens


def says(content: Any) -> dict[str, Any]:
    """A message."""
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("", 0),
        ("Hi", 1),
        ("  two\n\n words\t", 2),
        ("no-space-in,here", 1),
        ("海は広い", 1),
        (None, 0),
        ([], 0),
        ([{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "data:x"}}], 2),
    ],
)
def test_words_are_counted(content: object, tokens: int) -> None:
    """What stands between white space counts one; pictures, and messages without text, count nothing."""
    assert least_tokens([says(content)]) == tokens
    assert least_tokens([says(content), says("and more")]) == tokens + 2


Tokenize = Callable[[str], int]


@pytest.fixture(scope="module")
def tokenize() -> Iterator[Tokenize]:
    """How many tokens the embedded model makes of a text."""
    with subprocess.Popen(
        [sys.executable, "-m", "local.text"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        url = engine.stdout.readline().decode().strip().removesuffix("/v1")
        with httpx.Client(base_url=url) as client:
            yield lambda text: len(client.post("/tokenize", json={"content": text}).json()["tokens"])
        engine.stdin.close()


@settings(max_examples=200)
@given(
    # Without control characters: those that a vocabulary lacks count nothing with its model.
    st.text(st.characters(exclude_categories=["Cc", "Cn", "Co", "Cs"]) | st.sampled_from("\n\t\r"), max_size=100)
    | st.text("ab .,\n\t1\u00a0\u3000\u2028-'", max_size=100)
    | st.sampled_from(
        [" " * 500, "-" * 500, "a " * 500, "1 " * 500, "\n\n" * 300, ". . " * 200, " \t" * 200, "海 " * 99]
    )
)
def test_no_tokenizer_gets_below(tokenize: Tokenize, text: str) -> None:
    """Whatever the text, a real model makes no fewer tokens of it than it has words."""
    assert tokenize(text) >= least_tokens([says(text)])

"""The samples' scripts as the embedded model has them made: usable every time, honest, the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.vsl.brief import read_brief
from lib.vsl.screenplay import grounds_of
from local.engine import Engine
from tests.fakes.loop import LoopThread
from tests.lib.vsl.asked import write
from tests.lib.vsl.briefs import EXAMPLES, Parameters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running engine's base URL."""
    engine = Engine("local.text", tmp_path_factory.mktemp("engine") / "text.log")
    yield loop.run(engine.start())
    loop.run(engine.stop())


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_samples(url: str, file: Path) -> None:
    """For ten seeds: six frames of 45 to 60 seconds that claim what the brief says; each seed twice, no difference."""
    openings: set[str] = set()
    for seed in range(10):
        request = read_brief(json.loads(file.read_text()) | {"seed": seed}).request(Parameters())
        first, again = (write(request, {"LOCAL_TEXT_BASE_URL": url}) for _ in range(2))
        assert first.script == again.script
        assert (first.model, first.cost_usd) == ("smollm2-135m-instruct", 0)
        frames = first.script.frames
        assert [frame.beat for frame in frames] == ["hook", "problem", "solution", "proof", "offer", "cta"]
        assert not any(grounds_of(request).findings(frame.narration) for frame in frames)
        assert 95 <= sum(len(frame.narration.split()) for frame in frames) <= 150
        openings.add(frames[0].narration + frames[1].narration)
    assert len(openings) > 1

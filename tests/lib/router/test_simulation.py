"""What holds in every world: no lost, doubled or foreign character or call, nothing left open, an end in time."""

from __future__ import annotations

import json

import pytest

from lib.router.completion import RECOVERIES
from lib.router.health import HEDGE_SHARE, HEDGES
from tests.lib.router.simulation import Story, World

REQUESTS = 20


def check(story: Story, world: World) -> None:
    """The promises, for one request."""
    assert story.left_open == []
    assert story.most_live <= 2
    assert len(story.attempts) <= 2 * len(world.providers) + 2 * RECOVERIES + 1
    if story.finished:
        assert story.delivered == story.text
        check_calls(story)
    else:
        assert story.text.startswith(story.delivered)
    assert all(attempt.ended_at is not None and attempt.ended_at >= attempt.started_at for attempt in story.attempts)


def check_calls(story: Story) -> None:
    """Calls are made whole, all of them, and by one provider: what it wrote of one is never gone on with by another."""
    assert story.called.are_whole
    (last,) = (attempt for attempt in story.attempts if attempt.outcome == "ok")
    assert [json.loads(call.arguments)["by"] for call in story.called] == [last.number] * story.wanted
    assert story.wanted == 0 or last.finish_reason in {"tool_calls", "length"}


def run(seed: int) -> None:
    """Some requests in the world that follows from `seed`."""
    world = World(seed)
    for _ in range(REQUESTS):
        begin = world.now
        story = world.request()
        check(story, world)
        assert story.ended_at - begin <= 280.0 + 1e-6
    assert world.hedges <= HEDGES + HEDGE_SHARE * world.requests


def run_all(seeds: range) -> None:
    """All these worlds; a failure names the one integer that brings it back."""
    for seed in seeds:
        try:
            run(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


def test_worlds() -> None:
    """The promises hold in 500 worlds."""
    run_all(range(500))


@pytest.mark.slow
def test_many_worlds() -> None:
    """The promises hold in 10,000 worlds."""
    run_all(range(10_000))

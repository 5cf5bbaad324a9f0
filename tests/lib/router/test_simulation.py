"""What holds in every world: no lost, doubled or foreign character, nothing left open, an end in time."""

from __future__ import annotations

import itertools

import pytest

from lib.router.completion import LONGEST_WAIT_S, RECOVERIES, RETRY_S
from lib.router.health import HEDGE_SHARE, HEDGES, RETRIES, RETRY_SHARE
from tests.lib.router.simulation import Story, World

REQUESTS = 20


def check(story: Story, world: World) -> None:
    """The promises, for one request."""
    assert story.left_open == []
    assert story.most_live <= 2
    assert len(story.attempts) <= 2 * len(world.providers) + 2 * RECOVERIES
    kinds = [attempt.kind for attempt in story.attempts]
    assert kinds.count("continuation") + kinds.count("restart") <= RECOVERIES
    assert kinds == ["skipped"] or "skipped" not in kinds
    assert story.expected is None or story.attempts[0].candidate == story.expected
    assert all(attempt.started_at < story.ends_at for attempt in story.attempts)
    assert story.ended_at <= story.ends_at + 2 * story.reader_s + 1e-6
    if story.finished:
        assert story.delivered == story.text
    else:
        assert story.text.startswith(story.delivered)
    assert all(attempt.ended_at is not None and attempt.ended_at >= attempt.started_at for attempt in story.attempts)


def check_waits(story: Story) -> None:
    """Nobody waits for the only provider left longer than for a silent one, unless that is what the caller wants."""
    longest_s = max(LONGEST_WAIT_S if story.policy.honour_retry_after else story.policy.first_token_s, RETRY_S)
    for before, attempt in itertools.pairwise(story.attempts):
        if attempt.kind == "retry":
            assert before.ended_at is not None
            assert attempt.started_at - before.ended_at <= longest_s + 1e-6


def check_health(world: World) -> None:
    """Who never fails is never left alone, whatever becomes of the requests."""
    for provider in world.providers:
        if provider.fault_share == 0:
            assert world.health.of(world.candidate(provider)).resting_s(world.now) == 0


def run(seed: int) -> None:
    """Some requests in the world that follows from `seed`."""
    world = World(seed)
    for _ in range(REQUESTS):
        story = world.request()
        check(story, world)
        check_waits(story)
        check_health(world)
    assert world.hedges <= HEDGES + HEDGE_SHARE * world.requests
    assert world.retries <= RETRIES + RETRY_SHARE * world.requests


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

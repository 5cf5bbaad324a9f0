"""A whole rollout in a made-up world: the real machine, one look after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from benchmarks.rollout.worlds import Tally
from lib.control.guardrails import Baseline, Test, assess
from lib.control.rollout import Evidence, Params, State, command, tick

PARAMS = Params(dwell_s=0)
"""Without a dwell time: what is asked is how many users it takes, not how long they take to come."""
MOST_LOOKS = 5000
"""Then it is on hold for good, as where its users seem to be divided wrongly, and waits for somebody to decide."""


class World(Protocol):
    """Users who come when they are looked for."""

    baseline: Baseline

    def look(self, share: float, users: int) -> Tally:
        """So many come at this share; all that was counted until now."""
        ...


@dataclass
class End:
    """How a rollout went. treated: users who ever met the candidate; bad: those whom it failed."""

    status: str
    treated: int
    bad: int
    looks: int
    tests: tuple[Test, ...] = ()
    left: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])


def play(
    world: World,
    *,
    per_look: int,
    params: Params = PARAMS,
    watch: Callable[[float], None] | None = None,
    until: float = 1.0,
) -> End:
    """Until it is rolled back, on hold for good, or at the share `until`; looked at after `per_look` more treated.

    `watch` is called with the share after each look. The end's `left`: each share that was left, and whether for the
    cap alone.
    """
    now = 0.0
    state, _ = command(State("gate"), "start", in_store=0, params=params, now=now, rollout_id="r")
    state, _ = tick(state, Evidence(0.0, last_event_at=now, baseline=world.baseline), params, now)
    end = End("", 0, 0, 0)
    while True:
        # The store takes every write: what is tried here is the evidence.
        state = replace(state, in_store=state.share)
        share, before = state.share, state
        tally = world.look(share, round(per_look / share))
        now, end.looks = now + 60, end.looks + 1
        if watch:
            watch(share)
        counters = tally.counters()
        state, _ = tick(state, Evidence(share, last_event_at=now, counters=counters), params, now)
        end.status, end.treated, end.bad = state.status, tally.treated, tally.treated_bad
        if state.share > before.share:
            unproven = assess(counters, params.stages, tolerated=params.tolerated).unproven
            end.left.append((share, bool(unproven)))
        if state.status == "rolled_back":
            found = assess(counters, params.stages, tolerated=params.tolerated)
            end.tests = tuple(reading.test for reading in found.breaches)
        if state.status in {"rolled_back", "done"} or state.share >= until or end.looks >= MOST_LOOKS:
            return end

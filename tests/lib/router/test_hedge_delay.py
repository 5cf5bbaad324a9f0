"""The learnt delay: what is usual for a provider decides when its silence is worth a second call."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.router.hedging import best_fixed, hedged, make_trace, percentile
from lib.errors import Overloaded, TimedOut
from lib.router.attempt import Policy, Tick
from lib.router.breaker import BreakerPolicy
from lib.router.health import HEDGE_SHARE, Health
from lib.router.hedge import FEWEST, LATEST, QUANTILE, FirstTokens
from tests.lib.router.cores import POLICY, START, A, B, failed, kinds, said, started

ADAPTS = replace(POLICY, hedge_adapts=True)
TIMES = st.floats(0.001, 30)


def learnt(*times: float) -> FirstTokens:
    """What is known after these times."""
    known = FirstTokens()
    for seconds in times:
        known.took(seconds)
    return known


def learnt_health(seconds: float, policy: Policy = ADAPTS) -> Health:
    """A process in which A has answered often enough, always after so long."""
    health = Health(BreakerPolicy(consecutive=1_000_000, calls=1_000_000))
    for _ in range(FEWEST):
        said(started(A, B, policy=policy, health=health), "Hi", START + seconds)
    return health


@given(st.lists(TIMES, min_size=FEWEST, max_size=3 * LATEST))
def test_few_were_slower(times: list[float]) -> None:
    """Of the latest times only the slow few lie beyond the delay, whatever the times and their order."""
    delay_s = learnt(*times).delay_s
    assert delay_s is not None
    latest = times[-LATEST:]
    assert sum(seconds > delay_s for seconds in latest) <= (1 - QUANTILE) * len(latest)
    assert sum(seconds >= delay_s for seconds in latest) > (1 - QUANTILE) * len(latest) - 1


def test_too_little_is_known() -> None:
    """A delay guessed from a few calls would be wrong."""
    assert learnt(*[1.0] * (FEWEST - 1)).delay_s is None
    assert learnt(*[1.0] * FEWEST).delay_s == 1.0


def test_follows_a_change() -> None:
    """A provider that has become slower is given more time once its old times are forgotten, and vice versa."""
    assert learnt(*[1.0] * 1000, *[5.0] * LATEST).delay_s == 5.0
    assert learnt(*[5.0] * 1000, *[1.0] * LATEST).delay_s == 1.0


def test_silence_counts_only_where_it_is_long() -> None:
    """Who was left early may have been about to speak: that is no news of it."""
    known = learnt(*[1.0] * LATEST)
    for _ in range(LATEST):
        known.silent_for(0.9)
    assert known.delay_s == 1.0
    for _ in range(LATEST):
        known.silent_for(1.5)
    assert known.delay_s == 1.5
    unknown = FirstTokens()
    for _ in range(LATEST):
        unknown.silent_for(9.0)
    assert unknown.delay_s is None


def test_hedges_when_it_is_unusual() -> None:
    """Nobody is hedged until enough is known; then a second is asked when the first is silent for unusually long."""
    core = started(A, B, policy=ADAPTS)
    assert (core.may_hedge, core.waiting(START)) == (False, START + 4)
    core = started(A, B, policy=ADAPTS, health=learnt_health(0.7))
    assert (core.may_hedge, core.waiting(START)) == (True, START + 0.7)
    assert kinds(core.handle(Tick(), START + 0.7)) == ["Open 2"]


def test_what_is_learnt_comes_before_what_is_given() -> None:
    """A delay that the policy gives holds until enough is known."""
    both = replace(ADAPTS, hedge_s=2)
    assert started(A, B, policy=both).waiting(START) == START + 2
    assert started(A, B, policy=both, health=learnt_health(0.7)).waiting(START) == START + 0.7


def test_each_learns_for_itself() -> None:
    """What is usual for one provider says nothing of another."""
    assert not started(B, A, policy=ADAPTS, health=learnt_health(0.7)).may_hedge


def test_nothing_is_learnt_where_nothing_is_hedged() -> None:
    """Who does not want it does not pay for it."""
    assert learnt_health(0.7, POLICY).first_tokens(A).delay_s is None


@pytest.mark.parametrize("ending", ["the hedge wins", "silence", "failure"])
def test_lost_calls_are_remembered(ending: str) -> None:
    """A call that was left after a long silence counts as slow; one that failed says nothing of how long it takes."""
    health = learnt_health(0.7)
    for _ in range(LATEST):
        core = started(A, B, policy=ADAPTS, health=health)
        match ending:
            case "the hedge wins":
                core.handle(Tick(), START + 3)
                said(core, "Hi", START + 3.5, len(core.attempts))
            case "silence":
                failed(core, TimedOut(), START + 3.5)
            case _:
                failed(core, Overloaded(), START + 3.5)
        core.abandon(START + 4)
    delay_s = health.first_tokens(A).delay_s
    assert delay_s is not None
    assert (delay_s > 1) is (ending != "failure")


@pytest.mark.parametrize(("requests", "drifts"), [(4_000, False), (10_000, True)])
def test_nearly_as_good_as_hindsight(requests: int, *, drifts: bool) -> None:
    """On a trace with a heavy tail the p99 comes close to that of the best fixed delay, at three extra calls in 100."""
    trace = make_trace(7, requests, drifts=drifts)
    times, extra = hedged(trace)
    best_s, _, _ = best_fixed(trace, HEDGE_SHARE)
    assert percentile(times, 99) <= 1.15 * best_s
    assert percentile(times, 99) < 0.8 * percentile([moment.first_s for moment in trace], 99)
    assert 0.02 < extra <= HEDGE_SHARE + 0.001

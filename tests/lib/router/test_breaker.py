"""A provider is left alone after failures, and comes back by one probe at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lib.router.breaker import Breaker, BreakerPolicy

POLICY = BreakerPolicy()


def opened(now: float = 0.0) -> Breaker:
    """A breaker that has just opened, for its first rest."""
    breaker = Breaker(POLICY)
    for _ in range(POLICY.consecutive):
        breaker.failed(now)
    assert breaker.resting_s(now) == POLICY.rest_s
    return breaker


def probed(breaker: Breaker, now: float) -> int:
    """The number of the probe that it admits now."""
    assert breaker.admit(now)
    assert breaker.probe is not None
    return breaker.probe


def test_closed_at_first() -> None:
    """What nothing is known of is let through, without being a probe."""
    breaker = Breaker(POLICY)
    assert (breaker.resting_s(0), breaker.admit(0), breaker.admit(0), breaker.probe) == (0, True, True, None)


def test_consecutive_failures() -> None:
    """Five failures in a row open it, four do not, nor do five with a success among them."""
    breaker = Breaker(POLICY)
    for ok in (False, False, False, False, True, False, False, False, False):
        if ok:
            breaker.succeeded(0)
        else:
            breaker.failed(0)
        assert breaker.admit(0)
    breaker.failed(0)
    assert not breaker.admit(0)


def test_share_of_failures() -> None:
    """Half of at least ten calls open it, though never five in a row."""
    breaker = Breaker(POLICY)
    for number in range(9):
        if number % 2:
            breaker.failed(0)
        else:
            breaker.succeeded(0)
        assert breaker.resting_s(0) == 0
    breaker.failed(0)
    assert breaker.resting_s(0) == POLICY.rest_s


def test_less_than_the_share() -> None:
    """Four of ten failures do not open it, however long that goes on."""
    breaker = Breaker(POLICY)
    for number in range(200):
        if number % 5 in {3, 4}:
            breaker.failed(number / 10)
        else:
            breaker.succeeded(number / 10)
        assert breaker.admit(number / 10)


def test_window_forgets() -> None:
    """Failures of long ago do not count with those of now."""
    breaker = Breaker(POLICY)
    for number in range(8):
        (breaker.failed if number % 2 else breaker.succeeded)(0.0)
    after = POLICY.window_s + 0.1
    for number in range(9):
        (breaker.failed if number % 2 else breaker.succeeded)(after)
        assert breaker.resting_s(after) == 0
    breaker.failed(after)
    assert breaker.resting_s(after) == POLICY.rest_s


def test_rest() -> None:
    """While it rests nothing goes through; then one probe does, and nothing beside it."""
    breaker = opened()
    assert (breaker.admit(4.9), breaker.resting_s(4)) == (False, 1)
    assert breaker.resting_s(5) == 0
    probed(breaker, 5)
    assert (breaker.admit(5), breaker.resting_s(500)) == (False, inf)


def test_healthy_probe_closes_it() -> None:
    """After a probe that went well all is as it was at first, the length of the rest included."""
    breaker = opened()
    breaker.failed(5, probe=probed(breaker, 5))
    breaker.succeeded(15, probed(breaker, 15))
    for _ in range(POLICY.consecutive):
        assert breaker.admit(15)
        assert breaker.probe is None
        breaker.failed(15)
    assert breaker.resting_s(15) == POLICY.rest_s


def test_rest_doubles() -> None:
    """Each failed probe doubles the rest, up to the longest."""
    breaker, now, rests = opened(), 5.0, list[float]()
    for _ in range(4):
        breaker.failed(now, probe=probed(breaker, now))
        rests.append(breaker.resting_s(now))
        now += rests[-1]
    assert rests == [10, 15, 15, 15]


def test_abandoned_probe() -> None:
    """A probe whose caller left shows nothing: the next call is the probe."""
    breaker = opened()
    breaker.abandoned(probed(breaker, 5))
    assert breaker.resting_s(5) == 0
    probed(breaker, 5)
    assert not breaker.admit(5)


@pytest.mark.parametrize("how", ["failed", "succeeded", "abandoned"])
def test_older_call_is_no_probe(how: str) -> None:
    """What becomes of a call from before, or of a probe that is over, decides nothing while a probe is under way."""
    breaker = opened()
    over = probed(breaker, 5)
    breaker.abandoned(over)
    probe = probed(breaker, 5)
    for number in (None, over):
        match how:
            case "failed":
                breaker.failed(6, probe=number)
            case "succeeded":
                breaker.succeeded(6, number)
            case _:
                breaker.abandoned(number)
        assert breaker.resting_s(60) == inf
    breaker.succeeded(7, probe)
    assert breaker.admit(7)


def test_provider_asks_for_more() -> None:
    """A provider that says for how long is left alone so long, from the first failure on."""
    breaker = Breaker(POLICY)
    breaker.failed(0, 60)
    assert breaker.resting_s(0) == 60
    breaker.failed(1)
    breaker.failed(1, 2)
    assert breaker.resting_s(1) == 59
    probed(breaker, 60)


@dataclass
class Call:
    """A call under way: the number of its probe, or None."""

    probe: int | None


class Calls(RuleBasedStateMachine):
    """Calls through one breaker in any order, stragglers among them, checked against what is promised."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.now = 0.0
        self.calls: list[Call] = []
        self.asked_until = 0.0
        """Until when the provider itself asked to be left alone."""
        self.outcomes: list[tuple[float, bool]] = []

    def take(self, data: st.DataObject) -> Call:
        """One of the calls that are under way."""
        return self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))

    def probing(self) -> list[Call]:
        """The probes under way whose outcome is still awaited."""
        return [call for call in self.calls if call.probe is not None and call.probe == self.breaker.probe]

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 10.0, 31.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    @rule()
    def call(self) -> None:
        """Someone wants to call: let through exactly when it does not rest."""
        resting_s = self.breaker.resting_s(self.now)
        admitted = self.breaker.admit(self.now)
        assert admitted is (resting_s <= 0)
        if admitted:
            self.calls.append(Call(self.breaker.probe))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """A call goes well; where it was the probe, it closes the breaker."""
        call = self.take(data)
        was_probe = call.probe is not None and call.probe == self.breaker.probe
        self.breaker.succeeded(self.now, call.probe)
        self.outcomes = [(self.now, True)] if was_probe else [*self.outcomes, (self.now, True)]
        if was_probe:
            self.asked_until = 0.0
            assert self.breaker.resting_s(self.now) == 0
            assert self.breaker.probe is None

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), rest_s=st.none() | st.sampled_from([0.0, 3.0, 60.0]))
    def fail(self, data: st.DataObject, rest_s: float | None) -> None:
        """A call fails; five in a row, or a probe, leave the breaker open."""
        call = self.take(data)
        was_probe = call.probe is not None and call.probe == self.breaker.probe
        was_closed = self.breaker.resting_s(self.now) == 0 and not was_probe
        self.breaker.failed(self.now, rest_s, call.probe)
        self.outcomes.append((self.now, False))
        if rest_s is not None:
            self.asked_until = max(self.asked_until, self.now + rest_s)
        resting_s = self.breaker.resting_s(self.now)
        if was_probe:
            assert resting_s >= min(POLICY.rest_s * 2, POLICY.longest_rest_s)
        if was_closed and rest_s is None and resting_s > 0:
            recent = [ok for at, ok in self.outcomes if at >= self.now - POLICY.window_s]
            in_a_row = [ok for _, ok in self.outcomes[-POLICY.consecutive :]]
            many = len(recent) >= POLICY.calls and recent.count(False) >= POLICY.share * len(recent)
            assert many or (len(in_a_row) == POLICY.consecutive and not any(in_a_row))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A caller leaves: that neither opens nor closes it."""
        call = self.take(data)
        was_probe = call.probe is not None and call.probe == self.breaker.probe
        before = self.breaker.resting_s(self.now)
        self.breaker.abandoned(call.probe)
        assert self.breaker.resting_s(self.now) == before or was_probe

    @invariant()
    def one_probe_at_a_time(self) -> None:
        """Where a probe is under way, it is one, it is known, and nothing else goes through."""
        assert len(self.probing()) == (self.breaker.probe is not None)
        assert (self.breaker.resting_s(self.now) == inf) is (self.breaker.probe is not None)

    @invariant()
    def rests_no_longer_than_it_may(self) -> None:
        """Open at most until the longest rest, unless the provider asked for more."""
        resting_s = self.breaker.resting_s(self.now)
        if resting_s < inf:
            assert resting_s <= max(POLICY.longest_rest_s, self.asked_until - self.now)


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=150, stateful_step_count=60)

"""The core of the router without its driver: every transition, and every order of events under a virtual clock."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.errors import (
    AppError,
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    Interrupted,
    InvalidRequest,
    ModelUnavailable,
    NoProvider,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TimedOut,
)
from lib.http.problem import problem
from lib.providers.base import Delta, Model, Usage
from lib.providers.chat import error_for
from lib.router.attempt import (
    Attempt,
    Completion,
    Deadlines,
    Deliver,
    Ended,
    Event,
    Expired,
    Failed,
    Finish,
    GiveUp,
    Open,
    Received,
    Wait,
)
from lib.router.plan import Candidate

START = 100.0
DEADLINES = Deadlines(first_token_s=4, idle_s=15, total_s=60)
A, B, C = (Candidate(name, Model(f"{name}-model", 8_192, 1_024)) for name in "abc")
HELLO = [Delta(text="Hello")]
HANDED_ON = [
    ConnectionFailed,
    TimedOut,
    Overloaded,
    RateLimited,
    CredentialsRejected,
    QuotaExhausted,
    ModelUnavailable,
    BrokenStream,
]
GOES_BACK = [RequestRejected, ContextTooLong, ContentRefused]


def started(*plan: Candidate) -> Completion:
    """A request whose first candidate has just been called."""
    core = Completion(plan or (A, B), DEADLINES, START)
    core.start(START)
    return core


def gave_up(action: object) -> AppError:
    """The error that the caller is told."""
    assert isinstance(action, GiveUp)
    return action.error


def test_start() -> None:
    """The first candidate is called first, and may be silent for so long."""
    core = started()
    assert [(attempt.number, attempt.candidate, attempt.fallback_from) for attempt in core.attempts] == [(1, A, None)]
    assert core.deadline(START) == START + 4


def test_deltas_are_handed_on() -> None:
    """What the provider sends goes to the caller as it is; the first token is noted once."""
    core = started()
    assert core.handle(Received(HELLO), START + 1) == Deliver(HELLO)
    assert core.handle(Received([Delta(reasoning="Hm"), Delta(text="!")]), START + 2) is not None
    attempt = core.attempts[0]
    assert (attempt.first_token_at, attempt.characters) == (START + 1, len("HelloHm!"))
    assert core.deadline(START + 2) == START + 2 + 15


def test_end() -> None:
    """The provider's end is ours, with what it counted and why it ended."""
    core = started()
    core.handle(Received([*HELLO, Delta(finish_reason="length"), Delta(usage=Usage(7, 3))]), START + 1)
    core.handle(Received([Delta(usage=Usage(7, 4))]), START + 2)
    assert core.handle(Ended(), START + 3) == Finish()
    attempt = core.attempts[0]
    assert (attempt.outcome, attempt.ended_at, attempt.error_code) == ("ok", START + 3, None)
    assert (attempt.finish_reason, attempt.usage) == ("length", Usage(7, 4))


@pytest.mark.parametrize("kind", HANDED_ON)
def test_failure_before_the_first_token(kind: type[ProviderError]) -> None:
    """Who fails before the first token is left for the next at once, with a silence of its own."""
    core = started(A, B, C)
    action = core.handle(Failed(kind()), START + 1)
    assert isinstance(action, Open)
    assert action.attempt is core.attempts[-1]
    assert (action.attempt.number, action.attempt.candidate, action.attempt.fallback_from) == (2, B, "a")
    assert core.deadline(START + 1) == START + 1 + 4
    failed = core.attempts[0]
    assert (failed.error_code, failed.ended_at) == (kind.code, START + 1)
    assert failed.outcome == ("timeout" if kind is TimedOut else "error")


def test_last_candidate_may_take_its_time() -> None:
    """Nobody is left to turn to, so the last candidate is not hurried."""
    core = started()
    core.handle(Failed(Overloaded()), START + 1)
    assert core.deadline(START + 1) == START + 60
    assert started(A).deadline(START) == START + 60


@pytest.mark.parametrize(
    ("kind", "words"),
    [(RequestRejected, "malformed"), (ContextTooLong, "longer than the model"), (ContentRefused, "content filter")],
)
def test_rejected_request(kind: type[RequestRejected], words: str) -> None:
    """A request that a provider rejects goes back to the caller, with the reason: another would reject it too."""
    core = started()
    error = gave_up(core.handle(Failed(kind()), START + 1))
    assert (type(error), error.status, error.code) == (InvalidRequest, 422, kind.code)
    assert words in error.message
    assert [attempt.outcome for attempt in core.attempts] == ["error"]


@pytest.mark.parametrize("kind", [*HANDED_ON, *GOES_BACK])
def test_failure_after_the_first_token(kind: type[ProviderError]) -> None:
    """After the first token nobody else is asked: the caller learns that the answer broke off."""
    core = started()
    core.handle(Received(HELLO), START + 1)
    error = gave_up(core.handle(Failed(kind()), START + 2))
    timed_out = kind is TimedOut
    assert (type(error), error.status) == (Interrupted, 502)
    assert error.code == ("stream_timeout" if timed_out else "stream_interrupted")
    attempt = core.attempts[-1]
    assert (attempt.number, attempt.error_code) == (1, kind.code)
    assert attempt.outcome == ("timeout" if timed_out else "interrupted")


def test_silence_before_the_first_token() -> None:
    """A silent provider is left for the next."""
    core = started()
    assert isinstance(core.handle(Expired(), START + 4), Open)
    assert (core.attempts[0].outcome, core.attempts[0].error_code) == ("timeout", "timeout")


def test_silence_in_the_middle() -> None:
    """Silence in mid-answer ends it."""
    core = started()
    core.handle(Received(HELLO), START + 1)
    assert gave_up(core.handle(Expired(), START + 16)).code == "stream_timeout"


def test_reasoning_is_a_first_token() -> None:
    """A provider that thinks aloud is not silent."""
    core = started()
    assert core.handle(Received([Delta(reasoning="Hm")]), START + 3) == Deliver([Delta(reasoning="Hm")])
    assert core.attempts[0].first_token_at == START + 3
    assert core.deadline(START + 3) == START + 3 + 15


def test_slow_reader() -> None:
    """Silence counts from when the provider is waited for, not from what it said last: but never past the total."""
    core = started()
    core.handle(Received(HELLO), START + 1)
    assert core.deadline(START + 30) == START + 30 + 15
    assert core.deadline(START + 50) == START + 60


def test_waiting_anew_gives_no_more_time_for_the_first_token() -> None:
    """Before its first token a provider has its time from the call on, however often it is waited for."""
    core = started()
    assert core.deadline(START + 3) == START + 4


def test_usage_is_no_first_token() -> None:
    """Counting tokens is not writing them: the caller learns nothing yet, and such a provider may still be left."""
    core = started()
    assert core.handle(Received([Delta(usage=Usage(7, 0))]), START + 3) == Wait()
    assert core.deadline(START + 3) == START + 4
    assert isinstance(core.handle(Failed(Overloaded()), START + 3), Open)


def test_all_have_failed() -> None:
    """When nobody is left, the caller learns who was tried, why, and when to come back at the earliest."""
    core = started()
    core.handle(Failed(RateLimited(retry_after_s=30)), START + 1)
    error = gave_up(core.handle(Failed(Overloaded(retry_after_s=7.2)), START + 2))
    assert isinstance(error, NoProvider)
    assert error.message == "No provider could answer; tried a (rate_limited), b (provider_unavailable)."
    assert error.retry_after_s == 8


def test_all_have_failed_without_a_word_on_when() -> None:
    """Where no provider said when to come back, neither do we."""
    assert gave_up(started(A).handle(Failed(Overloaded()), START + 1)).retry_after_s is None


@pytest.mark.parametrize("wait", ["1e30", "9" * 25, "1e19"])
def test_absurd_retry_after_is_still_an_answer(wait: str) -> None:
    """However long a provider says to wait, the caller gets a 503 that can be written down and waited for."""
    error = gave_up(started(A).handle(Failed(error_for(429, None, {"retry-after": wait}, START)), START + 1))
    response = problem(error, "id")
    assert response.status_code == 503
    assert json.loads(bytes(response.body)).get("retry_after", 0) <= 366 * 86_400


def test_total_ends_it_even_with_candidates_left() -> None:
    """Once the request's own time is over, nobody else is called."""
    core = started(A, B)
    assert isinstance(gave_up(core.handle(Failed(Overloaded()), START + 60)), NoProvider)
    assert len(core.attempts) == 1


def test_deadlines_never_pass_the_total() -> None:
    """Near the end, silence is cut short by the request's own time."""
    core = started(A, B, C)
    core.handle(Failed(Overloaded()), START + 58)
    assert core.deadline(START + 58) == START + 60
    core.handle(Received(HELLO), START + 59)
    assert core.deadline(START + 59) == START + 60


def test_abandoned() -> None:
    """When the caller goes, the running attempt is cancelled, once."""
    core = started()
    core.handle(Received(HELLO), START + 1)
    core.abandon(START + 2)
    core.abandon(START + 3)
    attempt = core.attempts[0]
    assert (attempt.outcome, attempt.ended_at, attempt.error_code) == ("cancelled", START + 2, None)


def test_abandoned_before_the_start() -> None:
    """A request that never began has nothing to abandon."""
    core = Completion((A,), DEADLINES, START)
    core.abandon(START)
    assert core.attempts == []


@pytest.mark.parametrize("event", [Ended(), Failed(Overloaded()), Failed(RequestRejected())])
def test_abandon_after_the_end(event: Event) -> None:
    """Once a request has ended, abandoning it changes nothing."""
    core = started(A)
    core.handle(event, START + 1)
    before = copy.deepcopy(core.attempts)
    core.abandon(START + 9)
    assert core.attempts == before


DELTAS = st.lists(
    st.builds(
        Delta,
        text=st.sampled_from(["", "", "x", "yz"]),
        reasoning=st.sampled_from(["", "", "r"]),
        finish_reason=st.sampled_from([None, None, "stop"]),
        usage=st.sampled_from([None, Usage(7, 3)]),
    ),
    min_size=1,
    max_size=2,
)


def failure(kind: type[ProviderError], wait: float | None) -> Failed:
    """The event of such an error."""
    return Failed(kind(retry_after_s=wait))


FAILURES = st.builds(failure, st.sampled_from([*HANDED_ON, *GOES_BACK]), st.none() | st.floats(0, 100))
EVENTS = st.one_of(DELTAS.map(Received), DELTAS.map(Received), FAILURES, st.just(Ended()))
Script = Sequence[tuple[float, Event]]
"""What a provider does: seconds of silence, then an event. After its last it is silent for ever."""
DELAYS = st.sampled_from([0.0, 0.5, 3.9, 4.0, 4.1, 14.9, 15.1, 30.0])
SCRIPT: st.SearchStrategy[Script] = st.lists(st.tuples(DELAYS, EVENTS), max_size=6)
SCRIPTS = st.lists(SCRIPT, min_size=1, max_size=4)


@dataclass
class Run:
    """How a request went: its core, what the caller got, and how and when it ended (None: the caller left)."""

    core: Completion
    delivered: list[Delta]
    end: Finish | GiveUp | None
    ended_at: float


def simulate(scripts: Sequence[Script], leaves_after_s: float | None) -> Run:
    """Drive a core as the router does, but under a clock that jumps."""
    plan = [Candidate(str(number), Model("m", 8_192, 1_024)) for number in range(len(scripts))]
    core, delivered, now = Completion(plan, DEADLINES, START), list[Delta](), START
    leaves_at = inf if leaves_after_s is None else START + leaves_after_s
    core.start(now)
    script = iter(scripts[0])
    while True:
        deadline = core.deadline(now)
        assert deadline <= START + DEADLINES.total_s
        assert [attempt.outcome is None for attempt in core.attempts] == [False] * (len(core.attempts) - 1) + [True]
        silence, event = next(script, (inf, Ended()))
        happens_at = min(now + silence, deadline)
        if leaves_at <= happens_at:
            core.abandon(leaves_at)
            return Run(core, delivered, None, leaves_at)
        event, now = (Expired() if now + silence >= deadline else event), max(now, happens_at)
        match core.handle(event, now):
            case Deliver(deltas):
                assert any(delta.text or delta.reasoning for delta in deltas)
                delivered.extend(deltas)
            case Wait():
                continue
            case Open(attempt):
                assert delivered == []
                script = iter(scripts[attempt.number - 1])
            case Finish() | GiveUp() as end:
                return Run(core, delivered, end, now)


@settings(max_examples=150)
@given(SCRIPTS, st.none() | st.sampled_from([0.0, 0.5, 4.0, 20.0]))
@example([[(0.0, Received(HELLO))]], None)
@example([[(3.9, Received([Delta(usage=Usage(1, 1))])), (0.2, Ended())], [(0.0, Ended())]], None)
def test_every_order_of_events(scripts: list[Script], leaves_after_s: float | None) -> None:
    """Whatever the providers do and whenever: the request ends in time, by one attempt, with an account of each."""
    run = simulate(scripts, leaves_after_s)
    assert START <= run.ended_at <= START + DEADLINES.total_s
    attempts = run.core.attempts
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert [attempt.candidate.provider for attempt in attempts] == [str(number) for number in range(len(attempts))]
    assert [attempt.fallback_from for attempt in attempts] == [None, *(str(n) for n in range(len(attempts) - 1))]
    for attempt, following in pairwise(attempts):
        assert attempt.first_token_at is None
        assert attempt.outcome in {"error", "timeout"}
        assert attempt.ended_at == following.started_at
    check_last(run, attempts[-1])
    before = copy.deepcopy(attempts)
    run.core.abandon(run.ended_at + 1)
    assert attempts == before


def check_last(run: Run, last: Attempt) -> None:
    """The attempt that decided agrees with what the caller was told and got."""
    assert last.ended_at == run.ended_at
    begun = last.first_token_at is not None
    assert not begun or last.started_at <= (last.first_token_at or 0) <= run.ended_at
    assert last.characters == sum(len(delta.text) + len(delta.reasoning) for delta in run.delivered)
    match run.end:
        case None:
            assert (last.outcome, last.error_code) == ("cancelled", None)
        case Finish():
            assert (last.outcome, last.error_code) == ("ok", None)
        case GiveUp(error):
            assert last.outcome in ({"timeout", "interrupted"} if begun else {"timeout", "error"})
            assert last.error_code is not None
            assert isinstance(error, Interrupted if begun else InvalidRequest | NoProvider)

"""The core of the router without its driver: every transition, and every order of events under a virtual clock."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.errors import (
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    Interrupted,
    InvalidObject,
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
from lib.providers.base import Delta, Model, ToolCallDelta, Usage
from lib.providers.chat import error_for
from lib.router.attempt import (
    Action,
    Attempt,
    Check,
    Checked,
    Close,
    Deliver,
    Ended,
    Event,
    Failed,
    Finish,
    GiveUp,
    OnInterrupt,
    Open,
    Policy,
    Received,
    Reset,
    Tick,
)
from lib.router.breaker import BreakerPolicy
from lib.router.completion import LONGEST_WAIT_S, RECOVERIES, RETRY_S, Completion
from lib.router.health import RETRIES, Health
from lib.router.plan import Candidate
from lib.router.recovery import HELD_CHARACTERS, anchor_of
from lib.router.roster import CONFIG_REST_S, LONGEST_REST_S
from lib.router.tool_calls import ToolCalls
from tests.lib.router.cores import POLICY, START, A, B, C, candidate, failed, gave_up, kinds, opened, said, started
from tests.lib.router.cores import text_of as read

HELLO = [Delta(text="Hello")]
PASSES = [ConnectionFailed, Overloaded, BrokenStream]
"""What may be over in a moment."""
STAYS = [TimedOut, CredentialsRejected, QuotaExhausted, ModelUnavailable]
"""After which the same provider is not asked again, nor after a 429."""
HANDED_ON = [*PASSES, *STAYS, RateLimited]
GOES_BACK = [RequestRejected, ContentRefused]
TEXT = "The sea is wide and blue, and nobody has counted all of its waves, though some have tried to."
RESET = dataclasses.replace(POLICY, can_reset=True)
JSON = dataclasses.replace(RESET, on_interrupt="restart")


def test_start() -> None:
    """The first candidate is called first, and may be silent for so long."""
    core = started()
    (attempt,) = core.attempts
    assert (attempt.number, attempt.candidate, attempt.kind, attempt.fallback_from) == (1, A, "first", None)
    assert core.waiting(START) == START + 4


def test_deltas_are_handed_on() -> None:
    """What the provider sends goes to the caller as it is; the first token is noted once."""
    core = started()
    (attempt,) = core.attempts
    assert core.handle(Received(attempt, HELLO), START + 1) == [Deliver(HELLO)]
    more = [Delta(reasoning="Hm"), Delta(text="!")]
    assert core.handle(Received(attempt, more), START + 2) == [Deliver(more)]
    assert (attempt.first_token_at, attempt.characters) == (START + 1, len("HelloHm!"))
    assert core.serving is attempt
    assert core.waiting(START + 2) == START + 2 + 10


def test_end() -> None:
    """The provider's end is ours, with what it counted and why it ended."""
    core = started()
    (attempt,) = core.attempts
    core.handle(Received(attempt, [*HELLO, Delta(finish_reason="length"), Delta(usage=Usage(7, 3))]), START + 1)
    core.handle(Received(attempt, [Delta(usage=Usage(7, 4))]), START + 2)
    assert core.handle(Ended(attempt), START + 3) == [Finish()]
    assert (attempt.outcome, attempt.ended_at, attempt.error_code) == ("ok", START + 3, None)
    assert (attempt.finish_reason, attempt.usage) == ("length", Usage(7, 4))


@pytest.mark.parametrize("error", HANDED_ON)
def test_failure_before_the_first_token(error: type[ProviderError]) -> None:
    """Who fails before the first token is left for the next at once, with a silence of its own."""
    core = started(A, B, C)
    attempt = opened(failed(core, error(), START + 1))
    assert attempt is core.attempts[-1]
    assert (attempt.number, attempt.candidate, attempt.kind, attempt.fallback_from) == (2, B, "fallback", "a")
    assert core.waiting(START + 1) == START + 1 + 4
    first = core.attempts[0]
    assert (first.error_code, first.ended_at) == (error.code, START + 1)
    assert first.outcome == ("timeout" if error is TimedOut else "error")


def test_last_candidate_may_take_its_time() -> None:
    """Nobody is left to turn to, so the last candidate is not hurried."""
    core = started()
    failed(core, Overloaded(), START + 1)
    assert core.waiting(START + 1) == START + 1 + 30
    assert started(A).waiting(START) == START + 30


@pytest.mark.parametrize(
    ("error", "words"),
    [(RequestRejected, "malformed"), (ContextTooLong, "longer than the model"), (ContentRefused, "content filter")],
)
def test_rejected_request(error: type[RequestRejected], words: str) -> None:
    """A request that a provider rejects goes back to the caller, with the reason: another would reject it too."""
    core = started()
    told = gave_up(failed(core, error(), START + 1))
    assert (type(told), told.status, told.code) == (InvalidRequest, 422, error.code)
    assert words in told.message
    assert [attempt.outcome for attempt in core.attempts] == ["error"]


def test_rejected_request_says_nothing_against_the_provider() -> None:
    """Who rejects a request is well: however many it rejects, it is asked again."""
    health = Health()
    for _ in range(20):
        failed(started(A, health=health), RequestRejected(), START)
    assert health.of(A).resting_s(START) == 0


def test_too_long_for_one_goes_to_a_larger_one() -> None:
    """A conversation that is too long for one model is passed over the equally small to a larger one."""
    small, large = candidate("small", 8_192), candidate("large", 32_768)
    core = started(A, small, large)
    attempt = opened(failed(core, ContextTooLong(), START + 1))
    assert (attempt.candidate, attempt.kind) == (large, "fallback")
    assert gave_up(failed(core, ContextTooLong(), START + 2)).code == "context_length_exceeded"


def test_too_long_is_not_forgotten() -> None:
    """Where the larger one fails, the conversation does not go to those that are known to be too small."""
    core = started(A, B, candidate("large", 32_768))
    assert opened(failed(core, ContextTooLong(), START + 1)).candidate.provider == "large"
    told = gave_up(failed(core, CredentialsRejected(), START + 2))
    assert told.message.endswith("tried a (context_length_exceeded), large (credentials_rejected).")


@pytest.mark.parametrize("error", PASSES)
def test_the_only_provider_is_asked_once_more(error: type[ProviderError]) -> None:
    """With no other left the same provider is tried again after a short pause, once."""
    core = started(A)
    assert failed(core, error(), START + 1) == []
    again_at = core.waiting(START + 1)
    assert START + 1 + RETRY_S / 2 <= again_at <= START + 1 + RETRY_S
    assert core.handle(Tick(), again_at - 0.01) == []
    attempt = opened(core.handle(Tick(), again_at))
    assert (attempt.number, attempt.candidate, attempt.kind, attempt.fallback_from) == (2, A, "retry", "a")
    assert isinstance(gave_up(failed(core, error(), again_at + 1)), NoProvider)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_pause_is_by_chance(chance: float) -> None:
    """Those who failed together do not come back together."""
    core = Completion((A,), POLICY, Health(), lambda: chance, START)
    core.start(START)
    failed(core, Overloaded(), START)
    assert core.waiting(START) == START + RETRY_S * (1 + chance) / 2


def test_the_last_of_several_is_asked_once_more() -> None:
    """Only when all have failed does one get a second chance: the one that failed last."""
    core = started(A, B)
    failed(core, Overloaded(), START)
    assert failed(core, Overloaded(), START) == []
    attempt = opened(core.handle(Tick(), core.waiting(START)))
    assert (attempt.candidate, attempt.kind) == (B, "retry")


@pytest.mark.parametrize("error", [*STAYS, RateLimited])
def test_no_second_time(error: type[ProviderError]) -> None:
    """Where a moment changes nothing, the same provider is not asked again."""
    core = started(A)
    told = gave_up(failed(core, error(), START + 1))
    assert (type(told), told.status) == (NoProvider, 503)
    assert len(core.attempts) == 1


@pytest.mark.parametrize("failed_after_s", [0.0, 1.5])
def test_retry_after_of_the_only_provider(failed_after_s: float) -> None:
    """Its Retry-After is waited for as long as its silence would have been, counted from the request's beginning."""
    now, left_s = START + failed_after_s, POLICY.first_token_s - failed_after_s
    core = started(A)
    assert failed(core, Overloaded(retry_after_s=left_s), now) == []
    assert core.waiting(now) == START + POLICY.first_token_s
    told = gave_up(failed(started(A), Overloaded(retry_after_s=left_s + 0.1), now))
    assert (type(told), told.retry_after_s) == (NoProvider, int(left_s + 0.1) + 1)


def test_retry_after_of_the_last_provider() -> None:
    """The reader who has waited for others already does not wait for the last one's Retry-After too."""
    core = started()
    core.handle(Tick(), START + 4)
    assert isinstance(gave_up(failed(core, Overloaded(retry_after_s=1), START + 4.5)), NoProvider)
    core = started()
    core.handle(Tick(), START + 4)
    assert failed(core, Overloaded(), START + 4.5) == []


def test_second_times_are_budgeted() -> None:
    """In an outage the second times stay a fifth of the requests, beside those that a process begins with."""
    health, retries = Health(), 0
    for number in range(500):
        # Each finds its breaker closed: the budget alone is what is tested.
        core = started(candidate(f"p{number}"), health=health)
        retries += failed(core, Overloaded(), START) == []
    assert 0.2 * 500 <= retries <= RETRIES + 0.2 * 500


def test_second_time_asks_the_breaker() -> None:
    """A provider that has been left alone in the meantime is not asked again."""
    health = Health()
    core = started(A, health=health)
    assert failed(core, Overloaded(), START) == []
    for _ in range(5):
        health.of(A).failed(START)
    told = gave_up(core.handle(Tick(), core.waiting(START)))
    assert (type(told), told.retry_after_s) == (NoProvider, 5)


def test_honouring_retry_after() -> None:
    """Who prefers the provider to the time waits for it, as long as it says, before the next is asked."""
    patient = dataclasses.replace(POLICY, honour_retry_after=True)
    core = started(A, B, policy=patient)
    assert failed(core, RateLimited(retry_after_s=3), START) == []
    assert core.waiting(START) == START + 3
    assert opened(core.handle(Tick(), START + 3)).candidate == A
    assert opened(failed(core, RateLimited(retry_after_s=3), START + 4)).candidate == B
    for wait_s, expected in ((LONGEST_WAIT_S, []), (LONGEST_WAIT_S + 1, [B])):
        actions = failed(started(policy=patient), RateLimited(retry_after_s=wait_s), START)
        assert [action.attempt.candidate for action in actions if isinstance(action, Open)] == expected
    assert opened(failed(started(policy=patient), TimedOut(), START)).candidate == B


def test_honouring_is_budgeted_too() -> None:
    """However patient its callers, a process makes its providers no more than a fifth of calls beside the requests."""
    patient = dataclasses.replace(POLICY, honour_retry_after=True)
    health, retries = Health(), 0
    for number in range(500):
        core = started(candidate(f"p{number}"), candidate(f"q{number}"), policy=patient, health=health)
        actions = failed(core, Overloaded(retry_after_s=1), START)
        retries += actions == []
        assert actions == [] or opened(actions).kind == "fallback"
    assert 0.2 * 500 <= retries <= RETRIES + 0.2 * 500


@pytest.mark.parametrize("error", [*HANDED_ON, *GOES_BACK, ContextTooLong])
@pytest.mark.parametrize("plan", [(A, B), (A,)], ids=["another", "the same"])
def test_failure_after_the_first_token(error: type[ProviderError], plan: tuple[Candidate, ...]) -> None:
    """After the first token another goes on from what was delivered; the same one where it does not rest."""
    core = started(*plan)
    said(core, TEXT, START + 1)
    actions = failed(core, error(), START + 2)
    first = core.attempts[0]
    timed_out = error is TimedOut
    assert first.outcome == ("timeout" if timed_out else "interrupted")
    assert first.error_code == error.code
    if error is ContextTooLong or (len(plan) == 1 and error in {CredentialsRejected, QuotaExhausted, ModelUnavailable}):
        told = gave_up(actions)
        assert (type(told), told.status, told.code) == (Interrupted, 502, "stream_interrupted")
        return
    attempt = opened(actions)
    assert actions == [Open(attempt, TEXT, "anchor")]
    assert (attempt.number, attempt.candidate, attempt.kind, attempt.fallback_from) == (
        2,
        plan[-1],
        "continuation",
        "a",
    )
    assert core.serving is None


@pytest.mark.parametrize("error", [*HANDED_ON, *GOES_BACK, ContextTooLong])
def test_interruption_as_an_error(error: type[ProviderError]) -> None:
    """Who asks for it learns that the answer broke off, and nobody else is asked."""
    core = started(policy=dataclasses.replace(RESET, on_interrupt="error"))
    said(core, "Hello", START + 1)
    told = gave_up(failed(core, error(), START + 2))
    assert (type(told), told.status) == (Interrupted, 502)
    assert told.code == ("stream_timeout" if error is TimedOut else "stream_interrupted")
    (attempt,) = core.attempts
    assert attempt.error_code == error.code


def test_proven_continuation() -> None:
    """Only what is new of a continuation is delivered, and it then runs as any answer does."""
    core = started()
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    assert said(core, anchor_of(TEXT[:60])[:20], START + 3) == []
    assert core.serving is None
    assert read(said(core, anchor_of(TEXT[:60])[20:] + TEXT[60:70], START + 4)) == TEXT[60:70]
    assert core.serving is core.attempts[1]
    assert read(said(core, TEXT[70:], START + 5)) == TEXT[70:]
    assert core.waiting(START + 5) == START + 5 + 10
    assert core.handle(Ended(core.attempts[1]), START + 6) == [Finish()]
    assert [attempt.outcome for attempt in core.attempts] == ["interrupted", "ok"]


def test_continuation_from_a_prefix() -> None:
    """A model that is known to go on from its unfinished message is asked that, and taken at its word."""
    core = started(A, candidate("b", continues_prefix=True))
    said(core, TEXT[:9], START + 1)
    actions = failed(core, BrokenStream(), START + 2)
    assert actions == [Open(core.attempts[1], TEXT[:9], "prefix")]
    assert read(said(core, TEXT[9:], START + 3)) == TEXT[9:]


@pytest.mark.parametrize("repeated", [anchor_of(TEXT), TEXT], ids=["anchor", "all"])
def test_repetition_is_no_end(repeated: str) -> None:
    """A model that repeats what there was and stops has not shown that the answer ends there: small ones do so."""
    core = started()
    said(core, TEXT, START + 1)
    failed(core, BrokenStream(), START + 2)
    assert said(core, repeated, START + 3) == []
    assert gave_up(core.handle(Ended(core.attempts[1]), START + 4)).code == "stream_interrupted"
    assert core.attempts[1].error_code == "seam_unproven"


def test_nothing_left_to_say() -> None:
    """A model that goes on from its own message and has nothing to add says that the answer was complete."""
    core = started(A, candidate("b", continues_prefix=True))
    said(core, TEXT, START + 1)
    failed(core, BrokenStream(), START + 2)
    assert core.handle(Ended(core.attempts[1]), START + 4) == [Finish()]


def test_reasoning_alone_is_no_text_to_go_on_from() -> None:
    """Where only thoughts were delivered, the next is asked as the first was."""
    core = started()
    core.handle(Received(core.attempts[0], [Delta(reasoning="Hm")]), START + 1)
    actions = failed(core, BrokenStream(), START + 2)
    assert actions == [Open(core.attempts[1])]
    assert core.attempts[1].kind == "continuation"
    assert read(said(core, TEXT, START + 3)) == TEXT


PARAPHRASE = "What I meant is that no one knows how many waves there are. " * 5


def test_unproven_continuation_goes_to_the_next() -> None:
    """A continuation that can't be joined is left without a word of it delivered, and the next is asked."""
    core = started(A, B, C)
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    actions = said(core, PARAPHRASE, START + 3)
    assert kinds(actions) == ["Close 2", "Open 3"]
    assert actions[1] == Open(core.attempts[2], TEXT[:60], "anchor")
    unproven = core.attempts[1]
    assert (unproven.outcome, unproven.error_code, unproven.characters) == ("error", "seam_unproven", len(PARAPHRASE))
    assert read(said(core, TEXT, START + 4)) == TEXT[60:]


def test_continuation_that_thinks_first() -> None:
    """A continuation that only thinks aloud is not silent: it may go on; what it thinks is not shown."""
    core = started()
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    thinking = core.attempts[1]
    for second in range(3, 13):
        assert core.handle(Received(thinking, [Delta(reasoning="Hm")]), START + second) == []
        assert core.waiting(START + second) == START + second + 10
        assert core.handle(Tick(), START + second + 0.9) == []
    assert core.serving is None
    assert read(said(core, anchor_of(TEXT[:60]) + TEXT[60:], START + 13)) == TEXT[60:]
    assert core.serving is thinking


def test_unproven_continuations_are_limited_too() -> None:
    """A continuation that can't be joined counts like one that breaks off, also where the answer then begins anew."""
    core = started(A, B, C, policy=RESET)
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    assert kinds(said(core, PARAPHRASE, START + 3)) == ["Close 2", "Open 3"]
    assert kinds(said(core, PARAPHRASE, START + 4)) == ["Close 3", "Reset", "Open 4"]
    said(core, TEXT[:60], START + 5)
    assert gave_up(failed(core, BrokenStream(), START + 6)).code == "stream_interrupted"
    core = started(A, B, C, candidate("d"), policy=RESET)
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    for number in (2, 3):
        assert kinds(said(core, PARAPHRASE, START + number)) == [f"Close {number}", f"Open {number + 1}"]
    assert kinds(said(core, PARAPHRASE, START + 4)) == ["Close 4", "GiveUp"]


def test_nobody_is_asked_after_the_end() -> None:
    """A continuation that proves unfit in the last moment is the end, not the beginning of another."""
    core = started(A, B, C, policy=RESET)
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    close, *rest = said(core, PARAPHRASE, START + 60)
    assert (close, gave_up(rest).code) == (Close(core.attempts[1]), "stream_timeout")


@pytest.mark.parametrize("ends", [True, False])
def test_unproven_continuation_with_nobody_left(*, ends: bool) -> None:
    """With nobody left to ask, the caller learns that the answer broke off, or it begins anew where it may."""
    for policy, expected in ((POLICY, ["GiveUp"]), (RESET, ["Reset", "Open 3"])):
        core = started(policy=policy)
        said(core, TEXT[:60], START + 1)
        failed(core, BrokenStream(), START + 2)
        if ends:
            # Its stream has ended already: there is nothing to close.
            said(core, PARAPHRASE[:50], START + 3)
            actions = core.handle(Ended(core.attempts[1]), START + 4)
        else:
            close, *actions = said(core, PARAPHRASE, START + 3)
            assert close == Close(core.attempts[1])
        assert kinds(actions) == expected
        if policy is POLICY:
            told = gave_up(actions)
            assert (type(told), told.code) == (Interrupted, "stream_interrupted")
        else:
            assert core.attempts[2].kind == "restart"
            assert read(said(core, "Anew", START + 5)) == "Anew"


def test_held_text_is_limited() -> None:
    """A continuation is never held longer than it takes to know."""
    core = started()
    said(core, TEXT * 3, START + 1)
    failed(core, BrokenStream(), START + 2)
    for index in range(HELD_CHARACTERS - 1):
        assert said(core, "x", START + 3) == [], index
    assert kinds(said(core, "x", START + 3)) == ["Close 2", "GiveUp"]


def test_json_begins_anew() -> None:
    """Where nothing has been sent yet, the answer begins anew: by the next provider, or the same."""
    core = started(A, policy=JSON)
    for number in range(2, RECOVERIES + 2):
        said(core, "Hello", START + number)
        actions = failed(core, BrokenStream(), START + number)
        assert actions == [Reset(), Open(core.attempts[-1])]
        assert (core.attempts[-1].number, core.attempts[-1].kind, core.attempts[-1].candidate) == (number, "restart", A)
    said(core, "Hello", START + 9)
    assert gave_up(failed(core, BrokenStream(), START + 9)).code == "stream_interrupted"


def test_what_cannot_be_spliced_begins_anew_or_breaks_off() -> None:
    """JSON within the answer is never joined."""
    for policy, expected in ((POLICY, ["GiveUp"]), (RESET, ["Reset", "Open 2"])):
        core = started(policy=dataclasses.replace(policy, can_splice=False))
        said(core, '{"a":', START + 1)
        assert kinds(failed(core, BrokenStream(), START + 2)) == expected


def test_restart_that_cannot_be() -> None:
    """A caller that can't take anything back is told that the answer broke off, though it asked for a restart."""
    core = started(policy=dataclasses.replace(POLICY, on_interrupt="restart"))
    said(core, "Hello", START + 1)
    assert gave_up(failed(core, BrokenStream(), START + 2)).code == "stream_interrupted"


def test_recoveries_are_limited() -> None:
    """An answer is taken up a few times and no more, however far each of them comes."""
    core = started(candidate("a", continues_prefix=True))
    said(core, "one", START)
    for number in range(RECOVERIES):
        (action,) = failed(core, BrokenStream(), START)
        assert action == Open(core.attempts[-1], "one" + " more" * number, "prefix")
        assert read(said(core, " more", START)) == " more"
    assert gave_up(failed(core, BrokenStream(), START)).code == "stream_interrupted"
    assert [attempt.kind for attempt in core.attempts] == ["first", *["continuation"] * RECOVERIES]


def test_silence_before_the_first_token() -> None:
    """A silent provider is closed and left for the next."""
    core = started()
    assert core.handle(Tick(), START + 3.9) == []
    assert kinds(core.handle(Tick(), START + 4)) == ["Close 1", "Open 2"]
    assert (core.attempts[0].outcome, core.attempts[0].error_code) == ("timeout", "timeout")


def test_silence_in_the_middle() -> None:
    """Silence in mid-answer ends the attempt; the next goes on, and where there is none the caller is told."""
    core = started(policy=dataclasses.replace(POLICY, on_interrupt="error"))
    said(core, "Hello", START + 1)
    assert core.waiting(START + 1) == START + 11
    close, *rest = core.handle(Tick(), START + 11)
    assert close == Close(core.attempts[0])
    assert gave_up(rest).code == "stream_timeout"
    core = started()
    said(core, "Hello", START + 1)
    core.waiting(START + 1)
    assert kinds(core.handle(Tick(), START + 11)) == ["Close 1", "Open 2"]


def test_reasoning_is_a_first_token() -> None:
    """A provider that thinks aloud is not silent."""
    core = started()
    (attempt,) = core.attempts
    thought = [Delta(reasoning="Hm")]
    assert core.handle(Received(attempt, thought), START + 3) == [Deliver(thought)]
    assert attempt.first_token_at == START + 3
    assert core.waiting(START + 3) == START + 3 + 10


def test_slow_reader() -> None:
    """Silence counts from when the provider is waited for, not from what it said last: but never past the total."""
    core = started()
    said(core, "Hello", START + 1)
    assert core.waiting(START + 30) == START + 30 + 10
    assert core.waiting(START + 55) == START + 60


def test_waiting_anew_gives_no_more_time_for_the_first_token() -> None:
    """Before its first token a provider has its time from the call on, however often it is waited for."""
    core = started()
    assert core.waiting(START + 3) == START + 4


def test_usage_is_no_first_token() -> None:
    """Counting tokens is not writing them: the caller learns nothing yet, and such a provider may still be left."""
    core = started()
    assert core.handle(Received(core.attempts[0], [Delta(usage=Usage(7, 0))]), START + 3) == []
    assert core.waiting(START + 3) == START + 4
    assert opened(failed(core, Overloaded(), START + 3)).kind == "fallback"
    assert core.attempts[0].usage == Usage(7, 0)


def test_all_have_failed() -> None:
    """When nobody is left, the caller learns who was tried, why, and when to come back at the earliest."""
    core = started()
    failed(core, RateLimited(retry_after_s=30), START + 1)
    told = gave_up(failed(core, RateLimited(retry_after_s=7.2), START + 2))
    assert isinstance(told, NoProvider)
    assert told.message == "No provider could answer; tried a (rate_limited), b (rate_limited)."
    assert told.retry_after_s == 8


def test_all_have_failed_without_a_word_on_when() -> None:
    """Where no provider said when to come back and none rests, we say nothing of it either."""
    assert gave_up(failed(started(A), RateLimited(), START + 1)).retry_after_s is None


def test_all_rest() -> None:
    """Where all are left alone, nobody is called, and the caller learns when the first is tried again."""
    health = Health()
    health.of(A).failed(START, 60)
    health.of(B).failed(START, 20)
    core = Completion((A, B), POLICY, health, lambda: 0.5, START)
    told = gave_up(core.start(START + 5))
    assert (type(told), told.retry_after_s) == (NoProvider, 16)
    assert told.message == "No provider could answer; all rest after failures."
    (skipped,) = core.attempts
    assert (skipped.number, skipped.kind, skipped.candidate) == (0, "skipped", A)
    assert (skipped.outcome, skipped.error_code, skipped.ended_at) == ("error", "resting", START + 5)


@pytest.mark.parametrize(
    ("error", "rest_s"),
    [
        (CredentialsRejected(), CONFIG_REST_S),
        (QuotaExhausted(), CONFIG_REST_S),
        (ModelUnavailable(), CONFIG_REST_S),
        (RateLimited(retry_after_s=30), 30),
        (RateLimited(retry_after_s=1e9), LONGEST_REST_S),
        (RateLimited(), 0),
        (Overloaded(), 0),
    ],
)
def test_rest(error: ProviderError, rest_s: float) -> None:
    """A provider rests as long as it asked for, within reason, and a while where it will not heal by itself."""
    health = Health()
    failed(started(health=health), error, START)
    assert health.of(A).resting_s(START) == rest_s
    assert started(health=health).attempts[0].candidate == (B if rest_s else A)


def test_resting_providers_are_passed_over() -> None:
    """After enough failures in a row a provider is left out, then probed by one request at a time."""
    health = Health()
    for _ in range(5):
        failed(started(health=health), Overloaded(), START)
    assert started(health=health, now=START + 1).attempts[0].candidate == B
    probe = started(health=health, now=START + 5)
    assert probe.attempts[0].candidate == A
    assert started(health=health, now=START + 6).attempts[0].candidate == B
    said(probe, "Hello", START + 7)
    assert started(health=health, now=START + 7).attempts[0].candidate == A


@pytest.mark.parametrize("how", ["fails", "leaves", "speaks"])
def test_call_from_before_the_rest_decides_nothing(how: str) -> None:
    """While a probe is under way, what becomes of an older call lets no second probe through."""
    health = Health()
    old = started(health=health)
    for _ in range(5):
        failed(started(health=health), Overloaded(), START)
    assert started(health=health, now=START + 5).attempts[0].candidate == A
    match how:
        case "fails":
            failed(old, Overloaded(), START + 6)
        case "leaves":
            old.abandon(START + 6)
        case _:
            said(old, "Hello", START + 6)
    assert started(health=health, now=START + 6).attempts[0].candidate == B
    assert started(health=health, now=START + 40).attempts[0].candidate == B


def test_probe_that_is_abandoned_frees_its_place() -> None:
    """When the probe's caller goes, the next request may probe."""
    health = Health()
    health.of(A).failed(START, 5)
    started(health=health, now=START + 5).abandon(START + 6)
    assert started(health=health, now=START + 6).attempts[0].candidate == A


@pytest.mark.parametrize("wait", ["1e30", "9" * 25, "1e19"])
def test_absurd_retry_after_is_still_an_answer(wait: str) -> None:
    """However long a provider says to wait, the caller gets a 503 that can be written down and waited for."""
    error = gave_up(failed(started(A), error_for(429, None, {"retry-after": wait}, START), START + 1))
    response = problem(error, "id")
    assert response.status_code == 503
    assert json.loads(bytes(response.body)).get("retry_after", 0) <= 3_601


@pytest.mark.parametrize("speaks", [False, True])
@pytest.mark.parametrize("tick", [False, True])
def test_total_ends_it_even_with_candidates_left(*, speaks: bool, tick: bool) -> None:
    """Once the request's own time is over, nobody else is called."""
    core = started(A, B, policy=RESET)
    if speaks:
        said(core, "Hello", START + 1)
    actions = core.handle(Tick(), START + 60) if tick else failed(core, Overloaded(), START + 60)
    assert kinds(actions) == (["Close 1", "GiveUp"] if tick else ["GiveUp"])
    told = gave_up(actions[-1:])
    assert (type(told), told.code) == ((Interrupted, "stream_timeout") if speaks else (NoProvider, NoProvider.code))
    assert len(core.attempts) == 1
    assert core.attempts[0].outcome == ("timeout" if tick else "interrupted" if speaks else "error")


@pytest.mark.parametrize("noticed", [Tick(), TimedOut()], ids=["by us", "by the wait for it"])
@pytest.mark.parametrize("says", ["text", "reasoning", "nothing"])
@pytest.mark.parametrize("kind", ["first", "continuation"])
def test_the_end_is_held_against_the_silent_alone(noticed: Tick | ProviderError, says: str, kind: str) -> None:
    """Who still writes when the request's own time is over is not to blame for that; who kept silent throughout is."""
    health = Health(BreakerPolicy(consecutive=1))
    core = started(A, B, policy=dataclasses.replace(POLICY, first_token_s=20), health=health)
    if kind == "continuation":
        said(core, TEXT[:60], START + 1)
        failed(core, RequestRejected(), START + 2)
    attempt = core.attempts[-1]
    if says != "nothing":
        deltas = [Delta(text="The sea")] if says == "text" else [Delta(reasoning="Hm")]
        core.handle(Received(attempt, deltas), START + 59)
    core.handle(noticed if isinstance(noticed, Tick) else Failed(attempt, noticed), START + 60)
    assert (attempt.outcome, attempt.error_code) == ("timeout", "timeout")
    assert (health.of(attempt.candidate).resting_s(START + 60) > 0) is (says == "nothing")


def test_the_end_is_not_held_against_who_had_no_time() -> None:
    """Who was asked a moment before the end has shown nothing."""
    health = Health(BreakerPolicy(consecutive=1))
    core = started(A, B, health=health)
    failed(core, RateLimited(retry_after_s=5), START + 59)
    assert kinds(core.handle(Tick(), START + 60)) == ["Close 2", "GiveUp"]
    assert health.of(B).resting_s(START + 60) == 0


def test_the_end_comes_while_words_still_do() -> None:
    """Words that wait for a slow reader do not carry an answer past the request's time: what is there is the last."""
    core = started()
    said(core, "Hello", START + 1)
    actions = said(core, " world", START + 61)
    assert kinds(actions) == ["Deliver", "Close 1", "GiveUp"]
    assert gave_up(actions[2:]).code == "stream_timeout"
    assert core.attempts[0].outcome == "timeout"


@pytest.mark.parametrize("last", [Tick(), TimedOut(), None], ids=["by us", "by the wait for it", "by itself"])
def test_whole_answer_at_the_end(last: Tick | ProviderError | None) -> None:
    """An answer that is whole when the request's time is over is an answer, though its account may be missing."""
    core = started()
    (attempt,) = core.attempts
    whole = [Delta(text="Hello"), Delta(finish_reason="stop")]
    assert core.handle(Received(attempt, whole), START + 61) == [Deliver(whole)]
    event = Failed(attempt, last) if isinstance(last, ProviderError) else last or Ended(attempt)
    assert core.handle(event, START + 61) == [Finish()]
    assert (attempt.outcome, attempt.error_code) == ("ok", None)


def test_another_may_set_an_earlier_end() -> None:
    """The function's own end comes before the policy's where it is nearer, and never later."""
    for ends_at, expected in ((START + 9, START + 9), (START + 999, START + 60)):
        core = Completion((A,), dataclasses.replace(POLICY, patience_s=900), Health(), lambda: 0.5, START, ends_at)
        core.start(START)
        assert core.waiting(START) == expected
        assert kinds(core.handle(Tick(), expected)) == ["Close 1", "GiveUp"]


def test_deadlines_never_pass_the_total() -> None:
    """Near the end, silence is cut short by the request's own time."""
    core = started(A, B, C)
    failed(core, Overloaded(), START + 58)
    assert core.waiting(START + 58) == START + 60
    said(core, "Hello", START + 59)
    assert core.waiting(START + 59) == START + 60


def test_abandoned() -> None:
    """When the caller goes, the running attempt is cancelled, once."""
    core = started()
    said(core, "Hello", START + 1)
    core.abandon(START + 2)
    core.abandon(START + 3)
    attempt = core.attempts[0]
    assert (attempt.outcome, attempt.ended_at, attempt.error_code) == ("cancelled", START + 2, None)


def test_abandoned_before_the_start() -> None:
    """A request that never began has nothing to abandon."""
    core = Completion((A,), POLICY, Health(), lambda: 0.5, START)
    core.abandon(START)
    assert core.attempts == []


@pytest.mark.parametrize("error", [None, TimedOut(), RequestRejected()])
def test_abandon_after_the_end(error: ProviderError | None) -> None:
    """Once a request has ended, abandoning it changes nothing, nor does what comes late."""
    core = started(A)
    attempt = core.attempts[0]
    core.handle(Ended(attempt) if error is None else Failed(attempt, error), START + 1)
    before = copy.deepcopy(state(core))
    core.abandon(START + 9)
    assert core.handle(Received(attempt, HELLO), START + 9) == []
    assert core.handle(Ended(attempt), START + 9) == []
    assert core.handle(Failed(attempt, Overloaded()), START + 9) == []
    assert state(core) == before


def state(core: Completion) -> list[dict[str, object]]:
    """All that is known of the attempts."""
    return [dataclasses.asdict(attempt) for attempt in core.attempts]


CALL_BEGINS = (ToolCallDelta(0, "a", "f", "{"),)
CALL_ENDS = (ToolCallDelta(0, arguments="}"),)
DELTAS = st.lists(
    st.builds(
        Delta,
        text=st.sampled_from(["", "", "x", "yz"]),
        reasoning=st.sampled_from(["", "", "r"]),
        finish_reason=st.sampled_from([None, None, "stop"]),
        usage=st.sampled_from([None, Usage(7, 3)]),
        tool_calls=st.sampled_from([(), (), (), CALL_BEGINS, CALL_ENDS]),
    ),
    min_size=1,
    max_size=2,
)


def failure(kind: type[ProviderError], wait: float | None) -> ProviderError:
    """Such an error."""
    return kind(retry_after_s=wait)


FAILURES = st.builds(failure, st.sampled_from([*HANDED_ON, *GOES_BACK, ContextTooLong]), st.none() | st.floats(0, 100))
Step = Sequence[Delta] | ProviderError | None
"""What a provider does next: send, fail, or (None) end."""
STEPS = st.one_of(DELTAS, DELTAS, FAILURES, st.none())
Script = Sequence[tuple[float, Step]]
"""What a provider does: seconds of silence, then a step. After its last it is silent for ever."""
DELAYS = st.sampled_from([0.0, 0.5, 3.9, 4.0, 4.1, 9.9, 10.1, 30.0])
SCRIPT: st.SearchStrategy[Script] = st.lists(st.tuples(DELAYS, STEPS), max_size=6)
POLICIES = st.builds(
    dataclasses.replace,
    st.just(POLICY),
    hedge_s=st.sampled_from([None, 0.0, 1.0, 4.0]),
    on_interrupt=st.sampled_from(["continue", "restart", "error"]),
    can_reset=st.booleans(),
    can_splice=st.booleans(),
    honour_retry_after=st.booleans(),
    checks=st.booleans(),
    repairs=st.sampled_from([0, 0, 1]),
)


@dataclass
class Run:
    """How a request went: its core, what the caller got, and how and when it ended (None: the caller left)."""

    core: Completion
    delivered: list[Delta] = field(default_factory=list[Delta])
    end: Finish | GiveUp | None = None
    ended_at: float = START
    resets: int = 0


def event_of(attempt: Attempt, step: Step) -> Event:
    """What the core is told of it."""
    match step:
        case None:
            return Ended(attempt)
        case ProviderError():
            return Failed(attempt, step)
        case _:
            return Received(attempt, step)


@dataclass
class Plan:
    """What a call will do, and when it does the first of it."""

    at: float
    script: Script

    @classmethod
    def of(cls, script: Script, now: float) -> Plan:
        """From now on it follows this script."""
        return cls(now + script[0][0] if script else inf, script)


def do(
    actions: Sequence[Action], run: Run, live: dict[Attempt, Plan], scripts: Sequence[Script], now: float
) -> Event | None:
    """Do what the core says; return what is known at once of what came of it."""
    event = None
    for action in actions:
        match action:
            case Open(attempt):
                live[attempt] = Plan.of(scripts[(attempt.number - 1) % len(scripts)], now)
            case Close(attempt):
                del live[attempt]
            case Deliver(deltas):
                assert any(delta.characters for delta in deltas)
                run.delivered.extend(deltas)
            case Reset():
                run.delivered.clear()
                run.resets += 1
            case Check(attempt, text):
                assert live == {}
                event = Checked(attempt, "is odd" if len(text) % 2 else None)
            case Finish() | GiveUp():
                run.end = action
    return event


def simulate(core: Completion, scripts: Sequence[Script], leaves_after_s: float | None) -> Run:
    """Drive a core as the router does, but under a clock that jumps; the n-th call follows the n-th script."""
    run, now = Run(core), START
    live: dict[Attempt, Plan] = {}
    leaves_at = inf if leaves_after_s is None else START + leaves_after_s
    actions = core.start(now)
    while True:
        event = do(actions, run, live, scripts, now)
        if event is not None:
            actions = core.handle(event, now)
            continue
        if run.end is not None:
            run.ended_at = now
            return run
        assert [attempt for attempt in core.attempts if attempt.outcome is None] == list(live)
        until = core.waiting(now)
        assert until <= START + POLICY.total_s
        first = min(live, key=lambda attempt: live[attempt].at, default=None)
        happens_at = inf if first is None else live[first].at
        if leaves_at <= min(happens_at, until):
            run.ended_at = max(leaves_at, now)
            core.abandon(run.ended_at)
            return run
        now = max(now, min(happens_at, until))
        if first is None or happens_at > until:
            actions = core.handle(Tick(), now)
            continue
        step, live[first] = live[first].script[0][1], Plan.of(live[first].script[1:], now)
        if step is None or isinstance(step, ProviderError):
            del live[first]
        actions = core.handle(event_of(first, step), now)


@settings(max_examples=300)
@given(
    st.lists(SCRIPT, min_size=1, max_size=6),
    st.integers(1, 3),
    POLICIES,
    st.none() | st.sampled_from([0.0, 0.5, 4.0, 20.0]),
)
@example([[(0.0, HELLO)]], 1, POLICY, None)
@example([[(3.9, [Delta(usage=Usage(1, 1))]), (0.2, None)], [(0.0, None)]], 2, POLICY, None)
@example([[(0.0, HELLO), (0.0, Overloaded())], [(0.0, None)]], 2, RESET, None)
def test_every_order_of_events(
    scripts: list[Script], providers: int, policy: Policy, leaves_after_s: float | None
) -> None:
    """Whatever the providers do and whenever: the request ends in time, with an account of each call."""
    plan = [Candidate(str(number), Model("m", 8_192, 1_024)) for number in range(providers)]
    run = simulate(Completion(plan, policy, Health(), lambda: 0.5, START), scripts, leaves_after_s)
    assert START <= run.ended_at <= START + POLICY.total_s
    run.core.abandon(run.ended_at)
    attempts = run.core.attempts
    assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
    before = [None, *(attempt.candidate.provider for attempt in attempts)]
    assert [attempt.fallback_from for attempt in attempts] == before[:-1]
    assert [attempt.kind for attempt in attempts][:1] in ([], ["first"])
    kinds_after = [attempt.kind for attempt in attempts][1:]
    assert "first" not in kinds_after
    assert kinds_after.count("hedge") <= 1
    assert kinds_after.count("continuation") <= RECOVERIES
    restarts, repairs = kinds_after.count("restart"), kinds_after.count("repair")
    assert run.resets == restarts + repairs
    assert restarts <= (RECOVERIES if policy.can_reset else 0)
    assert kinds_after.count("continuation") + restarts <= RECOVERIES
    assert repairs <= (policy.repairs if policy.checks else 0)
    assert repairs == 0 or kinds_after[-1] == "repair"
    for attempt in attempts:
        assert attempt.ended_at is not None
        assert attempt.started_at <= attempt.ended_at <= run.ended_at
        assert attempt.first_token_at is None or attempt.started_at <= attempt.first_token_at <= attempt.ended_at
        assert (attempt.error_code is None) is (attempt.outcome in {"ok", "cancelled"})
    check_end(run, policy.on_interrupt)
    settled = copy.deepcopy(state(run.core))
    run.core.abandon(run.ended_at + 1)
    assert state(run.core) == settled


def check_end(run: Run, on_interrupt: OnInterrupt) -> None:
    """What the caller was told agrees with what became of the attempts."""
    attempts = run.core.attempts
    outcomes = [attempt.outcome for attempt in attempts]
    match run.end:
        case None:
            assert "ok" not in outcomes
            assert not attempts or run.ended_at > attempts[-1].started_at or outcomes[-1] is not None
        case Finish():
            assert outcomes.count("ok") == 1
            assert run.core.serving is attempts[outcomes.index("ok")]
            check_calls(run)
        case GiveUp(InvalidObject()):
            assert attempts[-1].kind == "repair" or attempts[-1].error_code == "invalid_object"
        case GiveUp(error):
            assert "ok" not in outcomes
            assert isinstance(error, Interrupted if run.delivered else InvalidRequest | NoProvider)
    if on_interrupt == "error":
        assert "restart" not in [attempt.kind for attempt in attempts]
        assert "continuation" not in [attempt.kind for attempt in attempts]


def check_calls(run: Run) -> None:
    """In a finished answer each call is whole, and all pieces are of the attempt that finished it."""
    calls = ToolCalls()
    for delta in run.delivered:
        calls.add(delta.tool_calls)
    assert calls.are_whole
    assert not calls or run.core.serving is not None
    if calls and run.core.serving is not None:
        assert run.core.serving.finish_reason == "tool_calls"

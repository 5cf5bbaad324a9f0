"""The core where an answer is more than text: calls of tools, thoughts, JSON that is checked before it is finished."""

from __future__ import annotations

import dataclasses

import pytest

from lib.errors import (
    BrokenStream,
    ContextTooLong,
    Interrupted,
    InvalidObject,
    Overloaded,
    ProviderError,
    RequestRejected,
    TimedOut,
)
from lib.providers.base import ChatRequest, Delta, FinishReason, ToolCallDelta, Usage
from lib.router.attempt import Action, Check, Checked, Close, Deliver, Ended, Finish, Open, Received, Reset, Tick
from lib.router.completion import Completion
from lib.router.health import Health
from lib.router.recovery import Seam, Unproven, anchor_of, joined, repair
from tests.lib.router.cores import POLICY, START, A, B, C, candidate, failed, gave_up, kinds, opened, said, started
from tests.lib.router.cores import text_of as read

RESET = dataclasses.replace(POLICY, can_reset=True)
JSON = dataclasses.replace(RESET, on_interrupt="restart")
CHECKED = dataclasses.replace(JSON, can_splice=False, checks=True, repairs=1)
BEGIN = ToolCallDelta(0, "call_1", "weather")
ARGUMENTS = '{"city": "Paris"}'
TEXT = "The sea is wide and blue, and nobody has counted all of its waves, though some have tried to."


def called(core: Completion, *pieces: ToolCallDelta, now: float = START + 1) -> list[Action]:
    """The last attempt says these pieces of calls, one delta each."""
    return core.handle(Received(core.attempts[-1], [Delta(tool_calls=(piece,)) for piece in pieces]), now)


def argued(text: str, index: int = 0) -> ToolCallDelta:
    """The next of a call's arguments."""
    return ToolCallDelta(index, arguments=text)


def ended(core: Completion, reason: FinishReason | None = None, now: float = START + 2) -> list[Action]:
    """The last attempt finishes with this reason, and ends."""
    attempt = core.attempts[-1]
    if reason is not None:
        assert core.handle(Received(attempt, [Delta(finish_reason=reason)]), now) == []
    return core.handle(Ended(attempt), now)


def test_call_is_a_first_token() -> None:
    """A provider that begins with a call has begun: it is not left for its silence, and what it wrote counts."""
    core = started()
    (attempt,) = core.attempts
    pieces = [Delta(tool_calls=(BEGIN,))]
    assert core.handle(Received(attempt, pieces), START + 3) == [Deliver(pieces)]
    assert attempt.first_token_at == START + 3
    assert core.serving is attempt
    assert core.waiting(START + 3) == START + 3 + 10
    called(core, argued(ARGUMENTS))
    assert attempt.characters == len("weather" + ARGUMENTS)


@pytest.mark.parametrize("reason", ["tool_calls", "stop", "other", None])
def test_whole_calls(reason: FinishReason | None) -> None:
    """An answer of whole calls is finished, and says so whatever its provider calls it."""
    core = started()
    called(core, BEGIN, argued(ARGUMENTS[:5]), argued(ARGUMENTS[5:]), ToolCallDelta(1, "call_2", "weather", "{}"))
    assert ended(core, reason) == [Finish()]
    assert (core.attempts[0].outcome, core.attempts[0].finish_reason) == ("ok", "tool_calls")


def test_whole_calls_of_an_answer_that_was_cut_short() -> None:
    """Calls that are whole may be made though the provider had more to say; that it had is not hidden."""
    core = started()
    called(core, BEGIN, argued(ARGUMENTS))
    assert ended(core, "length") == [Finish()]
    assert core.attempts[0].finish_reason == "length"


PARTIAL = ["", "{", ARGUMENTS[:-1], f"{ARGUMENTS}}}", '"text"', "[]", "null", " "]


@pytest.mark.parametrize("arguments", PARTIAL)
@pytest.mark.parametrize("reason", ["tool_calls", "stop", None])
@pytest.mark.parametrize("whole_before", [False, True])
def test_end_in_the_middle_of_a_call(reason: FinishReason | None, arguments: str, *, whole_before: bool) -> None:
    """Whatever the provider says, a call whose arguments are no complete object ends no answer: it broke off."""
    for policy, expected in ((POLICY, ["GiveUp"]), (RESET, ["Reset", "Open 2"])):
        core = started(policy=policy)
        before = [ToolCallDelta(0, "call_0", "weather", "{}")] if whole_before else []
        called(core, *before, ToolCallDelta(len(before), "call_1", "weather"), argued(arguments, len(before)))
        actions = ended(core, reason)
        assert kinds(actions) == expected
        first = core.attempts[0]
        assert (first.outcome, first.error_code, first.finish_reason) == ("interrupted", "broken_stream", None)
        if policy is POLICY:
            told = gave_up(actions)
            assert (type(told), told.status, told.code) == (Interrupted, 502, "stream_interrupted")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("ends", [True, False])
def test_end_that_would_come_again(reason: FinishReason, *, ends: bool) -> None:
    """A call that is cut where the model may write no more would be cut again: the caller is told at once."""
    core = started(policy=RESET)
    called(core, BEGIN, argued(ARGUMENTS[:-1]))
    core.handle(Received(core.attempts[0], [Delta(finish_reason=reason, usage=Usage(7, 3))]), START + 2)
    told = gave_up(ended(core) if ends else failed(core, BrokenStream(), START + 2))
    assert (type(told), told.status, told.code) == (Interrupted, 502, "tool_call_truncated")
    assert "max_tokens" in told.message
    attempt = core.attempts[0]
    assert (attempt.outcome, attempt.error_code, attempt.usage) == ("interrupted", "tool_call_truncated", Usage(7, 3))


def test_broken_calls_count_against_their_provider() -> None:
    """A provider that keeps ending in the middle of calls is left alone like any that keeps failing."""
    health = Health()
    for _ in range(5):
        core = started(A, health=health)
        called(core, BEGIN, argued("{"))
        ended(core, "tool_calls")
    assert health.of(A).resting_s(START + 2) > 0


@pytest.mark.parametrize("error", [BrokenStream, Overloaded, TimedOut])
@pytest.mark.parametrize("arguments", ["", ARGUMENTS[:9], ARGUMENTS])
@pytest.mark.parametrize("text", ["", TEXT])
@pytest.mark.parametrize("continues_prefix", [False, True])
def test_calls_are_never_spliced(
    error: type[ProviderError], arguments: str, text: str, *, continues_prefix: bool
) -> None:
    """Once a piece of a call was delivered nobody goes on from there: it begins anew where it may, else breaks off."""
    plan = (A, candidate("b", continues_prefix=continues_prefix))
    for policy, expected in ((POLICY, ["GiveUp"]), (RESET, ["Reset", "Open 2"])):
        core = started(*plan, policy=policy)
        said(core, text, START + 1) if text else None
        called(core, BEGIN, argued(arguments))
        actions = failed(core, error(), START + 2)
        assert kinds(actions) == expected
        if policy is RESET:
            assert actions[1] == Open(core.attempts[1])
            assert core.attempts[1].kind == "restart"


def test_calls_taken_back_are_forgotten() -> None:
    """After a fresh start only the new answer counts: it may be text alone, which can be gone on with as ever."""
    core = started(policy=RESET)
    called(core, BEGIN, argued("{"))
    failed(core, BrokenStream(), START + 2)
    said(core, TEXT[:60], START + 3)
    actions = failed(core, BrokenStream(), START + 4)
    assert actions == [Open(core.attempts[2], TEXT[:60], "anchor")]
    said(core, TEXT[:70], START + 5)
    assert ended(core, "stop", START + 6) == [Finish()]
    assert core.attempts[-1].finish_reason == "stop"


def test_call_after_a_proven_seam() -> None:
    """Who goes on with the text as asked may then call a tool: the call is all its own."""
    core = started()
    said(core, TEXT, START + 1)
    failed(core, BrokenStream(), START + 2)
    said(core, anchor_of(TEXT), START + 3)
    assert kinds(called(core, BEGIN, argued(ARGUMENTS), now=START + 4)) == ["Deliver"]
    assert ended(core, "tool_calls", START + 5) == [Finish()]


@pytest.mark.parametrize("before", ["", "Something else."])
def test_call_before_the_seam_is_proven(before: str) -> None:
    """Who calls a tool instead of going on has not shown where its answer joins: none of it is delivered."""
    core = started(A, B, C)
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    actions = core.handle(Received(core.attempts[1], [Delta(text=before, tool_calls=(BEGIN,))]), START + 3)
    assert kinds(actions) == ["Close 2", "Open 3"]
    assert core.attempts[1].error_code == "seam_unproven"


def test_joined_deltas() -> None:
    """Of a continuation the reader gets new text, and calls after it, but neither thoughts nor what it repeats."""
    seam = Seam(TEXT[:60], "anchor")
    assert joined(seam, [Delta(reasoning="Where was I?"), Delta(text=anchor_of(TEXT[:60])[:9])]) == []
    rest = [
        Delta(text=anchor_of(TEXT[:60])[9:] + "!", reasoning="Ah."),
        Delta(reasoning="So."),
        Delta(finish_reason="stop"),
    ]
    assert joined(seam, rest) == [Delta(text="!")]
    more = [Delta(text="?", tool_calls=(BEGIN,)), Delta(reasoning="Hm."), Delta(tool_calls=(argued("{}"),))]
    assert joined(seam, more) == [more[0], more[2]]
    with pytest.raises(Unproven):
        joined(Seam(TEXT, "anchor"), [Delta(tool_calls=(BEGIN,))])


@pytest.mark.parametrize("continues_prefix", [False, True])
def test_continuation_that_thinks_first(*, continues_prefix: bool) -> None:
    """Thinking is not silence, and no part of the answer: the first token's limit is off, the text is joined alone."""
    core = started(A, candidate("b", continues_prefix=continues_prefix), C)
    said(core, TEXT[:60], START + 1)
    failed(core, BrokenStream(), START + 2)
    for second in range(8):
        now = START + 2.5 + second
        assert core.handle(Received(core.attempts[1], [Delta(reasoning="Hm. ")]), now) == []
        assert core.waiting(now) == now + 10
    assert core.attempts[1].first_token_at == START + 2.5
    repeated = "" if continues_prefix else anchor_of(TEXT[:60])
    assert read(said(core, repeated + TEXT[60:], START + 11)) == TEXT[60:]
    assert core.handle(Received(core.attempts[1], [Delta(reasoning="Done.")]), START + 12) == []
    assert ended(core, "stop", START + 13) == [Finish()]
    assert core.attempts[1].characters == len("Hm. " * 8 + repeated + TEXT[60:] + "Done.")


def test_checked_text() -> None:
    """A text that is to be checked is finished only when it was found to be as it should be."""
    core = started(policy=CHECKED)
    said(core, '{"a"', START + 1)
    said(core, ": 1}", START + 1)
    (attempt,) = core.attempts
    assert ended(core, "stop") == [Check(attempt, '{"a": 1}')]
    assert not core.checked
    assert core.handle(Checked(attempt, None), START + 3) == [Finish()]
    assert core.checked
    assert (attempt.outcome, attempt.error_code) == ("ok", None)


def test_calls_are_not_checked() -> None:
    """An answer that calls tools instead is no text to check."""
    core = started(policy=CHECKED)
    called(core, BEGIN, argued(ARGUMENTS))
    assert ended(core) == [Finish()]
    assert not core.checked


def faulty(core: Completion, text: str = "[]", now: float = START + 2, checked_s: float = 0) -> list[Action]:
    """The last attempt ends with this text, and it has a fault; the check takes a moment."""
    said(core, text, now)
    attempt = core.attempts[-1]
    assert ended(core, "stop", now) == [Check(attempt, text)]
    return core.handle(Checked(attempt, "it is no object"), now + checked_s)


def test_repair() -> None:
    """A text with a fault is taken back, and its writer asked for it again, once, knowing text and fault."""
    core = started(policy=CHECKED)
    actions = faulty(core)
    first, second = core.attempts
    assert actions == [Reset(), Open(second, "[]", fault="it is no object")]
    assert (second.kind, second.candidate, second.fallback_from) == ("repair", A, "a")
    assert (first.outcome, first.error_code, first.finish_reason) == ("error", "invalid_object", "stop")
    said(core, "{}", START + 3)
    assert ended(core, "stop", START + 3) == [Check(second, "{}")]
    assert core.handle(Checked(second, None), START + 3) == [Finish()]
    assert core.checked
    assert [attempt.outcome for attempt in core.attempts] == ["error", "ok"]


def test_repair_that_does_not_help() -> None:
    """A second text with a fault is the last: the caller is told, in words that repeat nothing of it."""
    core = started(policy=CHECKED)
    faulty(core)
    told = gave_up(faulty(core, '["canary"]', START + 4))
    assert (type(told), told.status, told.code) == (InvalidObject, 502, "invalid_object")
    assert "canary" not in f"{told.message} {told.errors}"
    assert [attempt.error_code for attempt in core.attempts] == ["invalid_object", "invalid_object"]
    assert not core.checked


def test_no_repair() -> None:
    """Where what was sent can't be taken back, a fault is told at once."""
    core = started(policy=dataclasses.replace(CHECKED, repairs=0))
    assert gave_up(faulty(core)).code == "invalid_object"
    assert len(core.attempts) == 1


@pytest.mark.parametrize("error", [Overloaded, BrokenStream, RequestRejected, ContextTooLong, TimedOut])
@pytest.mark.parametrize("begun", [False, True])
def test_repair_that_fails(error: type[ProviderError], *, begun: bool) -> None:
    """One repair is all there is: where its provider fails, nobody else is asked."""
    core = started(A, B, C, policy=CHECKED)
    faulty(core)
    if begun:
        said(core, "{", START + 3)
    assert gave_up(failed(core, error(), START + 4)).code == "invalid_object"
    assert len(core.attempts) == 2


def test_repair_may_take_its_time() -> None:
    """Others could be asked, but not for a repair: its silence is borne as long as the last candidate's."""
    core = started(A, B, policy=CHECKED)
    faulty(core, now=START + 2)
    assert core.waiting(START + 2) == START + 2 + 30
    assert kinds(core.handle(Tick(), START + 32)) == ["Close 2", "GiveUp"]


def test_repair_by_the_next() -> None:
    """Where its writer rests by now, the next candidate is asked; where all do, nobody."""
    for rests, repairer in (((A,), B), ((A, B), None)):
        health = Health()
        core = started(A, B, policy=CHECKED, health=health)
        for each in rests:
            health.of(each).failed(START, 30)
        actions = faulty(core)
        assert kinds(actions) == (["Reset", "Open 2"] if repairer else ["GiveUp"])
        assert repairer is None or core.attempts[1].candidate == repairer


@pytest.mark.parametrize("during", ["check", "repair"])
def test_out_of_time(during: str) -> None:
    """When the request's own time ends during check or repair, the fault that is known is what the caller is told."""
    core = started(policy=CHECKED)
    if during == "check":
        actions = faulty(core, now=START + 59, checked_s=1)
    else:
        faulty(core)
        close, *actions = core.handle(Tick(), START + 60)
        assert close == Close(core.attempts[1])
    assert gave_up(actions).code == "invalid_object"


def test_restart_then_repair() -> None:
    """An answer that broke off, began anew and is then at fault is still asked for again once."""
    core = started(A, B, policy=CHECKED)
    said(core, "{", START + 1)
    assert kinds(failed(core, BrokenStream(), START + 1)) == ["Reset", "Open 2"]
    assert kinds(faulty(core)) == ["Reset", "Open 3"]
    assert [attempt.kind for attempt in core.attempts] == ["first", "restart", "repair"]
    assert core.attempts[2].candidate == B


def test_caller_leaves_during_the_check() -> None:
    """There is nobody to hang up on, and nothing that changes the account."""
    core = started(policy=CHECKED)
    said(core, "[]", START + 1)
    ended(core, "stop")
    core.abandon(START + 3)
    assert [attempt.outcome for attempt in core.attempts] == ["ok"]


def test_request_for_a_repair() -> None:
    """The model is shown what it wrote and told what is wrong with it; all else is asked as before."""
    schema: dict[str, object] = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    request = ChatRequest(({"role": "user", "content": "Hi"},), 99, temperature=0.5, response_format=schema)
    again = repair(request, "[]", "it is no object")
    assert again.messages[:2] == (*request.messages, {"role": "assistant", "content": "[]"})
    assert again.messages[2]["role"] == "user"
    assert "it is no object" in str(again.messages[2]["content"])
    assert dataclasses.replace(again, messages=request.messages) == request


def test_new_start_needs_no_one_in_particular() -> None:
    """A fresh start after broken calls goes to the next; without another, to the same."""
    core = started(A, policy=RESET)
    called(core, BEGIN)
    attempt = failed(core, BrokenStream(), START + 2)[1]
    assert isinstance(attempt, Open)
    assert attempt.attempt.candidate == A
    assert opened([attempt]) is core.attempts[1]

"""The driver of the router, under virtual time: it waits for no longer than it should, and leaves nothing open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import (
    AppError,
    BrokenStream,
    Interrupted,
    InvalidRequest,
    NoProvider,
    Overloaded,
    RequestRejected,
)
from lib.providers.base import ChatRequest, Conversation, Delta, Model, TextProvider, Usage
from lib.providers.catalog import Row
from lib.router.attempt import Policy, Reset
from lib.router.health import Health
from lib.router.plan import Candidate, Choice, ProviderFlag
from lib.router.recovery import anchor_of
from lib.router.router import Answer, Context, Router
from tests.lib.virtual_time import run

REQUEST = ChatRequest(({"role": "user", "content": "Hi"},), 16)
POLICY = Policy(first_token_s=4, idle_s=15, patience_s=60, total_s=60)
FOR_EVER = 10_000.0

Step = str | float | Exception | Delta
"""What a fake does next: say a text, be silent for seconds, fail, or send a delta of another kind."""


@dataclass
class Fake:
    """A vendor within this process that follows its steps for every request, and notes when it began and ended.

    Where it has `more`, it follows that from the second request on.
    """

    name: str
    steps: Sequence[Step]
    more: Sequence[Step] | None = None
    log: list[str] = field(default_factory=list[str])
    requests: list[ChatRequest] = field(default_factory=list[ChatRequest])

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """See TextProvider.stream."""
        assert model.id == f"{self.name}-model"
        self.log.append(f"open {self.name}")
        self.requests.append(request)
        steps = self.steps if self.more is None or len(self.requests) == 1 else self.more
        try:
            for step in steps:
                match step:
                    case str():
                        yield [Delta(text=step)]
                    case Delta():
                        yield [step]
                    case Exception():
                        raise step
                    case _:
                        await asyncio.sleep(step)
        finally:
            self.log.append(f"close {self.name}")


def router(*fakes: Fake, health: Health | None = None) -> tuple[Router, list[str]]:
    """A router over these fakes in this order, and their common log."""
    log: list[str] = []
    providers: dict[str, TextProvider] = {}
    rows: list[Row] = []
    for fake in fakes:
        fake.log = log
        providers[fake.name] = fake
        model = Model(f"{fake.name}-model", 8_192, 1_024)
        rows.append(Row(fake.name, fake.name, "openai", "", (model,), model.id, model.id))
    return Router(tuple(rows), set(providers), providers.__getitem__, health), log


def ask(asked: Router, policy: Policy = POLICY) -> Answer:
    """An answer that nobody has begun to read."""
    return asked.get_completion(ProviderFlag(), REQUEST, Context(policy=policy))


async def read(answer: Answer) -> str:
    """The whole text."""
    text = ""
    async for deltas in answer:
        text = "" if isinstance(deltas, Reset) else text + "".join(delta.text for delta in deltas)
    return text


async def failing(answer: Answer, reader_s: float = 0) -> tuple[str, AppError]:
    """The text so far, and the error that ended it, for a reader who takes so long for each batch."""
    text = ""
    try:
        async for deltas in answer:
            await asyncio.sleep(reader_s)
            text = "" if isinstance(deltas, Reset) else text + "".join(delta.text for delta in deltas)
    except AppError as error:
        return text, error
    raise AssertionError(f"ended well: {text}")


def outcomes(answer: Answer) -> list[str | None]:
    """What came of each attempt."""
    return [attempt.outcome for attempt in answer.attempts]


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


def test_answer() -> None:
    """The first provider answers, and is closed when it has."""

    async def test() -> None:
        asked, log = router(Fake("a", ["Hello", 1.0, " world"]), Fake("b", ["no"]))
        answer = ask(asked)
        assert log == []
        assert await read(answer) == "Hello world"
        assert (log, outcomes(answer)) == (["open a", "close a"], ["ok"])

    run(test())


def test_falls_over_before_the_first_token() -> None:
    """Who fails before the first token is closed, and then the next is called, at once."""

    async def test() -> None:
        asked, log = router(Fake("a", [Overloaded(retry_after_s=30)]), Fake("b", [Overloaded()]), Fake("c", ["Hi"]))
        answer, began_at = ask(asked), now()
        assert await read(answer) == "Hi"
        assert log == ["open a", "close a", "open b", "close b", "open c", "close c"]
        assert [attempt.kind for attempt in answer.attempts] == ["first", "fallback", "fallback"]
        assert outcomes(answer) == ["error", "error", "ok"]
        assert [attempt.fallback_from for attempt in answer.attempts] == [None, "a", "b"]
        assert now() == began_at

    run(test())


def test_silent_provider_is_left_at_its_deadline() -> None:
    """A silent provider is left when its time is up, and not before."""

    async def test() -> None:
        asked, log = router(Fake("a", [FOR_EVER]), Fake("b", [7.0, "Hi"]))
        answer, began_at = ask(asked), now()
        assert await read(answer) == "Hi"
        assert log == ["open a", "close a", "open b", "close b"]
        assert outcomes(answer) == ["timeout", "ok"]
        assert answer.attempts[1].started_at == pytest.approx(began_at + 4)

    run(test())


@pytest.mark.parametrize(
    ("steps", "after_s", "text", "kind", "code"),
    [
        ([FOR_EVER], 60, "", NoProvider, "no_provider_available"),
        (["Hello", FOR_EVER], 15, "Hello", Interrupted, "stream_timeout"),
        (["Hello", 10.0, "a", 10.0, "b", 10.0, "c", 10.0, "d", 10.0, "e", 10.5], 60, "Helloabcde", Interrupted, None),
        (["Hello", 2.0, Overloaded()], 2, "Hello", Interrupted, "stream_interrupted"),
        ([3.0, RequestRejected()], 3, "", InvalidRequest, "request_rejected"),
    ],
    ids=["silent", "idle", "total", "cut", "rejected"],
)
def test_end_without_an_answer(
    steps: list[Step], after_s: float, text: str, kind: type[AppError], code: str | None
) -> None:
    """Silence and failure end the answer on time, with what was said before and the right error."""

    async def test() -> None:
        asked, log = router(Fake("a", steps))
        answer, began_at = ask(asked, replace(POLICY, on_interrupt="error")), now()
        got, error = await failing(answer)
        assert (got, type(error), len(answer.attempts)) == (text, kind, 1)
        assert code in {None, error.code}
        assert now() - began_at == pytest.approx(after_s)
        assert log == ["open a", "close a"]
        assert None not in outcomes(answer)

    run(test())


def test_only_provider_is_asked_once_more() -> None:
    """With no other left the same provider is tried again after a short pause, and then no more."""

    async def test() -> None:
        asked, log = router(Fake("a", [Overloaded()], ["Hi"]))
        answer, began_at = ask(asked), now()
        assert await read(answer) == "Hi"
        assert log == ["open a", "close a", "open a", "close a"]
        assert [(attempt.kind, attempt.outcome) for attempt in answer.attempts] == [("first", "error"), ("retry", "ok")]
        assert 0.25 <= now() - began_at <= 0.5
        asked, log = router(Fake("a", [Overloaded()]))
        began_at = now()
        _, error = await failing(ask(asked))
        assert isinstance(error, NoProvider)
        assert log == ["open a", "close a", "open a", "close a"]
        assert 0.25 <= now() - began_at <= 0.5

    run(test())


TEXT = "The sea is wide and blue, and nobody has counted all of its waves, though some have tried to."


@pytest.mark.parametrize("failure", [BrokenStream(), FOR_EVER], ids=["cut", "silent"])
def test_another_goes_on(failure: Exception | float) -> None:
    """An answer that breaks off is gone on with by another, and the reader sees one text."""

    async def test() -> None:
        anchor, after_s = anchor_of(TEXT[:70]), 15 if failure == FOR_EVER else 0
        second = Fake("b", [anchor[:30], 1.0, anchor[30:] + TEXT[70:80], TEXT[80:]])
        asked, log = router(Fake("a", [TEXT[:70], failure]), second)
        answer, began_at = ask(asked), now()
        assert await read(answer) == TEXT
        assert log == ["open a", "close a", "open b", "close b"]
        assert outcomes(answer) == ["timeout" if after_s else "interrupted", "ok"]
        assert answer.attempts[1].kind == "continuation"
        assert answer.serving is answer.attempts[1]
        assert now() - began_at == pytest.approx(after_s + 1)
        (request,) = second.requests
        assert request.messages[:2] == (*REQUEST.messages, {"role": "assistant", "content": TEXT[:70]})
        assert request.messages[2]["role"] == "user"
        assert str(request.messages[2]["content"]).endswith(f"\n{anchor}")

    run(test())


@pytest.mark.parametrize("reply", [["No."], ["What I meant is that no one knows. " * 10], []])
def test_unproven_continuation_is_an_error(reply: list[Step]) -> None:
    """What can't be joined is not delivered, whether it ends soon or runs on: the reader learns of the break."""

    async def test() -> None:
        asked, log = router(Fake("a", [TEXT[:70], BrokenStream()]), Fake("b", reply))
        answer = ask(asked)
        text, error = await failing(answer)
        assert (text, type(error), error.code) == (TEXT[:70], Interrupted, "stream_interrupted")
        assert log == ["open a", "close a", "open b", "close b"]
        assert [attempt.error_code for attempt in answer.attempts] == ["broken_stream", "seam_unproven"]

    run(test())


def test_answer_begins_anew() -> None:
    """Where the caller can take back what it got, the answer begins anew; it sees the Reset between the two."""

    async def test() -> None:
        asked, log = router(Fake("a", ["Hello", BrokenStream()], ["Anew"]))
        answer = ask(asked, replace(POLICY, on_interrupt="restart", can_reset=True))
        seen = ["reset" if isinstance(deltas, Reset) else deltas[0].text async for deltas in answer]
        assert seen == ["Hello", "reset", "Anew"]
        assert log == ["open a", "close a", "open a", "close a"]
        assert [attempt.kind for attempt in answer.attempts] == ["first", "restart"]

    run(test())


@pytest.mark.parametrize("steps", [[30.0, "late"], ["Hello", 10.0, "a", 10.0, "b", 15.0]])
def test_nobody_is_called_when_time_is_up(steps: list[Step]) -> None:
    """The request's own time ends it, with whoever is left to ask."""

    async def test() -> None:
        asked, log = router(Fake("a", steps), Fake("b", ["no"]))
        answer, began_at = ask(asked, replace(POLICY, first_token_s=25, total_s=25, can_reset=True)), now()
        text, error = await failing(answer)
        assert text in {"", "Helloab"}
        assert isinstance(error, Interrupted if text else NoProvider)
        assert log == ["open a", "close a"]
        assert now() - began_at == pytest.approx(25)

    run(test())


def test_slow_reader_is_not_a_silent_provider() -> None:
    """A caller who reads slowly does not use up the provider's time: only waiting for it counts as its silence."""

    async def test() -> None:
        asked, _ = router(Fake("a", ["Hello", 1.0, " world"]))
        text = ""
        async for deltas in ask(asked):
            assert not isinstance(deltas, Reset)
            text += "".join(delta.text for delta in deltas)
            await asyncio.sleep(20)
        assert text == "Hello world"

    run(test())


def test_slow_reader_does_not_stretch_the_total() -> None:
    """A reader who takes long for each of many words does not keep the answer, nor its bill, open for ever."""

    async def test() -> None:
        asked, log = router(Fake("a", ["word "] * 100), Fake("b", ["no"]))
        answer, began_at = ask(asked), now()
        _, error = await failing(answer, reader_s=7)
        assert (type(error), error.code) == (Interrupted, "stream_timeout")
        assert POLICY.total_s <= now() - began_at <= POLICY.total_s + 2 * 7
        assert (log, outcomes(answer)) == (["open a", "close a"], ["timeout"])

    run(test())


def test_caller_sees_the_one_who_serves_from_the_first_batch_on() -> None:
    """Nothing of a provider that may still be left comes through, such as the tokens that it counted in the prompt."""

    async def test() -> None:
        asked, _ = router(Fake("a", [Delta(usage=Usage(7, 0)), Overloaded()]), Fake("b", ["Hi"]))
        answer = ask(asked)
        seen = [answer.attempts[-1].candidate.provider async for _ in answer]
        assert set(seen) == {"b"}

    run(test())


@pytest.mark.parametrize("steps", [["Hello", FOR_EVER], ["Hello", " world"]])
def test_closing_in_the_middle(steps: list[Step]) -> None:
    """Closing the answer closes the provider, at once and only once."""

    async def test() -> None:
        asked, log = router(Fake("a", steps), Fake("b", ["no"]))
        answer, began_at = ask(asked), now()
        async for _ in answer:
            break
        await answer.aclose()
        await answer.aclose()
        assert (log, outcomes(answer)) == (["open a", "close a"], ["cancelled"])
        assert now() == began_at

    run(test())


@pytest.mark.parametrize("steps", [[FOR_EVER], ["Hello", FOR_EVER]], ids=["before the first token", "after it"])
def test_cancellation(steps: list[Step]) -> None:
    """Cancelling the reader closes the provider, and asks nobody else."""

    async def test() -> None:
        asked, log = router(Fake("a", steps), Fake("b", ["no"]))
        answer = ask(asked)
        reading = asyncio.ensure_future(read(answer))
        await asyncio.sleep(1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (log, outcomes(answer)) == (["open a", "close a"], ["cancelled"])

    run(test())


def test_cancellation_while_falling_over() -> None:
    """Who leaves while the second provider is being waited for leaves nothing open."""

    async def test() -> None:
        asked, log = router(Fake("a", [FOR_EVER]), Fake("b", [FOR_EVER]), Fake("c", ["no"]))
        answer = ask(asked)
        with suppress(TimeoutError):
            async with asyncio.timeout(6):
                await read(answer)
        assert log == ["open a", "close a", "open b", "close b"]
        assert outcomes(answer) == ["timeout", "cancelled"]

    run(test())


def test_answer_that_nobody_reads() -> None:
    """An answer that is closed unread has called nobody."""

    async def test() -> None:
        asked, log = router(Fake("a", ["Hello"]))
        answer = ask(asked)
        await answer.aclose()
        assert (log, list(answer.attempts)) == ([], [])

    run(test())


def test_closing_after_the_end() -> None:
    """Closing an answer that has ended changes nothing."""

    async def test() -> None:
        asked, log = router(Fake("a", ["Hello"]))
        answer = ask(asked)
        await read(answer)
        await answer.aclose()
        assert (log, outcomes(answer)) == (["open a", "close a"], ["ok"])

    run(test())


async def asked_first(
    asked: Router, conversation: Conversation | None, flag: ProviderFlag | None = None, provider: str | None = None
) -> list[str]:
    """Take a turn of this conversation; whom it called, in order."""
    request = replace(REQUEST, conversation=conversation)
    answer = asked.get_completion(flag or ProviderFlag(), request, Context(Choice(provider), POLICY))
    await read(answer)
    return [attempt.candidate.provider for attempt in answer.attempts]


CHAT = Conversation("chat", goes_on=True)


def test_conversation_stays_where_it_was_served() -> None:
    """A conversation goes back to who served it last; any other follows the plan."""

    async def test() -> None:
        asked, _ = router(Fake("a", [Overloaded()], ["Hi"]), Fake("b", ["Hi"]))
        assert await asked_first(asked, CHAT) == ["a", "b"]
        assert await asked_first(asked, CHAT) == ["b"]
        assert await asked_first(asked, Conversation("another", goes_on=True)) == ["a"]
        assert await asked_first(asked, None) == ["a"]
        assert await asked_first(asked, CHAT) == ["b"]

    run(test())


def test_conversation_moves_with_its_provider() -> None:
    """Where the one that served it fails, the plan decides as ever; who serves then keeps it."""

    async def test() -> None:
        first, second = Fake("a", [Overloaded()], ["Hi"]), Fake("b", ["Hi"], [Overloaded()])
        asked, _ = router(first, second)
        assert await asked_first(asked, CHAT) == ["a", "b"]
        assert await asked_first(asked, CHAT) == ["b", "a"]
        assert await asked_first(asked, CHAT) == ["a"]

    run(test())


def test_conversation_leaves_who_rests() -> None:
    """Where the one that served it is left alone after failures, another serves it, and keeps it."""

    async def test() -> None:
        asked, _ = router(Fake("a", [Overloaded()], ["Hi"]), Fake("b", ["Hi"]), health=(health := Health()))
        await asked_first(asked, CHAT)
        health.of(Candidate("b", Model("b-model", 8_192, 1_024))).failed(now(), 30)
        assert await asked_first(asked, CHAT) == ["a"]
        assert await asked_first(asked, CHAT) == ["a"]
        await asyncio.sleep(31)
        assert await asked_first(asked, CHAT) == ["a"]

    run(test())


def test_conversation_follows_a_changed_flag() -> None:
    """Who is assigned otherwise is served otherwise, from the next turn on; so is who chooses a provider."""

    async def test() -> None:
        asked, _ = router(Fake("a", [Overloaded()], ["Hi"]), Fake("b", ["Hi"]), Fake("c", ["Hi"]))
        old, new = ProviderFlag(arm="a", provider="a"), ProviderFlag(arm="c", provider="c")
        assert await asked_first(asked, CHAT, old) == ["a", "b"]
        assert await asked_first(asked, CHAT, old, provider="a") == ["a"]
        assert await asked_first(asked, CHAT, old, provider="b") == ["b"]
        assert await asked_first(asked, CHAT, new) == ["c"]
        assert await asked_first(asked, CHAT, old) == ["a"]

    run(test())


@pytest.mark.parametrize("last", [FOR_EVER, BrokenStream()], ids=["its caller leaves", "it breaks off"])
def test_who_has_served(last: float | Exception) -> None:
    """Who spoke until its caller left has served, since it has read the prompt; who broke off has not."""

    async def test() -> None:
        asked, _ = router(Fake("a", [Overloaded()], ["Hi"]), Fake("b", ["Hello", last], ["Hi"]))
        policy = replace(POLICY, on_interrupt="error")
        answer = asked.get_completion(ProviderFlag(), replace(REQUEST, conversation=CHAT), Context(policy=policy))
        with suppress(AppError):
            async for _ in answer:
                if last is FOR_EVER:
                    break
        await answer.aclose()
        assert await asked_first(asked, CHAT) == (["b"] if last is FOR_EVER else ["a"])

    run(test())


@pytest.mark.parametrize("steps", [[FOR_EVER], ["Hello", FOR_EVER]], ids=["silent", "in mid-stream"])
def test_end_that_the_function_sets(steps: list[Step]) -> None:
    """An end that is nearer than the policy's total holds, in every phase, from the clock's own moment on."""

    async def test() -> None:
        asked, log = router(Fake("a", steps))
        began_at = now()
        await asyncio.sleep(3)
        answer = asked.get_completion(ProviderFlag(), REQUEST, Context(policy=POLICY, ends_at=began_at + 10))
        await failing(answer)
        assert now() - began_at == pytest.approx(10)
        assert (log, outcomes(answer)) == (["open a", "close a"], ["timeout"])

    run(test())


def test_continuation_has_read_what_was_delivered() -> None:
    """What a continuation is sent beside the request itself is known of its attempt."""

    async def test() -> None:
        asked, _ = router(Fake("a", [TEXT[:70], BrokenStream()]), second := Fake("b", [anchor_of(TEXT[:70]), "!"]))
        answer = ask(asked)
        await read(answer)
        added = second.requests[0].characters - REQUEST.characters
        assert [attempt.added_characters for attempt in answer.attempts] == [0, added]
        assert added > 70 + 40

    run(test())


@pytest.mark.parametrize("steps", [[ZeroDivisionError()], ["Hello", ZeroDivisionError()]])
def test_bug_in_an_adapter(steps: list[Step]) -> None:
    """What is no ProviderError is our bug: it is not papered over by another provider, but all is closed."""

    async def test() -> None:
        asked, log = router(Fake("a", steps), Fake("b", ["no"]))
        answer = ask(asked)
        with pytest.raises(ZeroDivisionError):
            await read(answer)
        assert log == ["open a", "close a"]
        assert None not in outcomes(answer)

    run(test())


def test_no_plan() -> None:
    """Where no plan can be made, that is known before anything is read."""

    async def test() -> None:
        asked, log = router(Fake("a", ["Hello"]))
        with pytest.raises(InvalidRequest):
            asked.get_completion(ProviderFlag(), REQUEST, Context(Choice(provider="b")))
        assert log == []

    run(test())


def test_two_hundred_at_once() -> None:
    """Answers that run side by side keep their words apart."""

    async def test() -> None:
        fakes = [
            Fake(f"p{number}", [Overloaded(), "no"] if number % 3 == 0 else [0.1, f"<{number}>", 0.1, "!"])
            for number in range(200)
        ]

        async def one(number: int) -> str:
            asked, _ = router(fakes[number], Fake("spare", [0.2, f"spare of {number}"]))
            return await read(ask(asked))

        answers = await asyncio.gather(*(one(number) for number in range(200)))
        assert answers == [f"spare of {n}" if n % 3 == 0 else f"<{n}>!" for n in range(200)]

    run(test())


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["x", "yz"]),
        st.sampled_from([0.0, 3.9, 4.1, 16.0]),
        st.sampled_from([Overloaded, RequestRejected]).map(lambda kind: kind()),
    ),
    max_size=5,
)


@given(st.lists(STEPS, min_size=1, max_size=3), st.none() | st.sampled_from([0, 0.5, 5, 21]))
def test_everything_opened_is_closed(scripts: list[list[Step]], leaves_after_s: float | None) -> None:
    """Whatever the providers do and whenever the caller goes: one call at a time, each closed, each accounted."""

    async def test() -> None:
        names = "abc"[: len(scripts)]
        asked, log = router(*(Fake(name, steps) for name, steps in zip(names, scripts, strict=True)))
        answer, began_at = ask(asked), now()
        with suppress(AppError, TimeoutError):
            async with asyncio.timeout(leaves_after_s), aclosing(answer):
                await read(answer)
        called = [attempt.candidate.provider for attempt in answer.attempts]
        assert log == [entry for name in called for entry in (f"open {name}", f"close {name}")]
        assert None not in outcomes(answer)
        assert now() - began_at <= min(POLICY.total_s, leaves_after_s or POLICY.total_s) + 0.001

    run(test())

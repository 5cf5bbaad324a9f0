"""A second provider beside a silent first: the first to speak wins, the other is left, and few are ever started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from lib.errors import AppError, ContentRefused, CredentialsRejected, NoProvider, Overloaded, RequestRejected
from lib.providers.base import ChatRequest, Delta, Model, TextProvider, Usage
from lib.providers.catalog import Row
from lib.router.attempt import Close, Deliver, Ended, Finish, Open, Policy, Received, Tick
from lib.router.completion import Completion
from lib.router.health import HEDGE_SHARE, HEDGES, Health
from lib.router.plan import Candidate, ProviderFlag
from lib.router.router import Answer, Context, Router
from tests.lib.router.cores import POLICY, START, A, B, C, failed, gave_up, kinds, opened, said, started
from tests.lib.virtual_time import run

HEDGED = replace(POLICY, hedge_s=1)


def hedged(*plan: Candidate, health: Health | None = None) -> Completion:
    """A request whose first provider has been silent for so long that a second was started."""
    core = started(*(plan or (A, B, C)), policy=HEDGED, health=health)
    assert core.may_hedge
    assert core.waiting(START) == START + 1
    assert core.handle(Tick(), START + 0.9) == []
    attempt = opened(core.handle(Tick(), START + 1))
    assert (attempt.number, attempt.candidate, attempt.kind, attempt.fallback_from) == (2, B, "hedge", "a")
    assert not core.may_hedge
    return core


@pytest.mark.parametrize(("winner", "loser"), [(1, 2), (2, 1)])
def test_first_to_speak_wins(winner: int, loser: int) -> None:
    """The other is closed before the first word is delivered, and what it still says is not heard."""
    core = hedged()
    actions = said(core, "Hello", START + 2, winner)
    lost, won = core.attempts[loser - 1], core.attempts[winner - 1]
    assert actions == [Close(lost), Deliver([Delta(text="Hello")])]
    assert (lost.outcome, lost.error_code, lost.ended_at) == ("cancelled", None, START + 2)
    assert [attempt.kind for attempt in core.attempts] == ["first", "hedge"]
    assert core.serving is won
    assert said(core, "No", START + 3, loser) == []
    assert failed(core, Overloaded(), START + 3, loser) == []
    assert core.handle(Ended(won), START + 4) == [Finish()]


def test_counting_is_not_speaking() -> None:
    """Who only counted the prompt's tokens has not won."""
    core = hedged()
    assert core.handle(Received(core.attempts[1], [Delta(usage=Usage(7, 0))]), START + 2) == []
    assert kinds(said(core, "Hello", START + 3, 1)) == ["Close 2", "Deliver"]
    assert core.attempts[1].usage == Usage(7, 0)


def test_empty_answer_wins() -> None:
    """Who says that its answer is complete has answered, though it said nothing."""
    core = hedged()
    assert kinds(core.handle(Ended(core.attempts[1]), START + 2)) == ["Close 1", "Finish"]


def test_losing_says_nothing_against_a_provider() -> None:
    """However often a provider loses, it is not left out for that."""
    health = Health()
    for _ in range(50):
        core = started(A, B, policy=HEDGED, health=health)
        core.handle(Tick(), START + 1)
        said(core, "Hello", START + 2)
    assert (health.of(A).resting_s(START), health.of(B).resting_s(START)) == (0, 0)


def test_probe_that_loses_frees_its_place() -> None:
    """A hedge may be a probe; where it loses, the next call may probe."""
    health = Health()
    health.of(B).failed(START - 5, 5)
    core = hedged(health=health)
    assert health.of(B).probe == core.attempts[1].probe == 1
    said(core, "Hello", START + 2, 1)
    assert health.of(B).probe is None
    assert health.of(B).resting_s(START + 2) == 0


def test_first_fails_beside_a_hedge() -> None:
    """With a hedge under way a failing first costs nothing: nobody else is called."""
    core = hedged()
    assert failed(core, Overloaded(), START + 2, 1) == []
    assert [attempt.outcome for attempt in core.attempts] == ["error", None]
    assert kinds(said(core, "Hello", START + 3)) == ["Deliver"]


def test_hedge_fails() -> None:
    """A hedge that fails leaves the first as it was, and there is no second hedge."""
    core = hedged()
    assert failed(core, Overloaded(), START + 2, 2) == []
    assert not core.may_hedge
    assert core.waiting(START + 2) == START + 4
    assert kinds(core.handle(Tick(), START + 4)) == ["Close 1", "Open 3"]
    assert core.attempts[2].kind == "fallback"


def test_both_fail() -> None:
    """When both have failed, the next is called; with none left the caller is told who was tried."""
    core = hedged()
    failed(core, Overloaded(), START + 2, 1)
    assert opened(failed(core, Overloaded(), START + 2, 2)).candidate == C
    core = hedged(A, B)
    failed(core, CredentialsRejected(), START + 2, 2)
    told = gave_up(failed(core, CredentialsRejected(), START + 3, 1))
    assert isinstance(told, NoProvider)
    assert told.message.endswith("tried a (credentials_rejected), b (credentials_rejected).")


@pytest.mark.parametrize("policy", [replace(HEDGED, can_reset=True, on_interrupt="restart"), HEDGED])
def test_who_lost_takes_over(policy: Policy) -> None:
    """When the winner breaks off, the other of the two is asked before anyone else: it never had its turn."""
    core = started(A, B, C, policy=policy)
    core.handle(Tick(), START + 1)
    said(core, "Hello", START + 2, 2)
    *_, action = failed(core, Overloaded(), START + 3, 2)
    assert isinstance(action, Open)
    assert (action.attempt.candidate, action.attempt.number) == (A, 3)
    said(core, "Hello", START + 4)
    *_, action = failed(core, Overloaded(), START + 5)
    assert isinstance(action, Open)
    assert action.attempt.candidate == C


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("error", [RequestRejected(), ContentRefused()])
def test_rejected_request_beside_a_hedge(number: int, error: RequestRejected) -> None:
    """A request that one of the two rejects goes back to the caller at once; the other is left."""
    core = hedged()
    assert gave_up(failed(core, error, START + 2, number)).code == error.code
    core.abandon(START + 2)
    outcomes = [attempt.outcome for attempt in core.attempts]
    assert outcomes == (["error", "cancelled"] if number == 1 else ["cancelled", "error"])


def test_both_silent() -> None:
    """Each has its own time; the one that is left may take as long as a last one may."""
    core = hedged(A, B)
    assert core.waiting(START + 1) == START + 4
    assert kinds(core.handle(Tick(), START + 4)) == ["Close 1"]
    assert core.waiting(START + 4) == START + 1 + 30
    actions = core.handle(Tick(), START + 31)
    assert kinds(actions) == ["Close 2", "GiveUp"]
    assert [attempt.outcome for attempt in core.attempts] == ["timeout", "timeout"]


def test_total_ends_both() -> None:
    """When the request's own time is up, both are closed."""
    core = started(A, B, policy=replace(HEDGED, first_token_s=90))
    core.handle(Tick(), START + 1)
    assert kinds(core.handle(Tick(), START + 60)) == ["Close 1", "Close 2", "GiveUp"]


def test_caller_leaves_both() -> None:
    """A caller who goes leaves both."""
    core = hedged()
    core.abandon(START + 2)
    assert [attempt.outcome for attempt in core.attempts] == ["cancelled", "cancelled"]


def test_no_hedge() -> None:
    """None without the wish, without another provider, beside a resting one, or once the first has spoken or failed."""
    health = Health()
    health.of(B).failed(START, 60)
    for core in (started(), started(A, policy=HEDGED), started(A, B, policy=HEDGED, health=health)):
        assert core.handle(Tick(), START + 1) == []
    core = started(policy=HEDGED)
    said(core, "Hello", START + 0.5)
    assert (core.may_hedge, core.handle(Tick(), START + 1)) == (False, [])
    core = started(A, B, C, policy=HEDGED)
    failed(core, Overloaded(), START + 0.5)
    assert (core.may_hedge, core.handle(Tick(), START + 1.5)) == (False, [])


def test_hedges_are_budgeted() -> None:
    """Where every first is silent, three requests in a hundred get a hedge, beside the first; refusals do no harm."""
    health, hedges = Health(), 0
    for requests in range(1, 2001):
        core = started(A, B, policy=HEDGED, health=health)
        hedges += kinds(core.handle(Tick(), START + 1)) == ["Open 2"]
        assert hedges <= HEDGES + HEDGE_SHARE * requests
        assert core.waiting(START + 1) == START + 4
        core.abandon(START + 1)
    assert hedges >= 0.95 * HEDGE_SHARE * 2000


# The driver, with real generators

Step = str | float | Exception


@dataclass
class Fake:
    """A vendor that follows its steps, and notes when it was called and when it was closed."""

    name: str
    steps: Sequence[Step]
    log: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    async def stream(self, request: ChatRequest, model: Model) -> AsyncGenerator[Sequence[Delta], None]:
        """See TextProvider.stream."""
        del request, model
        clock = asyncio.get_running_loop().time
        self.log.append((f"open {self.name}", clock() - 1000))
        try:
            for step in self.steps:
                match step:
                    case str():
                        yield [Delta(text=step)]
                    case Exception():
                        raise step
                    case _:
                        await asyncio.sleep(step)
        finally:
            self.log.append((f"close {self.name}", clock() - 1000))


def ask(*fakes: Fake, policy: Policy = HEDGED) -> tuple[Answer, list[tuple[str, float]]]:
    """An answer by these, and their common log."""
    log: list[tuple[str, float]] = []
    providers: dict[str, TextProvider] = {}
    rows: list[Row] = []
    for fake in fakes:
        fake.log = log
        providers[fake.name] = fake
        rows.append(Row(fake.name, fake.name, "openai", "", (Model("m", 8_192, 1_024),), "m", "m"))
    request = ChatRequest(({"role": "user", "content": "Hi"},), 16)
    router = Router(tuple(rows), set(providers), providers.__getitem__)
    return router.get_completion(ProviderFlag(), request, Context(policy=policy)), log


async def read(answer: Answer) -> str:
    """The whole text."""
    return "".join([delta.text async for deltas in answer if isinstance(deltas, Sequence) for delta in deltas])


@pytest.mark.parametrize(
    ("first", "second", "text", "log", "outcomes"),
    [
        (
            [9.0, "late"],
            [0.5, "Hi", 0.5, "!"],
            "Hi!",
            [("open a", 0), ("open b", 1), ("close a", 1.5), ("close b", 2)],
            ["cancelled", "ok"],
        ),
        (
            [1.5, "Hi", 3.0, "!"],
            [9.0, "late"],
            "Hi!",
            [("open a", 0), ("open b", 1), ("close b", 1.5), ("close a", 4.5)],
            ["ok", "cancelled"],
        ),
        (
            [1.5, Overloaded()],
            [2.0, "Hi"],
            "Hi",
            [("open a", 0), ("open b", 1), ("close a", 1.5), ("close b", 3)],
            ["error", "ok"],
        ),
        (
            [2.0, "Hi"],
            [0.5, Overloaded()],
            "Hi",
            [("open a", 0), ("open b", 1), ("close b", 1.5), ("close a", 2)],
            ["ok", "error"],
        ),
        (
            [9.0],
            [3.5, "Hi"],
            "Hi",
            [("open a", 0), ("open b", 1), ("close a", 4), ("close b", 4.5)],
            ["timeout", "ok"],
        ),
        ([0.5, "Hi"], ["no"], "Hi", [("open a", 0), ("close a", 0.5)], ["ok"]),
    ],
    ids=["hedge wins", "first wins", "first fails", "hedge fails", "first silent", "no hedge needed"],
)
def test_driver(
    first: list[Step], second: list[Step], text: str, log: list[tuple[str, float]], outcomes: list[str]
) -> None:
    """The driver starts the hedge on time, closes the loser as soon as the winner speaks, and mixes no words."""

    async def test() -> None:
        answer, got = ask(Fake("a", first), Fake("b", second))
        assert await read(answer) == text
        assert [name for name, _ in got] == [name for name, _ in log]
        assert [at for _, at in got] == pytest.approx([at for _, at in log])
        assert [attempt.outcome for attempt in answer.attempts] == outcomes
        assert [attempt.kind for attempt in answer.attempts] == ["first", "hedge"][: len(outcomes)]

    run(test())


@pytest.mark.parametrize("how", ["close", "cancel", "reject", "bug"])
def test_driver_leaves_nothing_open(how: str) -> None:
    """Whatever ends it while two are under way, both are closed and nothing of them runs on."""

    async def test() -> None:
        last = {"reject": RequestRejected(), "bug": ZeroDivisionError()}.get(how, 9.0)
        answer, got = ask(Fake("a", [2.0, last]), Fake("b", [9.0, "late"]))
        if how in {"reject", "bug"}:
            with pytest.raises(AppError if how == "reject" else ZeroDivisionError):
                await read(answer)
        else:
            reading = asyncio.ensure_future(read(answer))
            await asyncio.sleep(2)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            await answer.aclose()
        assert sorted(name for name, _ in got) == ["close a", "close b", "open a", "open b"]
        assert max(at for _, at in got) == pytest.approx(2)
        assert None not in [attempt.outcome for attempt in answer.attempts]

    run(test())


def test_both_speak_at_once() -> None:
    """Where both speak in the same moment one of them is heard, and it alone."""

    async def test() -> None:
        answer, got = ask(Fake("a", [2.0, "one ", 1.0, "answer"]), Fake("b", [1.0, "another ", 1.0, "one"]))
        assert await read(answer) in {"one answer", "another one"}
        assert sorted(attempt.outcome or "" for attempt in answer.attempts) == ["cancelled", "ok"]
        assert sorted(name for name, _ in got) == ["close a", "close b", "open a", "open b"]

    run(test())

"""The router's core in a made-up world under virtual time: every schedule of faults follows from one integer.

Each provider answers the same text, in pieces, and may call tools after it; some think before. Any may fail at any
point in any way, or say that it has finished in the middle of a call. How it goes on after an interruption is its
habit: some do as they are asked, some write something else. Where a text is checked, chance finds fault with it. The
driver's part is played here, as router.py plays it, so that a schedule which breaks a promise can be run again by its
seed alone.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lib.errors import (
    AppError,
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    ContextTooLong,
    CredentialsRejected,
    Overloaded,
    ProviderError,
    RateLimited,
    RequestRejected,
)
from lib.providers.base import ChatRequest, Conversation, Delta, FinishReason, Model, ToolCallDelta
from lib.router.affinity import Affinity
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
    Open,
    Policy,
    Received,
    Reset,
    Tick,
)
from lib.router.breaker import BreakerPolicy
from lib.router.completion import Completion
from lib.router.health import Health
from lib.router.plan import Candidate, ProviderFlag
from lib.router.recovery import continuation, repair
from lib.router.tool_calls import ToolCalls

Obedience = Literal["obeys", "chats first", "starts over", "paraphrases", "refuses"]
Fault = Literal[
    "none",
    "refused",
    "error",
    "throttled",
    "rejected",
    "key",
    "filtered",
    "too long",
    "hang",
    "cut",
    "stall",
    "slow",
    "lies",
]
FAULTS: tuple[Fault, ...] = (
    *("refused", "error", "throttled", "rejected", "key", "filtered", "too long", "hang", "slow"),
    # The hardest ones, so the most frequent.
    *("cut", "cut", "cut", "cut", "cut", "cut"),
    *("stall", "stall", "stall"),
    *("lies", "lies"),
)
ERRORS: dict[Fault, type[ProviderError]] = {
    "refused": ConnectionFailed,
    "error": Overloaded,
    "throttled": RateLimited,
    "rejected": RequestRejected,
    "key": CredentialsRejected,
    "filtered": ContentRefused,
    "too long": ContextTooLong,
}
WORDS = (
    "the",
    "sea",
    "an",
    "olá",
    "mundo",
    "海は",
    "広い",
    "🌊",
    "and",
    "blue,",
    "so",
    "\n\n",
    '"quoted"',
    "{",
    "}",
    "42",
)


@dataclass
class Provider:
    """One made-up provider: how often it fails, and what it makes of a request to go on."""

    name: str
    fault_share: float
    obedience: Obedience
    model: Model


@dataclass
class Story:
    """What happened to one request.

    `expected` is who served its conversation last, if that one had to be first; `reader_s` how long the reader took for
    a single batch, at most.
    """

    text: str
    policy: Policy
    ends_at: float
    expected: Candidate | None = None
    wanted: int = 0
    """How many tools the answer calls."""
    delivered: str = ""
    called: ToolCalls = field(default_factory=ToolCalls)
    resets: int = 0
    finished: bool = False
    error: AppError | None = None
    ended_at: float = 0.0
    most_live: int = 0
    reader_s: float = 0.0
    left_open: list[Attempt] = field(default_factory=list[Attempt])
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    def take(self, deltas: Sequence[Delta]) -> None:
        """The caller gets these."""
        self.delivered += "".join(delta.text for delta in deltas)
        for delta in deltas:
            self.called.add(delta.tool_calls)

    def forget(self) -> None:
        """The caller drops what it has got."""
        self.delivered = ""
        self.called.clear()
        self.resets += 1


class World:
    """Some providers, their health in one process, and requests that come one after another in some conversations."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a world, not a secret
        self.now = 0.0
        self.health = Health(BreakerPolicy(consecutive=self.chance.choice((1, 5, 5))))
        # Now and then everything that fails does so in the same way.
        self.faults = FAULTS if self.chance.random() < 0.7 else (self.chance.choice(FAULTS),)
        self.patience = self.chance.choice((0.1, 0.2, 1.0))
        self.affinity = Affinity()
        self.served: dict[str, tuple[ProviderFlag, Candidate]] = {}
        self.flag = ProviderFlag()
        self.requests = self.hedges = self.retries = 0
        share = self.chance.choice((0.1, 0.5, 0.9))
        self.providers = [self._provider(name, share) for name in ("a", "b", "c")[: self.chance.randint(1, 3)]]

    def _provider(self, name: str, share: float) -> Provider:
        obedience: Obedience = self.chance.choice(("obeys", "chats first", "starts over", "paraphrases", "refuses"))
        context_tokens = self.chance.choice((8_192, 8_192, 32_768))
        model = Model(f"model-{name}", context_tokens, 1024, continues_prefix=self.chance.random() < 0.3)
        return Provider(name, self.chance.choice((0, 1, 1)) * share * self.chance.random() * 2, obedience, model)

    def candidate(self, provider: Provider) -> Candidate:
        """A provider as the router knows it."""
        return Candidate(provider.name, provider.model)

    def policy(self) -> Policy:
        """One of the ways in which a caller may want it."""
        return Policy(
            total_s=self.chance.choice((280.0, 280.0, 20.0, 5.0)),
            hedge_s=self.chance.choice((None, 0.5, 2.0)),
            hedge_adapts=self.chance.random() < 0.3,
            on_interrupt=self.chance.choice(("continue", "continue", "restart", "error")),
            can_reset=self.chance.random() < 0.4,
            can_splice=self.chance.random() < 0.8,
            honour_retry_after=self.chance.random() < self.patience,
            checks=self.chance.random() < 0.3,
            repairs=self.chance.choice((0, 1)),
        )

    def text(self) -> str:
        """An answer; now and then one that repeats itself."""
        if self.chance.random() < 0.15:
            return " ".join([self.chance.choice(WORDS)] * self.chance.randint(1, 60))
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 120)))

    def request(self) -> Story:
        """Let one request run to its end, or to its caller's."""
        policy = self.policy()
        if self.chance.random() < 0.1:
            self.flag = ProviderFlag(arm=self.chance.choice("xyz"))
        leaves_at = self.now + self.chance.uniform(0, 30) if self.chance.random() < 0.1 else float("inf")
        ends_at = self.now + self.chance.choice((280.0, 280.0, 10.0))
        conversation = Conversation(self.chance.choice("stuvw"), goes_on=self.chance.random() < 0.8)
        plan = tuple(map(self.candidate, self.providers))
        wanted = self.chance.choice((0, 0, 1, 3))
        story = Story(self.text(), policy, min(self.now + policy.total_s, ends_at), wanted=wanted)
        flag, served = self.served.get(conversation.key, (None, plan[0]))
        if conversation.goes_on and flag == self.flag and self.health.of(served).resting_s(self.now) == 0:
            story.expected = served
        served = _Run(self, story, self.affinity.arrange(plan, conversation, self.flag), leaves_at).play()
        if served is not None:
            self.affinity.served(conversation, self.flag, served)
            self.served[conversation.key] = (self.flag, served)
        self.now = story.ended_at + self.chance.expovariate(0.2)
        self.requests += 1
        self.hedges += sum(attempt.kind == "hedge" for attempt in story.attempts)
        self.retries += sum(attempt.kind == "retry" for attempt in story.attempts)
        return story


class _Run:
    """One request: the core, and a heap of what will happen."""

    def __init__(self, world: World, story: Story, plan: tuple[Candidate, ...], leaves_at: float) -> None:
        self._world = world
        self._text = story.text
        self._leaves_at = leaves_at
        self._request = ChatRequest(({"role": "user", "content": "Hi"},), 1000)
        self._core = Completion(plan, story.policy, world.health, world.chance.random, world.now, story.ends_at)
        self._heap: list[tuple[float, int, Attempt, Event]] = []
        self._order = itertools.count()
        self._open: set[Attempt] = set()
        self._story = story
        self._reader_s = world.chance.choice((0.0, 0.0, 0.0, 4.0))

    def play(self) -> Candidate | None:
        """Play it to its end; who served it, if anyone did."""
        world, story = self._world, self._story
        actions = self._core.start(world.now)
        while not (story.finished or story.error):
            checked = self._do(actions)
            if story.finished or story.error:
                break
            if checked is not None:
                actions = self._core.handle(checked, world.now)
                continue
            until = self._core.waiting(world.now)
            at = self._heap[0][0] if self._heap else float("inf")
            world.now = max(min(at, until, self._leaves_at), world.now)
            if world.now >= self._leaves_at:
                break
            if at <= until:
                _, _, attempt, event = heapq.heappop(self._heap)
                if isinstance(event, Ended | Failed):
                    self._hang_up(attempt)
                actions = self._core.handle(event, world.now)
            else:
                actions = self._core.handle(Tick(), world.now)
        self._core.abandon(world.now)
        story.ended_at = world.now
        story.attempts = self._core.attempts
        story.left_open = [attempt for attempt in story.attempts if attempt.outcome is None]
        return self._core.serving.candidate if self._core.serving is not None else None

    def _do(self, actions: list[Action]) -> Event | None:
        """Do what the core says; return what is known at once of what came of it."""
        story, event = self._story, None
        for action in actions:
            match action:
                case Deliver(deltas):
                    story.take(deltas)
                    self._read()
                case Reset():
                    story.forget()
                case Open():
                    self._call(action)
                case Close(attempt):
                    self._hang_up(attempt)
                case Check(attempt, text):
                    assert text == story.delivered
                    event = Checked(attempt, "is odd" if self._world.chance.random() < 0.4 else None)
                case Finish():
                    story.finished = True
                case GiveUp(error):
                    story.error = error
        return event

    def _call(self, action: Open) -> None:
        attempt, delivered = action.attempt, action.delivered
        self._open.add(attempt)
        self._story.most_live = max(self._story.most_live, len(self._open))
        self._schedule(attempt, delivered if action.habit else None)
        if action.habit:
            continuation(self._request, delivered, action.habit)
        if action.fault:
            repair(self._request, delivered, action.fault)

    def _read(self) -> None:
        """The reader takes its time; meanwhile nothing is read from the provider, nor looked at."""
        took_s = self._world.chance.uniform(0, self._reader_s)
        self._world.now += took_s
        self._story.reader_s = max(self._story.reader_s, took_s)

    def _hang_up(self, attempt: Attempt) -> None:
        self._open.discard(attempt)
        self._heap = [entry for entry in self._heap if entry[2] is not attempt]
        heapq.heapify(self._heap)

    def _schedule(self, attempt: Attempt, delivered: str | None) -> None:
        at = self._world.now
        for wait_s, event in self._events(attempt, delivered):
            at += wait_s
            heapq.heappush(self._heap, (at, next(self._order), attempt, event))

    def _events(self, attempt: Attempt, delivered: str | None) -> Iterator[tuple[float, Event]]:
        chance = self._world.chance
        provider = next(one for one in self._world.providers if one.name == attempt.candidate.provider)
        fault: Fault = chance.choice(self._world.faults) if chance.random() < provider.fault_share else "none"
        if delivered is not None and provider.obedience == "refuses":
            fault = "rejected"
        if fault == "hang":
            return
        if fault in ERRORS:
            retry_after_s = chance.choice((None, 2.0, 6.0, 30.0)) if fault in {"throttled", "error"} else None
            yield chance.uniform(0.01, 1), Failed(attempt, ERRORS[fault](retry_after_s=retry_after_s))
            return
        deltas = [Delta(text=piece) for piece in self._pieces(provider, delivered)]
        begin, deltas = len(deltas), [*deltas, *self._calls(attempt)]
        stop = self._stop(fault, begin, len(deltas))
        yield (chance.uniform(3, 30) if fault == "slow" else chance.uniform(0.01, 1)), Received(attempt, [Delta()])
        for _ in range(chance.choice((0, 0, 0, 5))):
            yield chance.uniform(0.01, 3), Received(attempt, [Delta(reasoning="Hm")])
        for delta in deltas[:stop]:
            yield chance.uniform(0.001, 0.2), Received(attempt, [delta])
        if fault == "cut":
            yield 0.01, Failed(attempt, BrokenStream())
        elif fault != "stall":
            reason: FinishReason = chance.choice(("stop", "tool_calls", "stop", "length"))
            yield 0.01, Received(attempt, [Delta(finish_reason=reason)])
            yield 0.0, chance.choice((Ended(attempt), Failed(attempt, BrokenStream())))

    def _stop(self, fault: Fault, begin: int, end: int) -> int:
        """After how many deltas the provider falls silent; its calls begin at `begin`."""
        chance = self._world.chance
        if fault == "lies" and begin < end:
            # In the middle of a call: its adapter has no reason to doubt what the provider says.
            return begin + 3 * chance.randrange(self._story.wanted) + chance.randint(1, 2)
        return chance.randint(0, end) if fault in {"cut", "stall"} else end

    def _calls(self, attempt: Attempt) -> list[Delta]:
        """The calls that a provider makes, in pieces, the last of each in the last; each call says whose it is."""
        deltas: list[Delta] = []
        for index in range(self._story.wanted):
            arguments = json.dumps({"by": attempt.number, "text": "{}" * 3})
            middle = self._world.chance.randint(1, len(arguments) - 1)
            first = ToolCallDelta(index, f"{attempt.number}-{index}", "tool")
            rest = (ToolCallDelta(index, arguments=piece) for piece in (arguments[:middle], arguments[middle:]))
            deltas += [Delta(tool_calls=(piece,)) for piece in (first, *rest)]
        return deltas

    def _pieces(self, provider: Provider, delivered: str | None) -> list[str]:
        """What the provider writes, cut anywhere."""
        text, chance = self._reply(provider, delivered), self._world.chance
        cuts = (
            sorted(chance.sample(range(1, len(text)), min(len(text) - 1, chance.randint(0, 40))))
            if len(text) > 1
            else []
        )
        return [text[begin:end] for begin, end in itertools.pairwise((0, *cuts, len(text)))] if text else []

    def _reply(self, provider: Provider, delivered: str | None) -> str:
        # A model that is said to go on from a prefix does, or it would not be said.
        anew = provider.obedience == "starts over" and not provider.model.continues_prefix
        if delivered is None or anew:
            return self._text
        rest = self._text[len(delivered) :]
        if provider.model.continues_prefix:
            return rest
        if provider.obedience == "paraphrases":
            return f"In other words: {self._text[::-1]}"
        preamble = "Sure, here it goes on: " if provider.obedience == "chats first" else ""
        return preamble + delivered[-min(len(delivered), 160) :] + rest

"""The router's core in a made-up world under virtual time: every schedule of faults follows from one integer.

Each provider answers the same text, in pieces, and may fail at any point in any way. How it goes on after an
interruption is its habit: some do as they are asked, some write something else. The driver's part is played here, as
router.py plays it, so that a schedule which breaks a promise can be run again by its seed alone.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from lib.errors import (
    AppError,
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    CredentialsRejected,
    Overloaded,
    ProviderError,
    RateLimited,
    RequestRejected,
)
from lib.providers.base import ChatRequest, Delta, Model
from lib.router.attempt import (
    Action,
    Attempt,
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
from lib.router.completion import Completion
from lib.router.health import Health
from lib.router.plan import Candidate
from lib.router.recovery import continuation

Obedience = Literal["obeys", "chats first", "starts over", "paraphrases", "refuses"]
Fault = Literal["none", "refused", "error", "throttled", "rejected", "key", "filtered", "hang", "cut", "stall", "slow"]
FAULTS: tuple[Fault, ...] = (
    *("refused", "error", "throttled", "rejected", "key", "filtered", "hang", "slow"),
    # The hardest ones, so the most frequent.
    *("cut", "cut", "cut", "cut", "cut", "cut"),
    *("stall", "stall", "stall"),
)
ERRORS: dict[Fault, type[ProviderError]] = {
    "refused": ConnectionFailed,
    "error": Overloaded,
    "throttled": RateLimited,
    "rejected": RequestRejected,
    "key": CredentialsRejected,
    "filtered": ContentRefused,
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
    """What happened to one request."""

    text: str
    delivered: str = ""
    resets: int = 0
    finished: bool = False
    error: AppError | None = None
    ended_at: float = 0.0
    most_live: int = 0
    left_open: list[Attempt] = field(default_factory=list[Attempt])
    attempts: list[Attempt] = field(default_factory=list[Attempt])


class World:
    """Some providers, their health in one process, and requests that come one after another."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a world, not a secret
        self.now = 0.0
        self.health = Health()
        self.requests = self.hedges = 0
        share = self.chance.choice((0.1, 0.5, 0.9))
        self.providers = [self._provider(name, share) for name in ("a", "b", "c")[: self.chance.randint(1, 3)]]

    def _provider(self, name: str, share: float) -> Provider:
        obedience: Obedience = self.chance.choice(("obeys", "chats first", "starts over", "paraphrases", "refuses"))
        model = Model(f"model-{name}", 8192, 1024, continues_prefix=self.chance.random() < 0.3)
        return Provider(name, share * self.chance.random() * 2, obedience, model)

    def policy(self) -> Policy:
        """One of the ways in which a caller may want it."""
        return Policy(
            hedge_s=self.chance.choice((None, 0.5, 2.0)),
            hedge_adapts=self.chance.random() < 0.3,
            on_interrupt=self.chance.choice(("continue", "continue", "restart", "error")),
            can_reset=self.chance.random() < 0.4,
            can_splice=self.chance.random() < 0.8,
            honour_retry_after=self.chance.random() < 0.2,
        )

    def text(self) -> str:
        """An answer; now and then one that repeats itself."""
        if self.chance.random() < 0.15:
            return " ".join([self.chance.choice(WORDS)] * self.chance.randint(1, 60))
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 120)))

    def request(self) -> Story:
        """Let one request run to its end, or to its caller's."""
        policy = self.policy()
        leaves_at = self.now + self.chance.uniform(0, 30) if self.chance.random() < 0.1 else float("inf")
        story = _Run(self, policy, self.text(), leaves_at).play()
        self.now = story.ended_at + self.chance.expovariate(0.2)
        self.requests += 1
        self.hedges += sum(attempt.kind == "hedge" for attempt in story.attempts)
        return story


class _Run:
    """One request: the core, and a heap of what will happen."""

    def __init__(self, world: World, policy: Policy, text: str, leaves_at: float) -> None:
        self._world = world
        self._text = text
        self._leaves_at = leaves_at
        self._request = ChatRequest(({"role": "user", "content": "Hi"},), 1000)
        self._plan = [Candidate(provider.name, provider.model) for provider in world.providers]
        self._core = Completion(self._plan, policy, world.health, world.chance.random, world.now)
        self._heap: list[tuple[float, int, Attempt, Event]] = []
        self._order = itertools.count()
        self._open: set[Attempt] = set()
        self._story = Story(text)

    def play(self) -> Story:
        world, story = self._world, self._story
        actions = self._core.start(world.now)
        while not self._do(actions):
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
        return story

    def _do(self, actions: list[Action]) -> bool:
        """Do what the core says; True when the request is over."""
        story = self._story
        for action in actions:
            match action:
                case Open(attempt, delivered, habit):
                    self._open.add(attempt)
                    story.most_live = max(story.most_live, len(self._open))
                    self._schedule(attempt, delivered if habit else None)
                    if habit:
                        continuation(self._request, delivered, habit)
                case Close(attempt):
                    self._hang_up(attempt)
                case Deliver(deltas):
                    story.delivered += "".join(delta.text for delta in deltas)
                case Reset():
                    story.delivered = ""
                    story.resets += 1
                case Finish():
                    story.finished = True
                    return True
                case GiveUp(error):
                    story.error = error
                    return True
        return False

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
        fault: Fault = chance.choice(FAULTS) if chance.random() < provider.fault_share else "none"
        if delivered is not None and provider.obedience == "refuses":
            fault = "rejected"
        if fault == "hang":
            return
        if fault in ERRORS:
            retry_after_s = chance.choice((None, 2.0, 30.0)) if fault == "throttled" else None
            yield chance.uniform(0.01, 1), Failed(attempt, ERRORS[fault](retry_after_s=retry_after_s))
            return
        pieces = self._pieces(provider, delivered)
        stop = chance.randint(0, len(pieces)) if fault in {"cut", "stall"} else len(pieces)
        yield (chance.uniform(3, 30) if fault == "slow" else chance.uniform(0.01, 1)), Received(attempt, [Delta()])
        for piece in pieces[:stop]:
            yield chance.uniform(0.001, 0.2), Received(attempt, [Delta(text=piece)])
        if fault == "cut":
            yield 0.01, Failed(attempt, BrokenStream())
        elif fault != "stall":
            yield 0.01, Received(attempt, [Delta(finish_reason="stop")])
            yield 0.0, Ended(attempt)

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

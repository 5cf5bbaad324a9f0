"""The driver: does the waiting and the calling that the core (completion.py) asks for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import TypeAlias

from lib.errors import ProviderError, TimedOut
from lib.providers.base import ChatRequest, Delta, TextProvider
from lib.providers.catalog import Row
from lib.router.affinity import Affinity
from lib.router.alarm import Alarm
from lib.router.attempt import (
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
from lib.router.completion import Completion
from lib.router.health import Health
from lib.router.plan import Candidate, Choice, ProviderFlag, foreseen, make_plan, renamed
from lib.router.recovery import continuation, repair

Upstream: TypeAlias = AsyncGenerator[Sequence[Delta], None]


@dataclass(frozen=True, slots=True)
class Context:
    """What the router should know of the caller's wishes besides the request itself.

    `check` says what is wrong with a complete text, or None; it may take a moment, so it is called in a thread, and
    only where the policy says so.
    """

    choice: Choice = field(default_factory=Choice)
    policy: Policy = field(default_factory=Policy)
    ends_at: float = inf
    """When there must be an end, on the event loop's clock; the policy's total may come sooner."""
    check: Callable[[str], str | None] = lambda _: None


class Answer:
    """An answer on its way: iterate over it once for its deltas, close it to stop the providers.

    `attempts` grows while it runs and stands complete after it.
    """

    def __init__(
        self, plan: Sequence[Candidate], core: Completion, deltas: AsyncGenerator[Sequence[Delta] | Reset, None]
    ) -> None:
        self.plan = plan
        """Who may be asked, the first choice first."""
        self._core = core
        self._deltas = deltas

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every call to a provider so far, in order."""
        return self._core.attempts

    @property
    def serving(self) -> Attempt:
        """The attempt that speaks now or spoke last; where none ever did, the last one."""
        return self._core.serving or self._core.attempts[-1]

    @property
    def checked(self) -> bool:
        """Whether the text is complete and was found to be as it should be."""
        return self._core.checked

    def __aiter__(self) -> AsyncIterator[Sequence[Delta] | Reset]:
        """Batches of deltas that say something, as they come; a Reset takes back all before it.

        Raises AppError where there is no answer, or it breaks off.
        """
        return self._deltas

    async def aclose(self) -> None:
        """Stop: closes the providers' connections. Does nothing when the answer has ended."""
        await self._deltas.aclose()


class Router:
    """Asks the providers that are on, in the order of the plan."""

    def __init__(
        self,
        rows: tuple[Row, ...],
        on: Collection[str],
        provider: Callable[[str], TextProvider],
        health: Health | None = None,
    ) -> None:
        """`on` names the providers that are configured; `provider` returns the adapter of one of them."""
        self._rows = rows
        self._on = on
        self._provider = provider
        self._health = health or Health()
        self._affinity = Affinity()

    def foreseen(self, context: Context) -> Sequence[Candidate]:
        """Who may be asked, before the flag is known. Raises InvalidRequest for a choice that can't be met."""
        policy = context.policy
        return foreseen(context.choice, renamed(self._rows, policy.fast_model, policy.strong_model), self._on)

    def get_completion(self, provider_flag: ProviderFlag, request: ChatRequest, context: Context) -> Answer:
        """Answer `request`, beginning with the provider that the flag names.

        Nothing is sent before the answer is iterated. Raises InvalidRequest or NoProvider where no plan can be made.
        """
        policy, conversation = context.policy, request.conversation
        rows = renamed(self._rows, policy.fast_model, policy.strong_model)
        plan = make_plan(provider_flag, context.choice, request, rows, self._on, policy.fallback_order)
        if conversation is not None:
            plan = self._affinity.arrange(plan, conversation, provider_flag)
        now = asyncio.get_running_loop().time()
        core = Completion(plan, policy, self._health, random.random, now, context.ends_at)

        def served(candidate: Candidate) -> None:
            if conversation is not None:
                self._affinity.served(conversation, provider_flag, candidate)

        return Answer(plan, core, _Drive(core, request, self._provider, served, context.check).deltas())


class _Drive:
    """One request's calls: the streams that are open, and a task for each whose next word is awaited."""

    def __init__(
        self,
        core: Completion,
        request: ChatRequest,
        provider: Callable[[str], TextProvider],
        served: Callable[[Candidate], None],
        check: Callable[[str], str | None],
    ) -> None:
        self._core = core
        self._request = request
        self._provider = provider
        self._served = served
        self._check = check
        self._streams: dict[Attempt, Upstream] = {}
        self._tasks: dict[Attempt, asyncio.Task[Event]] = {}
        self._clock = asyncio.get_running_loop().time
        self._alarm = Alarm()

    async def deltas(self) -> AsyncGenerator[Sequence[Delta] | Reset, None]:
        try:
            actions = self._core.start(self._clock())
            while True:
                event = None
                for action in actions:
                    match action:
                        case Deliver(deltas):
                            yield deltas
                        case Reset():
                            yield action
                        case Finish():
                            return
                        case GiveUp(error):
                            raise error
                        case Open() | Close() | Check():
                            event = await self._do(action)
                actions = self._core.handle(event or await self._next(), self._clock())
        finally:
            await self._end()

    async def _end(self) -> None:
        self._alarm.close()
        self._core.abandon(self._clock())
        if self._core.serving is not None:
            # Also where the caller left in the middle: the provider has read the prompt.
            self._served(self._core.serving.candidate)
        for attempt in list(self._streams):
            await self._close(attempt)

    async def _do(self, action: Open | Close | Check) -> Event | None:
        """Do what the caller does not see; return what is known at once of what came of it."""
        match action:
            case Open():
                self._open(action)
            case Close(attempt):
                await self._close(attempt)
            case Check(attempt, text):
                return Checked(attempt, await asyncio.to_thread(self._check, text))
        return None

    def _open(self, action: Open) -> None:
        candidate, request = action.attempt.candidate, self._request
        if request.reasoning_effort is None and candidate.reasoning_effort is not None:
            request = replace(request, reasoning_effort=candidate.reasoning_effort)
        if action.habit is not None:
            request = continuation(request, action.delivered, action.habit)
        elif action.fault is not None:
            request = repair(request, action.delivered, action.fault)
        if request is not self._request:
            action.attempt.added_characters = request.characters - self._request.characters
        self._streams[action.attempt] = self._provider(candidate.provider).stream(request, candidate.model)

    async def _close(self, attempt: Attempt) -> None:
        task = self._tasks.pop(attempt, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._streams.pop(attempt).aclose()

    async def _next(self) -> Event:
        """Whatever happens first. The common case, one stream and nothing else to do, needs no task of its own."""
        until = self._core.waiting(self._clock())
        if len(self._streams) == 1 and not self._tasks and not self._core.may_hedge:
            ((attempt, stream),) = self._streams.items()
            try:
                event = await self._alarm.wait(_read(attempt, stream), until)
            except TimeoutError:
                # The wait has ended the stream as well.
                event = Failed(attempt, TimedOut())
        else:
            event = await self._first(until)
        if isinstance(event, Ended | Failed):
            await self._close(event.attempt)
        return event

    async def _first(self, until: float) -> Event:
        for attempt, stream in self._streams.items():
            if attempt not in self._tasks:
                self._tasks[attempt] = asyncio.create_task(_read(attempt, stream))
        timeout_s = max(until - self._clock(), 0)
        if not self._tasks:
            await asyncio.sleep(timeout_s)
            return Tick()
        await asyncio.wait(self._tasks.values(), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for attempt, task in self._tasks.items():
            if task.done():
                del self._tasks[attempt]
                return task.result()
        return Tick()


async def _read(attempt: Attempt, stream: Upstream) -> Event:
    try:
        return Received(attempt, await anext(stream))
    except StopAsyncIteration:
        return Ended(attempt)
    except ProviderError as error:
        return Failed(attempt, error)

"""The driver: does the waiting and the calling that the sans-IO core (attempt.py) asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field

from lib.errors import ProviderError
from lib.providers.base import ChatRequest, Delta, TextProvider
from lib.providers.catalog import Row
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
from lib.router.plan import Choice, ProviderFlag, make_plan


@dataclass(frozen=True, slots=True)
class Context:
    """What the router should know of the caller's wishes besides the request itself."""

    choice: Choice = field(default_factory=Choice)
    deadlines: Deadlines = field(default_factory=Deadlines)


class Answer:
    """An answer on its way: iterate over it once for its deltas, close it to stop the provider.

    `attempts` grows while it runs and stands complete after it.
    """

    def __init__(self, core: Completion, deltas: AsyncGenerator[Sequence[Delta], None]) -> None:
        self._core = core
        self._deltas = deltas

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every call to a provider so far, the last one being the one that serves."""
        return self._core.attempts

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        """Batches of deltas that say something, as they come. Raises AppError where there is none or it breaks off."""
        return self._deltas

    async def aclose(self) -> None:
        """Stop: closes the provider's connection. Does nothing when the answer has ended."""
        await self._deltas.aclose()


class Router:
    """Asks the providers that are on, in the order of the plan."""

    def __init__(
        self,
        rows: tuple[Row, ...],
        on: Collection[str],
        provider: Callable[[str], TextProvider],
    ) -> None:
        """`on` names the providers that are configured; `provider` returns the adapter of one of them."""
        self._rows = rows
        self._on = on
        self._provider = provider

    def get_completion(self, provider_flag: ProviderFlag, request: ChatRequest, context: Context) -> Answer:
        """Answer `request`, beginning with the provider that the flag names.

        Nothing is sent before the answer is iterated. Raises InvalidRequest or NoProvider where no plan can be made.
        """
        plan = make_plan(provider_flag, context.choice, request, self._rows, self._on)
        core = Completion(plan, context.deadlines, asyncio.get_running_loop().time())
        return Answer(core, self._drive(core, request))

    async def _drive(self, core: Completion, request: ChatRequest) -> AsyncGenerator[Sequence[Delta], None]:
        clock = asyncio.get_running_loop().time
        upstream = self._call(core.start(clock()), request)
        try:
            while True:
                match core.handle(await _next(upstream, core.deadline(clock())), clock()):
                    case Deliver(deltas):
                        yield deltas
                    case Open(attempt):
                        await upstream.aclose()
                        upstream = self._call(attempt, request)
                    case Wait():
                        continue
                    case Finish():
                        return
                    case GiveUp(error):
                        raise error
        finally:
            core.abandon(clock())
            await upstream.aclose()

    def _call(self, attempt: Attempt, request: ChatRequest) -> AsyncGenerator[Sequence[Delta], None]:
        candidate = attempt.candidate
        return self._provider(candidate.provider).stream(request, candidate.model)


async def _next(upstream: AsyncGenerator[Sequence[Delta], None], deadline: float) -> Event:
    try:
        async with asyncio.timeout_at(deadline):
            return Received(await anext(upstream))
    except StopAsyncIteration:
        return Ended()
    except TimeoutError:
        return Expired()
    except ProviderError as error:
        return Failed(error)

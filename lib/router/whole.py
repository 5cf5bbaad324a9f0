"""A call that is answered in one piece or not at all: vendors asked in turn, by the same rules as for text."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Generic, TypeVar

from lib.errors import ProviderError, TimedOut
from lib.router.attempt import Attempt, Ended, Event, Failed, Finish, GiveUp, Open, Policy, Tick
from lib.router.completion import Completion
from lib.router.health import Health
from lib.router.plan import Candidate

Result = TypeVar("Result")


class WholeCall(Generic[Result]):
    """One request on its way. `attempts` grows while it runs and stands complete after it."""

    def __init__(
        self,
        plan: Sequence[Candidate],
        ask: Callable[[Attempt], Awaitable[Result]],
        policy: Policy,
        health: Health,
        ends_at: float = inf,
    ) -> None:
        """`ask` calls the attempt's candidate and raises ProviderError alone; cancelling it must stop the vendor.

        `plan` is best first. `policy.first_token_s` is how long one vendor may take while another is left.
        """
        self._clock = asyncio.get_running_loop().time
        self._ask = ask
        self._core = Completion(plan, policy, health, random.random, self._clock(), ends_at)
        self._results: list[Result] = []
        self.failure: ProviderError | None = None
        """What the last vendor that failed did so by."""

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every call to a vendor so far, in order."""
        return self._core.attempts

    async def result(self) -> Result:
        """What the last of `attempts` gave; to be awaited once. Raises AppError where nobody answers."""
        asked: Attempt | None = None
        try:
            actions = self._core.start(self._clock())
            while True:
                for action in actions:
                    match action:
                        case Open(attempt):
                            asked = attempt
                        case Finish():
                            return self._results[-1]
                        case GiveUp(error):
                            raise error
                        case _:
                            pass  # nothing is delivered in pieces, and whoever is left has ended already
                actions = self._core.handle(await self._next(asked), self._clock())
                asked = None
        finally:
            self._core.abandon(self._clock())

    async def _next(self, asked: Attempt | None) -> Event:
        """Wait for the one vendor that is asked, or until one is to be asked again."""
        until = self._core.waiting(self._clock())
        if asked is None:
            await asyncio.sleep(until - self._clock())
            return Tick()
        try:
            async with asyncio.timeout_at(until):
                self._results.append(await self._ask(asked))
        except TimeoutError:
            self.failure = TimedOut()
            return Failed(asked, self.failure)
        except ProviderError as error:
            self.failure = error
            return Failed(asked, error)
        return Ended(asked)

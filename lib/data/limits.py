"""What callers may do in a minute and spend in a day: money is held before it is spent, and settled after.

The database decides, in one round trip, for all instances together (docs/database.md). Without one, each instance has
a cap of its own. While one that is configured gives no answer, holders of a key go on under that cap; everyone else
waits, since whoever can make identities at will would multiply any cap by them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Literal
from uuid import UUID

from lib.data.circuit import Rpc
from lib.errors import AppError, DataFailed, LimitReached, Unavailable, UserRemoved
from lib.ids import uuid7

Kind = Literal["user", "guest", "key"]
DAY_S = 86_400
MINUTE_S = 60
LIFETIME_S = 900
"""After that a hold that was never settled is given back; longer than a function may run."""
MAX_UNSETTLED = 1_024
AT_ONCE = 50
"""How many of the holds that could not be settled one request takes along."""
RETRY_S = 5

log = logging.getLogger("limits")


@dataclass(frozen=True, slots=True)
class Cap:
    """What one instance allows all callers together where no database counts."""

    requests_per_minute: int = 3_000
    microusd_per_day: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How many requests a caller has in this minute, how many are left, and in how many seconds there are all again.

    None: there is no limit.
    """

    limit: int | None
    remaining: int | None
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As `x-ratelimit-*`; the reset in seconds from now."""
        if self.limit is None or self.remaining is None:
            return {}
        told = {"limit": self.limit, "remaining": self.remaining, "reset": self.reset_s}
        return {f"x-ratelimit-{name}": str(value) for name, value in told.items()}


class InstanceLimits:
    """A token bucket of requests and a budget for the UTC day, in memory; `now` is seconds since the epoch."""

    def __init__(self, cap: Cap) -> None:
        self._cap = cap
        self._tokens = float(cap.requests_per_minute)
        self._filled_at = -inf
        self._day = -1
        self._microusd = 0

    def take(self, microusd: int, now: float) -> Standing:
        """Count a request and hold its worst case. Raises LimitReached."""
        self._turn_to(now)
        per_s = self._cap.requests_per_minute / MINUTE_S
        if self._tokens < 1:
            wait_s = ceil((1 - self._tokens) / per_s) if per_s else MINUTE_S
            raise limit_reached("rate_limited", "all", wait_s, Standing(self._cap.requests_per_minute, 0, wait_s))
        standing = self._standing(int(self._tokens))
        if self._microusd + microusd > self._cap.microusd_per_day:
            raise limit_reached("budget_exceeded", "all", ceil(DAY_S - now % DAY_S), standing)
        self._tokens -= 1
        self._microusd += microusd
        return self._standing(int(self._tokens))

    def settle(self, held_microusd: int, actual_microusd: int | None, held_at: float) -> None:
        """Give back what was not spent, if it was held on this day; None: nobody knows, all of it."""
        if actual_microusd is not None and int(held_at // DAY_S) == self._day:
            self._microusd += actual_microusd - held_microusd

    def _standing(self, remaining: int) -> Standing:
        limit = self._cap.requests_per_minute
        return Standing(limit, remaining, max(ceil((limit - remaining) * MINUTE_S / max(limit, 1)), 1))

    def _turn_to(self, now: float) -> None:
        if now > self._filled_at:
            gained = (now - self._filled_at) * self._cap.requests_per_minute / MINUTE_S
            self._tokens = min(self._tokens + gained, self._cap.requests_per_minute)
            self._filled_at = now
        if int(now // DAY_S) != self._day:
            self._day, self._microusd = int(now // DAY_S), 0


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose limits count; `microusd_per_day` lowers the budget that the database has for the caller."""

    kind: Kind
    id: str
    microusd_per_day: int | None = None


class Limits:
    """The limits of this process's callers."""

    def __init__(self, rpc: Rpc | None, cap: Cap | None = None, clock: Callable[[], float] = time.time) -> None:
        """`rpc` is None where no database is configured; `clock` is seconds since the epoch."""
        self._rpc = rpc
        self._here = InstanceLimits(cap or Cap())
        self._clock = clock
        self._unsettled: dict[str, int | None] = {}
        self.exhausted = 0
        """How often a caller was refused because the budget of all was used up."""

    @property
    def has_database(self) -> bool:
        """Whether a database counts, so that reserving takes a while."""
        return self._rpc is not None

    async def usage(self, kind: Kind, caller_id: str) -> dict[str, Any] | None:
        """What own_usage says of a caller; None without a database. Raises DataFailed."""
        if self._rpc is None:
            return None
        return await self._rpc("own_usage", {"p_caller_kind": kind, "p_caller_id": caller_id})

    async def reserve(self, hold: Hold, caller: Subject, *, counts: bool) -> Standing:
        """Hold money by `hold`; `counts`: as a request of this minute.

        Raises LimitReached, Unavailable, and Unauthorized for a user who was removed.
        """
        hold.at = self._clock()
        if self._rpc is None:
            standing = self._here.take(hold.microusd, hold.at)
            hold.here = True
            return standing
        hold.there, budget = True, caller.microusd_per_day
        try:
            answer = await self._rpc(
                "reserve",
                {
                    "p_reservation_id": hold.id,
                    "p_caller_kind": caller.kind,
                    "p_caller_id": caller.id,
                    "p_microusd": hold.microusd,
                    "p_requests": 1 if counts else 0,
                    "p_lifetime_s": LIFETIME_S,
                    **({} if budget is None else {"p_caller_microusd_per_day": budget}),
                },
            )
            try:
                return _granted(answer, hold)
            except LimitReached as error:
                self.exhausted += error.code == "budget_exceeded" and answer["of"] != "caller"
                raise
        except DataFailed as error:
            # What was asked may have been done all the same: it will be settled as if it had been.
            hold.there = error.reason == "timeout"
            if caller.kind != "key":
                raise Unavailable(
                    "Nobody can count what you use now. Try again in a moment.",
                    code="data_unavailable",
                    retry_after_s=RETRY_S,
                ) from error
            standing = self._here.take(hold.microusd, hold.at)
            hold.here = True
            return standing

    async def settle(self, hold: Hold, microusd: int | None) -> None:
        """Book what was really spent (None: nobody knows, all that was held). Never raises."""
        if hold.here:
            self._here.settle(hold.microusd, microusd, hold.at)
        if hold.there:
            self._unsettled[hold.id] = microusd
            while len(self._unsettled) > MAX_UNSETTLED:
                lost = next(iter(self._unsettled))
                del self._unsettled[lost]
                log.warning("a hold could not be settled: it ends by itself, and what was spent is not counted")
        await self._flush()

    async def _flush(self) -> None:
        """Settle what can be, the newest first."""
        for id_ in list(self._unsettled)[: -AT_ONCE - 1 : -1]:
            if self._rpc is None or id_ not in self._unsettled:
                continue
            microusd = self._unsettled.pop(id_)
            settled = False
            try:
                await self._rpc("settle", {"p_reservation_id": id_, "p_actual_microusd": microusd})
                settled = True
            except DataFailed:
                return
            finally:
                if not settled:
                    self._unsettled[id_] = microusd


@dataclass(slots=True)
class Hold:
    """Money that is held: in the database (`there`), by this instance (`here`), or in both since nobody knows."""

    id: str
    microusd: int
    at: float = 0.0
    here: bool = False
    there: bool = False


@dataclass(slots=True)
class Purchase:
    """Money held for one thing that is bought beside the text. What was spent is None until somebody knows it."""

    hold: Hold
    spent_microusd: int | None = None


class Account:
    """What one request may spend and has spent.

    `spent_microusd` is None while a provider may be at work: should the process not get to say what that cost, all
    that was held counts.
    """

    def __init__(self, limits: Limits, request_id: str, caller: Subject) -> None:
        self._limits = limits
        self._request_id = request_id
        self._caller = caller
        self._holds: list[Hold] = []
        self._purchases: list[Purchase] = []
        self._reserving: asyncio.Task[Standing] | None = None
        self.spent_microusd: int | None = 0

    @property
    def held_microusd(self) -> int:
        """All that is held."""
        return sum(hold.microusd for hold in self._holds)

    def begin(self, microusd: int) -> None:
        """Begin to reserve; `reserved` waits for it. Also where nobody does, `settle` gives it back."""
        hold = Hold(str(UUID(self._request_id)), microusd)
        self._holds.append(hold)
        if self._limits.has_database:
            self._reserving = asyncio.create_task(self._limits.reserve(hold, self._caller, counts=True))

    async def reserved(self) -> Standing:
        """Where the caller stands now. Raises LimitReached, Unauthorized, Unavailable."""
        if self._reserving is None:
            return await self._limits.reserve(self._holds[0], self._caller, counts=True)
        return await asyncio.shield(self._reserving)

    async def admitted(self) -> None:
        """Wait until it is known that the request may go on, where that is still open. Raises as `reserved`."""
        if self._reserving is not None:
            await asyncio.shield(self._reserving)

    async def raise_to(self, microusd: int) -> None:
        """Hold this much in all. Raises LimitReached, Unavailable."""
        missing = microusd - self.held_microusd
        if missing > 0:
            hold = Hold(uuid7(), missing)
            self._holds.append(hold)
            await self._limits.reserve(hold, self._caller, counts=False)

    async def purchase(self, microusd: int) -> Purchase:
        """Hold this much more, for one thing; its buyer says what it came to. Raises LimitReached, Unavailable."""
        purchase = Purchase(Hold(uuid7(), microusd))
        self._purchases.append(purchase)
        try:
            await self._limits.reserve(purchase.hold, self._caller, counts=False)
        except AppError:
            purchase.spent_microusd = 0  # nothing will be bought; what was asked may be held all the same
            raise
        return purchase

    @property
    def purchased_microusd(self) -> int | None:
        """What all purchases came to; None where nobody knows."""
        spent = [purchase.spent_microusd for purchase in self._purchases]
        return None if None in spent else sum(amount for amount in spent if amount is not None)

    async def settle(self) -> None:
        """Book what was spent and give back the rest. Never raises."""
        for purchase in self._purchases:
            await self._limits.settle(purchase.hold, purchase.spent_microusd)
        if self._reserving is not None:
            await asyncio.wait([self._reserving])
            if not self._reserving.cancelled():
                self._reserving.exception()  # whoever waited for it has been told
        left = self.spent_microusd
        for number, hold in enumerate(self._holds, start=1):
            # The first holds nearly all; what nobody foresaw is booked on the last.
            part = left if left is None or number == len(self._holds) else min(left, hold.microusd)
            left = None if left is None or part is None else left - part
            await self._limits.settle(hold, part)


def limit_reached(reason: str, of: str, retry_after_s: int, standing: Standing) -> LimitReached:
    """The refusal that a caller gets."""
    whose = "You have" if of == "caller" else "All callers together have"
    what = "made as many requests as a minute allows" if reason == "rate_limited" else "used up the budget of this day"
    return LimitReached(f"{whose} {what}.", code=reason, retry_after_s=retry_after_s, headers=standing.headers())


def _granted(answer: Any, hold: Hold) -> Standing:
    try:
        if answer.get("reason") == UserRemoved.code:
            hold.there = False
            raise UserRemoved("The user of this token was removed.", headers={"www-authenticate": "Bearer"})
        requests = answer["requests"]
        standing = Standing(requests["limit"], requests["remaining"], requests["reset_s"])
        allowed: object = answer["allowed"]
        if allowed is True:
            return standing
        refusal = limit_reached(answer["reason"], answer["of"], answer["retry_after_s"], standing)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataFailed("malformed") from error
    hold.there = False
    raise refusal

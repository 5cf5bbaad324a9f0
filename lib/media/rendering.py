"""What pictures and speech have in common: paid for once, by the rules of text, on record, and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, inf
from typing import Generic, TypeVar

from lib.data.assets import UNCERTAIN, Asset, Assets, Claim, Made, NewFile, generation_key
from lib.data.limits import Account
from lib.errors import AppError, BrokenStream, NoProvider, TimedOut
from lib.providers.base import Units
from lib.router.attempt import Attempt, Policy
from lib.router.health import Health
from lib.router.plan import Candidate
from lib.router.whole import WholeCall
from lib.telemetry.cost import worst_units_usd
from lib.telemetry.events import Recorder, Subject

Result = TypeVar("Result")
MICRO = 1_000_000
WAIT_S = 250.0
"""How long a result is waited for that another process is at work on, where the caller sets no end."""
POLICY = Policy(first_token_s=60.0, patience_s=150.0, total_s=280.0)
"""A vendor may take a minute while another is left."""


@dataclass(frozen=True, slots=True)
class MediaContext:
    """For whom, on whose account, and by which vendors. `subject` is the request's; its modality is set here.

    `killed` and `fallback_order` are the operator's. `anew`: what was made before does not count. `ends_at` is the
    event loop's clock, in seconds.
    """

    subject: Subject
    account: Account
    killed: frozenset[str] = frozenset()
    fallback_order: tuple[str, ...] = ()
    anew: bool = False
    ends_at: float = inf
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What there is now, and what it took: `cached` where nobody was called for it, so that it cost nothing.

    The cost is in US dollars, None where a price is unknown.
    """

    assets: tuple[Asset, ...]
    provider: str
    model: str
    cost_usd: Decimal | None
    cached: bool
    attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class Order(Generic[Result]):
    """What is to be made: by whom, as what it is kept, what it is billed by at most, and how it becomes files.

    `parameters` are those of a candidate, `inputs` what all of them are given. `ask` calls the attempt's candidate, and
    raises ProviderError alone. It sets the attempt's units where it knows them before there is an answer; else those
    of an answer are `billed`.
    """

    plan: Sequence[Candidate]
    parameters: Callable[[Candidate], Mapping[str, object]]
    inputs: Mapping[str, object]
    most: Units
    ask: Callable[[Attempt, Claim], Awaitable[Result]]
    billed: Callable[[Result], Units]
    files: Callable[[Result, Candidate], tuple[NewFile, ...]]


class Renderer:
    """Makes orders, each once for its owner and content."""

    def __init__(self, assets: Assets, recorder: Recorder, health: Health) -> None:
        self._assets = assets
        self._recorder = recorder
        self._health = health

    async def render(self, owner_id: str, order: Order[Result], context: MediaContext) -> Rendered:
        """What is kept under the order's content, else what the first vendor makes that can. Raises AppError.

        Money is held before a vendor is called; the account learns what was spent, however it ends.
        """
        keys = _keys(owner_id, order)
        attempts: Sequence[Attempt] = ()
        told: AppError | None = None
        cost: Decimal | None = Decimal(0)

        async def make(claim: Claim) -> Made:
            nonlocal attempts, cost, told
            purchase = await context.account.purchase(_most_microusd(order))
            asked: WholeCall[Result] = WholeCall(
                order.plan, _accounted(order, claim), POLICY, self._health, context.ends_at
            )
            try:
                result = await asked.result()
            except NoProvider as error:
                told = error
                if isinstance(asked.failure, UNCERTAIN):
                    raise asked.failure from error  # so that what the vendor has taken is not forgotten
                raise
            finally:
                attempts = asked.attempts
                bill = await self._recorder.record(context.subject, attempts)
                purchase.spent_microusd = bill.cost_microusd
                cost = bill.cost_usd
            served = attempts[-1].candidate
            return Made(order.files(result, served), keys[served.provider, served.model.id])

        if not context.anew and (kept := await self._assets.kept(owner_id, tuple(keys.values()))):
            return Rendered(kept, kept[0].provider or "", kept[0].model or "", cost, cached=True)
        # Before the claim: who may not buy would take the turn of an equal request that may.
        await context.account.admitted()
        try:
            generated = await self._assets.generated(
                owner_id,
                tuple(keys.values()),
                make,
                wait_s=min(WAIT_S, context.ends_at - asyncio.get_running_loop().time()),
                anew=context.anew,
                request_id=context.subject.request_id,
                job_id=context.job_id,
            )
        except UNCERTAIN as failure:
            raise told or failure from failure
        first = generated.assets[0]
        return Rendered(generated.assets, first.provider or "", first.model or "", cost, generated.cached, attempts)


def _keys(owner_id: str, order: Order[Result]) -> dict[tuple[str, str], str]:
    """What each candidate's result is kept under, by vendor and model."""
    return {
        (each.provider, each.model.id): generation_key(
            owner_id, each.provider, each.model.id, order.parameters(each), order.inputs
        )
        for each in order.plan
    }


def _accounted(order: Order[Result], claim: Claim) -> Callable[[Attempt], Awaitable[Result]]:
    """`order.ask`, with what the vendor will bill noted on the attempt.

    One that broke off, kept silent or was left may have done all of it, and will say so on its bill.
    """

    async def ask(attempt: Attempt) -> Result:
        try:
            result = await order.ask(attempt, claim)
        except (TimedOut, BrokenStream, asyncio.CancelledError):
            attempt.units = attempt.units or Units(order.most.unit, order.most.amount, estimated=True)
            raise
        if attempt.units is None or attempt.units.estimated:
            attempt.units = order.billed(result)
        return result

    return ask


def _most_microusd(order: Order[Result]) -> int:
    worst = max(worst_units_usd(each.provider, each.model.id, order.most) for each in order.plan)
    return ceil(worst * MICRO)

"""Questions of a job to whoever serves text: by the flag and the rules of fallback, on record, on the job's account."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

import orjson

from lib.media.rendering import MediaContext
from lib.providers.base import ChatRequest
from lib.router.attempt import Policy, Reset
from lib.router.plan import Candidate
from lib.router.router import Context, Router
from lib.telemetry.events import Recorder
from lib.telemetry.worst_case import worst_case_microusd

Check = Callable[[str], str | None]
"""Says in a few words what is wrong with a whole answer, or None."""


class Ask(Protocol):
    """Whoever answers."""

    def plan(self, request: ChatRequest) -> Sequence[Candidate]:
        """Who would be asked, the first choice first. Raises AppError where nobody can be."""
        ...

    async def __call__(self, request: ChatRequest, check: Check) -> str:
        """The whole answer, which passed the check; one that did not was asked for again once. Raises AppError."""
        ...


async def _keep_nothing(_key: str, _answer: Mapping[str, Any]) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Memory:
    """Answers of before, by key: `{text, cost_usd}`, the cost as text or null. `keep` adds one."""

    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    keep: Callable[[str, dict[str, Any]], Awaitable[None]] = _keep_nothing


NOTHING = Memory()


class Asker:
    """Asks the router; sums up what that cost.

    What was answered before, to whoever died since, is not asked again: the call that was under way when a process
    died is the only one that can be paid for twice, since no vendor of text can be asked what became of one.
    """

    def __init__(
        self, router: Router, recorder: Recorder, context: MediaContext, policy: Policy, memory: Memory = NOTHING
    ) -> None:
        """`policy` is the operator's part; `context.subject.flag` names who is asked first."""
        self._memory = memory
        self._router = router
        self._recorder = recorder
        self._context = context
        self._policy = replace(policy, on_interrupt="restart", can_reset=True, can_splice=False, checks=True, repairs=1)
        self.cost_usd: Decimal | None = Decimal(0)
        """What all answers cost together, in US dollars; None where a price is unknown."""
        self.served_by: Candidate | None = None
        """Who answered last."""

    def plan(self, request: ChatRequest) -> Sequence[Candidate]:
        """See Ask.plan."""
        return self._router.get_completion(self._context.subject.flag, request, Context(policy=self._policy)).plan

    async def __call__(self, request: ChatRequest, check: Check) -> str:
        """See Ask. Money is held before anybody is called; the account learns what was spent, however it ends."""
        key = _key(request)
        kept = self._memory.kept.get(key)
        if kept is not None and check(kept["text"]) is None:
            self._add(None if kept["cost_usd"] is None else Decimal(kept["cost_usd"]))
            return kept["text"]
        context = Context(policy=self._policy, ends_at=self._context.ends_at, check=check)
        answer = self._router.get_completion(self._context.subject.flag, request, context)
        purchase = await self._context.account.purchase(worst_case_microusd(answer.plan, request))
        said: list[str] = []
        try:
            async with aclosing(answer):
                async for batch in answer:
                    if isinstance(batch, Reset):
                        said.clear()
                    else:
                        said += [delta.text for delta in batch]
        finally:
            subject = replace(self._context.subject, modality="text", prompt_characters=request.characters)
            bill = await self._recorder.record(subject, answer.attempts)
            purchase.spent_microusd = bill.cost_microusd
            self.served_by = answer.serving.candidate
            self._add(bill.cost_usd)
        text = "".join(said)
        await self._memory.keep(key, {"text": text, "cost_usd": None if bill.cost_usd is None else str(bill.cost_usd)})
        return text

    def _add(self, usd: Decimal | None) -> None:
        self.cost_usd = None if self.cost_usd is None or usd is None else self.cost_usd + usd


def _key(request: ChatRequest) -> str:
    """A hash of all that is asked."""
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def json_format(name: str, schema: dict[str, Any]) -> dict[str, object]:
    """OpenAI's `response_format` for JSON by this schema, which must suit strict mode."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}

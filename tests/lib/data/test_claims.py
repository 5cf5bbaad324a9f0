"""A claim whose caller leaves: what the database granted meanwhile is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from lib.data.claims import answer_of
from lib.data.idempotency import claim
from lib.errors import DataFailed


def test_the_answer_is_passed_on() -> None:
    """To who stays, and nothing is given back."""

    async def go() -> None:
        given: list[int] = []

        async def granted() -> int:
            return 7

        async def give_back(answer: int) -> None:
            given.append(answer)

        assert (await answer_of(granted(), give_back), given) == (7, [])

    asyncio.run(go())


def test_a_failure_is_passed_on() -> None:
    """The claim's own, to who stays; who has left has left."""

    async def go() -> None:

        async def refused() -> int:
            await asyncio.sleep(0.01)
            raise DataFailed("timeout")

        async def give_back(_: int) -> None:
            raise AssertionError

        with pytest.raises(DataFailed):
            await answer_of(refused(), give_back)
        left = asyncio.create_task(answer_of(refused(), give_back))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left

    asyncio.run(go())


@pytest.mark.parametrize(
    ("outcome", "released"), [("claimed", ["claim_idempotency_key", "release_idempotency_key"]), ("in_progress", None)]
)
def test_an_idempotency_key_is_given_back(outcome: str, released: list[str] | None) -> None:
    """Else the caller who comes again is told that the first request is still at work."""

    async def go() -> None:
        calls: list[str] = []
        asked = asyncio.Event()

        async def rpc(function: str, arguments: Mapping[str, object], /, *, timeout_s: float = 2.0) -> Any:
            calls.append(function)
            asked.set()
            await asyncio.sleep(0.01)
            assert timeout_s == 2.0
            assert function != "release_idempotency_key" or arguments["p_attempt"] == 3
            return {"outcome": outcome, "attempt": 3, "retry_after_s": 1}

        left = asyncio.create_task(claim(rpc, owner_id="o", route="/r", key="k", content={}, lease_s=60))
        await asked.wait()
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert calls == (released or ["claim_idempotency_key"])

    asyncio.run(go())

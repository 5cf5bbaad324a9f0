"""Claims whose caller may leave before the answer comes.

A request that is abandoned on its way may still be granted: nobody would work under that lease, and everybody would
wait until it runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from lib.errors import DataFailed

Answer = TypeVar("Answer")


async def answer_of(claim: Coroutine[Any, Any, Answer], give_back: Callable[[Answer], Awaitable[object]]) -> Answer:
    """The answer to a claim; who is cancelled waits for it all the same, and gives back what it grants.

    Raises DataFailed, and CancelledError no later than the claim's own time limit.
    """
    asking = asyncio.ensure_future(claim)
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        with suppress(DataFailed):  # then it runs out
            await give_back(await asking)
        raise

"""An event loop whose clock jumps to the next deadline instead of waiting: minutes of silence take no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jump(selectors.SelectSelector):
    """Where the loop would wait, moves its clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("Nothing will ever happen on this loop again.")
            self.now += max(timeout, 0)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` under virtual time; it must leave no task behind."""

    async def checked() -> Result:
        result = await work
        await asyncio.sleep(0)  # what was cancelled last needs one turn more to end
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert others == set()
        return result

    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(checked())

"""Where a gate's share is kept: one seam, since a rollout does not care who holds it."""

from __future__ import annotations

from typing import Protocol


class FlagStore(Protocol):
    """A store of gates' shares."""

    name: str

    async def share(self, gate: str) -> float:
        """What share of callers the gate lets in now, 0 to 1, read from the store itself. Raises ServiceFailed."""
        ...

    async def set_share(
        self, gate: str, share: float, *, expected: float | None = None, version: int | None = None
    ) -> None:
        """Write it and read it back, if the store holds `expected` and the rollout's row is at `version`, where given.

        Raises ServiceFailed: changed_meanwhile, not_as_written and what the store answers.
        """
        ...

"""When to start a second provider beside a silent first: learnt from how long that one usually takes. Pure.

The delay is a high quantile of a provider's own latest times to its first token: whoever is still silent then belongs
to the slow few, so that is what a second call costs too (Dean and Barroso, "The Tail at Scale", 2013: hedged requests).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

QUANTILE = 0.97
"""So that about three calls in a hundred are hedged, which is what the budget gives (HEDGE_SHARE)."""
LATEST = 256
"""How many times are kept: enough for the quantile, few enough to follow a provider that becomes slower."""
FEWEST = 30
"""With fewer than that nothing is known."""


class FirstTokens:
    """How long one provider and model took to their first tokens, lately; in seconds."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    @property
    def delay_s(self) -> float | None:
        """How long to wait for this one before a second is asked; None while too little is known."""
        known = len(self._sorted)
        return self._sorted[int(QUANTILE * known)] if known >= FEWEST else None

    def took(self, seconds: float) -> None:
        """A first token came after so long."""
        self._latest.append(seconds)
        insort(self._sorted, seconds)
        if len(self._latest) > LATEST:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]

    def silent_for(self, seconds: float) -> None:
        """It was left after so long a silence. That it is slow may be known, its time is not."""
        delay_s = self.delay_s
        if delay_s is not None and seconds >= delay_s:
            self.took(seconds)

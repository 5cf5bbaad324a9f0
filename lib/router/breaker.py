"""When to leave a provider alone: one breaker per provider and model. Pure: the time is passed in, in seconds.

Closed, it counts. Open, it refuses until its rest is over. Then half-open: one probe goes through, and decides.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    It opens after `consecutive` failures in a row, or when at least `share` of at least `calls` calls of the last
    `window_s` failed. The first rest takes `rest_s`; each failed probe doubles it, up to `longest_rest_s`.
    """

    consecutive: int = 5
    calls: int = 10
    share: float = 0.5
    window_s: float = 30.0
    rest_s: float = 5.0
    longest_rest_s: float = 15.0


class Breaker:
    """The health of one provider and model, as this process has seen it."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._in_a_row = 0
        self._rest_s = policy.rest_s
        self._open_until: float | None = None
        self._probes = 0
        self.probe: int | None = None
        """The number of the probe that is under way; right after `admit`, of the call that was admitted."""

    @property
    def is_open(self) -> bool:
        """Whether it has opened and no probe has closed it since."""
        return self._open_until is not None

    def resting_s(self, now: float) -> float:
        """Seconds until it will let a call through; 0 when it would now, infinite while a probe is under way."""
        if self._open_until is None:
            return 0.0
        if self.probe is not None:
            return float("inf")
        return max(self._open_until - now, 0.0)

    def admit(self, now: float) -> bool:
        """Whether a call may begin. After a rest it admits one, the probe, until that one's outcome is known."""
        if self.resting_s(now) > 0:
            return False
        if self._open_until is not None:
            self._probes += 1
            self.probe = self._probes
        return True

    def succeeded(self, now: float, probe: int | None = None) -> None:
        """A call went well; `probe` is its number, if it was one."""
        if self._is_under_way(probe):
            self._close()
        self._in_a_row = 0
        self._note(now, ok=True)

    def failed(self, now: float, rest_s: float | None = None, probe: int | None = None) -> None:
        """A call failed; `rest_s` is for how long the provider asked to be left alone, if it did."""
        if self._is_under_way(probe):
            self.probe = None
            self._rest_s = min(self._rest_s * 2, self._policy.longest_rest_s)
            self._open(now, self._rest_s)
        self._in_a_row += 1
        self._note(now, ok=False)
        if self._open_until is None and self._is_bad():
            self._open(now, self._rest_s)
        if rest_s is not None:
            self._open(now, rest_s)

    def abandoned(self, probe: int | None = None) -> None:
        """A call ended without showing anything of the provider: its caller left. A probe's place is free again."""
        if self._is_under_way(probe):
            self.probe = None

    def _is_under_way(self, probe: int | None) -> bool:
        """Whether this is the probe that counts, and not a call from before the breaker opened."""
        return probe is not None and probe == self.probe

    def _open(self, now: float, rest_s: float) -> None:
        self._open_until = max(self._open_until or 0.0, now + rest_s)

    def _close(self) -> None:
        self._open_until = None
        self.probe = None
        self._rest_s = self._policy.rest_s
        self._outcomes.clear()

    def _note(self, now: float, *, ok: bool) -> None:
        self._outcomes.append((now, ok))
        while self._outcomes[0][0] < now - self._policy.window_s:
            self._outcomes.popleft()

    def _is_bad(self) -> bool:
        failures = sum(not ok for _, ok in self._outcomes)
        many = len(self._outcomes) >= self._policy.calls and failures >= self._policy.share * len(self._outcomes)
        return many or self._in_a_row >= self._policy.consecutive

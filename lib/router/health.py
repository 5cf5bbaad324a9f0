"""What this process knows of its providers: a breaker and usual times of each, and the budgets of extra calls."""

from __future__ import annotations

from collections import defaultdict

from lib.router.breaker import Breaker, BreakerPolicy
from lib.router.budget import Budget
from lib.router.hedge import FirstTokens
from lib.router.plan import Candidate

RETRY_SHARE, RETRIES = 0.2, 3.0
HEDGE_SHARE, HEDGES, FIRST_HEDGES = 0.03, 10.0, 1.0
"""Slow calls come in clusters: with less to save up, half of those that are worth a hedge would find none left."""


class Health:
    """Shared by all requests of a process. Keyed by route, never by host: one host may serve good and bad models."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self.retries = Budget(RETRY_SHARE, RETRIES)
        self.hedges = Budget(HEDGE_SHARE, HEDGES, FIRST_HEDGES)
        self._first_tokens: defaultdict[tuple[str, str], FirstTokens] = defaultdict(FirstTokens)

    def request(self) -> None:
        """A request has come in."""
        self.retries.request()
        self.hedges.request()

    def first_tokens(self, candidate: Candidate) -> FirstTokens:
        """How long a candidate takes to its first tokens."""
        return self._first_tokens[candidate.provider, candidate.model.id]

    def resting(self) -> list[tuple[str, str]]:
        """The providers and models whose breakers are open."""
        return [key for key, breaker in self._breakers.items() if breaker.is_open]

    def of(self, candidate: Candidate) -> Breaker:
        """The breaker of a candidate."""
        key = (candidate.provider, candidate.model.id)
        if key not in self._breakers:
            self._breakers[key] = Breaker(self._policy)
        return self._breakers[key]

"""Who of a plan may be asked next, and what a failure means for whoever comes after this request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from lib.errors import (
    CredentialsRejected,
    ModelUnavailable,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from lib.router.attempt import Attempt
from lib.router.breaker import Breaker
from lib.router.health import Health
from lib.router.plan import Candidate

LONGEST_REST_S = 120.0
CONFIG_REST_S = 60.0
"""After a rejected key, an empty account, a model that is gone: nothing that heals by itself."""


class Roster:
    """One request's candidates, best first: whom it asked before, who rests and whose context is too short is left out.

    To be admitted by a breaker may use up the one probe of a provider that is thought to be down; so `admit_…` are for
    who is then asked.
    """

    def __init__(self, plan: Sequence[Candidate], health: Health) -> None:
        self._plan = plan
        self._health = health
        self._too_short_tokens = 0

    @property
    def best(self) -> Candidate:
        """The first of the plan, whether it may be asked or not."""
        return self._plan[0]

    def untried(self, attempts: Iterable[Attempt], now: float) -> Candidate | None:
        """The best candidate that was not asked yet and does not rest.

        Who was asked and then left, since another was faster, has not had its turn.
        """
        left = self._not_tried(attempts)
        return next((candidate for candidate in left if self._health.of(candidate).resting_s(now) <= 0), None)

    def admit_untried(self, attempts: Iterable[Attempt], now: float) -> Candidate | None:
        """The best candidate that was not asked yet and whose breaker admits it."""
        return self._admitted(self._not_tried(attempts), now)

    def admit_any(self, now: float) -> Candidate | None:
        """The best candidate that does not rest, asked before or not."""
        return self._admitted(filter(self._is_long_enough, self._plan), now)

    def was_too_short(self, candidate: Candidate) -> None:
        """Its context could not hold this conversation: nor can one that is no longer."""
        self._too_short_tokens = max(self._too_short_tokens, candidate.model.context_tokens)

    def rests_s(self, now: float) -> list[float]:
        """For how long those rest who do and will come back."""
        rests = (self._health.of(candidate).resting_s(now) for candidate in self._plan)
        return [rest for rest in rests if 0 < rest < inf]

    def _admitted(self, candidates: Iterable[Candidate], now: float) -> Candidate | None:
        return next((candidate for candidate in candidates if self._health.of(candidate).admit(now)), None)

    def _not_tried(self, attempts: Iterable[Attempt]) -> Iterator[Candidate]:
        tried = {
            (attempt.candidate.provider, attempt.candidate.model.id)
            for attempt in attempts
            if attempt.outcome != "cancelled"
        }
        for candidate in self._plan:
            if (candidate.provider, candidate.model.id) not in tried and self._is_long_enough(candidate):
                yield candidate

    def _is_long_enough(self, candidate: Candidate) -> bool:
        """Whether its context is larger than every one that was too short for this conversation."""
        return candidate.model.context_tokens > self._too_short_tokens


def blame(breaker: Breaker, error: ProviderError, probe: int | None, now: float) -> None:
    """Tell a breaker what a failure says of its provider; one that is the request's own fault says that it is well."""
    if isinstance(error, RequestRejected):
        breaker.succeeded(now, probe)
    elif isinstance(error, CredentialsRejected | QuotaExhausted | ModelUnavailable):
        breaker.failed(now, CONFIG_REST_S, probe)
    elif isinstance(error, RateLimited) and error.retry_after_s is not None:
        breaker.failed(now, min(error.retry_after_s, LONGEST_REST_S), probe)
    else:
        breaker.failed(now, probe=probe)

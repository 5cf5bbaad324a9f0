"""What a text request may cost at most, to be held before anything is paid. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import ceil

from lib.providers.base import ChatRequest, Usage
from lib.router.length import most_tokens
from lib.router.plan import Candidate
from lib.telemetry.cost import worst_case_usd

MICRO = 1_000_000


def worst_case_microusd(candidates: Iterable[Candidate], request: ChatRequest) -> int:
    """What one call costs at most: all that the prompt may have in tokens, and the longest answer, where it is dearest.

    Further calls of the same request (a fallback, a continuation) may come on top; they are settled as what they cost.
    """
    tokens = most_tokens(request)
    worst = max(
        (
            worst_case_usd(
                candidate.provider,
                candidate.model.id,
                Usage(
                    tokens if candidate.model.guessed else min(tokens, candidate.model.context_tokens),
                    min(request.max_tokens, candidate.model.max_output_tokens),
                ),
            )
            for candidate in candidates
        ),
        default=Decimal(0),
    )
    return ceil(worst * MICRO)

"""How long a function has for its answer: less than it has to live, since the account comes after the answer."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

MAX_DURATION_S = 300.0
"""vercel.json's maxDuration, from the request's arrival on; beyond, the platform ends the function."""
RESERVE_S = 20.0
"""For what follows the answer, or a fifth of the whole where that is shorter."""


def seconds_to_answer() -> float:
    """Seconds from now until the answer to the request that has just arrived must be complete.

    The platform tells a deadline of its own in a header that only its runtime sees (`x-vercel-internal-deadline`); the
    runtime keeps it for the request in `vercel_runtime.deadline`, which is loaded wherever that runtime is.
    """
    lives_s = MAX_DURATION_S
    runtime = sys.modules.get("vercel_runtime.deadline")
    deadline = runtime.get_deadline() if runtime is not None else None
    if isinstance(deadline, datetime):
        lives_s = max(min(lives_s, (deadline - datetime.now(UTC)).total_seconds()), 0.0)
    return lives_s - min(RESERVE_S, lives_s / 5)

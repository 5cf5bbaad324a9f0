"""Hypothesis for all of tests/lib: bounded, and the same examples on every run."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "lib",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    # Not explain: it traces each line, and Python 3.12.1 never quite stops doing so.
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    # It measures how busy the machine is, not the code.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lib")

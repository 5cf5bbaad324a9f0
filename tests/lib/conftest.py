"""Hypothesis for all of tests/lib: bounded, and the same examples on every run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "lib",
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    # It measures how busy the machine is, not the code.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lib")

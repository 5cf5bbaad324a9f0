"""`make bench-rollout`: what the rollout promises, simulated."""

from __future__ import annotations

"""Identifiers are UUIDs of version 7: unique, and in the order of their making."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from lib.ids import uuid7


def test_form() -> None:
    """An id is a UUIDv7 in its usual spelling."""
    for _ in range(100):
        text = uuid7()
        value = UUID(text)
        assert (value.version, value.variant, str(value)) == (7, RFC_4122, text)


def test_time() -> None:
    """Its first 48 bits are the Unix time in milliseconds, so ids sort by time."""
    before = time.time_ns() // 1_000_000
    stamps = [UUID(uuid7()).int >> 80 for _ in range(100)]
    after = time.time_ns() // 1_000_000
    assert before <= stamps[0]
    assert stamps[-1] <= after
    assert stamps == sorted(stamps)


def test_chance() -> None:
    """No two are alike, and each of the random bits is sometimes set and sometimes not."""
    values = [UUID(uuid7()).int for _ in range(2000)]
    assert len(set(values)) == 2000
    free = [bit for bit in range(76) if bit not in {62, 63}]
    assert all(0 < sum(value >> bit & 1 for value in values) < 2000 for bit in free)

"""What GitHub is told next, row by row."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lib.incidents.steps import Close, Comment, Create, Find, Incident, Reopen, Step, milestone, next_step
from tests.lib.incidents.test_safe_text import NOW, incident

NEW = replace(incident(""), flapping=False, occurrences=1)
TOLD = replace(NEW, issue_number=7, told="open", told_occurrences=1, attempted_at=NOW)
OVER = replace(TOLD, state="resolved", resolution="recovered", resolved_at=NOW)


@pytest.mark.parametrize(
    ("row", "step"),
    [
        (NEW, Create(look_first=False)),
        (replace(NEW, attempted_at=NOW), Create(look_first=True)),
        (replace(NEW, lasting_s=60), None),
        (replace(NEW, lasting_s=60, last_seen=NOW + timedelta(seconds=60)), Create(look_first=False)),
        (replace(NEW, muted=True), None),
        (replace(NEW, state="resolved"), None),
        (replace(NEW, state="resolved", attempted_at=NOW), Find()),
        (TOLD, None),
        (replace(TOLD, occurrences=2), Comment()),
        (replace(TOLD, occurrences=9, told_occurrences=2), None),
        (replace(TOLD, occurrences=10, told_occurrences=2), Comment()),
        (replace(TOLD, occurrences=1000, told_occurrences=999), Comment()),
        (replace(TOLD, occurrences=2, muted=True), None),
        (OVER, Close()),
        (replace(OVER, told="closed"), None),
        (replace(TOLD, told="closed"), Reopen()),
        (replace(TOLD, told="closed", muted=True), None),
    ],
)
def test_next_step(row: Incident, step: Step | None) -> None:
    """See the table in steps.py."""
    assert next_step(row) == step


def test_comments_become_rare() -> None:
    """A hundred thousand occurrences, told one by one: the issue and six comments."""
    told = [number for number in range(1, 100_001) if milestone(number) > milestone(number - 1)]
    assert told == [1, 2, 10, 100, 1000, 10_000, 100_000]

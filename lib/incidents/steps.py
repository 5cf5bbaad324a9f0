"""What GitHub has to be told of an incident, decided from its row alone. Pure: no I/O, no clock.

An incident's life is rows (supabase/migrations, `observe_incident` and its neighbours); its issue follows:

    row open,     never told      → Create   once it has lasted `lasting_s`; look first where one may have happened
    row open,     issue closed    → Reopen   it came back
    row open,     issue open      → Comment  at 2, 10, 100, 1000 … occurrences
    row resolved, issue open      → Close
    muted                         → nothing  whatever happens
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = str
"""`deploy`, `inference`, `vendor`, `budget`, `telemetry`, `database`, `rollup`, or another part's own word."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A row of `incidents`; what stands there without a field here is the database's business."""

    id: int
    fingerprint: str
    kind: Kind
    subject: str
    title: str
    evidence: Mapping[str, Any]
    state: Literal["open", "resolved"]
    resolution: Literal["recovered", "human"] | None
    muted: bool
    flapping: bool
    occurrences: int
    first_seen: datetime
    last_seen: datetime
    opened_at: datetime
    resolved_at: datetime | None
    lasting_s: int
    issue_number: int | None
    previous_issue: int | None
    told: Literal["open", "closed"] | None
    told_occurrences: int
    attempted_at: datetime | None
    lease_until: datetime | None
    trouble: str | None


_TIMES = {"first_seen", "last_seen", "opened_at", "resolved_at", "attempted_at", "lease_until"}


def incident_of(row: Mapping[str, Any]) -> Incident:
    """The incident that a row of JSON tells of."""
    told: dict[str, Any] = {field.name: row[field.name] for field in fields(Incident)}
    for name in _TIMES:
        told[name] = None if told[name] is None else datetime.fromisoformat(told[name])
    return Incident(**told)


@dataclass(frozen=True, slots=True)
class Create:
    """Make the issue; `look_first`: it may exist, from a creation whose outcome nobody knows."""

    look_first: bool


@dataclass(frozen=True, slots=True)
class Find:
    """Look for the issue of an incident that was over before its creation was known: it may have to be closed."""


@dataclass(frozen=True, slots=True)
class Comment:
    """Say how often it has happened by now."""


@dataclass(frozen=True, slots=True)
class Reopen:
    """It is back."""


@dataclass(frozen=True, slots=True)
class Close:
    """It is over."""


Step: TypeAlias = Create | Find | Comment | Reopen | Close


def next_step(incident: Incident) -> Step | None:
    """The next thing to tell, or None. Told, it changes the row, and the question may be asked again."""
    if incident.muted:
        return None
    if incident.issue_number is None:
        return _first_step(incident)
    if incident.state == "resolved":
        return Close() if incident.told == "open" else None
    if incident.told == "closed":
        return Reopen()
    return Comment() if milestone(incident.occurrences) > milestone(incident.told_occurrences) else None


def _first_step(incident: Incident) -> Create | Find | None:
    if incident.state == "resolved":
        return None if incident.attempted_at is None else Find()
    lasted_s = (incident.last_seen - incident.first_seen).total_seconds()
    return Create(look_first=incident.attempted_at is not None) if lasted_s >= incident.lasting_s else None


def milestone(occurrences: int) -> int:
    """The greatest of 1, 2, 10, 100, 1000, … that was reached; 0 for none."""
    if occurrences < 10:  # noqa: PLR2004 - see the series
        return min(occurrences, 2)
    return int(10 ** (len(str(occurrences)) - 1))

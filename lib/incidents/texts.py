"""The words of issues and comments: our templates, with what strangers wrote inside a fence (safe_text.py). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from lib.incidents.fingerprint import label_of, marker_of
from lib.incidents.safe_text import code, fenced, word
from lib.incidents.steps import Incident

LABEL = "incident"
MUTED = "muted"
FLAPPING = "flapping"
MAX_TITLE = 80


def title(text: str) -> str:
    """An issue's title: at most 80 characters that names have."""
    return word(text, MAX_TITLE) or "Incident"


def labels(incident: Incident) -> list[str]:
    """By which it is found again, and by which people filter."""
    return [LABEL, label_of(incident.fingerprint)]


def body(incident: Incident) -> str:
    """The issue's body; its last line is the marker."""
    lines = [
        f"Seen {_times(incident.occurrences)}, first {_at(incident.first_seen)}, last {_at(incident.last_seen)}.",
        "",
        *_evidence(incident.evidence),
    ]
    if incident.previous_issue is not None:
        lines += [f"It happened before: #{incident.previous_issue}.", ""]
    rules = (
        "It is closed by itself when it is over, and reopened when it comes back. Closed as *not planned*, or labelled "
        f"`{MUTED}`, it is left alone."
    )
    lines += [rules, "", marker_of(incident.fingerprint)]
    return "\n".join(lines)


def repeated(incident: Incident) -> str:
    """The comment at a milestone."""
    head = f"Seen {_times(incident.occurrences)} by now, last {_at(incident.last_seen)}."
    return "\n".join([head, "", *_evidence(incident.evidence)]).rstrip()


def reopened(incident: Incident) -> str:
    """The comment of a regression."""
    head = f"It is back: seen again {_at(incident.last_seen)}, {_times(incident.occurrences)} in all."
    flap = ["It comes and goes: from now on it is closed by hand.", ""] if incident.flapping else []
    return "\n".join([head, "", *flap, *_evidence(incident.evidence)]).rstrip()


def recovered(incident: Incident) -> str:
    """The comment that closes it."""
    until = incident.resolved_at or incident.last_seen
    return (
        f"It is over: well again {_at(until)}, {_lasted(until - incident.opened_at)} after it was noticed, seen "
        f"{_times(incident.occurrences)} in all."
    )


def duplicate_of(number: int) -> str:
    """The comment that closes a second issue of the same incident."""
    return f"The same as #{number}, made twice by accident."


def _evidence(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Its facts as a list, its link on GitHub or Vercel, its text in a fence."""
    facts = evidence.get("facts")
    if isinstance(facts, Mapping) and facts:
        for name, value in cast("Mapping[str, object]", facts).items():
            yield f"- {word(name)}: {code(value)}"
        yield ""
    text = evidence.get("text")
    if isinstance(text, str) and text:
        yield fenced(text)
        yield ""
    hint = evidence.get("hint")
    if isinstance(hint, str) and hint:
        yield hint
        yield ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _lasted(time: timedelta) -> str:
    minutes = max(round(time.total_seconds() / 60), 1)
    if minutes < 120:  # noqa: PLR2004 - minutes, then hours, then days
        return f"{minutes} min"
    return f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} days"  # noqa: PLR2004

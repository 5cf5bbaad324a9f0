"""The `Prefer` header (RFC 7240), as far as PostgREST knows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from local.supabase.query import QueryError

_RESOLUTIONS: dict[str, Literal["merge", "ignore"]] = {"merge-duplicates": "merge", "ignore-duplicates": "ignore"}
_PREFERENCES = {
    "return": ("minimal", "representation"),
    "resolution": tuple(_RESOLUTIONS),
    "missing": ("default", "null"),
    "count": ("exact",),
    "handling": ("strict", "lenient"),
    "tx": ("commit",),
}


@dataclass(frozen=True, slots=True)
class Preferences:
    """The `Prefer` header. `on_duplicates` is None where an insert is no upsert."""

    representation: bool = False
    count: bool = False
    on_duplicates: Literal["merge", "ignore"] | None = None
    missing_default: bool = False
    max_affected: int | None = None


def preferences(headers: Iterable[str]) -> Preferences:
    """What the `Prefer` headers say. Raises QueryError for a preference that is unknown, or contradicts another."""
    given: dict[str, str] = {}
    for item in ",".join(headers).split(","):
        if not item.strip():
            continue
        key, _, value = item.strip().partition("=")
        known = value.isdecimal() if key == "max-affected" else value in _PREFERENCES.get(key, ())
        if not known or len(value) > len("ignore-duplicates"):
            raise QueryError(f"The preference {item.strip()} is not supported")
        if given.setdefault(key, value) != value:
            raise QueryError(f"The preference {key} is given twice")
    return Preferences(
        representation=given.get("return") == "representation",
        count="count" in given,
        on_duplicates=_RESOLUTIONS.get(given.get("resolution", "")),
        missing_default=given.get("missing") == "default",
        max_affected=int(given["max-affected"]) if "max-affected" in given else None,
    )

"""Rows as CSV (RFC 4180) that a spreadsheet shows and does not execute."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a text begins that a spreadsheet would take for a formula, or strip until it is one (OWASP, CSV injection)."""


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table with a line of names. Null is empty; texts that look like a formula get an apostrophe before them."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return written.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):  # {"groq": 12} as `groq 12`
        counts = cast("Mapping[str, Any]", value)
        value = "; ".join(f"{name} {count}" for name, count in counts.items())
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value

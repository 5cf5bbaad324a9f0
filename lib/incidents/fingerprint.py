"""What counts as the same failure: a hash over its kind, whom it concerns and its cause, without what varies by chance.

Pure. The version is part of every fingerprint: when the rules below change, VERSION does, so that what is open under
the old ones keeps its issue and nothing is mistaken for something else (as Sentry's grouping has it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

VERSION = 1
DIGITS = 16
MAX_CHARACTERS = 500
"""Of a cause's text: what two failures have in common stands at its beginning."""

_FOLDER = (
    r"(?:/private)?/(?:tmp|var/tmp|var/folders|vercel/path\d+|home/[^/\s]+|users/[^/\s]+|root)(?=/)"
    r"(?:/(?:tmp[\w.-]*|pip-[\w.-]+|[\w.-]*[0-9a-f]{6,}[\w.-]*|[a-z0-9_]{8,}(?=/)))*"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        # Colours of terminals.
        (r"\x1b\[[0-9;]*[a-z]", ""),
        # Dates and times, as ISO 8601, as logs write them, and clock times alone.
        (r"\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:z|[+-]\d\d:?\d\d)?)?", "<time>"),
        (r"\b\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?\b", "<time>"),
        # Queries and fragments of URLs; the host and path say what was asked for.
        (r"(https?://[^\s?#'\")]+)[?#][^\s'\")]*", r"\1"),
        # Folders that are made for one run alone.
        (_FOLDER, "<folder>"),
        # UUIDs, then ids with a prefix as vendors make them (dpl_…, prj_…, req_…), then hashes.
        (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<id>"),
        (
            r"\b(dpl|prj|team|req|run|bld|evt|ecfg|icfg|hook|usr|user|iad1|sfo1|fra1)[_:]{1,2}[a-z0-9-]{6,}\b",
            r"\1_<id>",
        ),
        (r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,64}\b", "<hash>"),
        (r"\b0x[0-9a-f]+\b", "<hash>"),
        (r"\b\d{4,}\b", "<number>"),
        (r"\b\d+(?:\.\d+)?(?=\s?(?:ms|s|m|mb|kb|gb|mib|kib|gib|%)\b)", "<number>"),
        (r"\s+", " "),
    )
)


def normalised(text: str) -> str:
    """The text without ids, hashes, long numbers, times, temporary folders and URLs' queries."""
    text = text[: MAX_CHARACTERS * 4]
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.strip()[:MAX_CHARACTERS].lower()


def fingerprint(kind: str, subject: str, cause: Iterable[str]) -> str:
    """`v1:` and 16 hexadecimal digits of the SHA-256 over these, the cause's parts normalised."""
    # A length before each part: no two lists of parts have the same bytes.
    parts = [kind, subject, *map(normalised, cause)]
    text = "".join(f"{len(part)}:{part}" for part in parts)
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"v{VERSION}:{digest[:DIGITS]}"


def label_of(print_: str) -> str:
    """The issue's label by which it is found again."""
    return f"fp:{print_.partition(':')[2]}"


def marker_of(print_: str) -> str:
    """The last line of the issue's body: that the issue is ours, and which."""
    return f"<!-- blueprint:incident:{print_} -->"


def marked(body: str) -> str | None:
    """The fingerprint that an issue's body ends with."""
    match = re.search(r"<!-- blueprint:incident:(v[0-9]+:[0-9a-f]{16}) -->\s*\Z", body)
    return None if match is None else match[1]

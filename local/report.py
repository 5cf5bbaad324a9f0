"""What is on, what is off and which variable turns it on: for the banner of `make run`, and `make doctor`."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from lib import settings as environment
from lib.control.kept import AHEAD
from lib.incidents.github import FIXES, GitHub
from lib.settings import Part, Settings

ROOT = Path(__file__).resolve().parent.parent
ENV_FILES = (ROOT / ".env.local", ROOT / ".env")
"""Read by `make run` and `make doctor`, the first winning; the real environment wins over both."""


LEGACY_NOTE = "make an sb_ key in the project's settings and set SUPABASE_SECRET_KEY or SUPABASE_PUBLISHABLE_KEY"
METERED = {"edge-config.vercel.com", "global-config.vercel.com"}
HOBBY_READS = 100_000
"""Reads of an Edge Config that are included in a month."""
MONTH_S = 30 * 24 * 3600


def load_env_files(files: tuple[Path, ...] = ENV_FILES) -> None:
    """Lay the files under the real environment."""
    for file in files:
        try:
            values = dotenv_values(file)
        except UnicodeDecodeError as error:
            raise SystemExit(f"{file} is not UTF-8 text.") from error
        for name, value in values.items():
            os.environ.setdefault(name, value or "")


def lines(settings: Settings, notes: Mapping[str, str]) -> list[str]:
    """One line per part, then one per mistake. `notes` says more about a part. Names of variables, never values."""
    out: list[str] = []
    for part in settings.parts:
        why = notes.get(part.name) or ("" if part.on else _why_off(part, settings))
        out.append(f"  {'on ' if part.on else 'off'}  {part.name:<12} {part.note}{f' ({why})' if why else ''}")
    provider = (settings.provider_flag or "").partition("/")[0]
    if provider and provider not in settings.vendors:
        out.append(f"  note FEATURE_AI_PROVIDER names {provider}, which is off")
    reads = _reads(settings)
    if reads is not None:
        out.append(f"  note {reads}")
    out += [f"  note {name} is a legacy key: {LEGACY_NOTE}" for name in settings.legacy]
    out += [f"  bad  {name} {why}" for name, why in settings.malformed.items()]
    out += [f"  bad  {name} would put a secret into the browser's files: rename it" for name in settings.exposed]
    return out


def _reads(settings: Settings) -> str | None:
    """What the freshness of flags costs, where Vercel counts it."""
    hosted = [store for store in settings.stores if urlsplit(store.url).hostname in METERED]
    reads_at_1_s = len(hosted) * MONTH_S / AHEAD
    reads = round(reads_at_1_s / settings.freshness_s)
    if reads <= HOBBY_READS:
        return None
    return (
        f"EDGE_CONFIG_FRESHNESS of {settings.freshness_s:g} s: up to {reads:,} reads a month by an instance that is "
        f"always busy; a Hobby plan includes {HOBBY_READS:,} ({math.ceil(reads_at_1_s / HOBBY_READS)} s would do)"
    )


PLACEHOLDERS = ("change-me", "changeme", "password", "secret", "example", "0123456789", "abcdef")
MIN_KINDS = 10
"""Different characters that a random secret of 16 has at least, nearly always."""
RANDOM = "`openssl rand -hex 32` makes a better one"


def weak_secrets(settings: Settings) -> list[str]:
    """The variables whose secret somebody could guess, by name."""
    known = {
        "VERCEL_WEBHOOK_SECRET": settings.vercel_webhook_secrets,
        "GITHUB_WEBHOOK_SECRET": settings.github_webhook_secrets,
        "CRON_SECRET": filter(None, (settings.cron_secret,)),
        "SESSION_SECRET": filter(None, (settings.session_secret,)),
        "API_KEYS": [key.secret for key in settings.api_keys],
    }
    return [name for name, secrets in known.items() if any(map(_is_weak, secrets))]


def _is_weak(secret: str) -> bool:
    return len(set(secret)) < MIN_KINDS or any(word in secret.lower() for word in PLACEHOLDERS)


def issues_trouble(settings: Settings) -> str | None:
    """Why no issue can be written, asked of GitHub; None where one can, or where none is wanted."""
    github = settings.github
    if github is None:
        return None
    tracker = GitHub(token=github.token, repository=github.repository, api_url=github.api_url)
    code = asyncio.run(tracker.check())
    return None if code is None else FIXES.get(code, f"GitHub gives no answer ({code})")


def _why_off(part: Part, settings: Settings) -> str:
    bad = [name for name in (*part.needs, *part.or_one_of) if name in settings.malformed]
    if bad:
        return f"{' and '.join(bad)} malformed, see below"
    return f"set {' or '.join((' and '.join(part.needs), *part.or_one_of))}"


def doctor(settings: Settings) -> int:
    """Print what to know of an environment; return 1 where something is wrong with it, else 0."""
    notes = {"local": "embedded: `make run` starts it"}
    if not settings.stores:
        notes["edge config"] = "`make run` serves one; a deployment needs EDGE_CONFIG"
    trouble = issues_trouble(settings)
    weak = weak_secrets(settings)
    told = [f"  bad  {trouble}"] if trouble is not None else []
    told += [f"  weak {name} holds a secret that could be guessed: {RANDOM}" for name in weak]
    print("\n".join([*lines(settings, notes), *told]))
    is_wrong = bool(settings.malformed or settings.exposed or trouble)
    problems: list[str] = []
    if is_wrong:
        problems.append("Something is malformed, exposed or refused: see 'bad' above.")
    if not settings.api_keys and not settings.allow_anonymous and settings.supabase is None:
        problems.append(
            "Deployed like this, nobody may call: each request is answered 401 (`make run` lets guests in)."
        )
    if not settings.vendors:
        problems.append(
            "Deployed like this, no provider is on: each request is answered 503 (`make run` has one of its own)."
        )
    print("\n".join(["", *(problems or ["Ready to deploy."])]))
    return int(is_wrong)


if __name__ == "__main__":
    load_env_files()
    sys.exit(doctor(environment.load()))

"""`make replay-events FILE=…`: the `ai_inference` lines of a log as rows, where they are not rows already.

The file may be what a log drain or `vercel logs --json` wrote: each line is an event, or JSON with the event as a text
in `message`, or has it somewhere after other words.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from lib import settings as environment
from lib.app import App
from lib.settings import SUPABASE_VARIABLES
from lib.telemetry.supabase import rows_of
from local.report import ENV_FILES, load_env_files

AT_ONCE = 500
TIMEOUT_S = 30.0


def events_in(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events among the lines of a log, whatever else it holds."""
    for line in lines:
        event = _event(line)
        if event is not None:
            yield event


def _event(text: str) -> dict[str, Any] | None:
    _, brace, rest = text.partition("{")
    try:
        value: Any = orjson.loads(brace + rest)
    except orjson.JSONDecodeError:
        return None
    if value.get("event") == "ai_inference":
        return value
    message: Any = value.get("message")
    return _event(message) if isinstance(message, str) else None


async def replay(app: App, events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Send them in batches; how many were new, there already, or make no row. Raises DataFailed."""
    if app.supabase is None:
        raise SystemExit(f"Set {', '.join(SUPABASE_VARIABLES)}.")
    totals = {"inserted": 0, "duplicates": 0, "rejected": 0}
    rows = iter(rows_of(events))
    while batch := list(islice(rows, AT_ONCE)):
        told = await app.supabase.rpc("record_events", {"p_events": batch}, timeout_s=TIMEOUT_S)
        totals["inserted"] += told["inserted"]
        totals["duplicates"] += told["duplicates"]
        totals["rejected"] += len(told["rejected"])
    return totals


async def main(file: Path) -> None:
    """Print what came of each batch's events together."""
    app = App(environment.load())
    try:
        with file.open() as lines:
            totals = await replay(app, events_in(lines))
    finally:
        await app.aclose()
    sys.stdout.write(", ".join(f"{count} {what}" for what, count in totals.items()) + "\n")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", type=Path)
    load_env_files(ENV_FILES)
    asyncio.run(main(arguments.parse_args().file))

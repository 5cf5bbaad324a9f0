"""Calls as rows of `inference_events`: one idempotent batch, so that it may be sent again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol, cast

from lib.telemetry.events import Event, InferenceEvent

TIMEOUT_S = 1.5
NAMES = {
    "caller_id": "user_id",
    "cost_micro_usd": "cost_microusd",
    "cache_saved_micro_usd": "cached_saving_microusd",
}
"""Our fields by the columns' names, where these differ."""
COLUMNS = {field.name: NAMES.get(field.name, field.name) for field in fields(InferenceEvent)}
LEFT_OUT = {"event", "cost_unknown"}

log = logging.getLogger("telemetry")


class Rpc(Protocol):
    """Calls a function of the database; raises where that fails."""

    async def __call__(self, function: str, arguments: Mapping[str, object], /, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Send it once."""
        ...


class SupabaseSink:
    """Inserts every `ai_inference` event; those that are there already change nothing."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self.rejected = 0
        """Events that no row could be made of. Their log lines are what is left of them."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink."""
        rows = list(rows_of(event_fields(event) for event in events if isinstance(event, InferenceEvent)))
        if not rows:
            return
        answer = await self._rpc("record_events", {"p_events": rows}, timeout_s=TIMEOUT_S)
        for refused in answer["rejected"]:
            self.rejected += 1
            log.warning("an event makes no row: %s %s", refused["code"], refused.get("constraint"))


def event_fields(event: InferenceEvent) -> dict[str, Any]:
    """An event's fields by name."""
    return {name: getattr(event, name) for name in COLUMNS}


def rows_of(events: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """The rows of these events, given by their fields as in their log lines.

    Number 0 says that nobody was called: that is no row.
    """
    for event in events:
        if event.get("attempt") != 0:
            yield {
                column: _storable(event[name])
                for name, column in COLUMNS.items()
                if name not in LEFT_OUT and event.get(name) is not None  # the column's default
            }


def _storable(value: Any) -> Any:
    """Without the character NUL, which jsonb does not take. Callers choose the metadata, vendors the models' names."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, Mapping):
        return {_storable(name): _storable(each) for name, each in cast("Mapping[str, str]", value).items()}
    return value

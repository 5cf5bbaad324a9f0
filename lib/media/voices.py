"""The voices that a narration can have: rows, brought up to date from the vendors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from lib.data.supabase import Supabase, run
from lib.errors import ProviderError
from lib.providers.catalog import SpeechRow
from lib.providers.speech import SpeechProvider, Voice

FRESH = timedelta(days=1)
SHOWN = "provider, id, name, language, languages, labels, preview_url, synced_at"
MAX_VOICES = 1_000

log = logging.getLogger("voices")


class Voices:
    """The table `voices`. What a vendor lists no more is removed; a vendor that gives no answer keeps its rows."""

    def __init__(
        self,
        supabase: Supabase,
        rows: Sequence[SpeechRow],
        on: Collection[str],
        provider: Callable[[str], SpeechProvider],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`provider` returns the adapter of a vendor that is on; the embedded one counts where no other is."""
        self._supabase = supabase
        able = [row for row in rows if row.name in on]
        self._names = [row.name for row in [row for row in able if not row.demo] or able]
        self._provider = provider
        self._clock = clock
        self._syncing: asyncio.Task[dict[str, object]] | None = None

    async def all(self) -> list[dict[str, Any]]:
        """The voices of the vendors that are on, by name; read from the vendors first where a day has gone by.

        Raises DataFailed.
        """
        rows = await self._rows()
        oldest = self._clock() - FRESH
        fresh = {row["provider"] for row in rows if datetime.fromisoformat(row["synced_at"]) > oldest}
        if fresh < set(self._names):
            await self.sync()
            rows = await self._rows()
        return rows

    async def sync(self) -> dict[str, object]:
        """Ask every vendor, once however many want it; how many voices each has, or why that is not known.

        Raises DataFailed.
        """
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())
            self._syncing.add_done_callback(self._synced)
        return await asyncio.shield(self._syncing)

    def _synced(self, task: asyncio.Task[dict[str, object]]) -> None:
        self._syncing = None
        if not task.cancelled():
            task.exception()  # whoever waited for it has been told

    async def _sync(self) -> dict[str, object]:
        report: dict[str, object] = {}
        for name in self._names:
            try:
                voices = await self._provider(name).voices()
            except ProviderError as error:
                log.warning("the voices of %s can't be read: %s", name, error.code)
                report[name] = error.code
                continue
            report[name] = len(voices)
            if voices:  # an empty list is no reason to forget them all
                await self._replace(name, voices[:MAX_VOICES])
        return report

    async def _replace(self, provider: str, voices: Sequence[Voice]) -> None:
        now = self._clock().isoformat()
        table: Any = (await self._supabase.as_server()).table("voices")
        rows = [
            {
                "provider": provider,
                "id": voice.id,
                "name": voice.name,
                "language": voice.languages[0] if voice.languages else None,
                "languages": list(voice.languages),
                "labels": dict(voice.labels),
                "preview_url": voice.preview_url,
                "synced_at": now,
            }
            for voice in voices
        ]
        await run(table.upsert(rows, on_conflict="provider,id").execute())
        await run(table.delete().eq("provider", provider).lt("synced_at", now).execute())

    async def _rows(self) -> list[dict[str, Any]]:
        table = (await self._supabase.as_server()).table("voices")
        answer = await run(table.select(SHOWN).in_("provider", self._names).order("name").limit(MAX_VOICES).execute())
        return cast("list[dict[str, Any]]", answer.data)

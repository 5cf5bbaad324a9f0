"""The bytes of stored objects: one file per version, named by us. No name that a caller gave ever reaches the disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

WRITE_BYTES = 1024 * 1024
"""So much is gathered before it is written, so that few writes have to wait for a thread."""


class TooBig(Exception):
    """More bytes came than are allowed; nothing of them is kept."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that was written: its version, size in bytes, and MD5 in hex, of which ETags are made."""

    version: str
    size: int
    md5: str


class Files:
    """A folder of immutable files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, version: str) -> Path:
        """Where the file of a version lies. Raises ValueError for what is no version of ours."""
        name = str(UUID(version))
        return self._folder / name[:2] / name

    async def write(self, chunks: AsyncIterator[bytes], limit: int | None) -> Stored:
        """Store what comes in. Raises TooBig; then, or where `chunks` raises, nothing is kept."""
        version, size, digest = str(uuid4()), 0, hashlib.md5(usedforsecurity=False)
        path = self.path(version)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        file = await asyncio.to_thread(path.open, "xb")
        try:
            with file:
                gathered = bytearray()
                async for chunk in _limited(chunks, limit):
                    size += len(chunk)
                    digest.update(chunk)
                    gathered += chunk
                    if len(gathered) >= WRITE_BYTES:
                        await asyncio.to_thread(file.write, gathered)
                        gathered = bytearray()
                await asyncio.to_thread(file.write, gathered)
        except BaseException:
            path.unlink()
            raise
        return Stored(version, size, digest.hexdigest())

    async def copy(self, version: str) -> str:
        """Another version with the same bytes. Files never change, so both share them."""
        new = str(uuid4())
        await asyncio.to_thread(self.path(new).parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(self.path(new).hardlink_to, self.path(version))
        return new

    async def remove(self, versions: Iterable[str | None]) -> None:
        """Delete these, where they are there."""
        for version in versions:
            if version is not None:
                await asyncio.to_thread(self.path(version).unlink, missing_ok=True)


async def _limited(chunks: AsyncIterator[bytes], limit: int | None) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise TooBig
        yield chunk

"""Assets: files that belong to somebody, and what was paid for, found again by its content.

A file goes first, under its hash, then its row: what dies in between leaves a file that the sweeper takes away. What a
vendor makes is made by one process at a time, under a lease on the hash of all that went into it; the others wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import quote
from uuid import uuid4

import orjson

from lib.data.circuit import Rpc
from lib.data.content import EXTENSIONS, Kind, content_type_of, kind_of
from lib.data.files import Files
from lib.errors import (
    BrokenStream,
    ConnectionFailed,
    DataFailed,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)
from lib.ids import uuid7

Bucket = Literal["generated", "vsl_assets"]
LEASE_S = 60
RENEW_S = 20.0
FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 1.0
LINK_S = 3600
REUSE_UNTIL_S = 600.0
"""A signed URL is handed out again until this long before it ends, so that caches recognise it."""
MAX_LINKS = 4096
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
"""The bucket's own limit."""
UNCERTAIN = (BrokenStream, ConnectionFailed, Overloaded)
"""After these a vendor may have made what it had taken: whoever tries again looks there first."""


@dataclass(frozen=True, slots=True)
class Audio:
    """What is known of something that is heard. `alignment`: {characters, starts_s, ends_s}, lists of one length."""

    duration_ms: int
    voice_provider: str | None = None
    voice_id: str | None = None
    language: str | None = None
    characters: int | None = None
    alignment: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of somebody's; `created_at` as the database writes it."""

    id: str
    user_id: str
    kind: Kind
    bucket_id: Bucket
    path: str
    content_type: str
    bytes: int
    sha256: str | None
    provider: str | None
    model: str | None
    metadata: Mapping[str, Any]
    created_at: str
    state: Literal["uploading", "ready"] = "ready"
    audio: Audio | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """Bytes on their way in; `content_type` is what they are."""

    data: bytes
    content_type: str
    kind: Kind
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    audio: Audio | None = None
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a maker made, at most four files, and the key under which it belongs: that of whoever served."""

    files: tuple[NewFile, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Generated:
    """What there is now; `cached` where nobody was asked for it."""

    assets: tuple[Asset, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class Link:
    """An address that anyone may read for a while; `expires_at` in seconds since the epoch."""

    url: str
    expires_at: float


Make = Callable[["Claim"], Awaitable[Made]]


def generation_key(
    owner_id: str, vendor: str, model: str, parameters: Mapping[str, object], inputs: Mapping[str, object]
) -> str:
    """The SHA-256, in hex, of all that decides what comes out."""
    content = [owner_id, vendor, model, dict(parameters), dict(inputs)]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Claim:
    """The right to make something. What a vendor has taken is noted, so that nobody gives it the same again.

    `vendor`, `model` and `vendor_request_id` are what an earlier maker noted, who died or gave up.
    """

    def __init__(self, rpc: Rpc, lease: Mapping[str, object], row: Mapping[str, Any]) -> None:
        self._rpc = rpc
        self._lease = lease
        self.vendor: str | None = row["vendor"]
        self.model: str | None = row["model"]
        self.vendor_request_id: str | None = row["vendor_request_id"]

    async def note(self, vendor: str, model: str, request_id: str) -> None:
        """This vendor has taken the request, under this id. Raises DataFailed."""
        noted = {"p_vendor": vendor, "p_model": model, "p_vendor_request_id": request_id}
        await self._rpc("note_generation", {**self._lease, "p_lease_s": LEASE_S, **noted})


class Assets:
    """The assets of one project. Everything raises DataFailed."""

    def __init__(self, rpc: Rpc, files: Files, clock: Callable[[], float] = time.time) -> None:
        """`clock` is seconds since the epoch."""
        self._rpc = rpc
        self._files = files
        self._clock = clock
        self._links: OrderedDict[tuple[str, str, str | None], Link] = OrderedDict()
        self._flights: dict[tuple[str, str], asyncio.Event] = {}

    async def generated(
        self,
        owner_id: str,
        keys: Sequence[str],
        make: Make,
        *,
        wait_s: float,
        anew: bool = False,
        request_id: str | None = None,
        job_id: str | None = None,
        bucket_id: Bucket = "generated",
    ) -> Generated:
        """What is stored under one of `keys`, those of all who might serve, best first; else what `make` makes.

        Of all who ask for the same at the same time, in any process, one makes it. `anew` makes it whatever is stored.
        Raises what `make` raises; Unavailable where another is at it for longer than `wait_s`.
        """
        lease = {"p_user_id": owner_id, "p_key": keys[0], "p_holder": str(uuid4())}
        until, pause_s = asyncio.get_running_loop().time() + wait_s, FIRST_LOOK_S
        flight = (owner_id, keys[0])
        while True:
            answer = await self._claim(lease, keys, anew=anew)
            if answer["outcome"] == "stored":
                return Generated(tuple(map(_asset, answer["assets"])), cached=True)
            if answer["outcome"] == "claimed":
                break
            left_s = until - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise Unavailable("The same is being made already. Ask again in a moment.", retry_after_s=2)
            await self._ended(flight, min(pause_s, left_s))
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)
            anew = False  # what another has made meanwhile is new enough
        ended = self._flights.setdefault(flight, asyncio.Event())
        try:
            async with self._renewing(lease):
                assets = await self._made(lease, make, Claim(self._rpc, lease, answer), request_id, job_id, bucket_id)
        finally:
            ended.set()
            self._flights.pop(flight, None)
        return Generated(assets, cached=False)

    async def store(
        self,
        owner_id: str,
        file: NewFile,
        *,
        bucket_id: Bucket = "generated",
        request_id: str | None = None,
        job_id: str | None = None,
    ) -> Asset:
        """Keep a file as its owner's."""
        row = await self._put(owner_id, file, bucket_id, request_id, job_id)
        (asset,) = await self._rpc("keep_assets", {"p_user_id": owner_id, "p_assets": [row]})
        return _asset(asset)

    async def find(self, owner_id: str, asset_id: str) -> Asset | None:
        """An asset of this owner."""
        row = await self._rpc("asset_of", {"p_user_id": owner_id, "p_id": asset_id})
        return None if row is None else _asset(row)

    async def list(
        self, owner_id: str, *, kind: Kind | None = None, after: tuple[str, str] | None = None, limit: int = 24
    ) -> list[Asset]:
        """An owner's assets, the newest first, from after the one of this `created_at` and id."""
        before, before_id = after or (None, None)
        place = {"p_before": before, "p_before_id": before_id, "p_limit": limit}
        rows = await self._rpc("assets_of", {"p_user_id": owner_id, "p_kind": kind, **place})
        return list(map(_asset, rows))

    async def read(self, asset: Asset, *, max_bytes: int) -> bytes:
        """The bytes of its file."""
        return await self._files.read(asset.bucket_id, asset.path, max_bytes=max_bytes)

    async def link(self, asset: Asset, *, download: str | None = None) -> Link:
        """Where its file may be read: the same address until shortly before it ends. `download` names a saved copy."""
        place, now = (asset.bucket_id, asset.path, download), self._clock()
        link = self._known(place, now)
        if link is None:
            url = await self._files.sign(asset.bucket_id, asset.path, lifetime_s=LINK_S)
            link = Link(url if download is None else f"{url}&download={quote(download, safe='')}", now + LINK_S)
            self._remember(place, link)
        return link

    def _known(self, place: tuple[str, str, str | None], now: float) -> Link | None:
        link = self._links.get(place)
        if link is None or link.expires_at - now < REUSE_UNTIL_S:
            return None
        self._links.move_to_end(place)
        return link

    def _remember(self, place: tuple[str, str, str | None], link: Link) -> None:
        self._links[place] = link
        self._links.move_to_end(place)
        while len(self._links) > MAX_LINKS:
            self._links.popitem(last=False)

    async def links(self, assets: Sequence[Asset]) -> Sequence[Link]:
        """Where their files may be read: those that are not known yet are signed in one request per bucket."""
        now = self._clock()
        for bucket_id in ("generated", "vsl_assets"):
            unknown = {
                asset.path: None
                for asset in assets
                if asset.bucket_id == bucket_id and self._known((bucket_id, asset.path, None), now) is None
            }
            if unknown:
                urls = await self._files.sign_many(bucket_id, list(unknown), lifetime_s=LINK_S)
                for path, url in zip(unknown, urls, strict=True):
                    self._remember((bucket_id, path, None), Link(url, now + LINK_S))
        return [await self.link(asset) for asset in assets]

    async def remove(self, owner_id: str, asset_id: str) -> bool:
        """Remove an asset, and its file where no other asset has the same; False where there is none of theirs."""
        row = await self._rpc("forget_asset", {"p_user_id": owner_id, "p_id": asset_id})
        if row is None:
            return False
        if row["was_last"]:
            await self._files.remove(row["bucket_id"], [row["path"]])
        return True

    async def begin_upload(self, owner_id: str, *, filename: str, content_type: str, size: int) -> tuple[str, str]:
        """An asset's id and the address to PUT its file to. Raises InvalidRequest where too many are under way."""
        asset_id = uuid7()
        path = f"{owner_id}/uploads/{asset_id}"
        row = {
            "p_id": asset_id,
            "p_user_id": owner_id,
            "p_kind": kind_of(content_type),
            "p_path": path,
            "p_content_type": content_type,
            "p_bytes": size,
            "p_metadata": {"filename": filename, "uploaded": True},
        }
        if not await self._rpc("begin_upload", row):
            raise InvalidRequest("Complete the uploads that are under way first.", code="too_many_uploads")
        return asset_id, await self._files.sign_upload("generated", path)

    async def complete_upload(self, owner_id: str, asset_id: str) -> Asset | None:
        """The asset, once its file has arrived and is what it says; None where it is none of theirs.

        Raises InvalidRequest: what is no picture or recording, or of another type than was said, is removed.
        """
        asset = await self.find(owner_id, asset_id)
        if asset is None or asset.state == "ready":
            return asset
        try:
            data = await self._files.read(asset.bucket_id, asset.path, max_bytes=MAX_UPLOAD_BYTES)
        except DataFailed as error:
            if error.reason == "http_404":
                raise InvalidRequest("The file has not arrived: PUT it first.", code="not_uploaded") from error
            if error.reason == "too_large":
                await self.remove(owner_id, asset_id)
                raise PayloadTooLarge("The file is too large.") from error
            raise
        found = content_type_of(data)
        if found is None or found != asset.content_type:
            await self.remove(owner_id, asset_id)
            what = f"is {found}" if found else "is no picture or recording that is known here"
            raise InvalidRequest(f"The file {what}, not {asset.content_type}.", code="content_type_mismatch")
        digest = hashlib.sha256(data).hexdigest()
        path = f"{owner_id}/{digest}.{EXTENSIONS[found]}"
        # Written once more rather than moved: under its hash it may lie already, and then it is the same.
        await self._files.put(asset.bucket_id, path, data, found)
        row = {"p_kind": kind_of(found), "p_path": path, "p_content_type": found, "p_bytes": len(data)}
        done = await self._rpc("complete_upload", {"p_user_id": owner_id, "p_id": asset_id, **row, "p_sha256": digest})
        await self._files.remove(asset.bucket_id, [asset.path])
        return await self.find(owner_id, asset_id) if done is None else _asset(done)

    async def sweep(self) -> dict[str, int]:
        """Remove files that no row names, uploads that never ended, and leases long over: how many files went."""
        files: list[dict[str, str]] = await self._rpc("leftover_files", {})
        for bucket_id in {file["bucket_id"] for file in files}:
            await self._files.remove(bucket_id, [file["path"] for file in files if file["bucket_id"] == bucket_id])
        return {"files": len(files)}

    async def _claim(self, lease: Mapping[str, object], keys: Sequence[str], *, anew: bool) -> dict[str, Any]:
        row = {"p_user_id": lease["p_user_id"], "p_keys": list(keys), "p_holder": lease["p_holder"]}
        return await self._rpc("claim_generation", {**row, "p_lease_s": LEASE_S, "p_anew": anew})

    async def _ended(self, flight: tuple[str, str], within_s: float) -> None:
        """Return when who makes it in this process is done, or after a while: it may be another process."""
        event = self._flights.get(flight)
        if event is None:
            await asyncio.sleep(within_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await event.wait()

    async def _made(
        self,
        lease: Mapping[str, object],
        make: Make,
        claim: Claim,
        request_id: str | None,
        job_id: str | None,
        bucket_id: Bucket,
    ) -> tuple[Asset, ...]:
        owner_id = str(lease["p_user_id"])
        try:
            made = await make(claim)
        except BaseException as error:
            with suppress(DataFailed):
                await asyncio.shield(
                    self._rpc("release_generation", {**lease, "p_keep_note": isinstance(error, UNCERTAIN)})
                )
            raise
        # From here on it is paid for: whoever leaves, it is kept.
        return await asyncio.shield(self._kept(lease, made, owner_id, (request_id, job_id, bucket_id)))

    async def _kept(
        self,
        lease: Mapping[str, object],
        made: Made,
        owner_id: str,
        place: tuple[str | None, str | None, Bucket],
    ) -> tuple[Asset, ...]:
        request_id, job_id, bucket_id = place
        rows = [
            {
                **await self._put(owner_id, file, bucket_id, request_id, job_id),
                "generation_key": f"{made.key}/{number}",
            }
            for number, file in enumerate(made.files)
        ]
        return tuple(map(_asset, await self._rpc("keep_assets", {**lease, "p_assets": rows})))

    async def _put(
        self, owner_id: str, file: NewFile, bucket_id: Bucket, request_id: str | None, job_id: str | None
    ) -> dict[str, Any]:
        """Store the file under its hash; its row."""
        digest = hashlib.sha256(file.data).hexdigest()
        path = f"{owner_id}/{digest}.{EXTENSIONS[file.content_type]}"
        await self._files.put(bucket_id, path, file.data, file.content_type)
        return {
            "id": uuid7(),
            "kind": file.kind,
            "bucket_id": bucket_id,
            "path": path,
            "content_type": file.content_type,
            "bytes": len(file.data),
            "sha256": digest,
            "provider": file.provider,
            "model": file.model,
            "generation_key": None,
            "request_id": request_id,
            "job_id": job_id,
            "metadata": dict(file.metadata),
            "audio": None if file.audio is None else asdict(file.audio),
        }

    @asynccontextmanager
    async def _renewing(self, lease: Mapping[str, object]) -> AsyncGenerator[None]:
        """Keep the lease while the work lasts. One that is lost is no reason to stop: it may be paid for already."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEW_S)
                with suppress(DataFailed):
                    await self._rpc("note_generation", {**lease, "p_lease_s": LEASE_S})

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()


def _asset(row: dict[str, Any]) -> Asset:
    audio = row["audio"]
    return Asset(
        id=row["id"],
        user_id=row["user_id"],
        kind=row["kind"],
        bucket_id=row["bucket_id"],
        path=row["path"],
        content_type=row["content_type"],
        bytes=row["bytes"],
        sha256=row["sha256"],
        provider=row["provider"],
        model=row["model"],
        metadata=row["metadata"],
        created_at=row["created_at"],
        state=row["state"],
        audio=None if audio is None else Audio(**audio),
        job_id=row["job_id"],
    )

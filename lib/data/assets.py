"""Assets: files that belong to somebody, and what was paid for, found again by its content.

A file goes first, under its hash, then its row: what dies in between leaves a file that the sweeper takes away. What a
vendor makes is made by one process at a time, under a lease on the hash of all that went into it; the others wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID, uuid4

import orjson

from lib import errors
from lib.data.circuit import Rpc
from lib.data.claims import answer_of
from lib.data.content import EXTENSIONS, UPLOADS, Kind, canonical, content_type_of, kind_of
from lib.data.files import MISSING, TOO_LARGE, Files
from lib.errors import (
    AppError,
    Conflict,
    DataFailed,
    FieldError,
    InvalidRequest,
    LimitReached,
    NoProvider,
    NotFound,
    PayloadTooLarge,
    ProviderError,
    Unavailable,
)
from lib.ids import uuid7

Bucket = Literal["generated", "vsl_assets"]
LEASE_S = 60
RENEW_S = 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
ANSWER_S = 5.0
PAUSES_S = (0.2, 1.0, 3.0)
"""Before what is paid for is stored once more."""
LINK_S = 6 * 3600
REUSE_UNTIL_S = 600
"""A signed URL is handed out again until this long before it ends, so that caches know it."""
MAX_LINKS = 2000
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
"""The bucket takes no more."""
MAX_OPEN_UPLOADS = 20
MAX_KEPT_BYTES = 2 * 1024**3
"""Of one owner, with what is being uploaded."""
MAX_SWEEPS = 20
UNCERTAIN = (errors.BrokenStream, errors.ConnectionFailed, errors.Overloaded, DataFailed)
"""After these there may be what was asked for: at the vendor, who had taken it, or only not here."""


@dataclass(frozen=True, slots=True)
class Audio:
    """What is known of a recording. `alignment`: {characters, starts_s, ends_s}, three lists of one length."""

    duration_ms: int
    voice_provider: str | None = None
    voice_id: str | None = None
    language: str | None = None
    characters: int | None = None
    alignment: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of somebody's, as its row has it; `created_at` in ISO 8601."""

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
    request_id: str | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """Bytes on their way in; `content_type` is what they are, not what somebody says."""

    data: bytes
    content_type: str
    kind: Kind
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    audio: Audio | None = None
    provider: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a maker made, and the key under which it belongs: that of whoever served."""

    files: tuple[NewFile, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Generated:
    """What there is now; `cached` where it was not made for this call."""

    assets: tuple[Asset, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class Link:
    """An address that anyone may read for a while; `expires_at` in seconds since the epoch."""

    url: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Upload:
    """An asset that waits for its file: where to PUT it, with this type."""

    asset_id: str
    url: str
    content_type: str


Make = Callable[["Claim"], Awaitable[Made]]


def generation_key(
    owner_id: str, vendor: str, model: str, parameters: Mapping[str, object], inputs: Mapping[str, object]
) -> str:
    """The SHA-256, in hex, of all that decides what comes out."""
    content = [owner_id, vendor, model, dict(parameters), dict(inputs)]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Claim:
    """The right to make something.

    `vendor`, `model` and `vendor_request_id` are of the request that an earlier maker had noted, who died or did not
    learn how it ended: there is what was paid for, perhaps.
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
        await self._rpc("note_generation", {**self._lease, "p_lease_s": LEASE_S, **noted}, timeout_s=ANSWER_S)


@dataclass(slots=True)
class _Flight:
    """A generation of this process, and how many wait for it."""

    task: asyncio.Task[Generated]
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where and for what new assets are kept."""

    owner_id: str
    bucket_id: Bucket
    request_id: str | None
    job_id: str | None


class Assets:
    """The assets of one project. Everything raises DataFailed."""

    def __init__(
        self,
        rpc: Rpc,
        files: Files,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` is seconds since the epoch; `sleep` is for the pauses before something is tried again."""
        self._rpc = rpc
        self._files = files
        self._clock = clock
        self._sleep = sleep
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._flights: dict[tuple[str, str, bool], _Flight] = {}

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

        Of all who want the same at the same time, in any process, one makes it; it goes on as long as anyone waits, and
        is cancelled with the last. If it fails, those who waited fail alike; if its process dies, the next makes it.
        `anew` makes it whatever is stored, and takes its key. Raises what `make` raises, which others get as an
        AppError, and Unavailable after `wait_s`.
        """
        place = _Place(owner_id, bucket_id, request_id, job_id)
        number = (owner_id, keys[0], anew)
        flight, is_ours = self._flights.get(number), False
        if flight is None:
            flight, is_ours = self._take_off(number, self._generate(place, keys, make, anew=anew)), True
        flight.waiting += 1
        waiting = asyncio.timeout(wait_s)
        try:
            async with waiting:
                generated = await asyncio.shield(flight.task)
        except ProviderError as error:
            if is_ours:
                raise
            raise _as_others_get_it(error) from error
        except TimeoutError as error:
            if not waiting.expired():
                raise
            raise Unavailable(
                "It is not done yet. Ask again in a moment.", code="generation_in_progress", retry_after_s=2
            ) from error
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._land(number, flight)
                flight.task.cancel()
                await asyncio.wait([flight.task])
        return generated if is_ours or generated.cached else Generated(generated.assets, cached=True)

    async def kept(self, owner_id: str, keys: Sequence[str]) -> tuple[Asset, ...]:
        """What is stored under the first of `keys` that has anything; nothing is claimed, and nobody waited for."""
        rows = await self._rpc("kept_generation", {"p_user_id": owner_id, "p_keys": list(keys)}, timeout_s=ANSWER_S)
        return tuple(self._asset(row) for row in rows or ())

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
        (asset,) = await self._keep(_Place(owner_id, bucket_id, request_id, job_id), (file,), {})
        return asset

    async def find(self, owner_id: str, asset_id: str) -> Asset | None:
        """An asset of this owner."""
        if not _is_id(asset_id):
            return None
        row = await self._rpc("asset_of", {"p_user_id": owner_id, "p_id": asset_id}, timeout_s=ANSWER_S)
        return None if row is None else self._asset(row)

    async def among(self, owner_id: str, asset_ids: Sequence[str]) -> Sequence[Asset]:
        """Those of these assets that this owner has, in no order."""
        rows = await self._rpc("assets_among", {"p_user_id": owner_id, "p_ids": list(asset_ids)}, timeout_s=ANSWER_S)
        return [self._asset(row) for row in rows]

    async def list(
        self, owner_id: str, *, kind: Kind | None = None, after: tuple[str, str] | None = None, limit: int = 24
    ) -> list[Asset]:
        """An owner's assets, the newest first, from after the one of this `created_at` and id."""
        created_at, asset_id = after or (None, None)
        page = {"p_kind": kind, "p_before": created_at, "p_before_id": asset_id, "p_limit": limit}
        rows = await self._rpc("assets_of", {"p_user_id": owner_id, **page}, timeout_s=ANSWER_S)
        return [self._asset(row) for row in rows]

    async def read(self, asset: Asset, *, max_bytes: int) -> bytes:
        """The bytes of its file. Raises PayloadTooLarge beyond the bound, NotFound where it is gone."""
        try:
            return await self._files.read(asset.bucket_id, asset.path, max_bytes=max_bytes)
        except DataFailed as error:
            if error.reason == TOO_LARGE:
                raise PayloadTooLarge(f"The file has more than {max_bytes} bytes.") from error
            if error.reason == MISSING:
                await self._forget_lost(asset.bucket_id, asset.path)
                raise _gone() from error
            raise

    async def link(self, asset: Asset, *, download: str | None = None) -> Link:
        """Where its file may be read: the same address, at every instance, until shortly before it ends.

        `download` is the name under which a browser saves it, in place of showing it. Raises NotFound.
        """
        (link,) = await self.links([asset])
        if link is None:
            raise _gone()
        if download is None:
            return link
        return Link(f"{link.url}&download={quote(download, safe='')}", link.expires_at)

    async def links(self, assets: Sequence[Asset]) -> list[Link | None]:
        """Where their files may be read, in one request for all that are not signed yet; None for one that is gone."""
        for bucket_id in {asset.bucket_id for asset in assets}:
            unsigned = [each for each in assets if each.bucket_id == bucket_id and self._known(each) is None]
            if unsigned:
                await self._sign(bucket_id, unsigned)
        return [self._known(asset) for asset in assets]

    async def remove(self, owner_id: str, asset_id: str) -> bool:
        """Remove an asset, and its file where no other asset has the same; False where there is none of theirs."""
        if not _is_id(asset_id):
            return False
        gone = await self._rpc("remove_asset", {"p_user_id": owner_id, "p_id": asset_id})
        self._links.pop(asset_id, None)
        if gone is None:
            return False
        if gone["is_last"]:
            await self._files.remove(gone["bucket_id"], [gone["path"]])
            # Somebody may have stored the same meanwhile.
            await self._forget_lost(gone["bucket_id"], gone["path"])
        return True

    async def begin_upload(self, owner_id: str, *, filename: str, content_type: str, size: int) -> Upload:
        """Where the owner may PUT a picture or recording of this many bytes. Raises AppError.

        Its name is for people, who may save it under that again; what it is called in storage goes by its content.
        """
        content_type = canonical(content_type)
        if content_type not in UPLOADS:
            known = ", ".join(sorted(UPLOADS))
            raise InvalidRequest(
                "Only pictures and recordings can be uploaded.",
                code="content_type_not_supported",
                errors=(FieldError("content_type", f"is none of {known}"),),
            )
        if size > MAX_UPLOAD_BYTES:
            raise PayloadTooLarge(f"A file may have {MAX_UPLOAD_BYTES} bytes.")
        asset_id = uuid7()
        path = f"{owner_id}/uploads/{asset_id}.{EXTENSIONS[content_type]}"
        row = {
            "p_user_id": owner_id,
            "p_id": asset_id,
            "p_kind": kind_of(content_type),
            "p_path": path,
            "p_content_type": content_type,
            "p_bytes": size,
            "p_metadata": {"filename": filename},
            "p_max_open": MAX_OPEN_UPLOADS,
            "p_max_bytes": MAX_KEPT_BYTES,
        }
        match await self._rpc("begin_upload", row):
            case "begun":
                return Upload(asset_id, await self._files.sign_upload("generated", path), content_type)
            case "too_many":
                raise LimitReached(
                    "Too many uploads are open: complete or delete one.", code="too_many_uploads", retry_after_s=60
                )
            case _:
                raise LimitReached("There is no room left: delete something.", code="storage_full")

    async def complete_upload(self, owner_id: str, asset_id: str) -> Asset:
        """The asset, once its file has come and is what was said of it. Raises AppError; asked again, the same.

        A file that is something else is removed, its asset with it.
        """
        asset = await self.find(owner_id, asset_id)
        if asset is None:
            raise _gone()
        if asset.state == "ready":
            return asset
        try:
            data = await self._files.read(asset.bucket_id, asset.path, max_bytes=MAX_UPLOAD_BYTES)
        except DataFailed as error:
            if error.reason == MISSING:
                raise Conflict("The file has not arrived: PUT it first.", code="not_uploaded") from error
            if error.reason == TOO_LARGE:
                await self.remove(owner_id, asset_id)
                raise PayloadTooLarge(f"A file may have {MAX_UPLOAD_BYTES} bytes.") from error
            raise
        problem = _mismatch(asset, data)
        if problem is not None:
            await self.remove(owner_id, asset_id)
            raise problem
        digest, path = _named(owner_id, data, asset.content_type)
        # Written once more and not moved: its sender chose the headers that it lies there with.
        await self._files.put(asset.bucket_id, path, data, asset.content_type)
        found = {"p_path": path, "p_bytes": len(data), "p_sha256": digest}
        row = await self._rpc("complete_upload", {"p_user_id": owner_id, "p_id": asset_id, **found})
        if row is None:
            raise _gone()
        await self._files.remove(asset.bucket_id, [asset.path])
        return self._asset(row)

    async def sweep(self) -> dict[str, int]:
        """Remove what nobody will miss: `{leases, uploads, lost, files}`, how many of each.

        Leases long over, uploads never completed, assets whose file is gone, files without a row.
        """
        report = {"leases": 0, "uploads": 0, "lost": 0, "files": 0}
        for _ in range(MAX_SWEEPS):
            told: dict[str, Any] = await self._rpc("sweep_assets", {}, timeout_s=ANSWER_S * 4)
            files: list[dict[str, str]] = told.pop("files")
            for name, count in told.items():
                report[name] += count
            if not files:
                break
            for bucket_id in {file["bucket_id"] for file in files}:
                paths = [file["path"] for file in files if file["bucket_id"] == bucket_id]
                await self._files.remove(bucket_id, paths)
            report["files"] += len(files)
        return report

    def _take_off(self, number: tuple[str, str, bool], work: Coroutine[Any, Any, Generated]) -> _Flight:
        flight = _Flight(asyncio.create_task(work))
        self._flights[number] = flight

        def landed(task: asyncio.Task[Generated]) -> None:
            self._land(number, flight)
            if not task.cancelled():
                task.exception()  # whoever waited has it

        flight.task.add_done_callback(landed)
        return flight

    def _land(self, number: tuple[str, str, bool], flight: _Flight) -> None:
        if self._flights.get(number) is flight:
            del self._flights[number]

    async def _generate(self, place: _Place, keys: Sequence[str], make: Make, *, anew: bool) -> Generated:
        lease = {"p_user_id": place.owner_id, "p_key": keys[0], "p_holder": str(uuid4())}
        asked = {"p_user_id": place.owner_id, "p_keys": list(keys), "p_holder": lease["p_holder"]}
        seen: str | None = None
        pause_s = FIRST_PAUSE_S
        while True:
            given = {**asked, "p_seen": seen, "p_lease_s": LEASE_S, "p_anew": anew}
            claiming = self._rpc("claim_generation", given, timeout_s=ANSWER_S)
            # An earlier maker's note stays for the next: the lease ends, its row does not.
            answer: dict[str, Any] = await answer_of(
                claiming, lambda _: self._rpc("note_generation", {**lease, "p_lease_s": 0})
            )
            match answer["outcome"]:
                case "stored":
                    return Generated(tuple(self._asset(row) for row in answer["assets"]), cached=True)
                case "failed":
                    raise _failure_of(answer["failure"])
                case "claimed":
                    break
                case _:
                    seen = answer["holder"]
                    anew = False  # what another makes meanwhile is new enough
            await self._sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        claim = Claim(self._rpc, lease, answer)
        try:
            async with self._renewing(lease):
                made = await make(claim)
                return Generated(await self._kept_in_any_case(place, made, {**lease, "p_anew": anew}), cached=False)
        except asyncio.CancelledError:
            # Who leaves has the vendor stop; nothing is left there to come back for.
            await self._give_up(lease, None, keep_note=False)
            raise
        except Exception as error:
            await self._give_up(lease, _told(error), keep_note=isinstance(error, UNCERTAIN))
            raise

    async def _kept_in_any_case(self, place: _Place, made: Made, lease: Mapping[str, object]) -> tuple[Asset, ...]:
        """It is paid for: it is kept even if nobody waits any more."""
        keeping = asyncio.ensure_future(self._keep(place, made.files, {**lease, "p_made_key": made.key}))
        try:
            return await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait([keeping])
            raise

    async def _keep(
        self, place: _Place, files: Sequence[NewFile], generation: Mapping[str, object]
    ) -> tuple[Asset, ...]:
        """Files, then rows; several times, where storage does not do it at once."""
        rows = [_row(place, file) for file in files]
        asked = {**generation, "p_user_id": place.owner_id, "p_assets": rows}
        for pause_s in (*PAUSES_S, None):
            try:
                for row, file in zip(rows, files, strict=True):
                    await self._files.put(place.bucket_id, row["path"], file.data, file.content_type)
                kept = await self._rpc("keep_assets", asked, timeout_s=ANSWER_S)
                if kept is not None:
                    return tuple(self._asset(row) for row in kept)
            except DataFailed as error:
                if pause_s is None or not _may_pass(error.reason):
                    raise
            if pause_s is not None:
                await self._sleep(pause_s)
        raise DataFailed(MISSING)

    async def _give_up(self, lease: Mapping[str, object], failure: dict[str, Any] | None, *, keep_note: bool) -> None:
        with suppress(DataFailed):  # then the lease runs out
            await self._rpc("fail_generation", {**lease, "p_failure": failure, "p_keep_note": keep_note})

    @asynccontextmanager
    async def _renewing(self, lease: Mapping[str, object]) -> AsyncGenerator[None]:
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

    def _known(self, asset: Asset) -> Link | None:
        link = self._links.get(asset.id)
        return link if link is not None and link.expires_at - self._clock() >= REUSE_UNTIL_S else None

    async def _sign(self, bucket_id: str, assets: Sequence[Asset]) -> None:
        expires_at = datetime.fromtimestamp(self._clock() + LINK_S, UTC).isoformat()
        paths = await self._files.sign(bucket_id, [asset.path for asset in assets], lifetime_s=LINK_S)
        signed = [{"id": asset.id, "path": path} for asset, path in zip(assets, paths, strict=True) if path is not None]
        kept = {"p_links": signed, "p_expires_at": expires_at, "p_reuse_s": REUSE_UNTIL_S}
        for row in await self._rpc("keep_links", kept, timeout_s=ANSWER_S):
            self._asset(row)
        for asset, path in zip(assets, paths, strict=True):
            if path is None:
                await self._forget_lost(asset.bucket_id, asset.path)

    async def _forget_lost(self, bucket_id: str, path: str) -> None:
        await self._rpc("forget_lost_assets", {"p_bucket_id": bucket_id, "p_path": path})

    def _asset(self, row: dict[str, Any]) -> Asset:
        """The asset of a row; its link is remembered."""
        if row["link_path"] is not None:
            expires_at = datetime.fromisoformat(row["link_expires_at"]).timestamp()
            self._links.pop(row["id"], None)
            self._links[row["id"]] = Link(self._files.url(row["link_path"]), expires_at)
            if len(self._links) > MAX_LINKS:
                self._links.popitem(last=False)
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
            request_id=row["request_id"],
            job_id=row["job_id"],
        )


def _row(place: _Place, file: NewFile) -> dict[str, Any]:
    """Its id is made here: asked for twice, a row is there once."""
    digest, path = _named(place.owner_id, file.data, file.content_type)
    return {
        "id": uuid7(),
        "kind": file.kind,
        "bucket_id": place.bucket_id,
        "path": path,
        "content_type": file.content_type,
        "bytes": len(file.data),
        "sha256": digest,
        "provider": file.provider,
        "model": file.model,
        "request_id": place.request_id,
        "job_id": place.job_id,
        "metadata": dict(file.metadata),
        "audio": None if file.audio is None else asdict(file.audio),
    }


def _named(owner_id: str, data: bytes, content_type: str) -> tuple[str, str]:
    """A file's SHA-256 in hex, and the name that it has by it."""
    digest = hashlib.sha256(data).hexdigest()
    return digest, f"{owner_id}/{digest}.{EXTENSIONS[content_type]}"


def _mismatch(asset: Asset, data: bytes) -> AppError | None:
    found = content_type_of(data)
    if found != asset.content_type:
        what = "no picture or recording of a kind that is known here" if found is None else found
        return InvalidRequest(f"The file is {what}, not {asset.content_type}.", code="content_type_mismatch")
    if len(data) != asset.bytes:
        return InvalidRequest(f"The file has {len(data)} bytes, not {asset.bytes}.", code="size_mismatch")
    return None


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _gone() -> NotFound:
    return NotFound("There is no such asset.")


def _may_pass(reason: str) -> bool:
    """Whether storage or database may do the same a little later."""
    return reason.startswith(("http_5", "http_429", "timeout", "connection_failed", "resting", "08", "40", "53", "57"))


def _as_others_get_it(error: Exception) -> AppError:
    """A maker's failure for those who waited for it: never more than a caller may see."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, ProviderError):
        return NoProvider("No provider could make it.")
    return AppError("Something went wrong on our side.")


def _told(error: Exception) -> dict[str, Any]:
    """The same, for other processes."""
    shown = _as_others_get_it(error)
    told = {"code": shown.code, "message": shown.message, "retry_after_s": shown.retry_after_s}
    return {"error": type(shown).__name__, **told}


def _failure_of(told: dict[str, Any]) -> AppError:
    """And back again; one that this version of us does not know is an Unavailable."""
    kind = getattr(errors, told["error"], None)
    if kind is DataFailed:
        return DataFailed("failed_elsewhere")
    if not (isinstance(kind, type) and issubclass(kind, AppError)):
        kind = Unavailable
    return kind(told["message"], code=told["code"], retry_after_s=told["retry_after_s"])

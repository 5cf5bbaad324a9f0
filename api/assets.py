"""/api/assets: what belongs to the caller. GET lists it, POST begins an upload.

/api/assets/{id}: GET redirects to its file, DELETE removes it. POST /api/assets/{id}/complete ends an upload. Files go
to Storage and come from there directly: a function takes and gives no more than 4.5 MB.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from lib.app import current
from lib.data.assets import Asset, Assets, Link
from lib.data.content import EXTENSIONS, Kind
from lib.errors import FieldError, InvalidRequest, MethodNotAllowed, NotConfigured, NotFound
from lib.http.auth import Caller
from lib.http.body import validated
from lib.http.endpoint import Call, Endpoint
from lib.http.media import shown
from lib.settings import SUPABASE_VARIABLES

NO_STORE = {"cache-control": "private, no-store"}
KINDS: tuple[Kind, ...] = ("image", "audio", "video", "captions", "other")
DEFAULT_PAGE, MOST_PAGE = 24, 100
MAX_NAME = 200


class Upload(BaseModel):
    """A file that is to come: its name for people, its type, its size in bytes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    filename: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=MAX_NAME)]
    content_type: Annotated[str, StringConstraints(max_length=100)]
    bytes: Annotated[int, Field(ge=1)]


async def read(call: Call) -> Response:
    """A list, or one of it."""
    if "complete" in call.request.query_params:
        raise MethodNotAllowed("This path takes POST.", headers={"allow": "POST"})
    caller = await _caller(call)
    return await (redirect(call, caller) if "item" in call.request.query_params else page(call, caller))


async def page(call: Call, caller: Caller) -> Response:
    """`{assets, next_cursor}`, the newest first; `?kind=`, `?limit=` up to 100, `?cursor=` of the page before."""
    query, assets = call.request.query_params, _assets(call)
    kind = query.get("kind")
    if kind is not None and kind not in KINDS:
        raise _wrong("kind", f"must be one of {', '.join(KINDS)}")
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:4]) <= MOST_PAGE:
        raise _wrong("limit", f"must be a number from 1 to {MOST_PAGE}")
    cursor = query.get("cursor")
    found = await assets.list(
        caller.id,
        kind=next((known for known in KINDS if known == kind), None),
        after=None if cursor is None else _place(cursor),
        limit=int(limit) + 1,
    )
    here = found[: int(limit)]
    links = await assets.links(here)
    body = {
        # One whose file has just gone is left out.
        "assets": [_listed(asset, link) for asset, link in zip(here, links, strict=True) if link is not None],
        "next_cursor": _cursor(here[-1]) if len(found) > len(here) else None,
    }
    return Response(orjson.dumps(body), headers=NO_STORE, media_type="application/json")


async def redirect(call: Call, caller: Caller) -> Response:
    """307 to where the file may be read for a while; `?download=name` has browsers save it under that name.

    The redirect is never kept: it says who is signed in. What it leads to is, for a year: the address stays the same.
    """
    asset = await _assets(call).find(caller.id, _id(call))
    if asset is None or asset.state != "ready":
        raise _unknown()
    download = call.request.query_params.get("download")
    if download is not None:
        download = download[:MAX_NAME] or asset.metadata.get("filename") or _filename(asset)
    link = await _assets(call).link(asset, download=download)
    return Response(status_code=307, headers={"location": link.url, **NO_STORE})


async def write(call: Call) -> Response:
    """An upload's beginning, or its end."""
    query = call.request.query_params
    if "item" in query:
        raise MethodNotAllowed("This path takes DELETE and GET.", headers={"allow": "DELETE, GET"})
    call.app.auth.require_same_origin(call.request)
    return await (complete(call) if "complete" in query else begin(call))


async def begin(call: Call) -> Response:
    """201 `{id, upload_url, method, headers, complete}`: PUT the file there, then POST to `complete`."""
    caller = await call.with_account(await _caller(call))
    asked = validated(Upload, call.json())
    upload = await _assets(call).begin_upload(
        caller.id, filename=asked.filename, content_type=asked.content_type, size=asked.bytes
    )
    body: dict[str, object] = {
        "id": upload.asset_id,
        "upload_url": upload.url,
        "method": "PUT",
        "headers": {"content-type": upload.content_type},
        "complete": f"/api/assets/{upload.asset_id}/complete",
    }
    return Response(orjson.dumps(body), 201, NO_STORE, media_type="application/json")


async def complete(call: Call) -> Response:
    """The asset, once its file is there and is what it was said to be; what is not is removed."""
    caller = await _caller(call)
    asset = await _assets(call).complete_upload(caller.id, _id(call, from_end=2))
    body = _listed(asset, await _assets(call).link(asset))
    return Response(orjson.dumps(body), headers=NO_STORE, media_type="application/json")


async def remove(call: Call) -> Response:
    """204; the file goes with the last asset that has it."""
    if "item" not in call.request.query_params:
        raise MethodNotAllowed("This path takes GET and POST.", headers={"allow": "GET, POST"})
    call.app.auth.require_same_origin(call.request)
    caller = await _caller(call)
    if not await _assets(call).remove(caller.id, _id(call)):
        raise _unknown()
    return Response(status_code=204, headers=NO_STORE)


async def _caller(call: Call) -> Caller:
    _assets(call)  # where nothing can be kept, nobody need be anybody
    return await call.caller()


def _assets(call: Call) -> Assets:
    if call.app.assets is None:
        raise NotConfigured(f"Nothing can be kept here: set {', '.join(SUPABASE_VARIABLES)}.")
    return call.app.assets


def _id(call: Call, *, from_end: int = 1) -> str:
    """The id in the path. Raises NotFound for what is none."""
    text = call.request.url.path.rstrip("/").split("/")[-from_end]
    try:
        if str(UUID(text)) == text:
            return text
    except ValueError:
        pass
    raise _unknown()


def _listed(asset: Asset, link: Link) -> dict[str, Any]:
    """An asset as everywhere, when it was made, and what people call it: a file's name, or the prompt of a picture."""
    name = asset.metadata.get("filename") or asset.metadata.get("prompt")
    return {**shown(asset, link), "created_at": asset.created_at, "name": name}


def _filename(asset: Asset) -> str:
    return f"{asset.kind}-{asset.id[-8:]}.{EXTENSIONS.get(asset.content_type, 'bin')}"


def _cursor(asset: Asset) -> str:
    return urlsafe_b64encode(f"{asset.created_at} {asset.id}".encode()).decode()


def _place(cursor: str) -> tuple[str, str]:
    try:
        created_at, id_ = urlsafe_b64decode(cursor.encode("ascii")).decode().split(" ")
        return datetime.fromisoformat(created_at).astimezone(UTC).isoformat(), str(UUID(id_))
    except (ValueError, OverflowError) as error:
        raise _wrong("cursor", "must be the next_cursor of a page") from error


def _wrong(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {message}.", errors=(FieldError(path, message),))


def _unknown() -> NotFound:
    return NotFound("You have no asset of this id.")


app = Endpoint(current, GET=read, POST=write, DELETE=remove)

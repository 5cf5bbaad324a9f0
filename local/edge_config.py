"""An Edge Config on this machine: a folder of JSON files, an item each, behind the protocol of the genuine one.

Edit a file and the next read has it. Vercel's own client, npm's @vercel/edge-config, reads it too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from lib.app import App
from lib.control.flags import EXPERIMENT
from lib.control.parameters import ITEM, ROWS, Parameters
from lib.control.ranges import Number, Range, Refused, Whole
from lib.control.specs import MARK
from lib.errors import BadRequest, FieldError, Forbidden, InvalidRequest, NotFound
from lib.http.endpoint import Call, Endpoint
from lib.providers.catalog import Row
from lib.settings import from_environ
from local.specs import faults

STORE_ID = "ecfg_local"
TOKEN = "local"  # noqa: S105 - guards nothing: only this machine's own pages and processes get to the port
FOLDER = Path(__file__).parent / "items"
PANEL = "/local/items"
FORM = "/local/form"
KEY = re.compile(r"[\w-]{1,128}", re.ASCII)

log = logging.getLogger("local.edge_config")


class Files:
    """The items, one `<key>.json` each. A file that is not JSON, as in mid-edit, leaves its item as it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._items: dict[str, object] = {}

    def items(self) -> dict[str, object]:
        """All items, as their files are now. Looks at each file's time and size; reads it only where they changed."""
        present: set[str] = set()
        for file in sorted(self._folder.glob("*.json")):
            if KEY.fullmatch(file.stem):
                present.add(file.stem)
                self._look_at(file)
        for gone in self._seen.keys() - present:
            self._seen.pop(gone)
            self._items.pop(gone, None)
        return dict(sorted(self._items.items()))

    def write(self, key: str, value: object) -> None:
        """Replace an item's file as a whole: no reader ever sees half of it."""
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        file = self._folder / f"{key}.json"
        new = file.with_suffix(".new")
        new.write_bytes(text)
        new.replace(file)

    def _look_at(self, file: Path) -> None:
        try:
            status = file.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._seen.get(file.stem) == seen:
                return
            self._seen[file.stem] = seen
            self._items[file.stem] = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError as error:
            log.warning("%s is not JSON (line %s, column %s): not followed", file.name, error.lineno, error.colno)
        except OSError as error:
            log.warning("%s can't be read (%s): not followed", file.name, error.strerror)


def endpoints(files: Files, offered: Sequence[Row] = ()) -> dict[str, ASGIApp]:
    """What to serve below which path: the store, and the panel that edits it.

    `offered` are the vendors that a flag may name.
    """
    store, panel, form = _Store(files), _Panel(files), _Form(offered)
    # Not the product's own: these answers have nothing to do with its settings, and lead to no reads of the store.
    bare = App(from_environ({}))
    return {
        f"/{STORE_ID}": Endpoint(lambda: bare, GET=store.read),
        PANEL: Endpoint(lambda: bare, GET=panel.read, PUT=panel.write),
        FORM: Endpoint(lambda: bare, GET=form.read),
    }


def connection_string(port: int) -> str:
    """What EDGE_CONFIG has to be to read it."""
    return f"http://127.0.0.1:{port}/{STORE_ID}?token={TOKEN}"


class _Store:
    """GET /items, /item/{key} and /digest, as edge-config.vercel.com answers them."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, call: Call) -> Response:
        request = call.request
        if not _is_authorized(request):
            return _json({"code": "unauthorized", "message": "The token is not valid."}, 401)
        items = self._files.items()
        digest = hashlib.sha256(orjson.dumps(items)).hexdigest()
        headers = {"x-edge-config-digest": digest, "etag": f'"{digest}"', "cache-control": "no-store"}
        _, _, path = request.url.path.strip("/").partition("/")
        kind, _, key = path.partition("/")
        wanted = request.query_params.getlist("key")
        if kind == "items" and not key:
            value: object = {name: items[name] for name in wanted if name in items} if wanted else items
        elif kind == "digest" and not key:
            value = digest
        elif kind == "item" and key in items:
            value = items[key]
        elif kind == "item":
            # The digest tells a missing item from a missing store.
            return _json({"code": "edge_config_item_not_found"}, 404, {"x-edge-config-digest": digest})
        else:
            return _json({"code": "not_found"}, 404)
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return _json(value, 200, headers)


class _Panel:
    """GET and PUT /local/items/{key}: what the page edits the files by. Not deployed."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, call: Call) -> Response:
        """All items, or the one that the path names."""
        items, key = self._files.items(), _key(call)
        if key and key not in items:
            raise NotFound("There is no such item.")
        return _json(items[key] if key else items, 200, {"cache-control": "no-store"})

    async def write(self, call: Call) -> Response:
        """Replace an item that is there by the JSON object of the body; what can't be used is refused by name."""
        _refuse_other_pages(call.request)
        value, key = call.json(), _key(call)
        items = self._files.items()
        if key not in items:
            raise NotFound("There is no such item.")
        if not isinstance(value, dict):
            raise InvalidRequest("An item is a JSON object.", errors=(FieldError("", "must be an object"),))
        item = cast("dict[str, object]", value)
        unfit = _unfit(item) if key == ITEM else ()
        if unfit:
            raise InvalidRequest("A parameter's value does not hold.", errors=unfit)
        present = items[key]
        if isinstance(present, dict) and MARK in present and (wrong := await asyncio.to_thread(faults, item)):
            raise InvalidRequest("Not every flag could be decided by these specs.", errors=wrong)
        try:
            self._files.write(key, item)
        except OSError as error:
            raise BadRequest(f"The file can't be written ({error.strerror}).", code="not_written") from error
        return Response(status_code=204)


class _Form:
    """GET /local/form: what the page's form asks for. {experiment, models: [{provider, model}], parameters: [...]}.

    A parameter is {name, help, values (in words), kind (number, whole or text), default}; the public ones alone.
    """

    def __init__(self, offered: Sequence[Row]) -> None:
        self._offered = offered

    async def read(self, _: Call) -> Response:
        """What may be chosen: parameters, and the models of providers that a flag may name."""
        usual = Parameters()
        parameters = [
            {
                "name": name,
                "help": row.help,
                "values": row.range.words,
                "kind": _kind(row.range),
                "default": getattr(usual, name),
            }
            for name, row in ROWS.items()
            if row.public
        ]
        models = [{"provider": row.name, "model": model.id} for row in self._offered for model in row.models]
        form = {"experiment": EXPERIMENT, "models": models, "parameters": parameters}
        return _json(form, 200, {"cache-control": "no-store"})


def _kind(values: Range[object]) -> str:
    match values:
        case Number():
            return "number"
        case Whole():
            return "whole"
        case _:
            return "text"


def _unfit(item: dict[str, object]) -> tuple[FieldError, ...]:
    """The parameters in `ai_config` that would be passed over. null is no value, and a strange field is not ours."""
    errors: list[FieldError] = []
    for name, value in item.items():
        if name not in ROWS or value is None:
            continue
        try:
            ROWS[name].range.read(value)
        except Refused:
            errors.append(FieldError(name, f"must be: {ROWS[name].range.words}"))
    return tuple(errors)


def _key(call: Call) -> str:
    return call.request.url.path.removeprefix(PANEL).strip("/")


def _refuse_other_pages(request: Request) -> None:
    """Browsers name the page that a write comes from."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("Only this server's own pages may write.")


def _is_authorized(request: Request) -> bool:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer if scheme.lower() == "bearer" else request.query_params.get("token", "")
    return hmac.compare_digest(given.encode(), TOKEN.encode())


def _json(value: object, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")

"""GET /api/dashboard/{panel}: the rows of a panel, for operators all callers', for everyone else their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from starlette.responses import Response

from lib.data.panels import FILTERS, MAX_FILTER, PANELS, RANGES, Panel, arguments, period
from lib.data.supabase import Supabase
from lib.errors import FieldError, InvalidRequest, NotConfigured, NotFound
from lib.http.auth import Caller
from lib.http.endpoint import Call
from lib.http.table import as_csv
from lib.http.usage import MICRO, in_dollars
from lib.settings import SUPABASE_VARIABLES

if TYPE_CHECKING:
    from lib.app import App

TIMEOUT_S = 8.0
DEFAULT_RANGE = "24h"
HEADERS = {"cache-control": "private, no-cache", "vary": "accept, authorization, cookie"}
"""A browser may keep an answer, and asks each time whether it still holds: see `etag`."""
Body = dict[str, Any]


async def dashboard(call: Call) -> Response:
    """`{panel, range, from, to, step_s, scope, columns, rows}` as JSON, or the rows as CSV where that is asked for."""
    name = call.request.url.path.rstrip("/").rpartition("/")[2]
    panel = PANELS.get(name)
    if panel is None:
        raise NotFound(f"There is no such panel. There are: {', '.join(PANELS)}.")
    asked = _asked(call, name)
    caller = await call.caller()
    if call.app.supabase is None:
        raise NotConfigured(f"Nothing is counted here: set {', '.join(SUPABASE_VARIABLES)}.")
    now = datetime.now(UTC)
    if name != "request" and RANGES[asked["range"]].is_rolled_up:
        await call.app.rollups.before_reading()
    if name == "request":
        body = await _request(call.app.supabase, caller, asked["id"])
    else:
        body = await _panel(call.app, call.app.supabase, caller, name, asked, now)
    return _answer(call, name, panel, body)


def _asked(call: Call, name: str) -> dict[str, str]:
    """The query, with the defaults. Raises InvalidRequest."""
    query = dict(call.request.query_params)
    known = ("id",) if name == "request" else ("range", *FILTERS)
    errors = [FieldError(key, f"is not known here: {', '.join(known)}") for key in query if key not in known]
    if name == "request":
        if not _is_uuid(query.get("id", "")):
            errors.append(FieldError("id", "is the id of a request"))
    else:
        query.setdefault("range", DEFAULT_RANGE)
        if query["range"] not in RANGES:
            errors.append(FieldError("range", f"is one of {', '.join(RANGES)}"))
        errors += [
            FieldError(key, f"has at most {MAX_FILTER} characters, none of them NUL")
            for key in FILTERS
            if len(query.get(key, "")) > MAX_FILTER or "\0" in query.get(key, "")
        ]
    if errors:
        raise InvalidRequest("The query does not fit.", errors=tuple(errors))
    return {key: value for key, value in query.items() if value}


def _is_uuid(value: str) -> bool:
    try:
        UUID(value)
    except ValueError:
        return False
    return True


async def _panel(
    app: App, supabase: Supabase, caller: Caller, name: str, asked: Mapping[str, str], now: datetime
) -> Body:
    chosen = RANGES[asked["range"]]
    begin, end = period(asked["range"], now)
    body: Body = {
        "panel": name,
        "range": asked["range"],
        "from": begin.isoformat().replace("+00:00", "Z"),
        "to": end.isoformat().replace("+00:00", "Z"),
        "step_s": chosen.step.total_seconds(),
        "scope": "all" if _sees_all(caller) else "own",
        "columns": PANELS[name].columns,
        "rows": [],
    }
    panel = PANELS[name]
    if panel.function is not None:
        given = arguments(asked["range"], now, asked, None if _sees_all(caller) else caller.id)
        token = None if panel.is_private and _sees_all(caller) else caller.token
        body["rows"] = in_dollars(await supabase.rpc(panel.function, given, timeout_s=TIMEOUT_S, token=token))
    if name == "tiles":
        body["rows"] = [_tile(row) for row in body["rows"]]
    if name == "arms":
        given = {"p_period": chosen.analysis}
        body["analyses"] = await _rows(supabase, caller, "panel_analysis", given) if _sees_all(caller) else []
    if name == "rollout":
        body |= await _rollouts(app, begin, end) if _sees_all(caller) else {"rollouts": []}
    return body


async def _rollouts(app: App, begin: datetime, end: datetime) -> Body:
    """What happened to rollouts in this time, and where each gate's stands."""
    if app.rollouts is None:
        return {"rollouts": []}
    found = await app.rollouts.history(begin.isoformat(), end.isoformat())
    names = {"at": "at", "gate": "gate", "rollout_id": "rollout_id", "decision": "kind", "reason": "reason"}
    named = [{key: event[of] for key, of in names.items()} for event in found["events"]]
    rows = [row | {"percent": event["share"] * 100} for row, event in zip(named, found["events"], strict=True)]
    return {"rows": rows, "rollouts": found["rollouts"]}


async def _request(supabase: Supabase, caller: Caller, request_id: str) -> Body:
    """The calls of one request. Raises NotFound, also where it is another's."""
    given = {"p_request_id": request_id, "p_user_id": None if _sees_all(caller) else caller.id}
    rows = await _rows(supabase, caller, "panel_request", given)
    if not rows:
        raise NotFound("There is no such request.")
    return {"panel": "request", "columns": PANELS["request"].columns, "rows": rows}


async def _rows(supabase: Supabase, caller: Caller, function: str, given: Mapping[str, str | None]) -> Any:
    """What a function answers, with the caller's rights where it has a token: then the policies decide as well."""
    return in_dollars(await supabase.rpc(function, given, timeout_s=TIMEOUT_S, token=caller.token))


def _tile(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tile's row: where it counts money, that is in a value and not in a column's name."""
    name, money = row["metric"], "_microusd"
    if not name.endswith(money):
        return row
    values = {key: None if row[key] is None else row[key] / MICRO for key in ("value", "previous")}
    return {"metric": f"{name.removesuffix(money)}_usd", **values}


def _sees_all(caller: Caller) -> bool:
    return caller.role == "operator"


def _answer(call: Call, name: str, panel: Panel, body: Body) -> Response:
    if _wants_csv(call.request.headers.get("accept", "")):
        content, media_type = as_csv(panel.columns, body["rows"]).encode(), "text/csv"
        headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}.csv"'}
    else:
        content, media_type = orjson.dumps(body), "application/json"
        headers = dict(HEADERS)
    headers["etag"] = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    if _holds(call.request.headers.get("if-none-match", ""), headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _wants_csv(accept: str) -> bool:
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    return "text/csv" in kinds and "application/json" not in kinds


def _holds(if_none_match: str, etag: str) -> bool:
    """RFC 9110, 13.1.2; compared weakly, since a proxy that compresses makes a tag weak."""
    given = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in given or given == ["*"]

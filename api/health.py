"""GET /api/health: what is on, what is off, and which variable turns it on. Names of variables, never values.

GET /api/health?deep=1, for operators, says what the cron did last and which incidents are open.
GET /api/health?run=1, with the cron's secret, does what is due (lib/cron.py).
"""

from __future__ import annotations

import orjson
from starlette.responses import Response

from lib import __version__
from lib.app import current
from lib.cron import run_due
from lib.errors import NotConfigured
from lib.http.cron_secret import require_cron_secret
from lib.http.endpoint import Call, Endpoint
from lib.settings import SUPABASE_VARIABLES, Part


async def health(call: Call) -> Response:
    """Cheap and public: the settings, and what this process holds of the flags, read again where that is due.

    `events` are this process's: how many wait for the database, were dropped for want of room, or lost, by sink.
    """
    if "run" in call.request.query_params:
        return await run(call)
    settings = call.app.settings
    troubles = await call.app.flags.troubles()
    if call.app.database is not None:
        trouble = await call.app.database.look("stops_among")
        troubles = {**troubles, **({"supabase": trouble} if trouble is not None else {})}
    if "deep" in call.request.query_params:
        operations = await operations_of(call)
    else:
        operations = None
    well = settings.vendors and not settings.malformed and not troubles
    body = {
        "status": "ok" if well else "degraded",
        "version": __version__,
        "parts": [_part(part, troubles.get(part.name)) for part in settings.parts],
        "malformed": settings.malformed,
        "events": call.app.recorder.sinks.report(),
        "deployment": settings.deployment,
        "region": settings.region,
        **({} if operations is None else {"operations": operations}),
    }
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


async def operations_of(call: Call) -> object:
    """The cron's last report, open incidents, deliveries that wait. Raises Forbidden, NotConfigured, DataFailed."""
    await call.operator("Operators alone may look deeper.")
    if call.app.database is None:
        raise NotConfigured(f"There is more to tell where there are rows: set {', '.join(SUPABASE_VARIABLES)}.")
    return await call.app.database("operations_report", {})


async def run(call: Call) -> Response:
    """Do what is due, unless somebody else does; the report of each task. Raises Unauthorized, NotConfigured."""
    require_cron_secret(call)
    if call.app.supabase is None:
        raise NotConfigured(f"Scheduled work needs rows: set {', '.join(SUPABASE_VARIABLES)}.")
    report = await run_due(call.app.supabase.rpc, call.app.upkeep)
    return Response(orjson.dumps(report), media_type="application/json", headers={"cache-control": "no-store"})


def _part(part: Part, trouble: str | None) -> dict[str, object]:
    """A part; where it is on but in trouble, why."""
    told: dict[str, object] = {"name": part.name, "label": part.note, "on": part.on, "needs": part.needs}
    if part.or_one_of:
        told["or_one_of"] = part.or_one_of
    return told if trouble is None else {**told, "trouble": trouble}


app = Endpoint(current, GET=health)

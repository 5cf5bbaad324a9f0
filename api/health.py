"""GET /api/health: what is on, what is off, and which variable turns it on. Names of variables, never values.

GET /api/health?run=1, with the cron's secret, does what is due (lib/cron.py).
"""

from __future__ import annotations

import hmac

import orjson
from starlette.responses import Response

from lib import __version__
from lib.app import current
from lib.cron import run_due
from lib.errors import NotConfigured, Unauthorized
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
    well = settings.vendors and not settings.malformed and not troubles
    body = {
        "status": "ok" if well else "degraded",
        "version": __version__,
        "parts": [_part(part, troubles.get(part.name)) for part in settings.parts],
        "malformed": settings.malformed,
        "events": call.app.recorder.sinks.report(),
        "deployment": settings.deployment,
        "region": settings.region,
    }
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


async def run(call: Call) -> Response:
    """Do what is due, unless somebody else does; the report of each task. Raises Unauthorized, NotConfigured."""
    secret = call.app.settings.cron_secret
    if secret is None:
        raise NotConfigured("Scheduled work is off here: set CRON_SECRET.")
    given = call.request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {secret}".encode()):
        raise Unauthorized("The cron's secret does not hold.", headers={"www-authenticate": "Bearer"})
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

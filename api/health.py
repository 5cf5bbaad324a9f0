"""GET /api/health: what is on, what is off, and which variable turns it on. Names of variables, never values."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from lib import __version__
from lib.app import current
from lib.http.endpoint import Call, Endpoint
from lib.settings import Part


async def health(call: Call) -> Response:
    """Cheap and public: the settings, and what this process holds of the flags, read again where that is due."""
    settings = call.app.settings
    troubles = await call.app.flags.troubles()
    well = settings.vendors and not settings.malformed and not troubles
    body = {
        "status": "ok" if well else "degraded",
        "version": __version__,
        "parts": [_part(part, troubles.get(part.name)) for part in settings.parts],
        "malformed": settings.malformed,
        "deployment": settings.deployment,
        "region": settings.region,
    }
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


def _part(part: Part, trouble: str | None) -> dict[str, object]:
    """A part; where it is on but in trouble, why."""
    told: dict[str, object] = {"name": part.name, "label": part.note, "on": part.on, "needs": part.needs}
    return told if trouble is None else {**told, "trouble": trouble}


app = Endpoint(current, GET=health)

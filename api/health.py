"""GET /api/health: what is on, what is off, and which variable turns it on. Names of variables, never values."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from lib import __version__
from lib.app import current
from lib.http.endpoint import Call, Endpoint


async def health(call: Call) -> Response:
    """Cheap and public: reads nothing but the settings."""
    settings = call.app.settings
    answers = bool(settings.vendors)
    body = {
        "status": "ok" if answers and not settings.malformed else "degraded",
        "version": __version__,
        "parts": [
            {"name": part.name, "label": part.note, "on": part.on, "needs": part.needs} for part in settings.parts
        ],
        "malformed": settings.malformed,
        "deployment": settings.deployment,
        "region": settings.region,
    }
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


app = Endpoint(current, GET=health)

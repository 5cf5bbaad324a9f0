"""GET /api/voices: the voices that can read aloud, with their languages and labels. POST: read them anew."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from lib.app import current
from lib.errors import NotConfigured
from lib.http.endpoint import Call, Endpoint
from lib.media.voices import Voices
from lib.settings import SUPABASE_VARIABLES


async def voices(call: Call) -> Response:
    """`{voices: [{provider, id, name, language, languages, labels, preview_url}]}`; `?language=en`: of its speakers.

    Languages are ISO 639-1 codes. A voice that tells none is shown for every language.
    """
    await call.caller()
    language = call.request.query_params.get("language")
    rows = [
        {name: value for name, value in row.items() if name != "synced_at"}
        for row in await _table(call).all()
        if language is None or not row["languages"] or language in row["languages"]
    ]
    headers = {"cache-control": "private, max-age=60"}
    return Response(orjson.dumps({"voices": rows}), headers=headers, media_type="application/json")


async def refresh(call: Call) -> Response:
    """`{synced: {vendor: how many, or why not}}`, for operators. Raises Forbidden."""
    call.app.auth.require_same_origin(call.request)
    await call.operator("Only operators may ask the vendors anew.")
    report = await _table(call).sync()
    return Response(
        orjson.dumps({"synced": report}), headers={"cache-control": "no-store"}, media_type="application/json"
    )


def _table(call: Call) -> Voices:
    if call.app.voices is None:
        raise NotConfigured(f"Voices are kept in a project that is not set here: set {', '.join(SUPABASE_VARIABLES)}.")
    return call.app.voices


app = Endpoint(current, GET=voices, POST=refresh)

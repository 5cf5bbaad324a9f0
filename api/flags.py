"""GET /api/flags: what the flags say for this caller, as Statsig's browser client starts from it."""

from __future__ import annotations

import re

import orjson
from starlette.requests import Request
from starlette.responses import Response

from lib.app import current
from lib.errors import FieldError, InvalidRequest
from lib.http.endpoint import Call, Endpoint

STABLE_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


async def flags(call: Call) -> Response:
    """Values alone: names are hashed, and no rule, salt or segment behind them is shown.

    `new StatsigClient(key, values.user)`, `dataAdapter.setData(text)` and `initializeSync()` start the client from it
    without a call to Statsig. `parameters` is ours: the public ones of the runtime parameters.
    """
    caller = await call.app.auth.identify(call.request)
    values = await call.app.flags.client_values(caller.id, caller.traits, stable_id(call.request))
    parameters = await call.app.parameters_for(caller)
    body = orjson.dumps({**values, "parameters": parameters.public()})
    response = Response(body, media_type="application/json", headers={"cache-control": "private, no-store"})
    if caller.set_cookie is not None:
        response.headers.append("set-cookie", caller.set_cookie)
    return response


def stable_id(request: Request) -> str | None:
    """The browser's own id for its device, where the page passes it on: without it the caller's id takes its place."""
    asked = request.query_params.get("stableID")
    if asked is not None and STABLE_ID.fullmatch(asked) is None:
        error = FieldError("stableID", "at most 128 letters, digits, dots, - and _")
        raise InvalidRequest("The stable ID does not hold.", errors=(error,))
    return asked


app = Endpoint(current, GET=flags)

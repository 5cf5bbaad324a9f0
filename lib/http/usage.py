"""GET /api/usage: what the caller used, what it may still use, and when that begins anew."""

from __future__ import annotations

from typing import Any, cast

import orjson
from starlette.responses import Response

from lib.errors import NotConfigured
from lib.http.endpoint import Call
from lib.settings import SUPABASE_VARIABLES

MICRO = 1_000_000


async def usage(call: Call) -> Response:
    """`{requests, budget, today, days}`: money in US dollars, resets in seconds, null where there is no limit."""
    caller = await call.caller()
    told = await call.app.limits.usage(caller.kind, caller.id)
    if told is None:
        raise NotConfigured(f"Usage is not counted here: set {', '.join(SUPABASE_VARIABLES)}.")
    headers = {"cache-control": "private, no-store"}
    return Response(orjson.dumps(in_dollars(told)), media_type="application/json", headers=headers)


def in_dollars(value: Any) -> Any:
    """The same with every amount of `…_microusd` as `…_usd`."""
    if isinstance(value, list):
        return [in_dollars(each) for each in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    told: dict[str, Any] = {}
    for name, each in cast("dict[str, Any]", value).items():
        if name.endswith("_microusd"):
            told[name.removesuffix("microusd") + "usd"] = None if each is None else each / MICRO
        else:
            told[name] = in_dollars(each)
    return told

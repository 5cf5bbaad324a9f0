"""`Idempotency-Key` over a generation: with the same key the same answer, and one bill."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from lib.data.idempotency import Kept, claim
from lib.errors import DataFailed, InvalidRequest, NotConfigured
from lib.http.auth import Caller
from lib.http.endpoint import Call
from lib.http.generation import Form
from lib.http.headers import only
from lib.settings import SUPABASE_VARIABLES

ROUTE = "/api/generate"
GRACE_S = 5.0
OK = 200

log = logging.getLogger("idempotency")


async def once(
    call: Call, caller: Caller, content: object, form: Form, work: Callable[[], Awaitable[Response]]
) -> Response:
    """What `work` answers, or, where a request with this key and content was answered before, that very answer.

    Only whole answers are kept: a stream that was half read can't be read again, so a key is refused there. What ends
    in an error, or is left, is forgotten, and may be asked for anew. Raises InvalidRequest, Conflict,
    NotConfigured, DataFailed.
    """
    key = only(call.request, "idempotency-key")
    if key is None:
        return await work()
    if form != "json":
        raise InvalidRequest(
            "Idempotency-Key goes with whole answers alone: send stream: false.", code="idempotency_key_with_stream"
        )
    if call.app.database is None:
        raise NotConfigured(f"Idempotency-Key is off here: set {', '.join(SUPABASE_VARIABLES)}.")
    lease_s = call.ends_at - asyncio.get_running_loop().time() + GRACE_S
    claimed = await claim(call.app.database, owner_id=caller.id, route=ROUTE, key=key, content=content, lease_s=lease_s)
    if isinstance(claimed, Kept):
        headers = {"cache-control": "no-store", "idempotent-replayed": "true"}
        return Response(claimed.body, headers=headers, media_type="application/json")
    call.afterwards.append(claimed.give_back)
    response = await work()
    if response.status_code == OK:
        try:
            await claimed.keep(bytes(response.body))
        except DataFailed as error:
            # Nobody may work under this key while the lease lasts: better an error for them than a second bill.
            log.warning("an answer could not be kept under its Idempotency-Key: %s", error.reason)
    return response

"""DELETE /api/me: nothing is left of a user but numbers that no longer say whose they were."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
from starlette.responses import Response

from lib.data.supabase import Supabase
from lib.errors import NotConfigured, Unavailable
from lib.http.endpoint import Call
from lib.settings import SUPABASE_VARIABLES

AT_ONCE = 500
"""Files in one request; the Storage API takes a thousand."""
MAX_ROUNDS = 20


async def forget_me(call: Call) -> Response:
    """Remove rows, then files, then the user: whoever was cut off in the middle asks again, and the rest follows.

    200 with how much there was. What was spent stays in the totals, under an id that nothing else knows. The user's
    tokens are refused from now on.
    """
    auth = call.app.auth
    auth.require_same_origin(call.request)
    caller = await auth.identify(call.request)
    if call.app.supabase is None:
        raise NotConfigured(f"Nothing is kept here: there is no {', '.join(SUPABASE_VARIABLES)}.")
    # First, while the rows still say which requests were the caller's.
    await call.app.supabase.rpc("forget_feedback", {"p_user_id": caller.id})
    removed = await _forget(call.app.supabase, caller.id)
    await auth.users.accounts.remove(caller.id)
    auth.user_is_gone(caller)
    response = Response(orjson.dumps(removed), headers={"cache-control": "no-store"}, media_type="application/json")
    for cookie in auth.forgetting(call.request):
        response.headers.append("set-cookie", cookie)
    return response


async def _forget(supabase: Supabase, user_id: str) -> dict[str, int]:
    """Until no file is left: who uploads meanwhile must not outlast it."""
    removed = {"events": 0, "assets": 0, "files": 0}
    for _ in range(MAX_ROUNDS):
        told: Any = await supabase.rpc("forget_user", {"p_user_id": user_id}, timeout_s=10.0)
        removed["events"] += told["events"]
        removed["assets"] += told["assets"]
        files: list[dict[str, str]] = told["files"]
        if not files:
            return removed
        by_bucket: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            by_bucket[file["bucket_id"]].append(file["path"])
        for bucket, paths in by_bucket.items():
            for start in range(0, len(paths), AT_ONCE):
                await supabase.remove_files(bucket, paths[start : start + AT_ONCE])
        removed["files"] += len(files)
    raise Unavailable("There is more to remove. Ask again.", retry_after_s=1)

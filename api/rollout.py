"""/api/rollout: operators start, pause, resume, roll back and restart a rollout, and see where it is and why."""

from __future__ import annotations

from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from lib.app import current
from lib.control.flags import GATE
from lib.errors import NotConfigured
from lib.http.body import validated
from lib.http.endpoint import Call, Endpoint
from lib.rollouts import Rollouts
from lib.settings import SUPABASE_VARIABLES


class Which(BaseModel):
    """The rollout that is meant, by its gate."""

    model_config = ConfigDict(extra="forbid")
    gate: str = Field(default=GATE, min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_. -]+$")


class Order(Which):
    """What to do with it; `plan` does nothing and says how long a rollout would take."""

    action: Literal["plan", "start", "pause", "resume", "roll_back", "restart"]


async def show(call: Call) -> Response:
    """The rollout's status, its evidence and its plain-language reason; see Rollouts.shown."""
    rollouts = await _rollouts(call)
    asked = validated(Which, dict(call.request.query_params))
    return _json(await rollouts.status(asked.gate))


async def order(call: Call) -> Response:
    """Do it, and answer the status that came of it; 409 where the state does not allow it."""
    rollouts = await _rollouts(call)
    wanted = validated(Order, call.json())
    if wanted.action == "plan":
        return _json(await rollouts.plan(wanted.gate))
    return _json(await rollouts.order(wanted.gate, wanted.action))


async def _rollouts(call: Call) -> Rollouts:
    await call.operator("Rollouts are for operators.")
    if call.app.rollouts is None:
        raise NotConfigured(f"Rollouts need a database and flags: set {', '.join(SUPABASE_VARIABLES)} and EDGE_CONFIG.")
    return call.app.rollouts


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={"cache-control": "no-store"})


app = Endpoint(current, GET=show, POST=order)

"""POST /api/feedback: a thumb, and a few words, on an answer that the caller got."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.responses import Response

from lib.errors import FieldError, InvalidRequest, NotConfigured, NotFound
from lib.http.body import field_path
from lib.http.endpoint import Call
from lib.settings import SUPABASE_VARIABLES

THUMBS = {"up": 1, "down": -1}


class Feedback(BaseModel):
    """What is sent; the last word on a request counts."""

    model_config = ConfigDict(extra="forbid")

    request_id: UUID
    thumb: Literal["up", "down"]
    comment: Annotated[str, StringConstraints(strict=True, max_length=1000)] | None = Field(default=None)


async def feedback(call: Call) -> Response:
    """204; 404 for a request that this caller never made."""
    auth = call.app.auth
    if "authorization" not in call.request.headers:
        auth.require_same_origin(call.request)
    caller = await auth.identify(call.request)
    given = _feedback(call.json())
    if call.app.database is None:
        raise NotConfigured(f"Feedback is not kept here: set {', '.join(SUPABASE_VARIABLES)}.")
    arguments = {
        "p_request_id": str(given.request_id),
        "p_caller_id": caller.id,
        "p_thumb": THUMBS[given.thumb],
        "p_comment": given.comment or None,
    }
    if not await call.app.database("record_feedback", arguments):
        raise NotFound("There is no such request of yours.")
    return Response(status_code=204, headers={"cache-control": "no-store"})


def _feedback(value: object) -> Feedback:
    """Raises InvalidRequest, never with what was sent."""
    try:
        return Feedback.model_validate(value)
    except ValidationError as error:
        errors = tuple(
            FieldError(field_path(found["loc"]), "is missing" if found["type"] == "missing" else "does not fit")
            for found in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise InvalidRequest(
            'Send {"request_id", "thumb": "up" or "down", "comment"?: at most 1000 characters}.', errors=errors
        ) from error

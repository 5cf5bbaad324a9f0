"""POST /api/deploy_webhook: Vercel's deployment events, or GitHub's deployment statuses, become incidents.

`?test=1`, for operators, sends a sample the whole way without leaving anything: it says what would be opened.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import orjson
from starlette.responses import Response

from lib.app import current
from lib.errors import BadRequest, DataFailed, NotConfigured, PayloadTooLarge, Unauthorized, Unavailable
from lib.http.endpoint import Call, Endpoint
from lib.incidents.deploy_events import DeployEvent, Source, github_event, sample, signature, signed, vercel_event
from lib.incidents.github import FIXES
from lib.incidents.incidents import Delivery
from lib.settings import GITHUB_VARIABLES, SUPABASE_VARIABLES

log = logging.getLogger("incidents")

MAX_BODY_BYTES = 256 * 1024
DELIVERY_ID = re.compile(r"[\w.:-]{1,200}", re.ASCII)
TOO_OLD = timedelta(days=29)
"""Deliveries are remembered for 30 days: an older one could not be told from one that is played again."""
RETRY_S = 30
NO_ROWS = f"Deliveries are kept as rows: set {', '.join(SUPABASE_VARIABLES)}."


async def receive(call: Call) -> Response:
    """202 once a new delivery is a row, 200 for one that is known or ends nothing; what follows comes after the answer.

    Raises Unauthorized for a signature that does not hold, NotConfigured where a part is off, so that the sender tries
    again, Unavailable where the database can't be reached.
    """
    if "test" in call.request.query_params:
        return await test(call)
    if len(call.body) > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"A delivery is not larger than {MAX_BODY_BYTES // 1024} KiB.")
    source = verified(call)
    if call.app.deploys is None:
        raise NotConfigured(NO_ROWS, retry_after_s=RETRY_S)
    body = parsed(call.body)
    delivery, event = read(source, call, body)
    if event is None:
        return answer({"ignored": "not about how a deployment ended"})
    if event.time < datetime.now(UTC) - TOO_OLD:
        return answer({"ignored": "too old"})
    try:
        is_new = await call.app.deploys.accept(delivery, event)
    except DataFailed as error:
        log.warning("a delivery is not kept: %s", error.reason)
        raise Unavailable("The delivery could not be kept: send it again.", retry_after_s=RETRY_S) from error
    if not is_new:
        return answer({"duplicate": True})
    call.afterwards.append(partial(call.app.deploys.process, delivery, event))
    return answer({"accepted": True}, 202)


def verified(call: Call) -> Source:
    """Who sent this, by its signature. Raises Unauthorized, NotConfigured."""
    settings, headers = call.app.settings, call.request.headers
    if "x-vercel-signature" in headers:
        if not settings.vercel_webhook_secrets:
            raise NotConfigured("Set VERCEL_WEBHOOK_SECRET.", retry_after_s=RETRY_S)
        if signed(call.body, headers["x-vercel-signature"], settings.vercel_webhook_secrets, "sha1"):
            return "vercel"
    elif "x-hub-signature-256" in headers:
        if not settings.github_webhook_secrets:
            raise NotConfigured("Set GITHUB_WEBHOOK_SECRET.", retry_after_s=RETRY_S)
        algorithm, _, given = headers["x-hub-signature-256"].partition("=")
        if algorithm == "sha256" and signed(call.body, given, settings.github_webhook_secrets, "sha256"):
            return "github"
    elif not settings.vercel_webhook_secrets and not settings.github_webhook_secrets:
        raise NotConfigured("Set VERCEL_WEBHOOK_SECRET or GITHUB_WEBHOOK_SECRET.", retry_after_s=RETRY_S)
    raise Unauthorized("The signature does not hold.")


def parsed(content: bytes) -> dict[str, Any]:
    """The body's object; what its sender writes as a content type does not matter. Raises BadRequest."""
    try:
        body: object = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest("The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body is not a JSON object.", code="invalid_event")
    return cast("dict[str, Any]", body)


def read(source: Source, call: Call, body: dict[str, Any]) -> tuple[Delivery, DeployEvent | None]:
    """The delivery and what it says of a deployment. Raises BadRequest for one that lacks what it must have."""
    id_ = str(body.get("id", "")) if source == "vercel" else call.request.headers.get("x-github-delivery", "")
    if DELIVERY_ID.fullmatch(id_) is None:
        raise BadRequest("The delivery has no id.", code="invalid_event")
    try:
        if source == "vercel":
            return Delivery(source, id_), vercel_event(body)
        is_status = call.request.headers.get("x-github-event") == "deployment_status"
        return Delivery(source, id_), github_event(body) if is_status else None
    except (ValueError, OverflowError, OSError) as error:
        raise BadRequest("The event lacks its project or its time.", code="invalid_event") from error


async def test(call: Call) -> Response:
    """A signed sample through all of it, as a dry run: each step with what is wrong, and what would be opened."""
    await call.operator("Operators alone may try the webhook.")
    settings, now = call.app.settings, datetime.now(UTC)
    body = sample(now)
    steps: list[dict[str, Any]] = []

    async def step(name: str, do: Callable[[], Awaitable[str | None]]) -> None:
        wrong = await do()
        steps.append({"step": name, "ok": wrong is None, **({} if wrong is None else {"detail": wrong})})

    async def signature_holds() -> str | None:
        if not settings.vercel_webhook_secrets:
            return "set VERCEL_WEBHOOK_SECRET"
        secrets = settings.vercel_webhook_secrets
        return None if signed(body, signature(body, secrets[0], "sha1"), secrets, "sha1") else "it does not hold"

    event = vercel_event(parsed(body))
    would: dict[str, Any] | None = None

    async def kept() -> str | None:
        nonlocal would
        if call.app.incidents is None or event is None:
            return NO_ROWS
        try:
            would = await call.app.incidents.preview(event.failure(["Error: this is a sample, nothing has failed"]))
        except DataFailed as error:
            return f"the database gives no answer ({error.reason})"
        return None

    async def issues() -> str | None:
        if call.app.tracker is None:
            return f"set {' and '.join(GITHUB_VARIABLES)}: without them incidents are kept and shown, not sent"
        code = await call.app.tracker.check()
        return None if code is None else FIXES.get(code, f"GitHub gives no answer ({code})")

    await step("signature", signature_holds)
    await step("row", kept)
    await step("issue", issues)
    repository = None if settings.github is None else settings.github.repository
    well = all(each["ok"] for each in steps)
    return answer({"dry_run": True, "ok": well, "steps": steps, "repository": repository, "would": would})


def answer(body: object, status: int = 200) -> Response:
    """JSON that nobody keeps."""
    return Response(orjson.dumps(body), status, {"cache-control": "no-store"}, media_type="application/json")


app = Endpoint(current, POST=receive)

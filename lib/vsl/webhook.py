"""What is sent to whoever wants to know that a sales letter has ended, signed as Standard Webhooks has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac

import orjson

from lib.vsl.jobs import Job

MOST_ATTEMPTS = 5
"""A minute, two, four and eight lie between them."""
MICRO = 1_000_000


def message(job: Job, at: int, secret: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers; `at` is seconds since the epoch.

    `{type: "vsl.succeeded", "vsl.failed" or "vsl.canceled", timestamp, data: {id, status, title?, error?, cost_usd}}`;
    the rest is at GET /api/vsl/{id}. The id of the message stays the same from attempt to attempt.
    """
    data = {
        "id": job.id,
        "status": job.status,
        "title": (job.result or {}).get("title"),
        "error": job.error,
        "cost_usd": job.cost_microusd / MICRO,
    }
    told = {name: value for name, value in data.items() if value is not None}
    body = orjson.dumps({"type": f"vsl.{job.status}", "timestamp": job.finished_at, "data": told})
    id_ = f"msg_{job.id}_{job.status}"
    signed = hmac.digest(secret.encode(), f"{id_}.{at}.".encode() + body, "sha256")
    return body, {
        "content-type": "application/json",
        "webhook-id": id_,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }

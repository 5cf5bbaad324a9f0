"""What only the platform's scheduler may call."""

from __future__ import annotations

import hmac

from lib.errors import NotConfigured, Unauthorized
from lib.http.endpoint import Call


def require_cron_secret(call: Call) -> None:
    """Raises Unauthorized without the secret that Vercel sends with its crons, NotConfigured where none is set."""
    secret = call.app.settings.cron_secret
    if secret is None:
        raise NotConfigured("Scheduled work is off here: set CRON_SECRET.")
    given = call.request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {secret}".encode()):
        raise Unauthorized("The cron's secret does not hold.", headers={"www-authenticate": "Bearer"})

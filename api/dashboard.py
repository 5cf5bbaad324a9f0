"""GET /api/dashboard/{panel}?range=&provider=&model=&route=&arm=: what it cost, how fast it was, whom it failed."""

from __future__ import annotations

from lib.app import current
from lib.http.dashboard import dashboard
from lib.http.endpoint import Endpoint

app = Endpoint(current, GET=dashboard)

"""/api/generate as it is, but for the cap of a process without a database: a benchmark would reach it in seconds."""

from __future__ import annotations

from api.generate import app as generate
from lib.app import App, settle_process
from lib.data.limits import Cap
from lib.settings import load

settle_process()
app = generate.over(App(load(), cap=Cap(requests_per_minute=10**9, microusd_per_day=10**15)))

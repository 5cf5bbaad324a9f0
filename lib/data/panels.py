"""The panels of the dashboard: which function of the database answers each, and for which period.

A panel is rows of named values. Their names end in their unit: `_ms`, `_usd`, `_rate` (0 to 1); `at` is the beginning
of a step, in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

FILTERS = ("provider", "model", "route", "arm")
MAX_FILTER = 200
"""Characters of a filter's value."""
ANALYSED = MappingProxyType({"24h": timedelta(days=1), "7d": timedelta(days=7)})
"""The periods over which experiments are analysed, by their names in `experiment_results`."""


@dataclass(frozen=True, slots=True)
class Range:
    """A period up to now, and the steps of its charts. `analysis` is the analysis of experiments that goes with it."""

    span: timedelta
    step: timedelta
    analysis: str

    @property
    def is_rolled_up(self) -> bool:
        """Whether rows come from the rollups, and not from the events themselves."""
        return self.span > timedelta(hours=1)


RANGES = MappingProxyType(
    {
        "5m": Range(timedelta(minutes=5), timedelta(seconds=10), "24h"),
        "1h": Range(timedelta(hours=1), timedelta(minutes=1), "24h"),
        "24h": Range(timedelta(hours=24), timedelta(hours=1), "24h"),
        "7d": Range(timedelta(days=7), timedelta(hours=2), "7d"),
        "30d": Range(timedelta(days=30), timedelta(hours=6), "7d"),
    }
)
"""By name. Up to an hour, rows are counted from the events; beyond, they come from the rollups."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel; `columns` are its rows' names in the order of its table. Without a function, the API makes its rows.

    `is_private`: its tables hold what callers wrote, and so are no operator's by policy.
    """

    columns: tuple[str, ...]
    function: str | None = None
    is_private: bool = False


_CALL = (
    *("attempt", "at", "kind", "provider", "model", "outcome", "error_code", "finish_reason", "ttft_ms", "latency_ms"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated", "units", "unit", "cost_usd"),
    *("fallback_from", "route", "modality", "caller_kind", "experiment", "arm", "gate", "gate_arm", "rollout_id"),
    *("rollout_share", "config_version", "cold_start", "region", "deployment", "thumb"),
)
_MODEL = (
    *("provider", "model", "calls", "requests", "failed_calls", "latency_p50_ms", "latency_p95_ms", "measured"),
    *("speed_p25", "speed_p50", "speed_p75", "cost_usd", "cost_per_1k_requests_usd"),
    *("cost_per_1k_output_tokens_usd", "unpriced"),
)
_ARM = (
    *("experiment", "arm", "requests", "failed", "error_rate", "rescued", "calls", "failed_calls", "served"),
    *("latency_p50_ms", "latency_p95_ms", "ttft_p50_ms", "cost_usd", "cost_per_1k_requests_usd"),
    *("cost_per_1k_output_tokens_usd", "unpriced", "thumbs_up", "thumbs_down"),
)
_REQUEST = (
    *("at", "request_id", "route", "caller_kind", "arm", "path", "provider", "model", "outcome", "error_code", "calls"),
    *("ttft_ms", "latency_ms", "output_tokens", "cost_usd"),
)
PANELS = MappingProxyType(
    {
        "tiles": Panel(("metric", "value", "previous"), "panel_tiles"),
        "requests": Panel(
            ("at", "provider", "requests", "failed", "rescued", "calls", "failed_calls"), "panel_requests"
        ),
        "latency": Panel(("at", "requests", "p50_ms", "p95_ms", "p99_ms"), "panel_latency"),
        "ttft": Panel(("at", "requests", "p50_ms", "p95_ms"), "panel_ttft"),
        "models": Panel(_MODEL, "panel_models"),
        "cost": Panel(("at", "provider", "cost_usd", "calls", "unpriced"), "panel_cost"),
        "fallbacks": Panel(("from", "to", "kind", "cause", "calls", "rescued"), "panel_fallbacks"),
        "errors": Panel(("provider", "outcome", "code", "calls", "saved", "failed"), "panel_errors"),
        "arms": Panel(_ARM, "panel_arms"),
        "rollout": Panel(("at", "gate", "rollout_id", "decision", "percent", "reason")),
        "recent": Panel(_REQUEST, "panel_recent"),
        "jobs": Panel(("at", "job_id", "status", "step", "duration_ms", "cost_usd"), "panel_jobs", is_private=True),
        "savings": Panel(("provider", "input_tokens", "cached_tokens", "cached_share", "saving_usd"), "panel_savings"),
        "options": Panel(("filter", "value"), "panel_options"),
        "request": Panel(_CALL, "panel_request"),
    }
)
"""By the name in their path."""


def period(name: str, now: datetime) -> tuple[datetime, datetime]:
    """The period of a range: whole steps of UTC, the one under way included, whatever the clocks of people do."""
    chosen = RANGES[name]
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    end = epoch + -((epoch - now) // chosen.step) * chosen.step
    return end - chosen.span, end


def arguments(
    name: str, now: datetime, filters: Mapping[str, str | None], user_id: str | None
) -> dict[str, str | None]:
    """What the function of a panel is called with; `user_id` None for all callers' rows."""
    begin, end = period(name, now)
    return {
        "p_from": begin.isoformat(),
        "p_to": end.isoformat(),
        "p_step": f"{int(RANGES[name].step.total_seconds())} seconds",
        **{f"p_{filter_}": filters.get(filter_) for filter_ in FILTERS},
        "p_user_id": user_id,
    }

"""Calls and exposures to Statsig: `POST {api}/v1/log_event`, in the wire form of its own engine.

That engine sends nothing while its network is off, and what it queues is lost with a process that is frozen and never
thawed. So a request's events are sent by us, as one batch, before its invocation ends.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from datetime import datetime

import orjson

from lib.errors import ServiceFailed
from lib.exchange import Exchange
from lib.telemetry.events import Event, ExposureEvent, InferenceEvent

TIMEOUT_S = 1.5
MAX_KNOWN_EXPOSURES = 10_000
SDK_TYPE, SDK_VERSION = "ai-integration-blueprint", "1"
MEASURES = (
    *("request_id", "attempt", "kind", "route", "modality", "provider", "model", "outcome", "error_code"),
    *("ttft_ms", "latency_ms", "input_tokens", "output_tokens", "cached_tokens", "estimated", "fallback_from"),
    *("experiment_arm", "gate_arm", "config_version", "cold_start", "region", "deployment"),
)
"""Fields of an `ai_inference` event that become its metadata."""


class StatsigSink:
    """Sends every `ai_inference` event, its cost in US dollars as the value, and each exposure once."""

    def __init__(self, exchange: Exchange, *, api_url: str, secret: str, tier: str) -> None:
        self._exchange = exchange
        self._url = f"{api_url}/v1/log_event"
        self._tier = tier
        self._headers = {
            "statsig-api-key": secret,
            "statsig-sdk-type": SDK_TYPE,
            "statsig-sdk-version": SDK_VERSION,
            "content-type": "application/json",
        }
        self._known: OrderedDict[Hashable, None] = OrderedDict()

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink. Raises ServiceFailed; what it could not send counts as not exposed yet."""
        fresh = {
            _key(event): event
            for event in events
            if isinstance(event, ExposureEvent) and _key(event) not in self._known
        }
        batch = [
            *(self._exposure(event) for event in fresh.values()),
            *(self._inference(event) for event in events if isinstance(event, InferenceEvent)),
        ]
        if not batch:
            return
        body = {"events": batch, "statsigMetadata": {"sdkType": SDK_TYPE, "sdkVersion": SDK_VERSION}}
        headers = {
            **self._headers,
            "statsig-client-time": str(time.time_ns() // 1_000_000),
            "statsig-event-count": str(len(batch)),
        }
        reply = await self._exchange("POST", self._url, headers, orjson.dumps(body), timeout_s=TIMEOUT_S)
        if not 200 <= reply.status < 300:  # noqa: PLR2004 - HTTP's word for success; Statsig says 202
            raise ServiceFailed(f"http_{reply.status}")
        self._known.update(dict.fromkeys(fresh))
        while len(self._known) > MAX_KNOWN_EXPOSURES:
            self._known.popitem(last=False)

    def _inference(self, event: InferenceEvent) -> dict[str, object]:
        cost = event.cost_micro_usd
        measured = {name: getattr(event, name) for name in MEASURES}
        return {
            "eventName": event.event,
            "value": None if cost is None else cost / 1_000_000,
            "metadata": {name: value for name, value in measured.items() if value is not None},
            **self._common(event),
        }

    def _exposure(self, event: ExposureEvent) -> dict[str, object]:
        exposure = event.exposure
        passed = str(exposure.passed).lower()
        if exposure.kind == "gate":
            metadata = {"gate": exposure.name, "gateValue": passed}
        else:
            metadata = {"config": exposure.name, "rulePassed": passed}
        version = {} if exposure.version is None else {"configVersion": str(exposure.version)}
        return {
            "eventName": f"statsig::{exposure.kind}_exposure",
            "value": None,
            "metadata": {**metadata, "ruleID": exposure.rule, **version},
            "secondaryExposures": [],
            **self._common(event),
        }

    def _common(self, event: Event) -> dict[str, object]:
        user = {
            "userID": event.caller_id,
            "customIDs": {"stableID": event.caller_id},
            "custom": {"kind": event.caller_kind},
            "statsigEnvironment": {"tier": self._tier},
        }
        at = datetime.fromisoformat(event.created_at)
        return {"user": user, "time": round(at.timestamp() * 1000)}


def _key(event: ExposureEvent) -> Hashable:
    return event.caller_id, event.exposure

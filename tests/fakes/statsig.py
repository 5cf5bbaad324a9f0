"""Statsig at the network's edge: hands out specs, takes events, and checks both requests' wire form."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.loop import LoopThread
from tests.fakes.web import Asked, Told, Web, told

SECRET = "secret-statsig-0123456789"
PARTS = (
    *("feature_gates", "dynamic_configs", "layer_configs", "condition_map"),
    *("experiment_to_layer", "override_rules", "overrides"),
)
"""What specs have, even where they hold no flag."""
SDK_FIELDS = {"sdkType", "sdkVersion"}
USER_FIELDS = {"userID", "customIDs", "custom", "statsigEnvironment"}
EVENT_FIELDS = {"eventName", "value", "metadata", "user", "time"}
"""As both of Statsig's Python packages send them; exposures have `secondaryExposures` too."""


class Statsig:
    """The API and the CDN on one port. `violations` collects what its genuine counterpart would not understand."""

    def __init__(self, loop: LoopThread, specs: dict[str, Any] | None = None) -> None:
        self.specs = specs or {**{part: {} for part in PARTS}, "time": 1}
        self.violations: list[str] = []
        self.web = Web(loop, self._answer)

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which this is Statsig."""
        return {
            "STATSIG_SERVER_SECRET": SECRET,
            "STATSIG_API_URL": self.web.url,
            "STATSIG_CDN_URL": self.web.url,
        }

    @property
    def batches(self) -> list[Asked]:
        """The requests that brought events."""
        return [asked for asked in self.web.asked if asked.method == "POST"]

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """All events so far, or those of one name."""
        events = [event for batch in self.batches for event in batch.json()["events"]]
        return [event for event in events if name in {None, event["eventName"]}]

    def close(self) -> None:
        """Stop listening."""
        self.web.close()

    def _answer(self, asked: Asked) -> Told:
        if asked.headers.get("statsig-api-key") != SECRET:
            return told({"success": False}, 401)
        if (asked.method, asked.path) == ("GET", f"/v2/download_config_specs/{SECRET}.json"):
            etag = f'"{self.specs["time"]}"'
            if asked.headers.get("if-none-match") == etag:
                return Told(304)
            return told({**self.specs, "has_updates": True}, etag=etag)
        if (asked.method, asked.path) == ("POST", "/v1/log_event"):
            self.violations += _unfit(asked)
            return told({"success": True}, 202)
        return told({}, 404)


def _unfit(asked: Asked) -> list[str]:
    body = json.loads(asked.body)
    events = body["events"]
    wrong = [
        *_unless(body.keys() == {"events", "statsigMetadata"}, f"body {sorted(body)}"),
        *_unless(body["statsigMetadata"].keys() == SDK_FIELDS, "statsigMetadata"),
        *_unless(asked.headers.get("statsig-event-count") == str(len(events)), "STATSIG-EVENT-COUNT"),
        *_unless(asked.headers.get("statsig-client-time", "").isdecimal(), "STATSIG-CLIENT-TIME"),
        *_unless({"statsig-sdk-type", "statsig-sdk-version"} <= asked.headers.keys(), "STATSIG-SDK-TYPE or -VERSION"),
        *_unless(asked.headers.get("content-type") == "application/json", "content-type"),
    ]
    for event in events:
        name, is_exposure = event["eventName"], event["eventName"].endswith("_exposure")
        fields = EVENT_FIELDS | ({"secondaryExposures"} if is_exposure else set[str]())
        wrong += _unless(event.keys() == fields, f"{name}: {sorted(event)}")
        wrong += _unless(isinstance(event["time"], int) and event["time"] > 1_700_000_000_000, f"{name}: time in ms")
        wrong += _unless(event["user"].keys() == USER_FIELDS, f"{name}: user {sorted(event['user'])}")
        wrong += _unless(event["value"] is None or isinstance(event["value"], int | float), f"{name}: value")
        flat = all(isinstance(value, str | int | float | bool) for value in event["metadata"].values())
        wrong += _unless(flat, f"{name}: metadata {event['metadata']}")
    return wrong


def _unless(holds: bool, what: str) -> list[str]:  # noqa: FBT001 - what is checked, then what to call it
    return [] if holds else [what]

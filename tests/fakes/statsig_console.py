"""Statsig's Console API over the gates of one project, as its OpenAPI description (20240601) has them.

A rule's id holds its percentage, so it changes with each write; a write under an id of before finds no rule. What is
not described (which status a change has that needs a review, and a 429's headers) is for the test to choose.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tests.fakes.loop import LoopThread
from tests.fakes.web import Asked, Told, Web, told

KEY = "console-0123456789abcdef"
BASE = "/console/v1"
RULE_FIELDS = {"name", "id", "baseID", "passPercentage", "conditions", "environments", "returnValue"}


def rule(name: str, percentage: float, base_id: str, **more: object) -> dict[str, Any]:
    """A rule as the API shows it."""
    return {
        "name": name,
        "id": rule_id(base_id, percentage),
        "baseID": base_id,
        "passPercentage": percentage,
        "conditions": [{"type": "public"}],
        "environments": None,
        **more,
    }


def rule_id(base_id: str, percentage: float) -> str:
    """The id of a rule at this percentage."""
    return f"{base_id}:{percentage:.2f}:1"


class Console:
    """One project. `violations` collects what its genuine counterpart would refuse or not understand."""

    def __init__(self, loop: LoopThread, gates: dict[str, dict[str, Any]]) -> None:
        self.gates = gates
        self.review: bool = False
        """Whether the project asks for reviews of changes."""
        self.answer_to_unreviewed: Told | None = None
        """What such a change is answered; None: as if it had been made."""
        self.refusal: Told | None = None
        """What every write is answered instead of being made."""
        self.loses_writes = False
        self.shows_late = False
        """Whether what is read right after a write is still what was before."""
        self.before_write: Callable[[], None] = lambda: None
        self.after_write: Callable[[], None] = lambda: None
        self.violations: list[str] = []
        self._late: dict[str, dict[str, Any]] = {}
        self.web = Web(loop, self._answer)

    def rule(self, gate: str, name: str) -> dict[str, Any]:
        """A rule of a gate as it stands."""
        return next(rule for rule in self.gates[gate]["rules"] if rule["name"] == name)

    def set_by_hand(self, gate: str, name: str, percentage: float) -> None:
        """What a person does in the console."""
        rule = self.rule(gate, name)
        rule |= {"passPercentage": percentage, "id": rule_id(rule["baseID"], percentage)}

    def close(self) -> None:
        """Stop listening."""
        self.web.close()

    def _answer(self, asked: Asked) -> Told:
        if asked.headers.get("statsig-api-key") != KEY:
            return _refused(401, "This endpoint only accepts an active CONSOLE key, but an invalid key was sent.")
        if asked.headers.get("statsig-api-version") != "20240601":
            self.violations.append("STATSIG-API-VERSION")
        kind, *path = [unquote(part) for part in asked.path.removeprefix(f"{BASE}/").split("/")]
        if (asked.method, kind, path) == ("GET", "settings", ["reviews"]):
            return told({"message": "ok", "data": {"is_config_review_required": self.review}})
        if kind != "gates" or path[0] not in self.gates:
            return _refused(404, "Not Found. The requested resource could not be found.")
        if asked.method == "GET":
            return told({"message": "ok", "data": self._late.pop(path[0], self.gates[path[0]])})
        assert (asked.method, path[1:2], len(path)) == ("PATCH", ["rules"], 3), asked
        return self._update(asked, path[0], path[2])

    def _update(self, asked: Asked, name: str, rule_id_asked: str) -> Told:
        self.before_write()
        if self.refusal is not None:
            return self.refusal
        gate, body = self.gates[name], asked.json()
        found = [rule for rule in gate["rules"] if rule["id"] == rule_id_asked]
        if not found:
            return _refused(404, "Not Found. The requested resource could not be found.")
        unfit = [f"{field} is not to be sent" for field in body.keys() - RULE_FIELDS]
        unfit += [f"{field} is missing" for field in ("name", "passPercentage", "conditions") if field not in body]
        percentage = body.get("passPercentage", -1)
        if not 0 <= percentage <= 100 or percentage != round(percentage, 2):
            unfit.append("passPercentage")
        if unfit:
            self.violations += unfit
            return _refused(400, "Invalid request. Please check the request input and try again.")
        needs_review = self.review or gate["reviewSettings"]["requiredReview"]
        if needs_review and asked.headers.get("x-respect-review-settings") == "true":
            return self.answer_to_unreviewed or told({"message": "Gate updated successfully.", "data": gate})
        if self.shows_late:
            self._late[name] = copy.deepcopy(gate)
        if not self.loses_writes:
            found[0] |= {**body, "id": rule_id(found[0]["baseID"], percentage)}
        self.after_write()
        return told({"message": "Gate updated successfully.", "data": gate})


def _refused(status: int, message: str) -> Told:
    return told({"status": status, "message": message}, status)

"""Vercel's REST API over the items of Edge Configs, as its reference describes it; it checks what it is sent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.fakes.loop import LoopThread
from tests.fakes.web import Asked, Told, Web, told

TOKEN, TEAM = "vercel-token", "team_abc"


class VercelApi:
    """The stores of one team, by their ids."""

    def __init__(self, loop: LoopThread, *stores: str) -> None:
        self.stores: dict[str, dict[str, Any]] = {store: {} for store in stores}
        self.refusal: Told | None = None
        """What every write is answered instead of being made."""
        self.loses_writes = False
        self.shows_late = False
        """Whether what is read right after a write is still what was before."""
        self.after_write: Callable[[], None] = lambda: None
        self._late: dict[str, Any] = {}
        self.web = Web(loop, self._answer)

    def close(self) -> None:
        """Stop listening."""
        self.web.close()

    def _answer(self, asked: Asked) -> Told:
        assert asked.query == {"teamId": [TEAM]}
        if asked.headers["authorization"] != f"Bearer {TOKEN}":
            return told({"error": {"code": "forbidden", "invalidToken": True}}, 401)
        version, kind, store, what, *key = asked.path.strip("/").split("/")
        assert (version, kind) == ("v1", "edge-config")
        if store not in self.stores:
            return told({"error": {"code": "not_found"}}, 404)
        items = self.stores[store]
        if (asked.method, what, key) == ("PATCH", "items", []):
            return self._update(asked, items)
        assert asked.method == "GET"
        if what == "items":
            return told([_entry(store, name, value) for name, value in items.items()])
        assert (what, len(key)) == ("item", 1)
        if key[0] not in items:
            return told({"error": {"code": "not_found"}}, 404)
        return told(_entry(store, key[0], self._late.pop(key[0], items[key[0]])))

    def _update(self, asked: Asked, items: dict[str, Any]) -> Told:
        if self.refusal is not None:
            return self.refusal
        for change in asked.json()["items"]:
            assert change.keys() == {"operation", "key", "value"}
            assert change["operation"] == "upsert"
            if self.shows_late:
                self._late[change["key"]] = copy.deepcopy(items.get(change["key"]))
            if not self.loses_writes:
                items[change["key"]] = change["value"]
        self.after_write()
        return told({"status": "ok"})


def _entry(store: str, key: str, value: object) -> dict[str, object]:
    return {"key": key, "value": value, "edgeConfigId": store, "createdAt": 1, "updatedAt": 2}

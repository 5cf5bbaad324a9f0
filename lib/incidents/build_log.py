"""The failing lines of a deployment's build log, by Vercel's REST API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode

import orjson

from lib.errors import ServiceFailed
from lib.exchange import Exchange

TIMEOUT_S = 4.0
LAST_EVENTS = 100
MAX_LINES = 30
BEFORE = 2
"""Lines that are shown before one that fails: what was being done."""
_TELLING = re.compile(
    r"\berror\b|\bfailed\b|\bfailure\b|exception|traceback|cannot find|not found|exited with", re.IGNORECASE
)
OK = 200


@dataclass(frozen=True, slots=True)
class BuildLog:
    """What is known of why a deployment failed."""

    code: str = ""
    lines: Sequence[str] = ()


class BuildLogs:
    """Reads logs with a token of Vercel's."""

    def __init__(self, exchange: Exchange, *, api_url: str, token: str, team_id: str | None) -> None:
        self._exchange = exchange
        self._api_url = api_url
        self._headers = {"authorization": f"Bearer {token}"}
        self._team = {} if team_id is None else {"teamId": team_id}

    async def of(self, deployment: str) -> BuildLog:
        """The log of a deployment (`dpl_…`). What can't be read is empty; never raises."""
        if not re.fullmatch(r"dpl_\w{1,80}", deployment, re.ASCII):
            return BuildLog()
        id_ = quote(deployment)
        found = await self._read(f"/v13/deployments/{id_}", {})
        told = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        code, message = (
            told.get(name) if isinstance(told.get(name), str) else "" for name in ("errorCode", "errorMessage")
        )
        events = await self._read(
            f"/v3/deployments/{id_}/events", {"limit": str(LAST_EVENTS), "direction": "backward", "builds": "1"}
        )
        lines = failing(reversed(_texts(events)))
        if not lines and message:
            lines = [message]
        return BuildLog(code or "", lines)

    async def _read(self, path: str, query: dict[str, str]) -> object:
        asked = urlencode({**query, **self._team})
        url = f"{self._api_url}{path}{f'?{asked}' if asked else ''}"
        try:
            reply = await self._exchange("GET", url, self._headers, timeout_s=TIMEOUT_S)
            return orjson.loads(reply.body) if reply.status == OK else None
        except (ServiceFailed, orjson.JSONDecodeError):
            return None


def failing(lines: Iterable[str]) -> list[str]:
    """Of a log, oldest line first: from a little before the first line that tells of a failure on.

    The first line is one that tells: the cause. Without any, the last lines there are.
    """
    kept = [line for text in lines for line in text.splitlines() if line.strip()]
    first = next((number for number, line in enumerate(kept) if _TELLING.search(line)), None)
    if first is None:
        return kept[-MAX_LINES:]
    return kept[first : first + MAX_LINES]


def _texts(events: object) -> list[str]:
    """The texts of a log's events, as they come."""
    texts: list[str] = []
    for event in cast("list[Any]", events) if isinstance(events, list) else []:
        if isinstance(event, dict):
            told = cast("dict[str, Any]", event)
            payload = told.get("payload")
            text = told.get("text") or (
                cast("dict[str, Any]", payload).get("text") if isinstance(payload, dict) else None
            )
            if isinstance(text, str):
                texts.append(text)
    return texts

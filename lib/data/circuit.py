"""Calls of the database's functions that do not wait again and again for a database that is down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lib.errors import DataFailed

TIMEOUT_S = 2.0
FIRST_REST_S = 1.0
LONGEST_REST_S = 15.0
RESTING = "resting"
NOT_WELL = ("timeout", "connection_failed", "http_5", "PGRST00", "08", "53", "55", "57", "58", "XX")
"""How the reasons begin that speak of the database itself and not of what it was asked: SQLSTATE classes among them."""


class Rpc(Protocol):
    """Calls a function of the database. Raises DataFailed."""

    async def __call__(self, function: str, arguments: Mapping[str, object], /, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Send it once."""
        ...


class Circuit:
    """An Rpc that fails at once while the database is known to be down.

    After a failure it rests, for a second at first and then twice as long each time; after that one call at a time
    finds out how things are, and the others go on failing until it has come back.
    """

    def __init__(self, rpc: Rpc, clock: Callable[[], float] = time.monotonic) -> None:
        self._rpc = rpc
        self._clock = clock
        self._rest_s = 0.0
        self._rests_until = 0.0
        self._probing = False
        self._asked_at = float("-inf")
        self.trouble: str | None = None
        """Why the last call that says something of the database failed; None where it did not."""

    async def __call__(self, function: str, arguments: Mapping[str, object], *, timeout_s: float = TIMEOUT_S) -> Any:
        """See Rpc; DataFailed("resting") without a call while it rests."""
        is_probe = self.trouble is not None
        if is_probe and (self._probing or self._clock() < self._rests_until):
            raise DataFailed(RESTING)
        self._probing = self._probing or is_probe
        try:
            answer = await self._rpc(function, arguments, timeout_s=timeout_s)
        except DataFailed as error:
            self._judge(error.reason)
            raise
        else:
            self._close()
            return answer
        finally:
            if is_probe:
                self._probing = False

    async def look(self, function: str, *, fresh_s: float = 10.0) -> str | None:
        """The trouble, after a call of this function without arguments where nobody has asked for a while."""
        if self._clock() - self._asked_at >= fresh_s:
            try:
                await self(function, {})
            except DataFailed as error:
                return self.trouble or error.reason
        return self.trouble

    def _judge(self, reason: str) -> None:
        if not reason.startswith(NOT_WELL):
            self._close()  # it has answered: what it was asked was wrong
            return
        self.trouble = reason
        self._asked_at = self._clock()
        self._rest_s = min(self._rest_s * 2 or FIRST_REST_S, LONGEST_REST_S)
        self._rests_until = self._clock() + self._rest_s

    def _close(self) -> None:
        self._asked_at = self._clock()
        self.trouble = None
        self._rest_s = 0.0

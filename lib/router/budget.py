"""How many extra calls a process may make: a share of its requests, so that extra calls never become the load."""

from __future__ import annotations


class Budget:
    """Earns `share` of a call with every request, up to `most`, beginning with `first` (None: with `most`). Pure."""

    def __init__(self, share: float, most: float, first: float | None = None) -> None:
        self._share = share
        self._most = most
        self._calls = most if first is None else first

    def request(self) -> None:
        """A request has come in."""
        self._calls = min(self._calls + self._share, self._most)

    def spend(self) -> bool:
        """Take one call out of it; False where there is none."""
        if self._calls < 1:
            return False
        self._calls -= 1
        return True

"""A Node process that does what tests say with the clients of tests/js, and the pages that it shows."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "tests" / "js"
ANSWER_S = 90
"""More than the pages' own patience (tests/js/page.mjs), so that what they saw gets here."""
Seen = dict[str, Any]


class Node:
    """A Node process at work on the commands of tests/js/main.mjs."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, "main.mjs"], cwd=PACKAGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def ask(self, command: str, *details: object) -> Any:
        """Carry out a command. A failure, or silence, fails the test."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *details]).encode() + b"\n")
        answer = json.loads(self._line())
        if "error" in answer:
            pytest.fail(f"{command}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + ANSWER_S
        line = bytearray()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            part = self._process.stdout.read(1 << 20) if ready else b""
            if not part:
                self.close()
                pytest.fail("Node died; see stderr" if ready else "Node keeps silent")
            line += part
        return bytes(line)


@dataclass(frozen=True)
class Page:
    """A page that shows one hook."""

    node: Node

    def act(self, action: str, *details: object) -> None:
        """Begin an action."""
        self.node.ask("act", action, *details)

    def until(self, **fields: object) -> Seen:
        """What the page shows once these fields have these values."""
        return self.node.ask("until", fields)

    def at_rest(self) -> Seen:
        """What the page shows once nothing is under way."""
        return self.until(idle=True)


OpenPage = Callable[..., Page]

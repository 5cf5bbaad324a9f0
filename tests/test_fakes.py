"""The fakes themselves: what they leave behind fails some later test, which has done nothing wrong."""

from __future__ import annotations

import gc
import socket
import sys
from typing import Any

import pytest

from tests.fakes.loop import LoopThread
from tests.fakes.web import Told, Web


def test_whoever_just_called_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake that is closed while calls are being accepted leaves no connection open."""
    left: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", left.append)
    loop = LoopThread()
    for _ in range(10):
        web = Web(loop, lambda _asked: Told())
        callers = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(10)]
        web.close()
        for caller in callers:
            caller.close()
    loop.close()
    gc.collect()
    assert left == []

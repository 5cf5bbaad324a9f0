"""Instances of the product as processes of their own, forked from one that has imported everything."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn

from lib import settings as environment
from lib.app import App
from local.server import Site

ROOT = Path(__file__).parent.parent
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("tests.instances", "httpx", "api.generate", "api.account", "api.health", "api.flags", "api.deploy_webhook"),
        *("api.vsl", "lib.letters"),
    ]
)


@dataclass
class Instance:
    """One process that serves the site; what it logs goes to a file."""

    url: str
    process: BaseProcess
    log: Path

    def kill(self) -> None:
        """As the platform does it when it has had enough: SIGKILL."""
        self.process.kill()
        self.process.join(10)


@contextmanager
def instance(environ: dict[str, str], log: Path) -> Generator[Instance]:
    """Start one; it is killed afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio leaves it out here
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = _FORKS.Process(target=_serve, args=(listener, environ, str(log)), daemon=True)
        process.start()
    running = Instance(url, process, log)
    try:
        yield running
    finally:
        running.kill()


def _serve(listener: socket.socket, environ: dict[str, str], log: str) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[logging.FileHandler(log)])
    app = App(environment.from_environ(environ))
    config = uvicorn.Config(Site(ROOT, app), log_config=None, server_header=False, timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))

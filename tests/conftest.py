"""What all tests share: fake vendors, and the product served over them."""

from __future__ import annotations

import json
import logging
import os
import queue
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lib import settings as environment
from lib.app import App
from lib.providers.catalog import ROWS, Row
from local.postgres import Postgres
from local.server import Site
from tests.database import DATABASE_URL, Database, copied, served
from tests.fakes.asgi import serving
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor

ROOT = Path(__file__).parent.parent
OPERATOR_KEY = "operator-secret-0123456789"
USER_KEY = "user-secret-0123456789"
ACCESS = {
    "ALLOW_ANONYMOUS": "1",
    "SESSION_SECRET": "session-secret-0123456789",
    "API_KEYS": f"ops:operator:{OPERATOR_KEY},web:user:{USER_KEY}",
}
KEY_HEADER = {"authorization": f"Bearer {USER_KEY}"}

MakeVendor = Callable[[], Vendor]
Serve = Callable[..., str]


@pytest.fixture(scope="session")
def loop() -> Iterator[LoopThread]:
    """The event loop on which fakes and served apps run."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def make_vendor(loop: LoopThread) -> Iterator[MakeVendor]:
    """Starts fake vendors; afterwards every request they got must have fitted OpenAI's description."""
    vendors: list[Vendor] = []

    def make() -> Vendor:
        vendors.append(Vendor(loop))
        return vendors[-1]

    yield make
    for vendor in vendors:
        vendor.close()
    assert [violation for vendor in vendors for violation in vendor.violations] == []


@pytest.fixture
def vendor(make_vendor: MakeVendor) -> Vendor:
    """One fake vendor."""
    return make_vendor()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real Postgres with the product's migrations, for the whole run; tests use a `database` of their own in it."""
    if os.environ.get(DATABASE_URL):
        pytest.skip(f"needs a database of its own: {DATABASE_URL} is not copied")
    with served() as running:
        yield running


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A fresh database for this test alone."""
    with copied(postgres, f"test_{uuid4().hex}") as fresh:
        yield fresh


def local_over(vendor: Vendor) -> dict[str, str]:
    """The environment in which the provider `local` is this fake vendor, and everyone may call."""
    return {**ACCESS, "LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1"}


def hosted_over(**vendors: Vendor) -> dict[str, str]:
    """The environment in which hosted vendors (by their names in the catalogue) are these fakes."""
    rows = {row.name: row for row in ROWS}
    environ = dict(ACCESS)
    for name, vendor in vendors.items():
        environ[f"{name.upper()}_API_KEY"] = f"key-of-{name}-0123456789"
        environ[rows[name].base_url_var] = vendor.url + ("" if name == "groq" else "/v1")
    return environ


@pytest.fixture
def serve(loop: LoopThread) -> Iterator[Serve]:
    """Serves the whole site over an environment; returns its URL."""
    with ExitStack() as running:

        def start(environ: dict[str, str], rows: tuple[Row, ...] = ROWS) -> str:
            app = App(environment.from_environ(environ, rows), rows)
            return running.enter_context(served_site(Site(ROOT, app), loop))

        yield start


class InferenceLog(logging.Handler):
    """Catches the `ai_inference` lines as they are logged."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        """Logging's hook."""
        self._lines.put(record.getMessage())

    def next(self) -> dict[str, Any]:
        """The next line; waits for it, since it is written after the caller may have gone."""
        return json.loads(self._lines.get(timeout=10))

    @property
    def empty(self) -> bool:
        """Whether nothing is left of what was logged so far."""
        return self._lines.empty()


@pytest.fixture
def inference_log() -> Iterator[InferenceLog]:
    """The `ai_inference` lines of this test."""
    handler, logger = InferenceLog(), logging.getLogger("ai_inference")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)


@contextmanager
def served_site(site: Site, loop: LoopThread) -> Generator[str]:
    """Serve a Site on the shared loop; gives its URL."""
    with serving(lambda _url: site, loop) as url:
        yield url


def require(name: str, why: str) -> None:
    """Skip for want of a tool, or fail where the environment says that it has to be there."""
    if os.environ.get(name) == "1":
        pytest.fail(why)
    pytest.skip(why)

"""Node, its pages, and an Edge Config for its clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lib.app import App
from lib.settings import from_environ
from local.edge_config import FOLDER, Files, endpoints
from local.server import Site
from tests.conftest import ACCESS, ROOT, served_site
from tests.fakes.loop import LoopThread
from tests.js_clients.node import PACKAGE, Node, OpenPage, Page
from tests.npm import node_with_packages


@pytest.fixture(scope="session")
def node_path() -> str:
    """Node, able to run the packages of tests/js."""
    return node_with_packages(PACKAGE)


@pytest.fixture(scope="session")
def nodes() -> Iterator[list[Node]]:
    """The processes that tests have started."""
    nodes: list[Node] = []
    yield nodes
    for node in nodes:
        node.close()


@pytest.fixture
def node(node_path: str, nodes: list[Node]) -> Node:
    """Started once for all these tests, since that takes a second, and anew where a test has killed it."""
    if not nodes or not nodes[-1].is_alive:
        nodes.append(Node(node_path))
    return nodes[-1]


@pytest.fixture
def open_page(node: Node) -> Iterator[OpenPage]:
    """Opens pages by the name of their hook; React and the SDK must find nothing to complain of."""

    def start(hook: str, **options: object) -> Page:
        node.ask("open", hook, options)
        return Page(node)

    yield start
    if node.is_alive:
        assert node.ask("close") == []


@pytest.fixture
def local_store(loop: LoopThread) -> Iterator[str]:
    """The URL of a site with the shipped items beside it."""
    app = App(from_environ(ACCESS))
    with served_site(Site(ROOT, app, endpoints(Files(FOLDER))), loop) as url:
        yield url

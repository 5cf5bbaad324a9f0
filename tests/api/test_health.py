"""GET /api/health: what is on, what is off, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import ACCESS, Serve, hosted_over
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor
from tests.fakes.web import Web, told


@pytest.fixture
def store(loop: LoopThread) -> Iterator[Web]:
    """An Edge Config without items."""
    store = Web(loop, lambda _: told({}, x_edge_config_digest="d"))
    yield store
    store.close()


def test_well(serve: Serve, vendor: Vendor, store: Web) -> None:
    """With a vendor on and an Edge Config that can be read all is well; no part is in trouble."""
    health = httpx.get(f"{serve({**hosted_over(groq=vendor), 'EDGE_CONFIG': f'{store.url}/e?token=t'})}/api/health")
    body = health.json()
    assert (body["status"], body["malformed"]) == ("ok", {})
    assert {part["name"]: part["on"] for part in body["parts"]} == {
        **dict.fromkeys(("groq", "api keys", "guests", "edge config"), True),
        **dict.fromkeys(
            ("xai", "deepinfra", "local", "embeddings", "speech", "images", "statsig", "supabase", "cron"), False
        ),
        **dict.fromkeys(("statsig console", "deploy webhook", "github"), False),
    }
    assert [part for part in body["parts"] if "trouble" in part] == []
    (embeddings,) = (part for part in body["parts"] if part["name"] == "embeddings")
    assert (embeddings["needs"], embeddings["or_one_of"]) == (["DEEPINFRA_API_KEY"], ["LOCAL_EMBEDDINGS_BASE_URL"])
    assert [part["name"] for part in body["parts"] if "or_one_of" in part] == ["embeddings", "speech", "images"]
    assert health.headers["cache-control"] == "no-store"


def test_read_no_more_often_than_requests_would(serve: Serve, store: Web) -> None:
    """Asking for health costs no more reads than the freshness allows, however often it is asked."""
    url = serve({**ACCESS, "EDGE_CONFIG": f"{store.url}/e?token=t"})
    for _ in range(10):
        httpx.get(f"{url}/api/health")
    assert len(store.asked) == 1


def test_trouble(serve: Serve, vendor: Vendor, store: Web) -> None:
    """A part that is on but can't be used is named, with a word for why."""
    store.script(*[told({}, 503)] * 3)
    body = httpx.get(
        f"{serve({**hosted_over(groq=vendor), 'EDGE_CONFIG': f'{store.url}/e?token=t'})}/api/health"
    ).json()
    assert body["status"] == "degraded"
    assert [part["trouble"] for part in body["parts"] if part["name"] == "edge config"] == ["http_503"]


def test_nobody_on(serve: Serve) -> None:
    """Without a vendor nobody could be answered."""
    assert httpx.get(f"{serve(ACCESS)}/api/health").json()["status"] == "degraded"

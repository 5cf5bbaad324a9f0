"""Runtime parameters in requests: what an Edge Config says counts from one request to the next."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from lib.app import App
from lib.control.edge_config import EdgeConfig
from lib.control.parameters import Parameters
from lib.router.attempt import Policy
from lib.settings import from_environ
from local.server import Site
from tests.conftest import KEY_HEADER, ROOT, MakeVendor, Serve, hosted_over, served_site
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate, Reply, Vendor, failure, words
from tests.fakes.web import Asked, Told, Web, told
from tests.lib.control.expressions.trees import init_data, literal, of_context, switch

PATIENCE_S = 20


class Store:
    """An Edge Config whose items may be changed."""

    def __init__(self, loop: LoopThread) -> None:
        self.items: dict[str, Any] = {}
        self.web = Web(loop, self._answer)
        self.connection = f"{self.web.url}/ecfg_x?token=t"

    @property
    def digest(self) -> str:
        """The items' version."""
        return hashlib.sha256(json.dumps(self.items).encode()).hexdigest()

    def _answer(self, _: Asked) -> Told:
        return told(self.items, etag=f'"{self.digest}"', x_edge_config_digest=self.digest)


@pytest.fixture
def store(loop: LoopThread) -> Iterator[Store]:
    """A store without items."""
    store = Store(loop)
    yield store
    store.web.close()


async def followed(app: App, store: Store) -> None:
    """Until the app holds the store's items: a request does not wait that long for them."""
    while (await app.edge_config.snapshot()).version != store.digest:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


@pytest.fixture
def serve_with(loop: LoopThread, store: Store) -> Iterator[Serve]:
    """Serves the site over an environment and the store; returns its URL."""
    with ExitStack() as running:

        def start(environ: dict[str, str]) -> str:
            app = App(from_environ({**environ, "EDGE_CONFIG": store.connection, "EDGE_CONFIG_FRESHNESS": "3600"}))
            url = running.enter_context(served_site(Site(ROOT, app), loop))
            loop.run(followed(app, store))
            return url

        yield start


@pytest.fixture
def groq(make_vendor: MakeVendor) -> Vendor:
    """The vendor that is asked first."""
    return make_vendor()


def ask(url: str, **body: object) -> httpx.Response:
    """One request, answered as JSON."""
    headers = {**KEY_HEADER, "accept": "application/json"}
    return httpx.post(f"{url}/api/generate", json={"prompt": "Hi", **body}, headers=headers, timeout=PATIENCE_S)


def sent(vendor: Vendor) -> dict[str, Any]:
    """What the vendor was asked last."""
    return vendor.requests[-1].body


def test_defaults(serve: Serve, groq: Vendor) -> None:
    """Without an Edge Config nothing is made up but a bound on the answer."""
    url = serve(hosted_over(groq=groq))
    assert ask(url).status_code == 200
    assert sent(groq)["max_completion_tokens"] == 2048
    assert {"temperature", "top_p"} & set(sent(groq)) == set()


def test_the_config_fills_in_what_the_request_leaves_open(serve_with: Serve, groq: Vendor, store: Store) -> None:
    """Its values go to the vendor; what the request says goes first."""
    store.items = {"ai_config": {"temperature": 0.25, "top_p": 0.5, "max_tokens": 99}}
    url = serve_with(hosted_over(groq=groq))
    ask(url, temperature=1.5)
    assert (sent(groq)["temperature"], sent(groq)["top_p"], sent(groq)["max_completion_tokens"]) == (1.5, 0.5, 99)
    ask(url, temperature=None, max_tokens=7)
    assert (sent(groq)["temperature"], sent(groq)["max_completion_tokens"]) == (0.25, 7)


def test_a_change_counts_and_a_bad_value_changes_nothing(loop: LoopThread, groq: Vendor, store: Store) -> None:
    """The next request has the new value; one that does not fit is counted and leaves the rest as it was."""
    app = App(from_environ({**hosted_over(groq=groq), "EDGE_CONFIG": store.connection}))
    now = 0.0
    app.edge_config = EdgeConfig(app.settings.stores, app.exchange, freshness_s=3600, clock=lambda: now)
    with served_site(Site(ROOT, app), loop) as url:
        for config, temperature, top_p in (
            ({"temperature": 0.25}, 0.25, None),
            ({"temperature": 0.75, "top_p": 0.5}, 0.75, 0.5),
            ({"temperature": "hot", "top_p": 0.5, "hedge": -1}, None, 0.5),
            (["?"], None, None),
            ({"top_p": 1}, None, 1.0),
        ):
            store.items = {"ai_config": config}
            now += 10_000
            loop.run(followed(app, store))
            assert ask(url).status_code == 200
            assert (sent(groq).get("temperature"), sent(groq).get("top_p")) == (temperature, top_p)
    assert app.parameters.rejected == {("temperature", "ai_config"): 1, ("hedge", "ai_config"): 1}


def test_hypertune_knows_the_caller(serve_with: Serve, groq: Vendor, store: Store) -> None:
    """Its rules may ask for the environment and who calls."""
    temperature = switch(of_context("user > kind"), [(literal("key"), literal(0.1))], literal(1.9))
    style = switch(of_context("environment"), [(literal("preview"), literal("ink"))], literal("photo"))
    store.items = {"hypertune": init_data(temperature=temperature, imgStyle=style), "ai_config": {"top_p": 0.5}}
    url = serve_with({**hosted_over(groq=groq), "VERCEL_ENV": "preview"})
    ask(url)
    assert (sent(groq)["temperature"], sent(groq)["top_p"]) == (0.1, 0.5)
    httpx.post(f"{url}/api/generate", json={"prompt": "Hi", "stream": False}, timeout=PATIENCE_S).raise_for_status()
    assert sent(groq)["temperature"] == 1.9
    shown = httpx.get(f"{url}/api/flags", headers=KEY_HEADER, timeout=PATIENCE_S).json()["parameters"]
    assert shown == {**Parameters().public(), "temperature": 0.1, "top_p": 0.5, "img_style": "ink"}


def test_fallback_order(serve_with: Serve, make_vendor: MakeVendor, groq: Vendor, store: Store) -> None:
    """Who is asked next when the first fails."""
    xai, deepinfra = make_vendor(), make_vendor()
    store.items = {"ai_config": {"fallback_order": ["groq", "deepinfra"]}}
    url = serve_with({**hosted_over(groq=groq, xai=xai, deepinfra=deepinfra)})
    groq.script(failure(503))
    assert ask(url).json()["provider"] == "deepinfra"
    assert xai.requests == []


def test_models_behind_the_words(serve_with: Serve, groq: Vendor, store: Store) -> None:
    """`fast` and `strong` are what the config says, also for models newer than the catalogue."""
    store.items = {"ai_config": {"fast_model": "groq/brand/new", "strong_model": "groq/qwen/qwen3.8-27b"}}
    url = serve_with(hosted_over(groq=groq))
    assert [ask(url, **body).json()["model"] for body in ({}, {"model": "fast"}, {"model": "strong"})] == [
        *("brand/new", "brand/new", "qwen/qwen3.8-27b")
    ]


def test_first_token_budget(serve_with: Serve, make_vendor: MakeVendor, groq: Vendor, store: Store) -> None:
    """A silent provider is left when the config says."""
    xai, never = make_vendor(), Gate()
    store.items = {"ai_config": {"first_token_budget_ms": 100}}
    url = serve_with({**hosted_over(groq=groq, xai=xai)})
    groq.script(Reply(steps=(never, *words("too late").steps)))
    assert ask(url).json()["provider"] == "xai"
    never.open()


def test_hedge(serve_with: Serve, make_vendor: MakeVendor, groq: Vendor, store: Store) -> None:
    """A second provider is asked beside the silent first, which may still be the quicker one."""
    xai, never = make_vendor(), Gate()
    store.items = {"ai_config": {"first_token_budget_ms": 60_000, "hedge": "50"}}
    url = serve_with({**hosted_over(groq=groq, xai=xai)})
    groq.script(Reply(steps=(never, *words("too late").steps)))
    assert ask(url).json()["provider"] == "xai"
    never.open()


def test_an_app_with_a_policy_of_its_own() -> None:
    """The policy given to an app is its parameters' default, and what they do not name stays."""
    policy = Policy(first_token_s=0.25, hedge_s=0.1, honour_retry_after=True, fallback_order=("xai",), total_s=9)
    app = App(from_environ({}), policy=policy)
    parameters = app.parameters.resolve({}, {})
    assert parameters == Parameters(
        first_token_budget_ms=250, hedge=100, honour_retry_after=True, fallback_order=("xai",)
    )
    assert app.policy_for(parameters) == policy
    other = app.parameters.resolve({"ai_config": {"hedge": "off", "strong_model": "xai/x"}}, {})
    assert app.policy_for(other) == Policy(
        first_token_s=0.25, honour_retry_after=True, fallback_order=("xai",), total_s=9, strong_model="xai/x"
    )

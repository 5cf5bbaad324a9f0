"""Where specs come from: Statsig's network over real sockets, and the item of an Edge Config."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from lib.app import App
from lib.control.flags import Flags
from lib.control.sources import EdgeConfigItem, Specs, StatsigNetwork
from lib.settings import from_environ
from tests.conftest import ROOT
from tests.fakes.loop import LoopThread
from tests.fakes.statsig import SECRET, Statsig
from tests.fakes.web import Told, Web, told

Result = TypeVar("Result")
V1: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "statsig" / "specs_v1.json").read_text())
V2: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "statsig" / "specs_v2.json").read_text())


@pytest.fixture
def statsig(loop: LoopThread) -> Iterator[Statsig]:
    """Statsig."""
    fake = Statsig(loop, dict(V2))
    yield fake
    fake.close()


def with_app(environ: dict[str, str], work: Callable[[App], Awaitable[Result]]) -> Result:
    """Do something with an app."""

    async def go() -> Result:
        app = App(from_environ(environ))
        try:
            return await work(app)
        finally:
            await app.aclose()

    return asyncio.run(go())


def network(app: App, statsig: Statsig) -> StatsigNetwork:
    """Statsig's network, read again whenever it is asked."""
    return StatsigNetwork(app.exchange, cdn_url=statsig.web.url, secret=SECRET, freshness_s=0)


def test_network(statsig: Statsig) -> None:
    """Without an Edge Config flags come from Statsig's CDN, asked for as its own engine asks."""

    async def decide(app: App) -> list[str | None]:
        flags = [await app.flags.provider(f"user-{number}") for number in range(30)]
        assert {flag.config_version for flag in flags} == {"statsig-1795000000000"}
        return [flag.arm for flag in flags]

    arms = with_app({**statsig.environ, "XAI_API_KEY": "key"}, decide)
    assert set(arms) == {"groq", "xai", "deepinfra"}
    (asked,) = statsig.web.asked
    assert (asked.method, asked.path) == ("GET", f"/v2/download_config_specs/{SECRET}.json")


def test_unchanged_and_changed(statsig: Statsig) -> None:
    """Specs that have not changed stay the same object, by 304 or by word; others take their place."""

    async def read(app: App) -> list[Specs | None]:
        source = network(app, statsig)
        seen = [await source.specs(), await source.specs()]
        statsig.web.script(told({"has_updates": False, "time": 9}))
        seen.append(await source.specs())
        statsig.specs["time"] = 2
        seen.append(await source.specs())
        await source.renew()
        return seen

    first, by_status, by_word, changed = with_app({}, read)
    assert first is by_status is by_word
    assert [specs and specs.version for specs in (first, changed)] == ["statsig-1795000000000", "statsig-2"]
    assert len(statsig.web.asked) == 5


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (told({}, 401), "http_401"),
        (told({}, 503), "http_503"),
        (Told(200, b"garbage"), "invalid_json"),
        (told([]), "not_an_object"),
        (told({}), "specs_unreadable"),
        (told({"has_updates": False}), "specs_unreadable"),
        (Told(200, b'{"feature_gates": {}}', cut=5), "connection_failed"),
    ],
)
def test_network_that_fails(statsig: Statsig, answer: Told, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """What Statsig can't give leaves the last good specs, if any, with one line that holds no secret."""
    statsig.web.script(answer)

    async def read(app: App) -> tuple[Specs | None, str | None, Specs | None, Specs | None, str | None]:
        source = network(app, statsig)
        nothing, error = await source.specs(), source.error
        good = await source.specs()
        statsig.web.script(told({}, 500), told({}, 500))
        await source.specs()
        return nothing, error, good, await source.specs(), source.error

    nothing, error, good, held, later = with_app({}, read)
    assert (nothing, error, later) == (None, code, "http_500")
    assert good is held is not None
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert SECRET not in caplog.text


def test_large_specs(statsig: Statsig) -> None:
    """Several megabytes of specs are read; more than any project has are not."""

    async def read(app: App) -> tuple[bool, str | None]:
        source = network(app, statsig)
        specs = await source.specs()
        return specs is not None, source.error

    statsig.specs["padding"] = "x" * 6_000_000
    assert with_app({}, read) == (True, None)
    statsig.specs["padding"] = "x" * 9_000_000
    assert with_app({}, read) == (False, "too_large")


def test_edge_config_comes_first(statsig: Statsig, loop: LoopThread) -> None:
    """With an Edge Config that holds specs Statsig's network is not asked; without any in it, it is."""
    items: dict[str, Any] = {"statsig-x": V1, "ai_config": {}}
    store = Web(loop, lambda _: told(items, x_edge_config_digest=str(len(items))))
    environ = {**statsig.environ, "EDGE_CONFIG": f"{store.url}/ecfg_x?token=t"}

    async def version(app: App) -> str | None:
        return (await app.flags.provider("user-1")).config_version

    assert with_app(environ, version) == "2"
    assert statsig.web.asked == []
    del items["statsig-x"]
    assert with_app(environ, version) == "statsig-1795000000000"
    store.close()


def test_item_is_looked_for_once(loop: LoopThread) -> None:
    """The item stays the same object from read to read, until the store changes."""
    items: dict[str, Any] = {"a": json.dumps(V1)}
    store = Web(loop, lambda _: told(items, etag='"1"'))

    async def read(app: App) -> list[Specs | None]:
        source = EdgeConfigItem(app.edge_config, None)
        return [await source.specs(), await source.specs()]

    first, second = with_app({"EDGE_CONFIG": f"{store.url}/ecfg_x?token=t"}, read)
    assert first is second
    assert first is not None
    assert isinstance(first.document["feature_gates"], list)
    store.close()


def test_demo_model_takes_nobodys_place(loop: LoopThread) -> None:
    """Specs that name the embedded model do not put it before vendors that are on; alone, it may be named."""
    specs = json.loads((ROOT / "local" / "items" / "statsig-local.json").read_text())
    store = Web(loop, lambda _: told({"x": specs}))
    local = {"EDGE_CONFIG": f"{store.url}/ecfg_x?token=t", "LOCAL_TEXT_BASE_URL": "http://127.0.0.1:9/v1"}

    async def provider(app: App) -> str | None:
        return (await app.flags.provider("user-1")).provider

    assert with_app(local, provider) == "local"
    assert with_app({**local, "GROQ_API_KEY": "key"}, provider) is None
    store.close()


def test_no_source_no_read() -> None:
    """Without Edge Config and Statsig the setting decides, and nothing is loaded for it."""

    async def decide(app: App) -> tuple[str | None, Flags]:
        return (await app.flags.provider("user-1")).provider, app.flags

    provider, _ = with_app({"FEATURE_AI_PROVIDER": "groq"}, decide)
    assert provider == "groq"

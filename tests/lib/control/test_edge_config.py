"""Edge Config over real sockets: one conditional read for all items, and what holds when the store misbehaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from lib.app import App
from lib.control.edge_config import EdgeConfig, Snapshot, item_of
from lib.errors import ServiceFailed
from lib.settings import from_environ
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.fakes.vercel_api import TEAM, VercelApi
from tests.fakes.vercel_api import TOKEN as TOKEN_OF_VERCEL
from tests.fakes.web import Asked, Told, Web, told

Result = TypeVar("Result")
ITEMS: dict[str, Any] = {"ai_config": {"temperature": 0.5}, "statsig-abc": {"feature_gates": []}}
TOKEN = "canary-token"


class Store:
    """An Edge Config in memory, answering as the genuine one does."""

    def __init__(self, loop: LoopThread) -> None:
        self.items: dict[str, Any] = dict(ITEMS)
        self.digest = "d1"
        self.web = Web(loop, self._answer)

    def connection(self, name: str = "ecfg_x") -> str:
        """A connection string for it."""
        return f"{self.web.url}/{name}?token={TOKEN}"

    def _answer(self, asked: Asked) -> Told:
        assert (asked.method, asked.query) == ("GET", {"version": ["1"]})
        assert asked.path.endswith("/items")
        if asked.headers["authorization"] != f"Bearer {TOKEN}":
            return told({"code": "unauthorized"}, 401)
        etag = f'"{self.digest}"'
        if asked.headers.get("if-none-match") == etag:
            return Told(304, headers={"etag": etag, "x-edge-config-digest": self.digest})
        return told(self.items, etag=etag, x_edge_config_digest=self.digest)


@pytest.fixture
def store(loop: LoopThread) -> Iterator[Store]:
    """A store."""
    store = Store(loop)
    yield store
    store.web.close()


class Wall:
    """The time of day."""

    now = 1_795_000_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def with_app(
    environ: dict[str, str], work: Callable[[App, EdgeConfig, Wall], Awaitable[Result]], budget_s: float = 30
) -> Result:
    """Do something with an app's Edge Config, under a wall clock of ours; a busy machine may take its time."""

    async def go() -> Result:
        app, wall = App(from_environ(environ)), Wall()
        settings = app.settings
        config = EdgeConfig(
            settings.stores, app.exchange, freshness_s=settings.freshness_s, budget_s=budget_s, clock=wall
        )
        try:
            return await work(app, config, wall)
        finally:
            await app.aclose()

    return asyncio.run(go())


def test_snapshot(store: Store) -> None:
    """One read brings all items, their version and age; the store learns who reads."""

    async def ask(_: App, config: EdgeConfig, wall: Wall) -> tuple[Snapshot, Snapshot]:
        first = await config.snapshot()
        wall.now += 3
        return first, await config.snapshot()

    first, second = with_app({"EDGE_CONFIG": store.connection()}, ask)
    assert (first.items, first.version, first.age_s, first.error) == (ITEMS, "d1", 0, None)
    assert (second.items is first.items, second.age_s) == (True, 3)
    assert [asked.path for asked in store.web.asked] == ["/ecfg_x/items"]
    assert store.web.asked[0].headers["x-edge-config-sdk"] == "ai-integration-blueprint"


def test_unchanged_is_not_sent_again(store: Store) -> None:
    """A later read asks for changes alone; a change brings all items anew, under another version."""

    async def ask(_: App, config: EdgeConfig, wall: Wall) -> list[Snapshot]:
        snapshots = [await config.snapshot()]
        for edit in (False, True):
            if edit:
                store.items["ai_config"], store.digest = {"temperature": 1}, "d2"
            wall.now += 11
            snapshots.append(await config.snapshot())
        return snapshots

    first, same, edited = with_app({"EDGE_CONFIG": store.connection()}, ask)
    assert (same.items is first.items, same.version, same.age_s) == (True, "d1", 0)
    assert (edited.items["ai_config"], edited.version) == ({"temperature": 1}, "d2")
    assert [asked.headers.get("if-none-match") for asked in store.web.asked] == [None, '"d1"', '"d1"']


def test_without_a_store() -> None:
    """Without a store there is nothing, at no cost."""

    async def ask(app: App, config: EdgeConfig, _: Wall) -> Snapshot:
        snapshot = await config.snapshot()
        await config.renew()
        assert app.edge_config_writers == []
        return snapshot

    assert with_app({}, ask) == Snapshot({})


def test_two_stores(store: Store, loop: LoopThread) -> None:
    """Two stores are read side by side; where both hold an item, the first one's counts."""
    other = Store(loop)
    other.items, other.digest = {"ai_config": "other", "hypertune": {"commitId": 1}}, "e1"
    environ = {"EDGE_CONFIG": store.connection(), "EXPERIMENTATION_CONFIG": other.connection("ecfg_y")}
    snapshot = with_app(environ, lambda _, config, __: config.snapshot())
    assert snapshot.items == {**ITEMS, "hypertune": {"commitId": 1}}
    assert snapshot.version == "d1+e1"
    other.web.close()


def test_one_store_under_two_names(store: Store) -> None:
    """The same store under two variables is read once."""
    connection = store.connection()
    environ = {"EDGE_CONFIG": connection, "EXPERIMENTATION_CONFIG": f"{connection}-other-token"}
    assert with_app(environ, lambda _, config, __: config.snapshot()).items == ITEMS
    assert len(store.web.asked) == 1


BAD: dict[str, tuple[Told, str]] = {
    "500": (told({}, 500), "http_500"),
    "503": (told({}, 503), "http_503"),
    "401": (told({"code": "unauthorized"}, 401), "unauthorized"),
    "404": (told({}, 404), "store_missing"),
    "redirect": (Told(307, headers={"location": "http://127.0.0.1:9/"}), "http_307"),
    "half a body": (Told(200, b'{"ai_config": {}}', cut=9), "connection_failed"),
    "wrong JSON": (Told(200, b'{"ai_config": '), "invalid_json"),
    "not UTF-8": (Told(200, b'{"ai_config": "\xff"}'), "invalid_json"),
    "a list": (told([1, 2]), "not_an_object"),
    "null": (told(None), "not_an_object"),
    "too large": (Told(200, b'{"a": "' + b"x" * 1_100_000 + b'"}'), "too_large"),
    "unasked 304": (Told(304), "http_304"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_first_read(store: Store, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """A store that can't be read from the start is empty; one line says why, without its address or token."""
    answer, code = BAD[fault]
    store.web.script(answer)

    async def ask(_: App, config: EdgeConfig, wall: Wall) -> tuple[Snapshot, Snapshot]:
        first = await config.snapshot()
        wall.now += 2
        return first, await config.snapshot()

    first, second = with_app({"EDGE_CONFIG": store.connection()}, ask)
    assert first == Snapshot({}, None, None, code)
    assert (second.items, second.error) == (ITEMS, None)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"Edge Config can't be read ({code}): defaults hold"]


@pytest.mark.parametrize("fault", [name for name in BAD if name != "unasked 304"])
def test_bad_later_read(store: Store, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """Once read, the last good items hold through whatever the store answers, however often it is asked."""
    answer, code = BAD[fault]

    async def ask(_: App, config: EdgeConfig, wall: Wall) -> list[Snapshot]:
        snapshots = [await config.snapshot()]
        store.web.script(answer, answer, answer)
        for _again in range(3):
            wall.now += 11
            snapshots.append(await config.snapshot())
        return snapshots

    first, *later = with_app({"EDGE_CONFIG": store.connection()}, ask)
    assert all(snapshot.items is first.items for snapshot in later)
    assert [(snapshot.version, snapshot.error) for snapshot in later] == [("d1", code)] * 3
    assert later[-1].age_s == 33
    assert [record.levelname for record in caplog.records if record.name == "control"] == ["WARNING"]
    assert TOKEN not in caplog.text


def test_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A store that can't be reached is empty."""
    environ = {"EDGE_CONFIG": "http://127.0.0.1:9/ecfg_x?token=t"}
    assert with_app(environ, lambda _, config, __: config.snapshot()).error == "connection_failed"
    assert len(caplog.records) == 1


def test_empty_store(store: Store) -> None:
    """404 with a digest is a store without such items: that is no failure."""
    store.web.script(told({}, 404, x_edge_config_digest="d0"))
    snapshot = with_app({"EDGE_CONFIG": store.connection()}, lambda _, config, __: config.snapshot())
    assert (snapshot.items, snapshot.version, snapshot.error) == ({}, "d0", None)


def test_version_without_a_digest(store: Store) -> None:
    """A proxy that drops the store's headers does not take the version away."""
    store.web.script(told({"a": 1}), told({"a": 1}), told({"a": 2}))

    async def ask(_: App, config: EdgeConfig, wall: Wall) -> list[str | None]:
        versions: list[str | None] = []
        for _again in range(3):
            versions.append((await config.snapshot()).version)
            wall.now += 11
        return versions

    one, two, three = with_app({"EDGE_CONFIG": store.connection()}, ask)
    assert one == two != three
    assert None not in {one, three}


def test_large_item(store: Store) -> None:
    """An item of half a megabyte, the most that Vercel sells, is read."""
    store.items["big"] = "x" * 512 * 1024
    snapshot = with_app({"EDGE_CONFIG": store.connection()}, lambda _, config, __: config.snapshot())
    assert snapshot.items["big"] == store.items["big"]


def test_slow_store(store: Store) -> None:
    """What a store says too late for one request serves the next."""
    gate = Gate()

    async def ask(_: App, config: EdgeConfig, wall: Wall) -> tuple[Snapshot, Snapshot]:
        await config.snapshot()
        store.web.script(Told(200, b'{"a": 1}', gate=gate))
        wall.now += 11
        stale = await config.snapshot()
        gate.open()
        wall.now += 1
        await config.renew()
        return stale, await config.snapshot()

    stale, fresh = with_app({"EDGE_CONFIG": store.connection()}, ask, budget_s=0.1)
    assert (stale.items, fresh.items) == (ITEMS, {"a": 1})


@pytest.mark.parametrize(
    ("items", "key", "found"),
    [
        ({"statsig-1": {"feature_gates": [1]}}, None, [1]),
        ({"a": {"feature_gates": [1]}, "b": {"feature_gates": [2]}}, None, [1]),
        ({"a": {"feature_gates": [1]}, "b": {"feature_gates": [2]}}, "b", [2]),
        ({"a": {"feature_gates": [1]}, "b": {"commitId": 2}}, "b", [1]),
        ({"a": '{"feature_gates": [1]}'}, "a", [1]),
        ({"a": '{"feature_gates": [1', "b": "feature_gates", "c": ["feature_gates"], "d": None}, "a", None),
        ({}, "a", None),
    ],
)
def test_item_by_its_shape(items: dict[str, object], key: str | None, found: object) -> None:
    """An integration's item is known by its shape; the key that the integration names is looked at first."""
    item = item_of(items, "feature_gates", key)
    assert (None if item is None else item["feature_gates"]) == found


@pytest.fixture
def rest(loop: LoopThread) -> Iterator[VercelApi]:
    """Vercel's REST API."""
    rest = VercelApi(loop, "ecfg_x")
    yield rest
    rest.close()


def write(rest: VercelApi, items: dict[str, object]) -> str | None:
    """Write items; how it failed, if it did."""
    environ = {
        "EDGE_CONFIG": "https://edge-config.vercel.com/ecfg_x?token=t",
        "VERCEL_TOKEN": TOKEN_OF_VERCEL,
        "VERCEL_TEAM_ID": TEAM,
        "VERCEL_API_URL": rest.web.url,
    }

    async def go(app: App, _: EdgeConfig, __: Wall) -> str | None:
        try:
            await app.edge_config_writers[0].write(items)
        except ServiceFailed as failure:
            return failure.code
        return None

    return with_app(environ, go)


def test_write(rest: VercelApi) -> None:
    """Items are written in one call, and each is read back."""
    assert write(rest, {"a": {"percent": 5}, "b": [1, None, "ü"]}) is None
    assert rest.stores["ecfg_x"] == {"a": {"percent": 5}, "b": [1, None, "ü"]}
    assert [(asked.method, asked.path.rpartition("/")[2]) for asked in rest.web.asked] == [
        ("PATCH", "items"),
        ("GET", "a"),
        ("GET", "b"),
    ]


@pytest.mark.parametrize(
    ("answers", "code", "calls"),
    [
        ([told({"error": {}}, 403)], "http_403", 1),
        ([told({"error": {}}, 401)], "unauthorized", 1),
        ([Told(200, b"{}", cut=1)], "connection_failed", 1),
        ([told({"status": "ok"}), told({"key": "a", "value": "old"})], "not_as_written", 2),
        ([told({"status": "ok"}), Told(200, b"[")], "not_as_written", 2),
        ([told({"status": "ok"}), told({}, 404)], "store_missing", 2),
    ],
    ids=["forbidden", "token", "cut", "old value", "no JSON", "gone"],
)
def test_failed_write(rest: VercelApi, answers: list[Told], code: str, calls: int) -> None:
    """A write that is refused, or can't be read back, is reported as failed, and not repeated."""
    rest.web.script(*answers)
    assert (write(rest, {"a": "new"}), len(rest.web.asked)) == (code, calls)


def test_nothing_secret_is_shown(store: Store) -> None:
    """Neither settings nor snapshots show a token."""
    settings = from_environ({"EDGE_CONFIG": store.connection(), "VERCEL_TOKEN": "canary-vercel"})
    assert "canary" not in repr(settings)

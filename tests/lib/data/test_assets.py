"""Assets over the real gateway and Postgres: paid for once, whoever asks at the same time and whoever dies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from lib.app import App
from lib.data import assets as module
from lib.data.assets import Asset, Assets, Audio, Claim, Made, NewFile, generation_key
from lib.data.files import Files
from lib.errors import BrokenStream, ContentRefused, InvalidRequest, Unavailable
from lib.settings import SupabaseAccess, from_environ
from local.postgres import Postgres
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Clock, Project, served, supabase, uid

Result = TypeVar("Result")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(16)
MP3 = b"ID3\x04" + bytes(64)


class Store:
    """What the tests call: several processes' worth of Assets over one project."""

    def __init__(self, project: Project, loop: LoopThread) -> None:
        self.project = project
        self._loop = loop
        self.app = App(from_environ(supabase(project.url)))
        self.assets = self.process()
        self.owner = uid(project.user())

    def process(self, clock: Callable[[], float] | None = None) -> Assets:
        """Another process's."""
        rpc = self.app.database
        assert rpc is not None
        files = Files(SupabaseAccess(self.project.url, SECRET, PUBLISHABLE), self.app.exchange)
        return Assets(rpc, files) if clock is None else Assets(rpc, files, clock)

    def run(self, work: Awaitable[Result]) -> Result:
        """Do it on the loop on which the connections live."""

        async def done() -> Result:
            return await work

        return self._loop.run(done())

    def key(self, *words: str) -> str:
        """The key of a made-up generation."""
        return generation_key(self.owner, "fal", "flux", {"seed": 1}, {"prompt": list(words) or str(uuid4())})

    def rows(self, asset: Asset) -> list[tuple[Any, ...]]:
        """The files that lie at this asset's place."""
        query = "select name, metadata ->> 'cacheControl' from storage.objects where bucket_id = %s and name = %s"
        return self.project.sql(query, asset.bucket_id, asset.path)

    def die(self) -> None:
        """As if a minute had gone by without a word of whoever is at work."""
        self.project.sql("update public.asset_generations set lease_until = now() - interval '1 second'")


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"assets_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


@pytest.fixture
def store(project: Project, loop: LoopThread) -> Iterator[Store]:
    """See Store."""
    made = Store(project, loop)
    yield made
    loop.run(made.app.aclose())


class Maker:
    """Makes a picture and counts; what it was told of an earlier maker's request."""

    def __init__(self, key: str, data: bytes = PNG, *, takes_s: float = 0.0, fails: Exception | None = None) -> None:
        self.calls = 0
        self.noted: list[str | None] = []
        self.noting = asyncio.Event()
        self._key = key
        self._data = data
        self._takes_s = takes_s
        self._fails = fails

    async def __call__(self, claim: Claim) -> Made:
        """See Make."""
        self.calls += 1
        self.noted.append(claim.vendor_request_id)
        await claim.note("fal", "flux", f"request-{self.calls}")
        self.noting.set()
        await asyncio.sleep(self._takes_s)
        if self._fails is not None:
            raise self._fails
        return Made((NewFile(self._data, "image/png", "image", {"seed": 1}, provider="fal", model="flux"),), self._key)


def test_made_once_and_found_by_its_content(store: Store) -> None:
    """The file lies under its hash, for ever; who asks again gets the same asset, and nobody is called."""
    key = store.key("sea")
    maker = Maker(key)
    first = store.run(store.assets.generated(store.owner, [key], maker, wait_s=5))
    again = store.run(store.process().generated(store.owner, [store.key(), key], maker, wait_s=5))
    (asset,) = first.assets
    assert (first.cached, again.cached, again.assets, maker.calls) == (False, True, first.assets, 1)
    assert asset.path == f"{store.owner}/{hashlib.sha256(PNG).hexdigest()}.png"
    assert store.rows(asset) == [(asset.path, "max-age=31536000, immutable")]
    assert store.run(store.assets.read(asset, max_bytes=1000)) == PNG
    assert store.project.sql("select count(*) from public.asset_generations where user_id = %s", store.owner) == [(0,)]


def test_nobody_gets_anothers(store: Store) -> None:
    """The owner is part of the key, and of every question."""
    key = store.key()
    (asset,) = store.run(store.assets.generated(store.owner, [key], Maker(key), wait_s=5)).assets
    other = uid(store.project.user())
    maker = Maker(key)
    assert store.run(store.assets.generated(other, [key], maker, wait_s=5)).cached is False
    assert generation_key(other, "fal", "flux", {}, {}) != generation_key(store.owner, "fal", "flux", {}, {})
    assert store.run(store.assets.find(other, asset.id)) is None
    assert store.run(store.assets.remove(other, asset.id)) is False


def test_fifty_at_once_are_one_call(store: Store) -> None:
    """Over five processes: one makes it, all get it."""
    key = store.key()
    maker = Maker(key, takes_s=0.2)
    processes = [store.process() for _ in range(5)]

    async def ask() -> list[tuple[str, bool]]:
        asked = (processes[number % 5].generated(store.owner, [key], maker, wait_s=20) for number in range(50))
        return [(one.assets[0].id, one.cached) for one in await asyncio.gather(*asked)]

    answers = store.run(ask())
    assert (maker.calls, len({id_ for id_, _ in answers}), [cached for _, cached in answers].count(False)) == (1, 1, 1)


def test_who_takes_over_looks_for_what_was_submitted(store: Store) -> None:
    """A maker that dies leaves its lease and its note; the next one gets the vendor's id of it."""
    key = store.key()
    dying = Maker(key, takes_s=60)
    next_one = Maker(key)

    async def go() -> None:
        work = asyncio.create_task(store.assets.generated(store.owner, [key], dying, wait_s=5))
        await dying.noting.wait()
        with pytest.raises(Unavailable):
            await store.process().generated(store.owner, [key], next_one, wait_s=0.2)
        store.die()
        assert (await store.process().generated(store.owner, [key], next_one, wait_s=5)).cached is False
        work.cancel()
        await asyncio.wait([work])

    store.run(go())
    assert (next_one.noted, dying.calls) == (["request-1"], 1)
    assert store.run(store.assets.generated(store.owner, [key], dying, wait_s=5)).cached


@pytest.mark.parametrize(("error", "noted"), [(BrokenStream(), "request-1"), (ContentRefused(), None)])
def test_a_failure_is_told_and_may_be_tried_again(store: Store, error: Exception, noted: str | None) -> None:
    """At once; with the vendor's id only where it may still come to something."""
    key = store.key()
    with pytest.raises(type(error)):
        store.run(store.assets.generated(store.owner, [key], Maker(key, fails=error), wait_s=5))
    again = Maker(key)
    assert store.run(store.assets.generated(store.owner, [key], again, wait_s=5)).cached is False
    assert again.noted == [noted]


def test_what_was_paid_for_is_kept_though_its_caller_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while the file is on its way: it is there for who asks next."""
    key = store.key()
    maker = Maker(key)
    storing = asyncio.Event()
    put = Files.put

    async def slowly(files: Files, *arguments: Any) -> None:
        storing.set()
        await asyncio.sleep(0.2)
        await put(files, *arguments)

    monkeypatch.setattr(Files, "put", slowly)

    async def go() -> bool:
        work = asyncio.create_task(store.assets.generated(store.owner, [key], maker, wait_s=5))
        await storing.wait()
        work.cancel()
        await asyncio.wait([work])
        assert work.cancelled()
        return (await store.process().generated(store.owner, [key], maker, wait_s=5)).cached

    assert (store.run(go()), maker.calls) == (True, 1)


def test_anew_takes_the_key_and_leaves_the_old_one(store: Store) -> None:
    """The earlier asset stays in the list; who asks from now on gets the later one."""
    key = store.key()

    async def go() -> tuple[str, str, str]:
        first = await store.assets.generated(store.owner, [key], Maker(key), wait_s=5)
        second = await store.assets.generated(store.owner, [key], Maker(key, PNG + b"2"), wait_s=5, anew=True)
        found = await store.assets.generated(store.owner, [key], Maker(key), wait_s=5)
        return first.assets[0].id, second.assets[0].id, found.assets[0].id

    first, second, found = store.run(go())
    assert (found, [asset.id for asset in store.run(store.assets.list(store.owner))]) == (second, [second, first])


def test_a_long_work_keeps_its_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is renewed while the maker is at it."""
    monkeypatch.setattr(module, "RENEW_S", 0.05)
    key = store.key()

    async def make(claim: Claim) -> Made:
        store.die()
        await asyncio.sleep(0.5)
        query = "select lease_until > now() + interval '30 seconds' from public.asset_generations where key = %s"
        assert store.project.sql(query, key) == [(True,)]
        return await Maker(key)(claim)

    assert store.run(store.assets.generated(store.owner, [key], make, wait_s=5)).cached is False


def test_audio_with_what_is_known_of_it(store: Store) -> None:
    """Voice, length and times come back as they were given; the row is its asset's."""
    audio = Audio(
        1200, "elevenlabs", "v1", "pt", 4, {"characters": ["o", "lá"], "starts_s": [0, 0.1], "ends_s": [1, 2]}
    )
    kept = store.run(store.assets.store(store.owner, NewFile(MP3, "audio/mpeg", "audio", audio=audio)))
    assert (kept.audio, store.run(store.assets.find(store.owner, kept.id))) == (audio, kept)


def test_links_are_handed_out_again(store: Store) -> None:
    """Until ten minutes before they end: a cache recognises the address. Anyone can read it, and save it by name."""
    now = [1_000_000.0]
    process = store.process(lambda: now[0])
    asset = store.run(store.assets.store(store.owner, NewFile(PNG, "image/png", "image")))
    first = store.run(process.link(asset))
    now[0] += module.LINK_S - module.REUSE_UNTIL_S
    assert store.run(process.link(asset)) == first
    now[0] += 1
    second = store.run(process.link(asset))
    assert second.expires_at == now[0] + module.LINK_S
    answer = httpx.get(store.run(store.assets.link(asset, download="my sea.png")).url)
    assert (answer.content, answer.headers["cache-control"]) == (PNG, "max-age=31536000, immutable")
    assert "attachment" in answer.headers["content-disposition"]


def test_a_file_goes_with_the_last_that_names_it(store: Store) -> None:
    """Two assets of the same bytes share it."""
    one, other = (store.run(store.assets.store(store.owner, NewFile(PNG, "image/png", "image"))) for _ in range(2))
    assert store.run(store.assets.remove(store.owner, one.id))
    assert len(store.rows(other)) == 1
    assert store.run(store.assets.remove(store.owner, other.id))
    assert store.rows(other) == []
    assert store.run(store.assets.remove(store.owner, other.id)) is False


def test_pages(store: Store) -> None:
    """The newest first, each once, whatever is added meanwhile; by kind."""
    made = [store.run(store.assets.store(store.owner, NewFile(PNG, "image/png", "image"))) for _ in range(5)]
    store.run(store.assets.store(store.owner, NewFile(MP3, "audio/mpeg", "audio")))
    seen: list[str] = []
    after: tuple[str, str] | None = None
    while page := store.run(store.assets.list(store.owner, kind="image", after=after, limit=2)):
        seen += [asset.id for asset in page]
        after = (page[-1].created_at, page[-1].id)
        store.run(store.assets.store(store.owner, NewFile(PNG, "image/png", "image")))
    assert seen == [asset.id for asset in reversed(made)]


def upload(store: Store, data: bytes, content_type: str = "audio/mpeg") -> str:
    """Begin an upload and send the file as a browser does; its id."""
    id_, url = store.run(
        store.assets.begin_upload(store.owner, filename="a.mp3", content_type=content_type, size=len(data))
    )
    assert httpx.put(url, content=data, headers={"content-type": content_type}).status_code == 200
    return id_


def test_an_upload_is_an_asset_once_it_is_complete(store: Store) -> None:
    """Not listed before; then under its hash, and completing it again changes nothing."""
    id_ = upload(store, MP3)
    assert store.run(store.assets.list(store.owner)) == []
    asset = store.run(store.assets.complete_upload(store.owner, id_))
    assert asset is not None
    assert (asset.sha256, asset.kind, asset.bytes) == (hashlib.sha256(MP3).hexdigest(), "audio", len(MP3))
    assert store.run(store.assets.complete_upload(store.owner, id_)) == asset
    assert store.run(store.assets.list(store.owner)) == [asset]
    assert store.project.sql("select count(*) from storage.objects where name like %s", f"{store.owner}/%") == [(1,)]


@pytest.mark.parametrize("data", [b"<script>alert(1)</script>", PNG, b"MZ" + bytes(100)])
def test_an_upload_of_something_else_is_removed(store: Store, data: bytes) -> None:
    """By what it is, not by what it is called."""
    id_ = upload(store, data)
    with pytest.raises(InvalidRequest) as refused:
        store.run(store.assets.complete_upload(store.owner, id_))
    assert refused.value.code == "content_type_mismatch"
    assert store.run(store.assets.find(store.owner, id_)) is None
    assert store.project.sql("select count(*) from storage.objects where name like %s", f"{store.owner}/%") == [(0,)]


def test_an_upload_that_never_came(store: Store) -> None:
    """It may still come; twenty may be on their way."""
    id_, _ = store.run(store.assets.begin_upload(store.owner, filename="a", content_type="image/png", size=1))
    with pytest.raises(InvalidRequest) as refused:
        store.run(store.assets.complete_upload(store.owner, id_))
    assert refused.value.code == "not_uploaded"
    for _ in range(19):
        store.run(store.assets.begin_upload(store.owner, filename="a", content_type="image/png", size=1))
    with pytest.raises(InvalidRequest) as refused:
        store.run(store.assets.begin_upload(store.owner, filename="a", content_type="image/png", size=1))
    assert refused.value.code == "too_many_uploads"


def test_leftovers_are_swept(store: Store) -> None:
    """Files without a row that are older than an hour, and uploads of yesterday: nothing else."""
    kept = store.run(store.assets.store(store.owner, NewFile(PNG, "image/png", "image")))
    old = upload(store, MP3)
    fresh = upload(store, MP3)
    lost = store.run(store.assets.store(store.owner, NewFile(MP3, "audio/mpeg", "audio")))
    store.project.sql("delete from public.assets where id = %s", lost.id)
    store.project.sql("update public.assets set created_at = now() - interval '2 days' where id = %s", old)
    store.project.sql("update storage.objects set created_at = now() - interval '2 hours'")
    store.run(store.assets.sweep())
    assert [len(store.rows(asset)) for asset in (kept, lost)] == [1, 0]
    assert [store.run(store.assets.find(store.owner, id_)) is None for id_ in (old, fresh)] == [True, False]

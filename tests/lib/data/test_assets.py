"""Assets over the real gateway and Postgres: paid for once, whoever asks at the same time and whoever dies."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from lib.app import App
from lib.data import assets as module
from lib.data.assets import Asset, Assets, Audio, Claim, Generated, Made, NewFile, generation_key
from lib.data.circuit import Rpc
from lib.data.files import Files
from lib.errors import (
    AppError,
    BrokenStream,
    Conflict,
    ContentRefused,
    DataFailed,
    InvalidRequest,
    LimitReached,
    NoProvider,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from lib.settings import SupabaseAccess, from_environ
from local.postgres import Postgres
from tests.conftest import ROOT
from tests.database import copied
from tests.fakes.listener import Listener
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.fakes.web import Told, Web
from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Clock, Project, served, supabase, uid

Result = TypeVar("Result")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(16)
MP3 = b"ID3\x04" + bytes(64)
PATIENT_S = 60
"""What a caller waits where waiting is not what is tested: a loaded machine takes its time."""


async def at_once(_seconds: float) -> None:
    """No pause, but the others' turn."""
    await asyncio.sleep(0.01)


async def until(event: asyncio.Event, work: asyncio.Task[Any]) -> None:
    """Wait for what `work` does, or fail as it fails."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([waiting, work], return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        work.result()


class Store:
    """What the tests call: several processes' worth of Assets over one project."""

    def __init__(self, project: Project, loop: LoopThread) -> None:
        self.project = project
        self._loop = loop
        self.app = App(from_environ(supabase(project.url)))
        self.assets = self.process()
        self.files = Files(SupabaseAccess(project.url, SECRET, PUBLISHABLE), self.app.exchange)
        self.owner = uid(project.user())

    def process(
        self, clock: Callable[[], float] = time.time, storage: str | None = None, rpc: Rpc | None = None
    ) -> Assets:
        """Another process's, which waits for nothing; `storage` is where it finds the Storage API."""
        rpc = rpc or self.app.database
        assert rpc is not None
        access = SupabaseAccess(storage or self.project.url, SECRET, PUBLISHABLE)
        return Assets(rpc, Files(access, self.app.exchange), clock, at_once)

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
        self.key = key
        self._data = data
        self._takes_s = takes_s
        self.fails = fails

    async def __call__(self, claim: Claim) -> Made:
        """See Make."""
        self.calls += 1
        self.noted.append(claim.vendor_request_id)
        await claim.note("fal", "flux", f"request-{self.calls}")
        self.noting.set()
        await asyncio.sleep(self._takes_s)
        if self.fails is not None:
            raise self.fails
        return Made((NewFile(self._data, "image/png", "image", {"seed": 1}, provider="fal", model="flux"),), self.key)


def test_made_once_and_found_by_its_content(store: Store) -> None:
    """The file lies under its hash, for ever; who asks again gets the same asset, and nobody is called."""
    key = store.key("sea")
    maker = Maker(key)
    first = store.run(store.assets.generated(store.owner, [key], maker, wait_s=PATIENT_S))
    again = store.run(store.process().generated(store.owner, [store.key(), key], maker, wait_s=PATIENT_S))
    (asset,) = first.assets
    assert (first.cached, again.cached, again.assets, maker.calls) == (False, True, first.assets, 1)
    assert asset.path == f"{store.owner}/{hashlib.sha256(PNG).hexdigest()}.png"
    assert store.rows(asset) == [(asset.path, "max-age=31536000, immutable")]
    assert store.run(store.assets.read(asset, max_bytes=1000)) == PNG
    assert store.project.sql("select count(*) from public.asset_generations where user_id = %s", store.owner) == [(0,)]


def test_nobody_gets_anothers(store: Store) -> None:
    """The owner is part of the key, and of every question."""
    key = store.key()
    (asset,) = store.run(store.assets.generated(store.owner, [key], Maker(key), wait_s=PATIENT_S)).assets
    other = uid(store.project.user())
    maker = Maker(key)
    assert store.run(store.assets.generated(other, [key], maker, wait_s=PATIENT_S)).cached is False
    assert generation_key(other, "fal", "flux", {}, {}) != generation_key(store.owner, "fal", "flux", {}, {})
    assert store.run(store.assets.find(other, asset.id)) is None
    assert store.run(store.assets.remove(other, asset.id)) is False


def test_fifty_at_once_are_one_call(store: Store) -> None:
    """Over five processes: one makes it, all get it."""
    key = store.key()
    maker = Maker(key, takes_s=0.2)
    processes = [store.process() for _ in range(5)]

    async def ask() -> list[tuple[str, bool]]:
        asked = (processes[number % 5].generated(store.owner, [key], maker, wait_s=PATIENT_S) for number in range(50))
        return [(one.assets[0].id, one.cached) for one in await asyncio.gather(*asked)]

    answers = store.run(ask())
    assert (maker.calls, len({id_ for id_, _ in answers}), [cached for _, cached in answers].count(False)) == (1, 1, 1)


def test_who_takes_over_looks_for_what_was_submitted(store: Store) -> None:
    """A maker that dies leaves its lease and its note; the next one gets the vendor's id of it."""
    key = store.key()
    dying = Maker(key, takes_s=60)
    next_one = Maker(key)

    async def go() -> None:
        work = asyncio.create_task(store.assets.generated(store.owner, [key], dying, wait_s=PATIENT_S))
        await until(dying.noting, work)
        with pytest.raises(Unavailable):
            await store.process().generated(store.owner, [key], next_one, wait_s=0.2)
        store.die()
        assert (await store.process().generated(store.owner, [key], next_one, wait_s=PATIENT_S)).cached is False
        work.cancel()
        await asyncio.wait([work])

    store.run(go())
    assert (next_one.noted, dying.calls) == (["request-1"], 1)
    assert store.run(store.assets.generated(store.owner, [key], dying, wait_s=PATIENT_S)).cached


def test_who_leaves_before_the_claim_is_answered_leaves_no_lease(store: Store) -> None:
    """The database grants it to nobody: the next need not wait for the lease's end, and gets what was noted."""
    key = store.key()
    rpc = store.app.database
    assert rpc is not None
    granted = asyncio.Event()

    async def late(function: str, arguments: Mapping[str, object], /, *, timeout_s: float = 2.0) -> Any:
        answer = await rpc(function, arguments, timeout_s=timeout_s)
        if function == "claim_generation":
            granted.set()
            await asyncio.sleep(0.2)
        return answer

    next_one = Maker(key)

    async def go() -> None:
        dying = Maker(key, takes_s=PATIENT_S)
        first = asyncio.create_task(store.assets.generated(store.owner, [key], dying, wait_s=PATIENT_S))
        await until(dying.noting, first)
        store.die()
        left = asyncio.create_task(
            store.process(rpc=late).generated(store.owner, [key], Maker(key, takes_s=PATIENT_S), wait_s=PATIENT_S)
        )
        await until(granted, left)
        left.cancel()
        await asyncio.wait([left])
        await store.process().generated(store.owner, [key], next_one, wait_s=10)
        first.cancel()
        await asyncio.wait([first])

    store.run(go())
    assert next_one.noted == ["request-1"]


@pytest.mark.parametrize(("error", "noted"), [(BrokenStream(), "request-1"), (ContentRefused(), None)])
def test_a_failure_is_told_and_may_be_tried_again(store: Store, error: Exception, noted: str | None) -> None:
    """At once; with the vendor's id only where it may still come to something."""
    key = store.key()
    with pytest.raises(type(error)):
        store.run(store.assets.generated(store.owner, [key], Maker(key, fails=error), wait_s=PATIENT_S))
    again = Maker(key)
    assert store.run(store.assets.generated(store.owner, [key], again, wait_s=PATIENT_S)).cached is False
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
        work = asyncio.create_task(store.assets.generated(store.owner, [key], maker, wait_s=PATIENT_S))
        await until(storing, work)
        work.cancel()
        await asyncio.wait([work])
        assert work.cancelled()
        return (await store.process().generated(store.owner, [key], maker, wait_s=PATIENT_S)).cached

    assert (store.run(go()), maker.calls) == (True, 1)


def test_anew_takes_the_key_and_leaves_the_old_one(store: Store) -> None:
    """The earlier asset stays in the list; who asks from now on gets the later one."""
    key = store.key()

    async def go() -> tuple[str, str, str]:
        first = await store.assets.generated(store.owner, [key], Maker(key), wait_s=PATIENT_S)
        second = await store.assets.generated(store.owner, [key], Maker(key, PNG + b"2"), wait_s=PATIENT_S, anew=True)
        found = await store.assets.generated(store.owner, [key], Maker(key), wait_s=PATIENT_S)
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

    assert store.run(store.assets.generated(store.owner, [key], make, wait_s=PATIENT_S)).cached is False


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
    assert (first.expires_at, second.expires_at) == (1_000_000 + module.LINK_S, now[0] + module.LINK_S)
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


def test_all_instances_hand_out_the_same_link(store: Store) -> None:
    """It is kept with the row: a cache that has the file by one instance's address knows another's."""
    assets = [
        store.run(store.assets.store(store.owner, NewFile(PNG + bytes([n]), "image/png", "image"))) for n in (1, 2)
    ]
    first = store.run(store.assets.links(assets))
    other = store.process()
    found = store.run(other.list(store.owner))
    assert store.run(other.links(found)) == first[::-1]
    # And of two that sign at the same moment one counts.
    fresh = store.run(store.assets.store(store.owner, NewFile(MP3, "audio/mpeg", "audio")))
    processes = [store.process() for _ in range(4)]

    async def together() -> int:
        return len({link.url for link in await asyncio.gather(*(each.link(fresh) for each in processes))})

    assert store.run(together()) == 1


def upload(store: Store, data: bytes, content_type: str = "audio/mpeg", size: int | None = None) -> str:
    """Begin an upload and send the file as a browser does; its id."""
    size = len(data) if size is None else size
    begun = store.run(store.assets.begin_upload(store.owner, filename="a.mp3", content_type=content_type, size=size))
    sent = httpx.put(begun.url, content=data, headers={"content-type": begun.content_type, "cache-control": "no-store"})
    assert sent.status_code == 200
    return begun.asset_id


def test_an_upload_is_an_asset_once_it_is_complete(store: Store) -> None:
    """Not listed before; then under its hash, for ever, and completing it again changes nothing."""
    id_ = upload(store, MP3, "audio/mp3; rate=1")
    assert store.run(store.assets.list(store.owner)) == []
    asset = store.run(store.assets.complete_upload(store.owner, id_))
    assert (asset.content_type, asset.kind, asset.bytes) == ("audio/mpeg", "audio", len(MP3))
    assert asset.path == f"{store.owner}/{hashlib.sha256(MP3).hexdigest()}.mp3"
    assert store.run(store.assets.complete_upload(store.owner, id_)) == asset
    assert store.run(store.assets.list(store.owner)) == [asset]
    assert store.rows(asset) == [(asset.path, "max-age=31536000, immutable")]
    assert files(store) == 1


def files(store: Store) -> int:
    """How many files the owner has in storage."""
    query = "select count(*) from storage.objects where name like %s"
    ((count,),) = store.project.sql(query, f"{store.owner}/%")
    return count


@pytest.mark.parametrize(
    ("data", "size", "code"),
    [
        (b"<script>alert(1)</script>", None, "content_type_mismatch"),
        (PNG, None, "content_type_mismatch"),
        (b"MZ" + bytes(100), None, "content_type_mismatch"),
        (b"", 1, "content_type_mismatch"),
        (MP3, 5, "size_mismatch"),
    ],
)
def test_an_upload_of_something_else_is_removed(store: Store, data: bytes, size: int | None, code: str) -> None:
    """By what it is, not by what it is called."""
    id_ = upload(store, data, size=size)
    with pytest.raises(InvalidRequest) as refused:
        store.run(store.assets.complete_upload(store.owner, id_))
    assert refused.value.code == code
    assert store.run(store.assets.find(store.owner, id_)) is None
    assert files(store) == 0


def test_an_upload_that_never_came(store: Store) -> None:
    """It may still come; twenty may be on their way."""
    begin = partial(store.assets.begin_upload, store.owner, filename="a", content_type="image/png", size=1)
    first = store.run(begin())
    with pytest.raises(Conflict) as refused:
        store.run(store.assets.complete_upload(store.owner, first.asset_id))
    assert refused.value.code == "not_uploaded"
    for _ in range(19):
        store.run(begin())
    with pytest.raises(LimitReached) as limited:
        store.run(begin())
    assert limited.value.code == "too_many_uploads"
    assert store.run(store.assets.remove(store.owner, first.asset_id))
    store.run(begin())


def test_what_may_be_uploaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and recordings, of a size, as much as an owner may have."""
    begin = partial(store.assets.begin_upload, store.owner, filename="a")
    with pytest.raises(InvalidRequest) as refused:
        store.run(begin(content_type="text/html", size=1))
    assert refused.value.code == "content_type_not_supported"
    with pytest.raises(PayloadTooLarge):
        store.run(begin(content_type="image/png", size=module.MAX_UPLOAD_BYTES + 1))
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 10)
    store.run(begin(content_type="image/png", size=6))
    with pytest.raises(LimitReached) as full:
        store.run(begin(content_type="image/png", size=5))
    assert full.value.code == "storage_full"
    with pytest.raises(NotFound):
        store.run(store.assets.complete_upload(store.owner, str(uuid4())))


def test_fault_45_leftovers_are_swept(store: Store) -> None:
    """Files without a row, rows without a file, uploads nobody completed and old leases go, and nothing else."""
    store.run(store.assets.sweep())  # what other tests left
    kept, gone, lost, young = (
        store.run(store.assets.store(store.owner, NewFile(PNG + bytes([number]), "image/png", "image")))
        for number in range(4)
    )
    old, fresh = upload(store, MP3), upload(store, MP3)
    sql = store.project.sql
    for asset in (lost, young):
        sql("delete from public.assets where id = %s", asset.id)
    store.run(store.files.remove("generated", [gone.path]))
    sql("update public.assets set created_at = now() - interval '4 hours' where id = any(%s)", [old, kept.id])
    sql("alter table storage.objects disable trigger user")
    sql("update storage.objects set updated_at = now() - interval '4 hours' where name <> %s", young.path)
    sql("alter table storage.objects enable trigger user")
    for key, age in (("a" * 64, "25 hours"), ("b" * 64, "1 hour")):
        sql(
            "insert into public.asset_generations (user_id, key, holder, lease_until, created_at) "
            "values (%s, %s, gen_random_uuid(), now() - %s::interval, now())",
            *(store.owner, key, age),
        )
    assert store.run(store.assets.sweep()) == {"leases": 1, "uploads": 1, "lost": 1, "files": 2}
    assert [len(store.rows(asset)) for asset in (kept, lost, young)] == [1, 0, 1]
    found = [store.run(store.assets.find(store.owner, id_)) for id_ in (kept.id, gone.id, old, fresh)]
    assert [asset is not None for asset in found] == [True, False, False, True]
    assert store.run(store.assets.sweep()) == {"leases": 0, "uploads": 0, "lost": 0, "files": 0}


def test_several_pictures_are_one_generation(store: Store) -> None:
    """All of them come back, in order; without one of them they are not what was asked for."""
    key = store.key()

    async def make(_claim: Claim) -> Made:
        return Made(tuple(NewFile(PNG + bytes([n]), "image/png", "image") for n in (1, 2, 3)), key)

    first = store.run(store.assets.generated(store.owner, [key], make, wait_s=PATIENT_S))
    assert len(first.assets) == 3
    assert store.run(store.process().generated(store.owner, [key], make, wait_s=PATIENT_S)).assets == first.assets
    store.run(store.assets.remove(store.owner, first.assets[1].id))
    again = store.run(store.assets.generated(store.owner, [key], make, wait_s=PATIENT_S))
    assert (again.cached, len(again.assets)) == (False, 3)
    assert len(store.run(store.assets.list(store.owner))) == 5


@pytest.mark.parametrize("error", [NoProvider("Nobody could."), BrokenStream(), ZeroDivisionError("a bug")])
def test_a_failure_reaches_all_who_waited(store: Store, error: Exception) -> None:
    """In the same process and in others, and nobody tries it again by itself."""
    key = store.key()
    maker = Maker(key, takes_s=0.3, fails=error)
    never = Maker(key)
    here, there = store.process(), store.process()

    async def go() -> list[Generated | BaseException]:
        first = asyncio.create_task(here.generated(store.owner, [key], maker, wait_s=PATIENT_S))
        await until(maker.noting, first)
        others = (each.generated(store.owner, [key], never, wait_s=PATIENT_S) for each in (here, here, there, there))
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = store.run(go())
    assert (first, maker.calls, never.calls) == (error, 1, 0)
    # A vendor's error is ours, and what is told of a bug is nothing.
    wanted = (
        error if isinstance(error, AppError) else NoProvider("") if isinstance(error, BrokenStream) else AppError("")
    )
    elsewhere = [failure for failure in others[2:] if isinstance(failure, AppError)]
    assert [(type(each), each.code) for each in elsewhere] == [(type(wanted), wanted.code)] * 2
    assert {type(each) for each in others[:2]} == {type(error) if type(error) is ZeroDivisionError else type(wanted)}
    # Who comes later tries it.
    assert store.run(there.generated(store.owner, [key], never, wait_s=PATIENT_S)).cached is False


def test_it_goes_on_until_the_last_has_left(store: Store) -> None:
    """Whoever began it; then the maker is cancelled, and the next makes it anew at once."""
    key = store.key()
    maker = Maker(key, takes_s=60)
    next_one = Maker(key)
    cancelled = asyncio.Event()

    async def make(claim: Claim) -> Made:
        try:
            return await maker(claim)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def go() -> None:
        ask = partial(store.assets.generated, store.owner, [key], make, wait_s=60)
        first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
        await until(maker.noting, first)
        first.cancel()
        await asyncio.wait([first])
        assert not cancelled.is_set()
        second.cancel()
        await asyncio.wait([second])
        assert cancelled.is_set()
        await store.process().generated(store.owner, [key], next_one, wait_s=PATIENT_S)

    store.run(go())
    assert (maker.calls, next_one.noted) == (1, [None])


class Cutting:
    """A line to the gateway that breaks in the middle of a file, for the first few files that are sent."""

    def __init__(self, loop: LoopThread, url: str, cuts: int) -> None:
        self.left = cuts
        self._to = httpx.URL(url)
        self._listener = Listener(loop, self._serve)
        self.url = self._listener.url
        self.close = self._listener.close

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._to.host, self._to.port)
        answers = asyncio.create_task(self._pass(there, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                back.write(head)
                if self.left and head.startswith(b"POST /storage/v1/object/generated/"):
                    self.left -= 1
                    back.write(await reader.readexactly(length // 2))
                    await back.drain()
                    break
                back.write(await reader.readexactly(length))
        finally:
            answers.cancel()
            back.close()

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)


@pytest.mark.parametrize(("cuts", "is_kept"), [(3, True), (4, False)])
def test_fault_45_upload_half_way(store: Store, loop: LoopThread, cuts: int, *, is_kept: bool) -> None:
    """What is paid for is sent again when its upload breaks off; where that does not help, no row claims it."""
    with closing(Cutting(loop, store.project.url, cuts)) as line:
        process = store.process(storage=line.url)
        key = store.key()
        maker = Maker(key, PNG + bytes(300_000))
        work = process.generated(store.owner, [key], maker, wait_s=PATIENT_S)
        if is_kept:
            (asset,) = store.run(work).assets
            assert store.run(store.assets.read(asset, max_bytes=400_000)) == PNG + bytes(300_000)
        else:
            with pytest.raises(DataFailed):
                store.run(work)
            assert (store.run(store.assets.list(store.owner)), files(store)) == ([], 0)
            again = Maker(key)
            store.run(store.assets.generated(store.owner, [key], again, wait_s=PATIENT_S))
            assert again.noted == ["request-1"]
        assert (maker.calls, line.left) == (1, 0)


def test_fault_45_removed_while_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is removed between its upload and its row is stored again: no row is without its file."""
    put = Files.put
    puts: list[str] = []

    async def put_and_lose(self: Files, bucket_id: str, path: str, data: bytes, content_type: str) -> None:
        await put(self, bucket_id, path, data, content_type)
        puts.append(path)
        if len(puts) == 1:
            await self.remove(bucket_id, [path])

    monkeypatch.setattr(Files, "put", put_and_lose)
    asset = store.run(store.process().store(store.owner, NewFile(PNG, "image/png", "image")))
    assert (len(puts), len(store.rows(asset))) == (2, 1)


def test_an_asset_whose_file_is_gone(store: Store) -> None:
    """Is none: it is forgotten as soon as somebody wants to read it, and what was generated is made again."""
    key = store.key()
    (asset,) = store.run(store.assets.generated(store.owner, [key], Maker(key), wait_s=PATIENT_S)).assets
    store.run(store.files.remove("generated", [asset.path]))
    with pytest.raises(NotFound):
        store.run(store.assets.link(asset))
    assert store.run(store.assets.find(store.owner, asset.id)) is None
    assert store.run(store.assets.generated(store.owner, [key], Maker(key), wait_s=PATIENT_S)).cached is False


def test_an_answer_that_was_lost(store: Store) -> None:
    """The rows were there already when they were asked for once more: they are there once, anew or not."""
    rpc = store.app.database
    assert rpc is not None
    lost: list[str] = []

    async def forgetful(function: str, arguments: Mapping[str, object], *, timeout_s: float = 2.0) -> Any:
        answer = await rpc(function, arguments, timeout_s=timeout_s)
        if function == "keep_assets" and not lost:
            lost.append(function)
            raise DataFailed("timeout")
        return answer

    process = Assets(forgetful, store.files, time.time, at_once)
    key = store.key()
    for anew in (False, True):
        lost.clear()
        made = store.run(process.generated(store.owner, [key], Maker(key), wait_s=PATIENT_S, anew=anew))
        assert (len(lost), made.cached, len(made.assets)) == (1, False, 1)
    assert len(store.run(store.assets.list(store.owner))) == 2


PROGRAM = """
import asyncio, sys, httpx
from lib.app import App
from lib.data.assets import Made, NewFile
from lib.settings import from_environ
url, secret, publishable, owner, key, vendor, count = sys.argv[1:]
PNG = b"\\x89PNG\\r\\n\\x1a\\n" + b"\\0\\0\\0\\rIHDR" + bytes(16)
async def main():
    keys = {"SUPABASE_SECRET_KEY": secret, "SUPABASE_PUBLISHABLE_KEY": publishable}
    app = App(from_environ({"SUPABASE_URL": url, **keys}))
    async def make(claim):
        await claim.note("fal", "flux", "request-1")
        async with httpx.AsyncClient(timeout=60) as http:
            await http.post(vendor)
        return Made((NewFile(PNG, "image/png", "image"),), key)
    asked = (app.assets.generated(owner, [key], make, wait_s=60) for _ in range(int(count)))
    print(*{each.assets[0].id for each in await asyncio.gather(*asked)})
    await app.aclose()
asyncio.run(main())
"""


def start(store: Store, key: str, vendor: str, count: int) -> subprocess.Popen[str]:
    """A process that asks for the same so many times at once."""
    told = (store.project.url, SECRET, PUBLISHABLE, store.owner, key, vendor, str(count))
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *told], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_fault_43_fifty_equal_requests(store: Store, loop: LoopThread) -> None:
    """Of fifty equal requests over four processes one calls the vendor, and all get the same asset."""
    gate = Gate()
    vendor = Web(loop, lambda _asked: Told(gate=gate))
    key = store.key()
    running = [start(store, key, vendor.url, count) for count in (13, 13, 12, 12)]
    vendor.wait_for(1, 30)
    gate.open()
    told = {process.communicate(timeout=60)[0].strip() for process in running}
    vendor.close()
    assert (len(vendor.asked), len(told), [process.returncode for process in running]) == (1, 1, [0] * 4)


def test_fault_43_maker_is_killed(store: Store, loop: LoopThread) -> None:
    """Killed while a vendor works, a process leaves the request's id to the next, who pays for nothing twice."""
    gate = Gate()
    vendor = Web(loop, lambda _asked: Told(gate=gate))
    key = store.key()
    dying = start(store, key, vendor.url, 3)
    vendor.wait_for(1, 30)
    dying.kill()
    dying.communicate(timeout=30)
    gate.open()
    vendor.close()
    heir = Maker(key)
    with pytest.raises(Unavailable) as waiting:
        store.run(store.assets.generated(store.owner, [key], heir, wait_s=0.2))
    assert (waiting.value.code, heir.calls) == ("generation_in_progress", 0)
    store.die()
    store.run(store.assets.generated(store.owner, [key], heir, wait_s=PATIENT_S))
    assert heir.noted == ["request-1"]


def test_fault_42_one_picture_of_several_fails(store: Store) -> None:
    """Of several pictures that are asked for again, only the one that failed is made again."""
    makers = [Maker(store.key(str(number)), PNG + bytes([number])) for number in range(5)]
    makers[3].fails = ContentRefused()

    async def all_of_them() -> list[Generated | BaseException]:
        asked = (store.assets.generated(store.owner, [maker.key], maker, wait_s=PATIENT_S) for maker in makers)
        return await asyncio.gather(*asked, return_exceptions=True)

    first = store.run(all_of_them())
    assert [isinstance(each, Generated) for each in first] == [True, True, True, False, True]
    makers[3].fails = None
    again = [each for each in store.run(all_of_them()) if isinstance(each, Generated)]
    assert [each.cached for each in again] == [True, True, True, False, True]
    assert [maker.calls for maker in makers] == [1, 1, 1, 2, 1]

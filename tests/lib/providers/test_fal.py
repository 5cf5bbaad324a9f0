"""The pictures' adapter over real sockets: submitted once, looked at until it is done, and never led astray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from lib.errors import (
    BrokenStream,
    ConnectionFailed,
    ContentRefused,
    CredentialsRejected,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TimedOut,
    Unconfirmed,
)
from lib.outbound import Outbound
from lib.providers.catalog import IMAGE_ROWS
from lib.providers.fal import Deadlines, Fal
from lib.providers.images import Drawn, ImageRequest, read_picture
from tests.fakes.fal import REQUEST_ID, FakeFal, Step, picture
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.fakes.web import Told, told

Result = TypeVar("Result")
ROW = next(row for row in IMAGE_ROWS if row.name == "fal")
MODEL = ROW.models[0]
PROMPT = "canary-of-a-prompt"
REQUEST = ImageRequest(PROMPT)
AT_ONCE = Deadlines(interval_s=0)


@pytest.fixture
def fal(loop: LoopThread) -> Iterator[FakeFal]:
    """A fake fal, whose requests all fitted its description."""
    fake = FakeFal(loop)
    yield fake
    fake.close()
    assert fake.violations == []


def over(fal: FakeFal, work: Callable[[Fal], Coroutine[Any, Any, Result]], deadlines: Deadlines = AT_ONCE) -> Result:
    """Do this with the adapter over the fake."""

    async def do() -> Result:
        outbound = Outbound()
        try:
            return await work(
                Fal(ROW, api_key="key-of-fal", base_url=fal.url, http=outbound.httpx, deadlines=deadlines)
            )
        finally:
            await outbound.aclose()

    return asyncio.run(do())


def drawn(fal: FakeFal, request: ImageRequest = REQUEST, **given: Any) -> Drawn:
    """Draw this."""
    deadlines = given.pop("deadlines", AT_ONCE)
    return over(fal, lambda adapter: adapter.draw(request, MODEL, **given), deadlines)


def test_drawn(fal: FakeFal) -> None:
    """Submitted with the key, waited for, fetched without it; what a picture is its own bytes say."""
    fal.pictures = [picture(48, 24), picture(40, 30, "PNG")]
    waiting = told({"status": "IN_QUEUE", "queue_position": 1}, 202)
    fal.faults = [("status", waiting), ("status", told({"status": "IN_PROGRESS", "logs": None}, 202))]
    ids: list[str] = []
    request = ImageRequest(PROMPT, size=(640, 360), count=2, seed=11)
    answer = drawn(fal, request, submitted=ids.append)
    assert [(each.content_type, each.width, each.height) for each in answer.pictures] == [
        ("image/jpeg", 48, 24),
        ("image/png", 40, 30),
    ]
    assert [each.data for each in answer.pictures] == fal.pictures
    assert (answer.request_id, answer.seed, ids) == (REQUEST_ID, 11, [REQUEST_ID])
    assert fal.steps == ["submit", "status", "status", "status", "result", "file", "file"]
    submitted, status, *_ = fal.asked
    assert submitted.path == "/fal-ai/flux/schnell"
    assert submitted.headers["authorization"] == "Key key-of-fal"
    assert submitted.json() == {
        "prompt": PROMPT,
        "image_size": {"width": 640, "height": 360},
        "num_images": 2,
        "output_format": "jpeg",
        "enable_safety_checker": True,
        "num_inference_steps": 4,
        "seed": 11,
    }
    assert status.path == f"/fal-ai/flux/requests/{REQUEST_ID}/status"
    assert all("authorization" not in asked.headers for asked in fal.asked if asked.path.startswith("/files"))


def failure(status: int, kind: str = "x", **headers: str) -> Told:
    """An error in fal's shape."""
    return told({"detail": [{"loc": ["body"], "msg": PROMPT, "type": kind}]}, status, **headers)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (failure(401), CredentialsRejected),
        (failure(402), QuotaExhausted),
        (failure(403), CredentialsRejected),
        (failure(404), ModelUnavailable),
        (failure(422), RequestRejected),
        (failure(422, "content_policy_violation"), ContentRefused),
        (failure(429, retry_after="7"), RateLimited),
        (failure(500), Overloaded),
        (Told(502, b"<html>nginx</html>"), Overloaded),
        (Told(408), Overloaded),
        (Told(200, b"not json"), Unconfirmed),
        (Told(200, b"{}"), Unconfirmed),
        (Told(200, b"[]"), Unconfirmed),
        (Told(302, b"", {"location": "https://elsewhere.example/"}), Unconfirmed),
        (told({"request_id": "../../x", "response_url": "", "status_url": "", "cancel_url": ""}), Unconfirmed),
        (Told(200, b'{"request_id": "lost"}', cut=5), Unconfirmed),
        (Told(200, b"x" * 2_000_000), Unconfirmed),
    ],
    ids=lambda value: f"{value.status}" if isinstance(value, Told) else value.__name__,
)
def test_submission_fails(fal: FakeFal, fault: Told, verdict: type[ProviderError]) -> None:
    """Each failure has its name, holds nothing that was sent, and nothing is submitted twice."""
    fal.faults = [("submit", fault)]
    with pytest.raises(ProviderError) as caught:
        drawn(fal)
    assert type(caught.value) is verdict
    assert PROMPT not in str(caught.value)
    assert fal.steps == ["submit"]
    if verdict is RateLimited:
        assert caught.value.retry_after_s == 7


def test_silent_submission(fal: FakeFal) -> None:
    """No answer in time: nobody knows whether it was taken, so it is not sent again."""
    fal.faults = [("submit", Told(gate=Gate()))]
    with pytest.raises(TimedOut):
        drawn(fal, deadlines=Deadlines(submit_s=0.3))
    assert fal.steps == ["submit"]


@pytest.mark.parametrize("step", ["status", "result", "file"])
@pytest.mark.parametrize(
    "fault", [failure(503), Told(200, b"", cut=0), Told(200, b"{", cut=0)], ids=["503", "cut", "cut2"]
)
def test_looked_at_again(fal: FakeFal, step: Step, fault: Told) -> None:
    """A lost look costs nothing and is repeated, a few times; the submission is not."""
    fal.faults = [(step, fault)] * 2
    assert len(drawn(fal).pictures) == 1
    assert (fal.count("submit"), fal.count(step)) == (1, 3)


@pytest.mark.parametrize("step", ["status", "result", "file"])
def test_looked_at_in_vain(fal: FakeFal, step: Step) -> None:
    """After three of them in a row it is over."""
    fal.faults = [(step, failure(500))] * 3
    with pytest.raises(Overloaded):
        drawn(fal)
    assert (fal.count("submit"), fal.count(step)) == (1, 3)


def test_collected_later(fal: FakeFal) -> None:
    """A known id is looked for, and nothing is submitted."""
    assert drawn(fal, request_id=REQUEST_ID).request_id == REQUEST_ID
    assert fal.steps == ["status", "result", "file"]


@pytest.mark.parametrize("request_id", ["../../other", "a/b", "", "x?y=1"])
def test_no_id(fal: FakeFal, request_id: str) -> None:
    """What is no id never becomes part of an address."""
    with pytest.raises(BrokenStream):
        drawn(fal, request_id=request_id)
    assert fal.steps == []


def test_unsafe(fal: FakeFal) -> None:
    """A picture that fal judged unsafe is refused, and not even fetched."""
    fal.unsafe = True
    with pytest.raises(ContentRefused):
        drawn(fal)
    assert fal.count("file") == 0


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/1.jpg",
        "http://fal.media/1.jpg",
        "https://fal.media.evil.example/1.jpg",
        "https://notfal.media/1.jpg",
        "https://fal.media@evil.example/1.jpg",
        "https://v3.fal.media:444/1.jpg",
        "http://127.0.0.1:1/files/0",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "https://[::1/x",
        "",
    ],
)
def test_elsewhere(fal: FakeFal, link: str) -> None:
    """Pictures are fetched from the vendor's own hosts, by https, and from the base URL's origin, else not at all."""
    fal.links = [link]
    with pytest.raises(BrokenStream):
        drawn(fal)
    assert fal.count("file") == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"GIF89a" + bytes(20), picture()[:3], picture(kind="PNG")[:12], b"\xff\xd8\xff\xe0\x00\x00" * 3],
    ids=["nothing", "html", "gif", "cut jpeg", "cut png", "loop"],
)
def test_no_picture(fal: FakeFal, body: bytes) -> None:
    """Bytes that are neither JPEG nor PNG are no picture, whatever their header says."""
    fal.pictures = [body]
    with pytest.raises(BrokenStream):
        drawn(fal)


def test_redirected(fal: FakeFal) -> None:
    """A picture's address that leads on is not followed."""
    away = Told(302, b"", {"location": f"{fal.url}/files/0"})
    fal.faults = [("file", away)] * 3
    with pytest.raises(BrokenStream):
        drawn(fal)
    assert fal.count("file") == 3


def test_too_late(fal: FakeFal) -> None:
    """When the time for all is up, the request is withdrawn at the vendor."""
    fal.faults = [("status", Told(gate=Gate()))]
    with pytest.raises(TimedOut):
        drawn(fal, deadlines=Deadlines(total_s=0.5))
    assert fal.steps == ["submit", "status", "cancel"]


@pytest.mark.parametrize("step", ["submit", "status"])
def test_caller_leaves(fal: FakeFal, step: Step) -> None:
    """Whoever leaves, even before the id is there, leaves nothing behind on the queue."""
    gate = Gate()
    scripted = {"submit": fal_submitted(gate), "status": Told(gate=gate)}[step]
    fal.faults = [(step, scripted)]

    async def leave(adapter: Fal) -> None:
        drawing = asyncio.create_task(adapter.draw(REQUEST, MODEL))
        await asyncio.to_thread(fal.wait_for, 1 if step == "submit" else 2)
        drawing.cancel()
        await asyncio.sleep(0)
        if step == "submit":
            gate.open()
        with pytest.raises(asyncio.CancelledError):
            await drawing

    over(fal, leave)
    assert fal.steps[-1] == "cancel"
    assert fal.asked[-1].method == "PUT"
    assert fal.asked[-1].path == f"/fal-ai/flux/requests/{REQUEST_ID}/cancel"


def fal_submitted(gate: Gate) -> Told:
    """The answer to a submission, when the gate opens."""
    urls = dict.fromkeys(("response_url", "status_url", "cancel_url"), "https://elsewhere.example")
    answer = told({"request_id": REQUEST_ID, **urls})
    return Told(200, answer.body, answer.headers, gate)


def test_submission_lost(fal: FakeFal) -> None:
    """Hung up on without a word: the request may be there all the same, so this is no failed connection."""
    fal.faults = [("submit", Told(gate=Gate()))]

    async def lose(adapter: Fal) -> None:
        drawing = asyncio.create_task(adapter.draw(REQUEST, MODEL))
        await asyncio.to_thread(fal.wait_for, 1)
        await asyncio.to_thread(fal.close)
        with pytest.raises(BrokenStream):
            await drawing

    over(fal, lose)
    assert fal.steps == ["submit"]


def test_nobody_there(fal: FakeFal) -> None:
    """No connection, no request: another vendor may be asked at once."""
    fal.close()
    with pytest.raises(ConnectionFailed):
        drawn(fal)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_cut(kind: str) -> None:
    """However a picture is cut, it is read as what it is or not at all."""
    whole = picture(300, 200, kind)
    for length in range(len(whole)):
        found = read_picture(whole[:length])
        assert found is None or (found.width, found.height) == (300, 200)
    found = read_picture(whole)
    assert found is not None
    assert (found.width, found.height) == (300, 200)

"""Pictures and speech on the page of `make run`, made by the embedded engines: the whole flow without a key."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, cast

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from lib.media.styles import STYLES
from local.drawing import STYLES as DRAWN
from tests.browser.chromium import Page, ViewportSize, expect, wider_than_page
from tests.conftest import ROOT
from tests.local.test_server import Running, free_port

pytestmark = pytest.mark.slow
_numpy: Any = np
"""Its overloads are partly untyped."""
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """`make run`, without keys."""
    running = Running({}, "--port", str(free_port())).ready()
    yield running
    running.stop()
    running.rest()
    assert running.process.stdout is not None
    running.process.stdout.close()


def test_whole_flow_by_the_embedded_engines(server: Running) -> None:
    """One call writes, draws and reads; the picture is one, and what is heard has the length and the words it says."""
    ask = {
        "prompt": "Say in one sentence what a lighthouse is for.",
        "outputs": ["text", "image", "speech"],
        "image": {"style": "papercut", "size": "square"},
        "max_tokens": 40,
        "stream": False,
    }
    with httpx.Client(base_url=server.url, timeout=90) as guest:
        answer = guest.post("/api/generate", json=ask)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assets = {asset["kind"]: asset for asset in told["assets"]}
        picture = Image.open(io.BytesIO(guest.get(assets["image"]["url"]).content))
        assert picture.size == (512, 512)
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 100
        with cast("Any", av).open(io.BytesIO(guest.get(assets["audio"]["url"]).content)) as clip:
            sound = _numpy.concatenate([frame.to_ndarray().ravel() for frame in clip.decode(audio=0)])
        assert len(sound) / 44_100 == pytest.approx(assets["audio"]["duration_ms"] / 1000, abs=0.2)
        assert float(_numpy.sqrt((sound**2).mean())) > 0.02
        assert len(told["text"].split()) / (len(sound) / 44_100) == pytest.approx(2.7, abs=1.7), "words a second"
        enhanced = guest.post(
            "/api/generate",
            json={"outputs": ["speech"], "speech": {"enhance": assets["audio"]["id"]}, "stream": False},
        ).json()
        assert enhanced["assets"][0]["duration_ms"] == pytest.approx(assets["audio"]["duration_ms"], abs=300)
        listed = guest.get("/api/assets").json()["assets"]
    assert (told["cost_usd"], len(listed)) == (0, 3)


@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_page_shows_files_and_keeps_them(
    server: Running, page: Page, complaints: list[str], size: ViewportSize | None
) -> None:
    """An answer has its picture, player and downloads, and the gallery has both until they are deleted."""
    if size is not None:
        page.set_viewport_size(size)
    page.goto(server.url)
    page.get_by_label("Picture", exact=True).check()
    page.get_by_label("Speech", exact=True).check()
    page.get_by_label("Style of the picture").select_option("waves")
    expect(page.get_by_label("Voice").locator("option")).to_have_text(["Usual voice", "Joe (en)"])
    page.get_by_label("Your prompt").fill("Say in one short sentence what the sea is.")
    page.get_by_role("button", name="Send").click()
    turn = page.locator(".turn")
    expect(turn).to_have_attribute("data-state", "done", timeout=90_000)
    picture, player = turn.locator("figure img"), turn.locator("figure audio")
    expect(picture).to_have_js_property("naturalWidth", 1024)
    expect(player).to_have_js_property("readyState", 4)
    assert player.evaluate("player => player.duration") > 1
    assert turn.locator(".text").inner_text()
    for link, name in zip(turn.locator(".save").all(), ["picture.jpg", "speech.mp3"], strict=True):
        with page.expect_download() as download:
            link.click()
        assert download.value.suggested_filename == name
    assert wider_than_page(page) == []
    page.get_by_role("button", name="Gallery").click()
    items = page.locator("#gallery-list li")
    expect(items).to_have_count(2)
    expect(page.locator("#gallery-list figcaption").last).to_contain_text("Say in one short sentence")
    page.get_by_role("button", name=re.compile("Delete Say in one")).click()
    expect(items).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#gallery")).to_be_hidden()
    assert complaints == []


def test_text_is_not_needed(server: Running, page: Page) -> None:
    """A picture alone is an answer too; one output always stays chosen."""
    page.goto(server.url)
    page.get_by_label("Picture", exact=True).check()
    page.get_by_label("Text", exact=True).uncheck()
    page.get_by_label("Picture", exact=True).click()
    expect(page.get_by_label("Picture", exact=True)).to_be_checked()
    page.get_by_label("Your prompt").fill("A teapot")
    page.get_by_role("button", name="Send").click()
    turn = page.locator(".turn")
    expect(turn).to_have_attribute("data-state", "done", timeout=90_000)
    expect(turn.locator("figure img")).to_have_js_property("naturalWidth", 1024)
    assert (turn.locator(".text").inner_text(), turn.locator(".state").inner_text()) == ("", "")


def test_styles_are_the_same_everywhere() -> None:
    """The page, the words for vendors and the embedded engine know the same styles."""
    shown = re.findall(r"'([a-z]+)',", (ROOT / "public/media.js").read_text().split("STYLES = [")[1].split("]")[0])
    assert shown == list(STYLES) == list(DRAWN)

"""The page of sales letters over `make run`, made by the embedded engines: from the brief to a video that plays."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Page, ViewportSize, expect, wider_than_page
from tests.local.test_server import Running, free_port

pytestmark = pytest.mark.slow
PHONE: ViewportSize = {"width": 390, "height": 844}
MADE_WITHIN_MS = 240_000
CHANGED = "It floats, and rain does it no harm."


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """`make run`, without keys."""
    running = Running({}, "--port", str(free_port())).ready()
    yield running
    running.stop()
    running.rest()
    assert running.process.stdout is not None
    running.process.stdout.close()


def fill(page: Page, server: Running) -> None:
    """The sample's brief, made short."""
    page.goto(f"{server.url}/vsl.html")
    page.get_by_role("button", name="sample product").click()
    page.get_by_label("Seconds").fill("10")
    page.get_by_label("Format").select_option("1:1")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Captions", exact=True).select_option("karaoke")


def plays(page: Page) -> list[str]:
    """Play the video to its end, with its captions showing; the captions that were seen."""
    page.evaluate(
        """() => {
            window.player = document.querySelector('#player');
            window.track = player.textTracks[0];
            track.mode = 'showing';
            window.seen = [];
            track.addEventListener('cuechange', () => {
                for (const cue of track.activeCues) seen.push(cue.getCueAsHTML().textContent.replace(/\\s+/g, ' '));
            });
            player.muted = true;
            return player.play();
        }"""
    )
    expect(page.locator("#player")).to_have_js_property("ended", value=True, timeout=60_000)
    assert page.evaluate("[player.videoWidth, player.videoHeight]") == [720, 720]
    return page.evaluate("[...new Set(seen)]")


def test_script_first_then_edited(server: Running, page: Page, complaints: list[str]) -> None:
    """A script alone; one sentence edited; its video plays with captions that say it; every download is a file."""
    fill(page, server)
    page.get_by_role("button", name="What will it cost?").click()
    expect(page.locator("#estimate-told")).to_contain_text("At most")
    page.get_by_role("button", name="Script first").click()
    expect(page.locator("#job-state")).to_have_text("Finished", timeout=MADE_WITHIN_MS)
    boxes = page.get_by_label(re.compile("Narration of frame"))
    assert boxes.count() >= 3
    boxes.nth(1).fill(CHANGED)
    page.get_by_role("button", name="Make the video of this script").click()
    expect(page.locator("#job-state")).to_have_text(re.compile(r"\d+ %"))
    expect(page.locator("#stages li").first).to_have_attribute("data-state", "done", timeout=MADE_WITHIN_MS)
    expect(page.locator(".frame img").first).to_be_visible(timeout=MADE_WITHIN_MS)
    expect(page.locator("#job-state")).to_have_text("Finished", timeout=MADE_WITHIN_MS)
    assert CHANGED in " ".join(plays(page))
    links = page.locator("#downloads a")
    assert links.all_inner_texts()[0] == "Video (MP4)"
    names: list[str] = []
    for link in links.all():
        with page.expect_download() as download:
            link.click()
        names.append(download.value.suggested_filename)
        assert download.value.path().stat().st_size > 100
    assert names == [
        *("video.mp4", "captions_vtt.vtt", "captions_srt.srt", "transcript.html", "poster.jpg", "narration.m4a"),
        "manifest.json",
    ]
    expect(page.locator("#stages li")).to_have_count(5)
    assert [stage.get_attribute("data-state") for stage in page.locator("#stages li").all()] == ["done"] * 5
    assert complaints == []


@pytest.mark.parametrize("size", [PHONE, None], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_is_found_again(
    server: Running, page: Page, complaints: list[str], size: ViewportSize | None, scheme: str
) -> None:
    """On a phone and a desktop, light and dark, nothing is cut off; loaded again, the page has the same job."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    if size is not None:
        page.set_viewport_size(size)
    fill(page, server)
    page.get_by_label("Product").fill("")
    page.get_by_role("button", name="Make the video").click()
    expect(page.get_by_label("Product")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Product").fill("Lumen, a solar lamp")
    page.get_by_role("button", name="Script first").click()
    expect(page.locator("#job-state")).to_have_text("Finished", timeout=MADE_WITHIN_MS)
    title = page.locator("#job-title").inner_text()
    page.reload()
    expect(page.locator("#job-title")).to_have_text(title)
    expect(page.get_by_label(re.compile("Narration of frame")).first).to_be_visible()
    assert wider_than_page(page) == []
    # The empty brief's 422, which the browser tells of by itself.
    assert [each for each in complaints if "422" not in each] == []

"""A finished video and its captions in a real browser; run with REQUIRE_BROWSER=1, it may not be skipped."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.vsl.compose import Composition, compose
from tests.browser.chromium import Page, Route
from tests.lib.vsl.media import ffmpeg, run, scenes

pytestmark = pytest.mark.slow

SITE = "http://video.test"
FILES = {"video.mp4": "video/mp4", "captions.vtt": "text/vtt", "poster.jpg": "image/jpeg"}
PLAYER = """<!doctype html><meta charset=utf-8><body style="margin:0">
<video width=640 height=360 muted poster=/poster.jpg src=/video.mp4>
<track default kind=captions srclang=pt src=/captions.vtt></video>"""


def test_plays_with_captions(page: Page, complaints: list[str], tmp_path: Path) -> None:
    """The video plays to its end; each caption shows over the lower part of the picture, its words with their times."""
    composition = Composition(scenes(tmp_path), 320, 180, language="pt", karaoke=True)
    with ThreadPoolExecutor(1) as aside:  # Playwright's own loop runs in this thread
        made = aside.submit(run, lambda deadline: compose(ffmpeg(), composition, tmp_path, deadline)).result()
    page.route(f"{SITE}/", lambda route: route.fulfill(body=PLAYER, content_type="text/html"))
    for name, kind in FILES.items():
        page.route(f"{SITE}/{name}", answer(tmp_path / name, kind))
    page.goto(f"{SITE}/")
    page.evaluate(
        """() => {
            window.video = document.querySelector('video');
            window.track = video.textTracks[0];
            window.seen = [];
            track.addEventListener('cuechange', () => {
                for (const cue of track.activeCues) seen.push(cue.getCueAsHTML().textContent);
            });
            return video.play();
        }"""
    )
    page.wait_for_function("video.currentTime > 0.4 && track.activeCues.length")
    page.evaluate("video.pause()")
    words = page.evaluate(
        "[...track.activeCues[0].getCueAsHTML().querySelectorAll('span')].map(each => each.textContent)"
    )
    assert words == ["Chega", "de", "lâmpadas", "fracas."]
    change = np.abs(picture(page, "showing") - picture(page, "hidden"))
    assert change[:180].mean() < 1
    assert change[250:].mean() > 3
    page.evaluate("track.mode = 'showing'; video.play()")
    page.wait_for_function("video.ended")
    assert page.evaluate("[video.videoWidth, video.videoHeight]") == [320, 180]
    assert abs(page.evaluate("video.duration") - made.line.duration_s) <= 0.04
    assert page.evaluate("seen") == ["\n".join(cue.text) for cue in made.cues]
    assert complaints == []


def answer(path: Path, content_type: str) -> Callable[[Route], None]:
    """What answers the browser with a file."""
    return lambda route: route.fulfill(path=path, content_type=content_type)


def picture(page: Page, mode: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What the tab shows with the captions showing or hidden, in grey."""
    page.evaluate(
        f"new Promise(done => {{ track.mode = '{mode}'; requestAnimationFrame(() => setTimeout(done, 100)) }})"
    )
    with Image.open(io.BytesIO(page.locator("video").screenshot())) as image:
        return np.asarray(image.convert("L")).astype(float)

"""Texts that break files, in every field of a brief: what ffmpeg is given, and what is written, stays what it was."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lib.vsl.brief import Brief, read_brief
from lib.vsl.captions import Cue, Passage, cues, estimate, shifted
from lib.vsl.compose import join
from lib.vsl.documents import Told, transcript, words_json
from lib.vsl.ffmpeg import Ffmpeg, Step
from lib.vsl.film import card, clips, film
from lib.vsl.own import own_script
from lib.vsl.screenplay import Script
from lib.vsl.sound import Sound
from lib.vsl.timeline import Timeline, timeline
from tests.lib.vsl.briefs import Parameters
from tests.lib.vsl.media import picture
from tests.lib.vsl.test_captions import hostile

FRAMES = 2
OURS = re.compile(r"(clip|card)-[0-9a-f]{24}")
SIZE = (192, 108)


@dataclass(frozen=True)
class Recording(Ffmpeg):
    """Starts nothing: keeps what it was to be started with, and leaves a file."""

    seen: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    async def run(self, arguments: Sequence[str], folder: Path, step: Step, deadline: float) -> str:
        """See Ffmpeg."""
        del step, deadline
        self.seen.append(tuple(OURS.sub(r"\1", argument) for argument in arguments))
        (folder / arguments[-1].removeprefix("file:")).touch()
        return ""


class Outline(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's hook."""
        self.elements.append(f"{tag} {' '.join(name for name, _ in attrs)}")

    def handle_data(self, data: str) -> None:
        """HTMLParser's hook."""
        self.texts.append(data)


def brief_of(seed: int) -> Brief:
    """A brief whose every text is hostile."""

    def text(number: int) -> str:
        # Half of a surrogate pair is no JSON, and never gets here.
        return hostile(100 * seed + number).replace("\ud800", "")

    def frame(number: int) -> dict[str, str]:
        names = ("narration", "on_screen", "image_prompt", "alt")
        return {name: f"a{text(number * 10 + place)}" for place, name in enumerate(names)}

    fields = ("product", "audience", "offer", "guarantee", "tone")
    body: dict[str, Any] = {name: f"a{text(50 + place)}"[:80] for place, name in enumerate(fields)}
    body["facts"] = [{"id": "a", "text": f"a{text(60)}"}]
    body["cta"] = {"text": f"a{text(61)}"[:80]}
    body["script"] = {"title": f"a{text(62)}"[:60], "frames": [frame(number) for number in range(FRAMES)]}
    body["captions"] = {"burn_in": True, "style": "karaoke"}
    return read_brief(body)


@dataclass(frozen=True)
class Written:
    """What becomes of a script without a vendor: captions, and what ffmpeg is asked."""

    script: Script
    line: Timeline
    captions: tuple[Cue, ...]
    arguments: list[tuple[str, ...]]


def written(script: Script, folder: Path) -> Written:
    """Everything up to ffmpeg."""
    line = timeline([1.5] * len(script.frames))
    pictures = [folder / "0.png", folder / "1.png"]
    passages = [
        Passage(shifted(estimate(each.narration, 0.0, 1.5), span.start_s), span.start_s, span.end_s)
        for each, span in zip(script.frames, line.spans, strict=True)
    ]
    captions = cues(passages, language="en")
    ffmpeg = Recording(Path("ffmpeg"))

    async def made() -> None:
        planned = clips(pictures, line, width=SIZE[0], height=SIZE[1], burned=captions, karaoke=True)
        films = [await film(ffmpeg, clip, folder, 0) for clip in planned]
        await card(ffmpeg, script.frames[0].on_screen, *SIZE, folder / f"card-{'0' * 24}.png", frame=0, deadline=0)
        await join(ffmpeg, films, Sound(folder / "sound.m4a", None, None), folder / "video.mp4", 0)
        for path in films:
            path.unlink()
            path.with_suffix(".ass").unlink()

    asyncio.run(made())
    return Written(script, line, captions, ffmpeg.seen)


def plain() -> Script:
    """Of words that break nothing."""
    frames = [{"narration": "A lamp.", "on_screen": "Lamp", "image_prompt": "a lamp", "alt": "A lamp"}] * FRAMES
    return own_script(
        read_brief({"product": "Lamp", "script": {"title": "Lamp", "frames": frames}}).request(Parameters())
    )


def check(seed: int, usual: Written, folder: Path) -> None:
    """One brief."""
    request = json.loads(json.dumps(brief_of(seed).request(Parameters())))
    found = written(own_script(request), folder)
    assert found.arguments == usual.arguments
    assert re.fullmatch(r"(file 'clip-[0-9a-f]{24}\.mp4'\n){2}", (folder / "video.txt").read_text())
    told = [Told(frame.narration, frame.alt) for frame in found.script.frames]
    page = Outline(transcript(found.script.title, "en", told, found.line))
    assert page.elements == Outline(transcript("Lamp", "en", [Told("A", "B")] * FRAMES, found.line)).elements
    narrations = {frame.narration for frame in told}
    assert [text for text in page.texts if text in narrations][-FRAMES:] == [frame.narration for frame in told]
    words = [estimate(frame.narration, 0.0, 1.5) for frame in told]
    back = json.loads(json.dumps(words_json(words, estimated=True)))
    assert [[word["text"] for word in each["words"]] for each in back["frames"]] == [
        [word.text for word in each] for each in words
    ]


@pytest.fixture
def usual(tmp_path: Path) -> Written:
    """What ffmpeg is asked for plain words."""
    for number in range(FRAMES):
        picture(tmp_path / f"{number}.png", number, (64, 64))
    found = written(plain(), tmp_path)
    assert [arguments[0] for arguments in found.arguments] == ["-v"] * (FRAMES + 2)
    return found


def test_fault_49_hostile_text_in_every_field(usual: Written, tmp_path: Path) -> None:
    """Whatever a brief's texts are, ffmpeg gets the same arguments, and files hold text where text belongs."""
    for seed in range(100):
        check(seed, usual, tmp_path)


@pytest.mark.slow
def test_fault_49_ten_thousand_hostile_briefs(usual: Written, tmp_path: Path) -> None:
    """The same for ten thousand generated briefs."""
    for seed in range(100, 10_100):
        check(seed, usual, tmp_path)

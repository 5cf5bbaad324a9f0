"""From stills and narrations to a finished MP4, as a player finds it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.errors import RenderFailed
from lib.vsl.compose import Composed, Composition, Scene, compose
from lib.vsl.film import card
from lib.vsl.timeline import FPS
from tests.lib.vsl.media import boxes, ffmpeg, loudness, picture, probe, run, scenes, voice
from tests.lib.vsl.test_captions import hostile

NO_SAMPLES = bytes.fromhex(
    "52494646 24000000 57415645 666d7420 10000000 01000100 80bb0000 00770100 02001000 64617461 00000000"
)
"""A WAV file of nothing."""
SIZE = (192, 108)


def composed(composition: Composition, folder: Path) -> Composed:
    """Compose in a folder that is made for it."""
    folder.mkdir(exist_ok=True)
    return run(lambda deadline: compose(ffmpeg(), composition, folder, deadline))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Composed:
    """A video of three moving pictures."""
    folder = tmp_path_factory.mktemp("video")
    return composed(Composition(scenes(folder), *SIZE, language="pt"), folder)


def test_plays_everywhere(video: Composed) -> None:
    """H.264 in yuv420p and AAC at 25 pictures a second, without a gap, playable before it is loaded."""
    found = probe(video.video)
    assert (found.codecs, found.size, found.rate, found.pixel_format) == (("h264", "aac"), (192, 108), FPS, "yuv420p")
    assert [float(after - before) for before, after in pairwise(found.times)] == [1 / FPS] * (len(found.times) - 1)
    assert found.times[0] == 0
    assert boxes(video.video).index("moov") < boxes(video.video).index("mdat")


def test_lasts_as_long_as_the_narration(video: Composed) -> None:
    """Voices, pauses and tail, rounded up to video frames; sound and picture end within a frame of each other."""
    found = probe(video.video)
    spoken = [round(x * FPS + 0.4999999) for x in (1.21 + 0.3, 1.5 + 0.3, 0.9 + 0.6)]
    assert [span.frames for span in video.line.spans] == spoken
    assert len(found.pictures) == sum(spoken)
    assert abs(found.sound_s - len(found.pictures) / FPS) <= 1 / FPS


def test_pictures_move_and_none_is_black(video: Composed) -> None:
    """Every frame shows something; a shot begins and ends differently, but not as differently as two shots are."""
    pictures = [each.astype(float) for each in probe(video.video).pictures]
    assert min(each.std() for each in pictures) > 10
    moved = [np.abs(pictures[span.end - 1] - pictures[span.start + span.fade]).mean() for span in video.line.spans]
    assert 0.5 < min(moved) < max(moved) < 10
    middles = [pictures[(span.start + span.fade + span.end) // 2] for span in video.line.spans]
    assert min(np.abs(after - before).mean() for before, after in pairwise(middles)) > 10


def test_crossfade(video: Composed) -> None:
    """Half-way through a fade the picture is the mean of the one before and the one after, not a cut."""
    pictures = [each.astype(float) for each in probe(video.video).pictures]
    span = video.line.spans[1]
    before, after = pictures[span.start - 1], pictures[span.start + span.fade]
    middle = pictures[span.start + span.fade // 2]
    assert np.abs(middle - (before + after) / 2).mean() < np.abs(after - before).mean() / 5


def test_loudness(video: Composed) -> None:
    """-16 LUFS and at most -1.5 dBTP as delivered, whatever the voice had; what was noted is what is heard."""
    lufs, peak = loudness(video.video)
    assert lufs == pytest.approx(-16, abs=0.5)
    assert peak <= -1.5
    assert video.sound.lufs == pytest.approx(lufs, abs=0.3)


def test_captions_and_words(video: Composed) -> None:
    """All words in order, within their own picture's time; marked as estimated where the voice told no times."""
    shown = " ".join(" ".join(cue.text) for cue in video.cues)
    assert shown == "Chega de lâmpadas fracas. A luz do sol, à noite! Peça hoje, porque acaba."
    for words, span in zip(video.words, video.line.spans, strict=True):
        assert span.start_s <= words[0].start_s <= words[-1].end_s <= span.end_s
    assert video.estimated
    assert video.webvtt.read_text().startswith("WEBVTT\n\nNOTE timing: estimated\n")
    assert video.srt.read_text().count("-->") == len(video.cues)


def test_poster(video: Composed) -> None:
    """The first picture as JPEG in the video's size."""
    with Image.open(video.poster) as poster:
        assert (poster.format, poster.size) == ("JPEG", (192, 108))
        assert np.asarray(poster.convert("L")).std() > 10


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    """Cut short after two clips, it goes on; with another sentence only that one and the fade from it are cut again."""
    composition = Composition(scenes(tmp_path), *SIZE)
    first = composed(composition, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-*.*") if path.suffix != ".ass"}
    max(tmp_path.glob("clip-*.mp4"), key=lambda path: path.stat().st_mtime_ns).unlink()
    first.video.unlink()
    again = composed(composition, tmp_path)
    kept = [path for path, at in made.items() if path.stat().st_mtime_ns == at]
    assert (len(made) - len(kept), again.video.exists()) == (1, True)
    clips = set(tmp_path.glob("clip-*"))
    changed = replace(composition.scenes[0], narration=voice(tmp_path / "new.wav", 2.0))
    composed(replace(composition, scenes=(changed, *composition.scenes[1:])), tmp_path)
    assert len(set(tmp_path.glob("clip-*")) - clips) == 2


@pytest.mark.parametrize(
    "form",
    [
        Composition((), *SIZE, motion=False),
        Composition((), 108, 192, burn_in=True, karaoke=True),
        Composition((), 108, 108, crossfade_s=0.0),
    ],
)
def test_forms(tmp_path: Path, form: Composition) -> None:
    """Tall, square, without motion or crossfade, with burned captions."""
    found = probe(composed(replace(form, scenes=scenes(tmp_path, (0.8, 0.9))), tmp_path).video)
    assert found.size == (form.width, form.height)
    still = np.abs(found.pictures[3].astype(float) - found.pictures[20]).mean()
    assert (still < 0.5) is not form.motion


def test_burned_captions(tmp_path: Path) -> None:
    """Burned captions change the lower part of the picture and leave the upper one alone."""
    story = scenes(tmp_path, (1.2,))
    plain = composed(Composition(story, width=320, height=180, motion=False), tmp_path / "plain")
    burned = composed(Composition(story, width=320, height=180, motion=False, burn_in=True), tmp_path / "burned")
    change = np.abs(probe(burned.video).pictures[5].astype(float) - probe(plain.video).pictures[5])
    assert change[:100].mean() < 1
    assert change[150:170, 60:260].mean() > 30


def test_music_lies_beneath_the_voice(tmp_path: Path) -> None:
    """With music there is sound in the pauses, fainter than the voice by far, and the loudness is the same."""
    music = voice(tmp_path / "music.wav", 0.7, hz=1000, level=0.8)
    story = scenes(tmp_path, (1.2, 1.3))
    with_music = composed(Composition(story, *SIZE, music=music), tmp_path / "music")
    without = composed(Composition(story, *SIZE), tmp_path / "plain")
    assert loudness(with_music.video)[0] == pytest.approx(-16, abs=0.5)
    assert loudness(without.video)[0] == pytest.approx(-16, abs=0.5)
    assert with_music.sound.path.read_bytes() != without.sound.path.read_bytes()


def test_silence(tmp_path: Path) -> None:
    """A narration without any sound stays silent, and is told as such."""
    story = (Scene(picture(tmp_path / "a.png", 1), voice(tmp_path / "a.wav", 1.0, level=0.0), "…"),)
    assert composed(Composition(story, *SIZE), tmp_path).sound.lufs is None


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_kinds_of_pictures(tmp_path: Path, form: str) -> None:
    """A picture is read by what it is, whatever its name says, and with any characters in that."""
    story = scenes(tmp_path, (0.6,))
    odd = tmp_path / "it's [0:v] %03d; ção\n-x=1,.gif"
    with Image.open(story[0].picture) as image:
        image.save(odd, format=form)
    made = composed(Composition((replace(story[0], picture=odd),), *SIZE), tmp_path)
    assert probe(made.video).pictures[0].std() > 10


@pytest.mark.parametrize(
    ("broken", "content", "told"),
    [
        ("narration", b"", ("narration", "unreadable")),
        ("narration", b"not audio at all", ("narration", "unreadable")),
        ("narration", NO_SAMPLES, ("narration", "empty")),
        ("narration", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", ("narration", "unreadable")),
        ("picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", ("render", "unreadable")),
        ("picture", b"\x89PNG\r\n\x1a\n and no more", ("render", "failed")),
        ("picture", None, ("render", "unreadable")),
    ],
)
def test_fault_44_broken_material(tmp_path: Path, broken: str, content: bytes | None, told: tuple[str, str]) -> None:
    """An error names the stage and the frame whose picture or narration cannot be used."""
    story = list(scenes(tmp_path, (0.6, 0.6)))
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    story[1] = replace(story[1], picture=bad) if broken == "picture" else replace(story[1], narration=bad)
    with pytest.raises(RenderFailed) as failed:
        composed(Composition(tuple(story), *SIZE), tmp_path)
    assert (failed.value.stage, failed.value.reason, failed.value.frame) == (*told, 1)
    assert str(bad) not in str(failed.value)
    assert not (tmp_path / "video.mp4").exists()


def test_card(tmp_path: Path) -> None:
    """A card shows its headline, accents and all, and a bar; hostile text is drawn or left out, never obeyed."""

    def drawn(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        made = run(lambda deadline: card(ffmpeg(), text, 320, 180, tmp_path / "card.png", frame=1, deadline=deadline))
        with Image.open(made) as image:
            assert image.size == (320, 180)
            return np.asarray(image.convert("L"))

    empty, plain, accents = drawn(""), drawn("Agua"), drawn("Água")
    assert np.abs(plain.astype(int) - empty).max() > 100
    assert (plain != accents).any()
    assert (drawn("\U0001f600 \u202e\x00") == empty).all()
    assert (drawn("{\\alpha&HFF&}Agua") != empty).any()
    assert (drawn("a'b:c,d;[e]%{f}\\N" * 40) != empty).any()


@pytest.mark.slow
def test_fault_49_hostile_text_in_pictures(tmp_path: Path) -> None:
    """Two hundred nasty texts go through all of it, burned into the picture and as a card's headline."""
    pieces = [picture(tmp_path / f"{index}.png", index, (64, 64)) for index in range(2)]
    sound = voice(tmp_path / "a.wav", 0.6)
    for seed in range(0, 200, 2):
        story = tuple(Scene(each, sound, hostile(seed + index)) for index, each in enumerate(pieces))
        made = composed(Composition(story, 96, 96, burn_in=True, karaoke=seed % 4 == 0), tmp_path)
        assert probe(made.video).pictures[0].std() > 5
        text = story[0].text
        run(lambda deadline, text=text: card(ffmpeg(), text, 96, 96, tmp_path / "c.png", frame=0, deadline=deadline))

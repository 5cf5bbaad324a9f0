"""From pictures and narrations to a finished MP4 with captions: all the steps, or each by itself.

    voices = [await measure(ffmpeg, narration, frame, folder, deadline) …]      sound.py
    line = timeline([voice.lasts_s for voice in voices])                        timeline.py, pure
    captions = cues(passages, …)                                                captions.py, pure
    made = [await film(ffmpeg, clip, folder, deadline) for clip in clips(…)]    film.py
    sound = await mix(ffmpeg, voices, line, folder, deadline)                   sound.py
    video = await join(ffmpeg, made, sound, video, deadline)

`compose` runs them all. Each leaves a file in the folder that is named by what it was made of and appears when it is
whole, so whoever runs them again there, after whatever ending, goes on where it was; a folder that keeps its files
makes again only what has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from lib.providers.speech import Word
from lib.vsl import subtitles
from lib.vsl.captions import TALL_WIDTH, WIDTH, Cue, Passage, cues, shifted, timed
from lib.vsl.ffmpeg import Ffmpeg, Step
from lib.vsl.film import clips, film, made_by, poster, write
from lib.vsl.sound import Sound, measure, mix
from lib.vsl.timeline import CROSSFADE_S, Timeline, timeline

Aspect: TypeAlias = Literal["16:9", "9:16", "1:1"]
Resolution: TypeAlias = Literal["720p", "1080p"]
SIZES: dict[tuple[Aspect, Resolution], tuple[int, int]] = {
    ("16:9", "720p"): (1280, 720),
    ("9:16", "720p"): (720, 1280),
    ("1:1", "720p"): (720, 720),
    ("16:9", "1080p"): (1920, 1080),
    ("9:16", "1080p"): (1080, 1920),
    ("1:1", "1080p"): (1080, 1080),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One frame of the storyboard, ready to be filmed.

    `picture` is a PNG, JPEG or WebP; `narration` audio of any usual kind; `text` what it says; `words` its times as the
    voice told them, from the beginning of the narration, empty if it told none.
    """

    picture: Path
    narration: Path
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Composition:
    """What a video is made of. `language` is an ISO 639-1 code; `music` audio to lie beneath the voice."""

    scenes: tuple[Scene, ...]
    width: int = 1280
    height: int = 720
    language: str = "en"
    motion: bool = True
    crossfade_s: float = CROSSFADE_S
    karaoke: bool = False
    burn_in: bool = False
    music: Path | None = None


@dataclass(frozen=True, slots=True)
class Composed:
    """A finished video and what was learnt while making it; `words` per scene, times from the video's beginning.

    `estimated`: times of words were reckoned for at least one scene.
    """

    video: Path
    poster: Path
    webvtt: Path
    srt: Path
    sound: Sound
    line: Timeline
    words: tuple[tuple[Word, ...], ...]
    cues: tuple[Cue, ...]
    estimated: bool


async def compose(ffmpeg: Ffmpeg, composition: Composition, folder: Path, deadline: float) -> Composed:
    """Make the video: `video.mp4`, `poster.jpg`, `captions.vtt` and `captions.srt` in `folder`.

    `deadline` is a time of the running loop's clock. Raises RenderFailed with the stage and, where it is about one, the
    frame; what is whole by then stays in the folder.
    """
    scenes = composition.scenes
    voices = [await measure(ffmpeg, scene.narration, frame, folder, deadline) for frame, scene in enumerate(scenes)]
    line = timeline([voice.lasts_s for voice in voices], crossfade_s=composition.crossfade_s)
    spoken = [timed(scene.text, scene.words, voice.lasts_s) for scene, voice in zip(scenes, voices, strict=True)]
    estimated = any(reckoned for _, reckoned in spoken)
    words = tuple(shifted(own, span.start_s) for (own, _), span in zip(spoken, line.spans, strict=True))
    passages = [Passage(own, span.start_s, span.end_s) for own, span in zip(words, line.spans, strict=True)]
    tall = composition.height > composition.width
    captions = cues(passages, language=composition.language, width=TALL_WIDTH if tall else WIDTH)
    webvtt, srt = folder / "captions.vtt", folder / "captions.srt"
    write(webvtt, subtitles.webvtt(captions, karaoke=composition.karaoke, estimated=estimated), Step("captions"))
    write(srt, subtitles.srt(captions), Step("captions"))
    mixing = asyncio.create_task(mix(ffmpeg, voices, line, folder, deadline, composition.music))
    try:
        planned = await asyncio.to_thread(
            clips,
            [scene.picture for scene in scenes],
            line,
            width=composition.width,
            height=composition.height,
            motion=composition.motion,
            burned=captions if composition.burn_in else (),
            karaoke=composition.karaoke,
        )
        made = [await film(ffmpeg, clip, folder, deadline) for clip in planned]
        sound = await mixing
    finally:
        mixing.cancel()
        await asyncio.gather(mixing, return_exceptions=True)
    video = await join(ffmpeg, made, sound, folder / "video.mp4", deadline, language=composition.language)
    size = composition.width, composition.height
    still = await poster(ffmpeg, scenes[0].picture, *size, folder / "poster.jpg", deadline)
    return Composed(video, still, webvtt, srt, sound, line, words, captions, estimated)


async def join(
    ffmpeg: Ffmpeg, made: Sequence[Path], sound: Sound, video: Path, deadline: float, *, language: str = "en"
) -> Path:
    """The clips one after another and the sound, unchanged, as an MP4 that plays while it loads.

    All of them lie in the folder of `video`. Raises RenderFailed.
    """
    step = Step("render")
    listed = video.with_suffix(".txt")
    write(listed, "".join(f"file '{clip.name}'\n" for clip in made), step)
    arguments = [
        *("-v", "error", "-protocol_whitelist", "file", "-f", "concat", "-safe", "1", "-i", f"file:{listed.name}"),
        *("-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{sound.path.name}"),
        *("-map", "0:v", "-map", "1:a", "-c", "copy", "-movflags", "+faststart"),
        *("-metadata:s:a:0", f"language={LANGUAGES.get(language.partition('-')[0].lower(), 'und')}", "-f", "mp4"),
    ]
    await made_by(ffmpeg, arguments, video, step, deadline)
    return video


LANGUAGES = {"en": "eng", "pt": "por", "es": "spa", "fr": "fra", "de": "deu", "it": "ita"}
"""ISO 639-1 to 639-2, which MP4 wants."""

"""The moving picture: one clip per frame of the storyboard, each a file of its own, and stills such as the poster.

A clip's name is made of all that it depends on, so one that is there already is taken as it is: after a crash, or when
another sentence has changed. A picture is scaled once, larger than the screen, and then for each video frame scaled to
the size of the moment and cropped: swscale is three to ten times as fast at that as zoompan or perspective. Sizes grow
by two pixels, the point that stays is an edge or the middle, so nothing trembles. Colour has half the resolution and no
need of cubic scaling: that saves a sixth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.vsl import ass
from lib.vsl.captions import Cue
from lib.vsl.ffmpeg import FONTS, Ffmpeg, Step, picture, reason_of
from lib.vsl.timeline import FPS, Timeline

VERSION = 2
"""Grows when clips of the same input would look different."""
ZOOM_PER_S, MAX_ZOOM = 0.015, 0.12
MOVES = ((True, 0.5, 0.5), (False, 0.0, 0.5), (True, 1.0, 0.5), (False, 0.5, 0.5), (True, 0.5, 0.0), (False, 1.0, 0.5))
"""Turn by turn: whether it comes nearer, and the point that stays, from left to right and from top to bottom."""
ENCODER = (
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-profile:v", "high", "-pix_fmt", "yuv420p"),
    *("-g", str(5 * FPS), "-maxrate", "8M", "-bufsize", "16M"),
    *("-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
)
CARD_COLORS = (
    ("0x10243f", "0x2b5f8a", "0xffb545"),
    ("0x2a1638", "0x6a3a7c", "0xffd166"),
    ("0x0d2b26", "0x22705c", "0xf4d35e"),
)
"""Of cards: two of the ground, on which white has a contrast of at least 4.5 : 1, and one of the bar."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture and its movement: `lasts` video frames in all, taken up at `begins`; `move` None stands still."""

    picture: Path
    sha256: str
    lasts: int
    begins: int
    move: int | None


@dataclass(frozen=True, slots=True)
class Clip:
    """What one clip shows: a shot, the end of the one before it fading away for `fade` video frames, captions."""

    index: int
    frames: int
    shot: Shot
    before: Shot | None
    fade: int
    width: int
    height: int
    captions: str = ""

    @property
    def name(self) -> str:
        """Of its file: where in the video it stands, and what it depends on."""
        shots = [[shot.sha256, shot.lasts, shot.begins, shot.move] for shot in (self.before, self.shot) if shot]
        told = [VERSION, ENCODER, shots, self.frames, self.fade, self.width, self.height, self.captions]
        return f"clip-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]}.mp4"


def clips(
    pictures: Sequence[Path],
    line: Timeline,
    *,
    width: int,
    height: int,
    motion: bool = True,
    burned: Sequence[Cue] = (),
    karaoke: bool = False,
) -> tuple[Clip, ...]:
    """The clips of a video; reads the pictures for their hashes. `burned` are cues to write into the picture.

    Raises RenderFailed for a picture that cannot be read.
    """
    shots = list[Shot]()
    for index, path in enumerate(pictures):
        fades = line.spans[index + 1].fade if index + 1 < len(line.spans) else 0
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise Step("render", index).failed("The picture is not there", "unreadable") from error
        shots.append(Shot(path, digest, line.spans[index].frames + fades, 0, index % len(MOVES) if motion else None))
    found = list[Clip]()
    for index, span in enumerate(line.spans):
        last = shots[index - 1] if span.fade else None
        before = Shot(last.picture, last.sha256, last.lasts, last.lasts - span.fade, last.move) if last else None
        times = {"from_ms": round(span.start_s * 1000), "until_ms": round(span.end_s * 1000)}
        text = ass.captions(burned, width, height, **times, karaoke=karaoke) if burned else ""
        found.append(Clip(index, span.frames, shots[index], before, span.fade, width, height, text))
    return tuple(found)


async def film(ffmpeg: Ffmpeg, clip: Clip, folder: Path, deadline: float) -> Path:
    """The clip as H.264 without sound, in `folder`; one that is there is not made again. Raises RenderFailed."""
    step = Step("render", clip.index)
    made = folder / clip.name
    if not made.exists():
        arguments = [*shown(clip, folder), *ENCODER, "-threads", str(ffmpeg.threads), "-f", "mp4"]
        await made_by(ffmpeg, arguments, made, step, deadline)
    return made


def shown(clip: Clip, folder: Path) -> list[str]:
    """The arguments that make a clip's pictures; writes its captions into `folder`. Raises RenderFailed."""
    step = Step("render", clip.index)
    inputs = picture(clip.shot.picture, step)
    chains, last = [f"[0:v]{_chain(clip.shot, clip)}[shot]"], "shot"
    if clip.before:
        inputs += picture(clip.before.picture, step)
        # Twice as fast as xfade, which blends in floating point.
        fading = f"trim=end_frame={clip.fade},format=yuva420p,fade=t=out:start_frame=0:nb_frames={clip.fade}:alpha=1"
        chains.append(f"[1:v]{_chain(clip.before, clip)},{fading}[before]")
        chains.append(f"[{last}][before]overlay=eof_action=pass:format=yuv420[faded]")
        last = "faded"
    if clip.captions:
        text = (folder / clip.name).with_suffix(".ass")
        write(text, clip.captions, step)
        chains.append(f"[{last}]{_drawn(text, folder)}[drawn]")
        last = "drawn"
    graph = ["-filter_complex", ";".join(chains), "-map", f"[{last}]"]
    return ["-v", "error", *inputs, *graph, "-frames:v", str(clip.frames), "-r", str(FPS)]


async def poster(ffmpeg: Ffmpeg, source: Path, width: int, height: int, made: Path, deadline: float) -> Path:
    """The picture in the video's size, as JPEG. Raises RenderFailed."""
    step = Step("render", 0)
    chain = f"{_filling(width, height)},format=yuvj420p"
    arguments = [*("-v", "error"), *picture(source, step), "-vf", chain, "-frames:v", "1", "-q:v", "3"]
    await made_by(ffmpeg, [*arguments, "-f", "mjpeg"], made, step, deadline)
    return made


async def card(
    ffmpeg: Ffmpeg, headline: str, width: int, height: int, made: Path, *, frame: int, deadline: float
) -> Path:
    """A picture for a frame that has none: its headline on a ground of its own colours, as PNG. Raises RenderFailed."""
    step = Step("frames", frame)
    text = made.with_suffix(".ass")
    write(text, ass.headline(headline, width, height), step)
    dark, light, accent = CARD_COLORS[frame % len(CARD_COLORS)]
    ground = (
        f"gradients=s={width}x{height}:c0={dark}:c1={light}:x0=0:y0=0:x1={width}:y1={height}:n=2:speed=0.00001:seed=1"
    )
    bar = f"drawbox=x={round(width * 0.09)}:y={round(height * 0.87)}:w={round(width * 0.1)}:h={round(height * 0.012)}"
    chain = f"{bar}:color={accent}:t=fill,{_drawn(text, made.parent)}"
    arguments = [*("-v", "error", "-f", "lavfi", "-i", ground), "-vf", chain, *("-frames:v", "1", "-c:v", "png")]
    await made_by(ffmpeg, [*arguments, "-f", "image2pipe"], made, step, deadline)
    return made


async def made_by(ffmpeg: Ffmpeg, arguments: Sequence[str], made: Path, step: Step, deadline: float) -> str:
    """Runs ffmpeg with this output file, which appears under its name only when it is whole; returns the log."""
    part = made.with_name(f"{made.name}.part")
    try:
        log = await ffmpeg.run([*arguments, f"file:{part.name}"], made.parent, step, deadline)
        part.replace(made)
    finally:
        part.unlink(missing_ok=True)
    return log


def write(path: Path, text: str, step: Step) -> None:
    """Write a text file. Raises RenderFailed when the disk is full or not there."""
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise step.failed("A file could not be written", reason_of(error.errno or 0)) from error


def _chain(shot: Shot, clip: Clip) -> str:
    """The filters that make a shot of one still picture."""
    width, height = clip.width, clip.height
    if shot.move is None:
        return f"{_filling(width, height)},format=yuv420p,{_repeated()},setsar=1"
    nearer, x, y = MOVES[shot.move]
    zoom = min(MAX_ZOOM, ZOOM_PER_S * shot.lasts / FPS)
    wide, high = _even(width * (1 + zoom)), _even(height * (1 + zoom))
    share = f"min(1,(n+{shot.begins})/{shot.lasts})"
    grown = f"(1+{zoom:.5f}*{share if nearer else f'(1-{share})'})"
    # Quoted, since a comma would end the filter.
    sizes = f"w='2*round({width / 2}*{grown})':h='2*round({height / 2}*{grown})'"
    return (
        f"{_filling(wide, high)},format=yuv420p,{_repeated()},scale={sizes}:eval=frame:flags=bicublin,"
        f"crop={width}:{height}:x='(iw-ow)*{x}':y='(ih-oh)*{y}':exact=1,setsar=1"
    )


def _repeated() -> str:
    """One decoded picture for ever: the demuxer's own loop would decode it anew for every video frame."""
    return f"loop=loop=-1:size=1,settb=1/{FPS},setpts=N,fps={FPS}"


def _filling(width: int, height: int) -> str:
    """Scaled until it fills this size, and cropped to its middle; colours as video of this size is expected to have."""
    scaled = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=lanczos"
    return f"{scaled}:out_color_matrix=bt709:out_range=tv,crop={width}:{height}"


def _drawn(text: Path, folder: Path) -> str:
    """The filter that draws such a file. Names are ours, without a character that means something to a filter.

    The font is linked into the folder, since the path of this project may hold any.
    """
    fonts = folder / "fonts"
    if not fonts.exists():
        fonts.symlink_to(FONTS, target_is_directory=True)
    return f"ass=filename={text.name}:fontsdir=fonts"


def _even(size: float) -> int:
    return 2 * round(size / 2)

"""The sound: narrations measured, joined on the grid of video frames, brought to one loudness, with music beneath.

Loudness is that of EBU R 128 (ITU-R BS.1770), measured first, then set by one constant gain and a limiter of peaks.
ffmpeg's loudnorm, which would rather ride the gain when a peak is in the way, is slower by its 192 kHz and makes speech
pump.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.errors import RenderFailed
from lib.vsl.ffmpeg import Ffmpeg, Step, reason_of, sound
from lib.vsl.film import made_by, write
from lib.vsl.timeline import FPS, Timeline

RATE = 48_000
BYTES = 2
PER_FRAME = RATE // FPS
"""Samples per video frame."""
SHORTEST_S = 0.05
"""Less is no narration."""
LONGEST_S = 600
LUFS, PEAK_DBTP = -16.0, -1.5
MUSIC_LU = 18.0
"""By how much music lies below the voice, before it ducks."""
HEADROOM_DB = 0.7
"""AAC moves peaks by about as much."""
SILENCE_LUFS = -60.0
"""Of what is fainter nothing can be made."""
RAW = ("-f", "s16le", "-ar", str(RATE), "-ac", "1")
VERSION = 1


@dataclass(frozen=True, slots=True)
class Voice:
    """A narration as raw samples (mono, 16 bit, 48 kHz), and how long it lasts."""

    path: Path
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Sound:
    """The finished sound as AAC in MP4, and its loudness as it was measured before encoding.

    Units: LUFS integrated, dB true peak. `lufs` None: silence.
    """

    path: Path
    lufs: float | None
    true_peak_db: float | None


async def measure(ffmpeg: Ffmpeg, narration: Path, frame: int, folder: Path, deadline: float) -> Voice:
    """Decode a narration into `folder` and tell how long it really lasts. Raises RenderFailed, also if it is empty."""
    step = Step("narration", frame)
    source = sound(narration, step)
    digest = await asyncio.to_thread(lambda: hashlib.sha256(narration.read_bytes()).hexdigest())
    made = folder / f"voice-{digest[:24]}.pcm"
    if not made.exists():
        try:
            arguments = ["-v", "error", *source, "-t", str(LONGEST_S), *RAW]
            await made_by(ffmpeg, arguments, made, step, deadline)
        except RenderFailed as error:
            if error.reason != "failed":
                raise
            raise step.failed("The narration cannot be decoded", "unreadable", error.log) from error
    lasts_s = made.stat().st_size / BYTES / RATE
    if lasts_s < SHORTEST_S:
        raise step.failed("The narration is empty", "empty")
    return Voice(made, lasts_s)


async def mix(
    ffmpeg: Ffmpeg, voices: Sequence[Voice], line: Timeline, folder: Path, deadline: float, music: Path | None = None
) -> Sound:
    """The sound of the whole video, as long as it to the sample. Raises RenderFailed.

    `music` is repeated as needed, lies 18 LU below the voice and gives way while somebody speaks.
    """
    step = Step("narration")
    name = await asyncio.to_thread(_name, voices, line, music)
    made, told = folder / f"{name}.m4a", folder / f"{name}.json"
    if made.exists() and told.exists():
        return Sound(made, **json.loads(told.read_text()))
    joined = folder / f"{name}.pcm"
    try:
        await asyncio.to_thread(_join, voices, line, joined, step)
        inputs = ["-v", "info", "-protocol_whitelist", "file", *RAW, "-i", f"file:{joined.name}"]
        gain = await _gain(ffmpeg, inputs, LUFS, folder, step, deadline)
        graph = f"[0:a]aformat=channel_layouts=stereo,volume={gain:.2f}dB"
        if music is None:
            graph += "[mixed]"
        else:
            bed = ["-v", "info", *sound(music, step)]
            quiet = await _gain(ffmpeg, bed, LUFS - MUSIC_LU, folder, step, deadline)
            inputs += sound(music, step, loop=True)
            graph += (
                f",asplit[voice][key];[1:a]aresample={RATE},aformat=channel_layouts=stereo,volume={quiet:.2f}dB,{_fade_out(line)}[bed];"
                "[bed][key]sidechaincompress=threshold=0.03:ratio=4:attack=40:release=500[ducked];"
                f"[voice][ducked]amix=inputs=2:normalize=0:duration=first[mixed]"
            )
        limit = 10 ** ((PEAK_DBTP - HEADROOM_DB) / 20)
        graph += (
            f";[mixed]aresample=192000,alimiter=limit={limit:.4f}:level=0:attack=2:release=60:latency=1,"
            f"aresample={RATE},ebur128=peak=true:framelog=quiet[out]"
        )
        output = ["-t", f"{line.duration_s:.2f}", "-c:a", "aac", "-b:a", "128k", "-ar", str(RATE), "-f", "mp4"]
        arguments = [*inputs, "-filter_complex", graph, "-map", "[out]", *output]
        log = await made_by(ffmpeg, arguments, made, step, deadline)
    finally:
        joined.unlink(missing_ok=True)
    lufs, peak = _summary(log)
    write(told, json.dumps({"lufs": lufs, "true_peak_db": peak}), step)
    return Sound(made, lufs, peak)


async def _gain(
    ffmpeg: Ffmpeg, source: Sequence[str], wanted: float, folder: Path, step: Step, deadline: float
) -> float:
    """The first pass: by how many dB to change a source, so that it has the loudness that is wanted."""
    chain = f"aresample={RATE},aformat=channel_layouts=stereo,ebur128=framelog=quiet"
    log = await ffmpeg.run([*source, "-t", str(LONGEST_S), "-af", chain, "-f", "null", "-"], folder, step, deadline)
    lufs, _ = _summary(log)
    return 0.0 if lufs is None else wanted - lufs


def _summary(log: str) -> tuple[float | None, float | None]:
    """What ebur128 says in the end: LUFS, and dB of the true peak if it was asked; None for silence."""
    summary = log.rpartition("Summary:")[2]
    lufs, peak = re.search(r"I:\s+(-?[\d.]+) LUFS", summary), re.search(r"Peak:\s+(-?[\d.]+) dBFS", summary)
    loudness = float(lufs[1]) if lufs else SILENCE_LUFS
    return loudness if loudness > SILENCE_LUFS else None, float(peak[1]) if peak else None


def _join(voices: Sequence[Voice], line: Timeline, joined: Path, step: Step) -> None:
    """All narrations in one file, each followed by silence until the next picture begins."""
    try:
        with joined.open("wb") as out:
            for voice, span in zip(voices, line.spans, strict=True):
                with voice.path.open("rb") as spoken:
                    shutil.copyfileobj(spoken, out)
                out.write(bytes(span.frames * PER_FRAME * BYTES - voice.path.stat().st_size))
    except OSError as error:
        raise step.failed("The narrations could not be joined", reason_of(error.errno or 0)) from error


def _name(voices: Sequence[Voice], line: Timeline, music: Path | None) -> str:
    """Of the finished sound: all that it depends on."""
    bed = hashlib.sha256(music.read_bytes()).hexdigest() if music else None
    told = [VERSION, [voice.path.name for voice in voices], [span.frames for span in line.spans], bed]
    return f"sound-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]}"


def _fade_out(line: Timeline) -> str:
    return f"afade=type=out:start_time={max(0.0, line.duration_s - 1.5):.2f}:duration=1.5"

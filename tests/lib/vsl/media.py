"""Pictures, voices and what a player would find in a finished video."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib.vsl.compose import Scene
from lib.vsl.ffmpeg import Ffmpeg, Step, find

T = TypeVar("T")
RATE = 48_000
ENOUGH_S = 60.0
TEXTS = ("Chega de lâmpadas fracas.", "A luz do sol, à noite!", "Peça hoje, porque acaba.")


def ffmpeg(*, threads: int = 1) -> Ffmpeg:
    """The product's ffmpeg."""
    return Ffmpeg(find(), threads=threads)


def run(work: Callable[[float], Awaitable[T]], *, within_s: float = ENOUGH_S) -> T:
    """Run with a deadline that many seconds from now."""

    async def main() -> T:
        return await work(asyncio.get_running_loop().time() + within_s)

    return asyncio.run(main())


def picture(path: Path, seed: int, size: tuple[int, int] = (240, 160)) -> Path:
    """A still of many colours, the same for the same seed."""
    noise = np.random.default_rng(seed).integers(30, 226, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def voice(path: Path, lasts_s: float, *, hz: float = 220.0, level: float = 0.1) -> Path:
    """A tone that comes and goes as speech does, as WAV."""
    times = np.arange(round(lasts_s * RATE)) / RATE
    tone = level * np.sin(2 * np.pi * hz * times) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((tone * 32767).astype("<i2").tobytes())
    return path


def scenes(folder: Path, lasts_s: tuple[float, ...] = (1.21, 1.5, 0.9)) -> tuple[Scene, ...]:
    """A short storyboard: pictures of their own, voices of these lengths, Portuguese."""
    return tuple(
        Scene(picture(folder / f"{index}.png", index), voice(folder / f"{index}.wav", lasts), TEXTS[index % len(TEXTS)])
        for index, lasts in enumerate(lasts_s)
    )


@dataclass(frozen=True)
class Probe:
    """What PyAV finds in a file: codecs, the video's size, rate and times, the pictures as grey, the sound's length."""

    codecs: tuple[str, ...]
    size: tuple[int, int]
    rate: Fraction
    times: list[Fraction]
    pictures: list[NDArray[np.uint8]]
    sound_s: float
    pixel_format: str


def probe(path: Path) -> Probe:
    """Decode all of it."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        codecs = tuple(stream.codec_context.name for stream in container.streams)
        samples = 0
        times, pictures = list[Fraction](), list[NDArray[np.uint8]]()
        for frame in container.decode(video, audio):
            if isinstance(frame, av.VideoFrame):
                times.append(Fraction(frame.pts or 0) * (frame.time_base or 1))
                pictures.append(frame.to_ndarray(format="gray").astype(np.uint8))
            elif isinstance(frame, av.AudioFrame):
                samples += frame.samples
        context = video.codec_context
        size, average = (context.width, context.height), video.average_rate
        rate = Fraction(average.numerator, average.denominator) if average else Fraction(0)
        return Probe(codecs, size, rate, times, pictures, samples / RATE, context.pix_fmt or "")


def boxes(path: Path) -> list[str]:
    """The names of an MP4's outermost boxes, in order."""
    data, found, at = path.read_bytes(), list[str](), 0
    while at < len(data):
        found.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4]) or len(data)
    return found


def loudness(path: Path) -> tuple[float, float]:
    """Integrated loudness (LUFS) of a file, measured by ffmpeg's EBU R 128, and the highest true peak (dB)."""
    chain = ["-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-"]
    log = run(
        lambda deadline: ffmpeg().run(["-v", "info", "-i", str(path), *chain], path.parent, Step("test"), deadline)
    )
    summary = log.rpartition("Summary:")[2].split()
    return float(summary[summary.index("I:") + 1]), float(summary[summary.index("Peak:") + 1])

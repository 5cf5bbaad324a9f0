"""Six stills and six voices, the same on every run, and the settings that both sides share."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FRAMES, SECONDS = 6, 7.2
SIZE = (1344, 768)
RATE = 48_000


def make(folder: Path) -> None:
    """Pictures with soft ground and hard edges, tones that come and go as speech does."""
    for index in range(FRAMES):
        chance = np.random.default_rng(index)
        ground = chance.integers(40, 216, (SIZE[1] // 96, SIZE[0] // 96, 3), dtype=np.uint8)
        image = Image.fromarray(ground).resize(SIZE, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        for x, y, size, *color in chance.integers([0, 0, 10, 0, 0, 0], [*SIZE, 160, 256, 256, 256], (80, 6)).tolist():
            draw.ellipse((x, y, x + size, y + size), fill=tuple(color))
        grain = np.asarray(image) // 2 + 60 + chance.integers(-4, 5, (SIZE[1], SIZE[0], 1))
        Image.fromarray(grain.astype(np.uint8)).save(folder / f"{index}.png")
        times = np.arange(round(SECONDS * RATE)) / RATE
        tone = 0.1 * np.sin(2 * np.pi * (180 + 20 * index) * times) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times))
        with wave.open(str(folder / f"{index}.wav"), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes((tone * 32767).astype("<i2").tobytes())

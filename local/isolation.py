"""Noise taken out of a recording by ffmpeg: what the embedded voice has in place of audio isolation.

`afftdn` (https://ffmpeg.org/ffmpeg-filters.html#afftdn) takes what lies below a noise floor out of the spectrum, and a
high pass removes rumble: steady noise becomes quieter, by 20 dB where it is no louder than -30 dBFS; other voices and
music stay. It is no model of speech.
"""

from __future__ import annotations

import asyncio
from functools import cache

import imageio_ffmpeg

FILTERS = "highpass=f=80,afftdn=nr=20:nf=-30"
RATE, KBITS = 44_100, 128
MAX_SECONDS = 600
TIMEOUT_S = 100.0


class NoRecording(Exception):
    """These bytes hold no sound that ffmpeg can read."""


async def isolate(recording: bytes) -> bytes:
    """The recording with less noise, as MP3 of one channel, 128 kbit/s. Raises NoRecording."""
    process = await asyncio.create_subprocess_exec(
        *(_ffmpeg(), "-nostdin", "-loglevel", "error", "-protocol_whitelist", "pipe", "-i", "pipe:0"),
        *("-vn", "-t", str(MAX_SECONDS), "-af", FILTERS, "-ac", "1", "-ar", str(RATE)),
        *("-f", "mp3", "-b:a", f"{KBITS}k", "-write_xing", "0", "-id3v2_version", "0", "pipe:1"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            made, _ = await process.communicate(recording)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not made:
        raise NoRecording
    return made


@cache
def _ffmpeg() -> str:
    return imageio_ffmpeg.get_ffmpeg_exe()

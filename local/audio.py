"""Samples as audio files and streams, by ElevenLabs' names of formats: pcm_16000, wav_44100, mp3_44100_128."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, cast

import lameenc
import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
_numpy: Any = np
"""Its overloads are partly untyped."""
RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3 = ("22050_32", "24000_48", "44100_32", "44100_64", "44100_96", "44100_128", "44100_192")
CONTENT_TYPES = {
    **{f"pcm_{rate}": "audio/pcm" for rate in RATES},
    **{f"wav_{rate}": "audio/wav" for rate in RATES},
    **{f"mp3_{name}": "audio/mpeg" for name in MP3},
}
"""The formats that can be made."""
UNKNOWN_BYTES = 0xFFFFFFFF
"""What a WAV's header says of a length that is not known yet, as ffmpeg writes it."""


class Encoder:
    """Turns samples of one rate, fed piece by piece, into one file of a format from CONTENT_TYPES."""

    def __init__(self, audio_format: str, rate: int) -> None:
        self._codec, target, *kbits = audio_format.split("_")
        self._rate = int(target)
        resampler: Any = cast("Any", soxr).ResampleStream(rate, self._rate, 1, dtype="float32")
        self._resampler = resampler if rate != self._rate else None
        self._lame: Any = _lame(self._rate, int(kbits[0])) if self._codec == "mp3" else None
        self._begun = False

    def feed(self, samples: Samples, *, last: bool = False) -> bytes:
        """The bytes that these samples complete."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        pcm: bytes = (_numpy.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
        if self._lame is not None:
            return bytes(self._lame.encode(pcm)) + (bytes(self._lame.flush()) if last else b"")
        head = b""
        if self._codec == "wav" and not self._begun:
            head = wav_header(self._rate, len(pcm) if last else None)
        self._begun = True
        return head + pcm


def joined(pieces: Iterable[Samples]) -> Samples:
    """One after the other."""
    return _numpy.concatenate(list(pieces))


def wav_header(rate: int, size: int | None) -> bytes:
    """The header of 16-bit mono samples, `size` bytes of them."""
    data, file = (UNKNOWN_BYTES, UNKNOWN_BYTES) if size is None else (size, size + 36)
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", file, b"WAVE") + layout + struct.pack("<4sI", b"data", data)


def _lame(rate: int, kbits: int) -> Any:
    encoder: Any = cast("Any", lameenc).Encoder()
    encoder.set_channels(1)
    encoder.set_in_sample_rate(rate)
    encoder.set_out_sample_rate(rate)
    encoder.set_bit_rate(kbits)
    encoder.set_quality(5)
    encoder.silence()
    return encoder

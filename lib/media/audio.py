"""How long audio is, told from its format's name and its bytes."""

from __future__ import annotations

from lib.providers.speech import Alignment

WAV_HEADER_BYTES = 44
BYTES_PER_SAMPLE = 2
ISOLATED = "mp3_44100_128"
"""The format of a recording that was enhanced."""
GUESSED_KBITS = 32
"""Of a recording of unknown length, for what it may cost: hardly any is poorer, so that hardly any is longer."""


def duration_ms(audio: bytes, audio_format: str, alignment: Alignment | None = None) -> int:
    """Milliseconds. MP3 is of a constant rate here, WAV 16-bit mono; of other codecs the alignment tells, or nobody."""
    codec, *rates = audio_format.split("_")
    if codec == "mp3":
        return len(audio) * 8 // int(rates[1])
    if codec == "wav":
        return max(len(audio) - WAV_HEADER_BYTES, 0) * 1000 // (int(rates[0]) * BYTES_PER_SAMPLE)
    return round(alignment.ends_s[-1] * 1000) if alignment is not None and alignment.ends_s else 0


def longest_s(audio_bytes: int) -> float:
    """Seconds that a recording of so many bytes hardly exceeds."""
    return audio_bytes * 8 / (GUESSED_KBITS * 1000)

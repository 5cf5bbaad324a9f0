"""What a file is by its own first bytes, whatever its name says."""

from __future__ import annotations

from typing import Literal

Kind = Literal["image", "audio", "video", "captions", "other"]
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/mp4": "m4a",
    "audio/flac": "flac",
    "audio/webm": "webm",
    "video/mp4": "mp4",
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/json": "json",
    "text/html": "html",
}
"""Of the types that our buckets take."""
HEAD_BYTES = 4096
_SYNC, _MPEG_SYNC, _LAYER, _LAYER_3 = 0xFF, 0xE0, 0x06, 0x02


_BY_START = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"ID3": "audio/mpeg",
}
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def content_type_of(data: bytes) -> str | None:
    """The type of a picture, a recording or a film, or None for anything else. `data` may be its beginning alone.

    PNG 5.2; JPEG: ITU T.81 B.1; RIFF; Ogg: RFC 3533; FLAC: RFC 9639; ISO 14496-12 4.3; Matroska: RFC 9559; ID3v2.4, or
    the header of a frame of MPEG audio (ISO 11172-3 2.4.1.3).
    """
    for start, content_type in _BY_START.items():
        if data.startswith(start):
            return content_type
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        return "audio/mp4" if data[8:11] == b"M4A" else "video/mp4"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "audio/webm" if b"webm" in data[:64] and b"V_" not in data[:HEAD_BYTES] else None
    return "audio/mpeg" if _is_mpeg_audio(data[:2]) else None


def _is_mpeg_audio(head: bytes) -> bool:
    """Whether these are the first two bytes of a frame of MPEG audio, layer III."""
    first, second = (*head, 0, 0)[:2]
    return first == _SYNC and second & _MPEG_SYNC == _MPEG_SYNC and second & _LAYER == _LAYER_3


def kind_of(content_type: str) -> Kind:
    """Where in a list a file of this type belongs."""
    if content_type.startswith("image/"):
        return "image"
    if content_type.startswith("audio/"):
        return "audio"
    if content_type.startswith("video/"):
        return "video"
    return "captions" if content_type in {"text/vtt", "application/x-subrip"} else "other"

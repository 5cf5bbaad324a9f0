"""What a file is by its own bytes, whatever its name and its sender say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
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
    "audio/webm": "weba",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/json": "json",
}
"""Of the types that are kept."""
UPLOADS = frozenset(name for name in EXTENSIONS if name.startswith(("image/", "audio/")))
"""What may be uploaded: pictures and recordings."""
_ALIASES = {
    "image/jpg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/x-flac": "audio/flac",
    "audio/opus": "audio/ogg",
    "application/ogg": "audio/ogg",
}
_STARTS = {
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"fLaC": "audio/flac",
    b"ID3": "audio/mpeg",
}
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_EBML = b"\x1a\x45\xdf\xa3"
_DOC_TYPE = b"\x42\x82"
_TRACKS_WITHIN = 64 * 1024
_PICTURES_OF_OGG = (b"\x80theora", b"BBCD\x00", b"OVP80")
_SOUNDS_OF_OGG = (b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   ")
_BRANDS_OF_SOUND = (b"M4A ", b"M4B ")
_BRANDS = (*_BRANDS_OF_SOUND, b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"dash", b"M4V ")
_BOX_HEAD = 8
_HANDLER_AT = 16


def content_type_of(data: bytes) -> str | None:
    """The type of a picture, a recording or a film; None for anything else, and for what is cut off in its head.

    PNG 5.2; JPEG: ITU T.81 B.1; RIFF; Ogg: RFC 3533; FLAC: RFC 9639; MP4: ISO 14496-12; WebM: RFC 9559; MP3: ID3v2, or
    the head of a frame of MPEG audio layer III (ISO 11172-3, 2.4.1.3).
    """
    for start, content_type in _STARTS.items():
        if data.startswith(start):
            return content_type
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[:4] == b"OggS":
        head = data[:256]
        return "audio/ogg" if any(s in head for s in _SOUNDS_OF_OGG) and not _any(_PICTURES_OF_OGG, head) else None
    if data[4:8] == b"ftyp":
        return _mp4(data)
    if data[:4] == _EBML:
        return _webm(data[:_TRACKS_WITHIN])
    return "audio/mpeg" if _is_mpeg_layer_3(data[:4]) else None


def canonical(declared: str) -> str:
    """A media type as we write it: without parameters, and by the one of its names that we use."""
    name = declared.partition(";")[0].strip().lower()
    return _ALIASES.get(name, name)


def kind_of(content_type: str) -> Kind:
    """Where among the assets a file of this type belongs."""
    family = content_type.partition("/")[0]
    if family == "image":
        return "image"
    if family == "audio":
        return "audio"
    if family == "video":
        return "video"
    return "captions" if content_type in {"text/vtt", "application/x-subrip"} else "other"


def _any(signs: tuple[bytes, ...], data: bytes) -> bool:
    return any(sign in data for sign in signs)


def _is_mpeg_layer_3(head: bytes) -> bool:
    """A frame's first four bytes: eleven bits of sync, a version, the layer; then a bit rate and a sampling rate."""
    if len(head) < struct.calcsize(">I"):
        return False
    (bits,) = struct.unpack(">I", head)
    sync, version, layer = bits >> 21, bits >> 19 & 3, bits >> 17 & 3
    rate, sampling = bits >> 12 & 15, bits >> 10 & 3
    return sync == 0x7FF and version != 1 and layer == 1 and rate not in {0, 15} and sampling != 3  # noqa: PLR2004


def _webm(head: bytes) -> str | None:
    """Sound alone, or a film, by its tracks' codecs."""
    at = head.find(_DOC_TYPE)
    if at < 0 or head[at + 3 : at + 7] != b"webm":
        return None
    if _any((b"V_VP8", b"V_VP9", b"V_AV1"), head):
        return "video/webm"
    return "audio/webm" if _any((b"A_OPUS", b"A_VORBIS"), head) else None


def _mp4(data: bytes) -> str | None:
    """Sound alone, or a film, by its tracks' handlers; by its brand where they lie in no `moov` that came along."""
    brand = data[8:12]
    if brand not in _BRANDS:
        return None
    handlers = set(_handlers(data))
    if b"vide" in handlers:
        return "video/mp4"
    if handlers:
        return "audio/mp4" if b"soun" in handlers else None
    return "audio/mp4" if brand in _BRANDS_OF_SOUND else "video/mp4"


def _handlers(data: bytes) -> Iterator[bytes]:
    """The handler type of each track: moov / trak / mdia / hdlr."""
    for moov in _boxes(data, b"moov"):
        for trak in _boxes(moov, b"trak"):
            for mdia in _boxes(trak, b"mdia"):
                for hdlr in _boxes(mdia, b"hdlr"):
                    yield hdlr[_BOX_HEAD : _BOX_HEAD + 4]


def _boxes(data: bytes, name: bytes) -> Iterator[bytes]:
    """The contents of the boxes of this name that lie side by side in `data`."""
    at = 0
    while at + _BOX_HEAD <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = _BOX_HEAD
        if size == 1 and at + _HANDLER_AT <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + _BOX_HEAD)
            head = _HANDLER_AT
        elif size == 0:
            size = len(data) - at
        if size < head:
            return
        if kind == name:
            yield data[at + head : at + size]
        at += size

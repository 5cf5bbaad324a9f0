"""What a file is by its bytes: real files, as tools write them, and what only looks like one."""

from __future__ import annotations

import struct
import subprocess
from functools import cache
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from lib.data.content import EXTENSIONS, UPLOADS, canonical, content_type_of, kind_of

SOUND = ("-f", "lavfi", "-i", "sine=duration=0.3")
FILM = ("-f", "lavfi", "-i", "testsrc=duration=0.2:size=64x64:rate=10")
WRITTEN = {
    "mp3": (*SOUND, "-f", "mp3"),
    "mp3 without a tag": (*SOUND, "-write_xing", "0", "-id3v2_version", "0", "-f", "mp3"),
    "wav": (*SOUND, "-f", "wav"),
    "flac": (*SOUND, "-f", "flac"),
    "opus in ogg": (*SOUND, "-c:a", "libopus", "-f", "ogg"),
    "vorbis in ogg": (*SOUND, "-c:a", "libvorbis", "-f", "ogg"),
    "theora in ogg": (*FILM, "-c:v", "libtheora", "-f", "ogg"),
    "opus in webm": (*SOUND, "-c:a", "libopus", "-f", "webm"),
    "vp8 in webm": (*FILM, "-c:v", "libvpx", "-f", "webm"),
    "matroska": (*SOUND, "-f", "matroska"),
    "m4a": (*SOUND, "-c:a", "aac", "-f", "ipod"),
    "sound alone in mp4": (*SOUND, "-c:a", "aac", "-f", "mp4"),
    "film in mp4": (*FILM, "-c:v", "libx264", "-f", "mp4"),
    "film that calls itself m4a": (*FILM, "-c:v", "libx264", "-f", "mp4", "-brand", "M4A "),
    "avi": (*FILM, "-f", "avi"),
    "aac alone": (*SOUND, "-f", "adts"),
    "gif": (*FILM, "-f", "gif"),
}
TYPES = {
    "mp3": "audio/mpeg",
    "mp3 without a tag": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus in ogg": "audio/ogg",
    "vorbis in ogg": "audio/ogg",
    "theora in ogg": None,
    "opus in webm": "audio/webm",
    "vp8 in webm": "video/webm",
    "matroska": None,
    "m4a": "audio/mp4",
    "sound alone in mp4": "audio/mp4",
    "film in mp4": "video/mp4",
    "film that calls itself m4a": "video/mp4",
    "avi": None,
    "aac alone": None,
    "gif": None,
}


@cache
def written(name: str) -> bytes:
    """The file as ffmpeg writes it."""
    end = ["-movflags", "frag_keyframe+empty_moov", "-"] if "mp4" in name or "m4a" in name else ["-"]
    command = [get_ffmpeg_exe(), "-v", "error", *WRITTEN[name], *end]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("name", TYPES)
def test_sound_and_film(name: str) -> None:
    """A film is none of our recordings, whatever its name and brand."""
    assert content_type_of(written(name)) == TYPES[name]


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", None),
        ("BMP", None),
        ("TIFF", None),
    ],
)
def test_pictures(form: str, content_type: str | None) -> None:
    """As Pillow writes them."""
    out = BytesIO()
    Image.new("RGB", (3, 2)).save(out, form)
    assert content_type_of(out.getvalue()) == content_type


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!doctype html><script>",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"MZ\x90\x00",
        b"\x7fELF",
        b"RIFF\x00\x00\x00\x00AVI ",
        b"OggS" + bytes(60),
        b"\x1a\x45\xdf\xa3" + bytes(60),
        b"\x00\x00\x00\x18ftypavif" + bytes(12),
        b"\x00\x00\x00\x18ftypheic" + bytes(12),
        b"\xff\xfb",
        b"\xff\xff\xff\xff",
        b"\xff\xf1\x50\x80",
        b"\xff\xfe<\x00h\x00t\x00m\x00l\x00",
    ],
)
def test_what_is_none_of_them(data: bytes) -> None:
    """Nothing is taken for what it merely begins like."""
    assert content_type_of(data) is None


def test_boxes_that_lead_nowhere() -> None:
    """An MP4 whose sizes are wrong, zero or endless is read to its end once."""
    head = b"\x00\x00\x00\x10ftypM4A \x00\x00\x00\x00"
    for box in (
        b"\x00\x00\x00\x00moov",
        b"\x00\x00\x00\x01moov",
        b"\xff\xff\xff\xffmoov",
        struct.pack(">I", 4) + b"moov",
    ):
        assert content_type_of(head + box) == "audio/mp4"


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x00\x00\x00\x10ftypM4A ", b"\x1a\x45\xdf\xa3", b"OggS", b"RIFF"])
)
def test_whatever_comes(data: bytes, start: bytes) -> None:
    """There is an answer, and it is one of ours."""
    assert content_type_of(start + data) in {None, *EXTENSIONS}


def test_names_of_types() -> None:
    """Those that browsers send for the same are the same; each has an extension of its own and a kind."""
    said = ["Audio/MP3", "audio/x-wav", "audio/webm;codecs=opus", "image/jpg", "text/html; charset=utf-8"]
    assert [canonical(each) for each in said] == ["audio/mpeg", "audio/wav", "audio/webm", "image/jpeg", "text/html"]
    assert len(set(EXTENSIONS.values())) == len(EXTENSIONS)
    assert {kind_of(each) for each in UPLOADS} == {"image", "audio"}
    assert [kind_of(each) for each in ("video/mp4", "text/vtt", "application/json")] == ["video", "captions", "other"]

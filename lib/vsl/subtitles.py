"""Captions as files for players: one pure function per format, which escapes what means something in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lib.vsl.captions import Cue, Piece


def webvtt(cues: Sequence[Cue], *, karaoke: bool = False, estimated: bool = False) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1/); with `karaoke` each word carries the time when it is heard.

    Players without karaoke show the same lines. A comment says where times are `estimated`.
    """
    parts = ["WEBVTT"]
    if estimated:
        parts.append("NOTE timing: estimated")
    if karaoke:
        parts.append("STYLE\n::cue(:future) { color: #b8b8b8; }")
    for cue in cues:
        lines = _karaoke(cue) if karaoke else [escape(line, quote=False) for line in cue.text]
        parts.append("\n".join([f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}", *lines]))
    return "\n\n".join(parts) + "\n"


def srt(cues: Sequence[Cue]) -> str:
    """SubRip. It has no escapes: an invisible character keeps `<`, `{` and `-->` from being read as markup."""
    parts = list[str]()
    for number, cue in enumerate(cues, 1):
        lines = "\n".join(cue.text).replace("<", "<\u2060").replace("{", "{\u2060").replace("-->", "--\u2060>")
        parts.append(f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{lines}\n\n")
    return "".join(parts)


def _karaoke(cue: Cue) -> list[str]:
    """Timestamps must lie within the cue and grow (WebVTT §4.2.2): a word at the time of the last one carries none."""
    lines, now = list[str](), cue.start_ms
    for line in cue.lines:
        words = list[str]()
        for index, piece in enumerate(line):
            stamp = ""
            if now < piece.start_ms < cue.end_ms:
                now, stamp = piece.start_ms, f"<{_clock(piece.start_ms, '.')}>"
            words.append(f"{_space(index, piece)}{stamp}<c>{escape(piece.text, quote=False)}</c>")
        lines.append("".join(words))
    return lines


def _space(index: int, piece: Piece) -> str:
    return " " if index and not piece.glued else ""


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"

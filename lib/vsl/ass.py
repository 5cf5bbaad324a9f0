"""What ffmpeg writes into a picture, as Advanced SubStation Alpha: libass lays it out by the font's own measures.

The ffmpeg that we carry has no drawtext filter, and libass wraps lines besides. Text goes into a file, never into a
filter's arguments. Format: https://aegisub.org/docs/latest/ass_tags/
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from lib.vsl.captions import Cue

FONT = "InterDisplay-SemiBold"
"""The PostScript name of the font in fonts/."""
HEAD = """\
[Script Info]
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}
WrapStyle: {wrap}
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Text,{font},{size},&H00FFFFFF,&H00B8B8B8,&H00000000,{box},0,0,0,0,100,100,0,0,{border},0,{shadow},{align},\
{side},{side},{bottom},1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
NO_BREAK, BOTTOM, LEFT = 2, 2, 4
UNDRAWABLE = frozenset({"So", "Sk", "Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def captions(
    cues: Sequence[Cue], width: int, height: int, *, from_ms: int, until_ms: int, karaoke: bool = False
) -> str:
    """The cues shown between two times, which become the file's own beginning and end: one file per clip.

    White on a box that is 80 % black (contrast at least 4.5 : 1 on any picture). With `karaoke` words turn from grey to
    white as they are heard.
    """
    columns, size = (24, 0.066 * width) if height > width else (42, 0.038 * width)
    size = min(size, 0.92 * width / columns / 0.56)  # 0.56 em is what a letter of this font takes at most on average
    head = HEAD.format(
        width=width,
        height=height,
        wrap=NO_BREAK,
        font=FONT,
        size=round(size),
        box="&H33000000",
        border=4,
        shadow=round(size * 0.25),
        align=BOTTOM,
        side=round(width * 0.04),
        bottom=round(height * (0.16 if height > width else 0.06)),
    )
    shown = [cue for cue in cues if cue.start_ms < until_ms and cue.end_ms > from_ms]
    return head + "".join(_event(cue, from_ms, until_ms, karaoke=karaoke) for cue in shown)


def headline(text: str, width: int, height: int) -> str:
    """A card's headline, on the screen for ever; long ones are set smaller."""
    text = _drawable(" ".join(text.split()))
    share = 0.095 if len(text) <= 60 else 0.07 if len(text) <= 140 else 0.05  # noqa: PLR2004 - sizes by length
    head = HEAD.format(
        width=width,
        height=height,
        wrap=0,
        font=FONT,
        size=round(share * (width * height) ** 0.5 * 1.15),
        box="&HFF000000",
        border=1,
        shadow=0,
        align=LEFT,
        side=round(width * 0.09),
        bottom=0,
    )
    return f"{head}Dialogue: 0,0:00:00.00,9:59:59.99,Text,,0,0,0,,{_escaped(text[:300])}\n"


def _event(cue: Cue, from_ms: int, until_ms: int, *, karaoke: bool) -> str:
    start, end = max(cue.start_ms, from_ms), min(cue.end_ms, until_ms)
    now, rows = 0, list[str]()
    for line in cue.lines:
        row = list[str]()
        for index, piece in enumerate(line):
            row.append(" " if index and not piece.glued else "")
            if karaoke:
                begins, ends = _hundredths(piece.start_ms - start), _hundredths(piece.end_ms - start)
                row.append(f"{{\\k{max(0, begins - now)}}}{{\\kf{max(0, ends - max(begins, now))}}}")
                now = max(now, ends)
            row.append(_escaped(_drawable(piece.text)))
        rows.append("".join(row))
    text = "\\N".join(rows)
    return f"Dialogue: 0,{_clock(start - from_ms)},{_clock(end - from_ms)},Text,,0,0,0,,{text}\n"


def _escaped(text: str) -> str:
    """Braces have an escape of libass' own, the backslash has none: an invisible character takes its meaning away."""
    return text.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}")


def _drawable(text: str) -> str:
    """Without what the font surely lacks (emoji, private characters) and what is no character to draw."""
    return "".join(each for each in text if each == " " or unicodedata.category(each) not in UNDRAWABLE).strip()


def _hundredths(ms: int) -> int:
    return max(0, round(ms / 10))


def _clock(ms: int) -> str:
    seconds, hundredths = divmod(_hundredths(ms), 100)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{hundredths:02}"

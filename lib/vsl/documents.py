"""What goes beside the video: the transcript, the words with their times, the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

from lib.providers.speech import Word
from lib.vsl.timeline import FPS, Timeline

SCHEMA = "vsl.manifest/1"
DOCUMENT = """\
<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem }}
time, figcaption {{ color: #595959 }}</style>
</head>
<body>
<h1>{title}</h1>
{sections}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class File:
    """A stored file; `path` is its place in the bucket. Addresses do not last: GET /api/vsl/{id} tells them."""

    path: str
    mime: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Picture(File):
    """A stored picture and its size in pixels."""

    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class CaptionFile(File):
    """Captions; `timing` says whether the times of words are the voice's own."""

    language: str = "en"
    format: Literal["vtt", "srt"] = "vtt"
    timing: Literal["exact", "estimated"] = "exact"
    kind: Literal["captions"] = "captions"


@dataclass(frozen=True, slots=True)
class Narration:
    """The finished sound: its loudness (LUFS, dB true peak; None for silence) and whose voice it is."""

    file: File
    duration_s: float
    lufs: float | None
    true_peak_db: float | None
    voice_id: str | None
    provider: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class ManifestFrame:
    """One frame: when it is seen, what is said and shown. `degraded`: a card stands in for its picture."""

    index: int
    beat: str
    start_s: float
    end_s: float
    narration: str
    on_screen: str
    alt: str
    image: Picture
    image_prompt: str | None = None
    claims: tuple[str, ...] = ()
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known of a finished video. Money in USD; `cost_usd` by stage, with `total`, as paid by this job."""

    id: str
    created_at: str
    title: str
    language: str
    aspect: str
    width: int
    height: int
    duration_s: float
    video: File
    poster: File
    captions: tuple[CaptionFile, ...]
    transcript: File
    words: File
    narration: Narration
    frames: tuple[ManifestFrame, ...]
    usage: dict[str, int]
    cost_usd: dict[str, float]
    request_hash: str
    steps_cached: int = 0
    fps: int = FPS
    ai_generated: bool = True
    schema: str = field(default=SCHEMA, init=False)

    @property
    def degraded(self) -> bool:
        """Whether a card stands in for any picture."""
        return any(frame.degraded for frame in self.frames)

    def json(self) -> dict[str, Any]:
        """As `manifest.json` holds it."""
        return {**asdict(self), "degraded": self.degraded}


@dataclass(frozen=True, slots=True)
class Told:
    """What the transcript says of a frame: the narration, and what is seen."""

    narration: str
    alt: str


def transcript(title: str, language: str, told: Sequence[Told], line: Timeline) -> str:
    """The video as an HTML page to read: what is said, and what is seen (WCAG 2.2, 1.2.3)."""
    sections = "\n".join(
        f"<section><time>{_minutes(span.start_s)}</time>\n<figure><figcaption>{escape(frame.alt)}</figcaption></figure>\n"
        f"<p>{escape(frame.narration)}</p></section>"
        for frame, span in zip(told, line.spans, strict=True)
    )
    return DOCUMENT.format(language=escape(language), title=escape(title), sections=sections)


def words_json(words: Sequence[Sequence[Word]], *, estimated: bool) -> dict[str, Any]:
    """`words.json`: every word per frame, times in seconds from the beginning of the video."""
    frames = [
        {
            "index": index,
            "words": [{"text": w.text, "start_s": round(w.start_s, 3), "end_s": round(w.end_s, 3)} for w in own],
        }
        for index, own in enumerate(words)
    ]
    return {"schema": "vsl.words/1", "timing": "estimated" if estimated else "exact", "frames": frames}


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"

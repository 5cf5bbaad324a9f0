"""A whole letter on the embedded default, as `make vsl` makes it: its steps, drawn; then one sentence changed."""

from __future__ import annotations

import json
import os
import textwrap
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.report import Goal, Section
from benchmarks.tools import ROOT
from local.letter import SAMPLE, made, served

PICTURE = ROOT / "docs" / "vsl-timeline.svg"
MAX_OVER_PATH = 1.15
CHANGED = "One charge gives you 40 hours of light."
KINDS = ("script", "picture", "narration", "clip", "film", "manifest")
PAID = ("script", "picture", "narration")
COLOURS: dict[str, str] = dict(
    zip(KINDS, ("#8250df", "#0969da", "#1a7f37", "#bc4c00", "#cf222e", "#6e7781"), strict=True)
)
MIB = 2**20
LOOK_S = 0.05
LEFT, WIDTH, ROW = 110, 640, 18
MOST_LINES = 12
FONT = 'font-family="system-ui, sans-serif" font-size="11"'


@dataclass(frozen=True)
class Bar:
    """A step as its row tells of it: seconds since the job was made."""

    name: str
    begins_s: float
    ends_s: float
    cached: bool

    @property
    def kind(self) -> str:
        """Its name without the frame."""
        return self.name.partition("/")[0]

    @property
    def lasts_s(self) -> float:
        """How long it took, with keeping what came of it."""
        return self.ends_s - self.begins_s


@dataclass
class Peaks:
    """The most memory, in MiB, that the server and any of its ffmpegs held."""

    server: float = 0.0
    ffmpeg: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def of(self, pid: int) -> Any:
        """Look again and again."""
        looking = threading.Thread(target=self._look, args=(pid,))
        looking.start()
        try:
            yield
        finally:
            self._over.set()
            looking.join()

    def _look(self, pid: int) -> None:
        while not self._over.wait(LOOK_S):
            self.server = max(self.server, held_mib(pid))
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                try:
                    is_ffmpeg = Path(f"/proc/{child}/comm").read_text().startswith("ffmpeg")
                except OSError:
                    continue
                if is_ffmpeg:
                    self.ffmpeg = max(self.ffmpeg, held_mib(int(child)))


def held_mib(pid: int) -> float:
    """The most that a process has held; 0 once it has gone."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def measured() -> Section:
    """Make the sample's letter twice, the second time with one sentence changed; draws the first."""
    brief = json.loads(SAMPLE.read_text())
    peaks = Peaks()
    with served() as (url, pid):
        warm_up(url)
        # A guest of its own: nothing is found again.
        with httpx.Client(base_url=url, timeout=30) as client, peaks.of(pid):
            loads = [os.getloadavg()[0]]
            first = made(client, brief)
            loads.append(os.getloadavg()[0])
            script = first["result"]["script"]
            frames = script["frames"]
            frames[1] = {**frames[1], "narration": CHANGED}
            second = made(client, {**brief, "script": {"title": script["title"], "frames": frames}})
            loads.append(os.getloadavg()[0])
    bars = bars_of(first)
    PICTURE.write_text(drawn(bars))
    return section(first, second, peaks, loads)


def warm_up(url: str) -> None:
    """The embedded engines start with their first caller, which is not what is measured."""
    body = {"prompt": "Hi", "outputs": ["text", "image", "speech"], "speech": {"text": "Hi."}, "stream": False}
    httpx.post(f"{url}/api/generate", json=body, timeout=120).raise_for_status()


def bars_of(job: dict[str, Any]) -> list[Bar]:
    """The steps in the order in which they began."""
    zero = datetime.fromisoformat(job["created_at"])

    def since(moment: str) -> float:
        return (datetime.fromisoformat(moment) - zero).total_seconds()

    bars = [
        Bar(step["name"], since(step["started_at"]), since(step["finished_at"]), step["cached"])
        for step in job["steps"]
    ]
    return sorted(bars, key=lambda bar: (bar.begins_s, bar.name))


def wall_s(job: dict[str, Any]) -> float:
    """From the request to the end."""
    return (datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["created_at"])).total_seconds()


def path_of(bars: Sequence[Bar]) -> list[Bar]:
    """The critical path as it ran: from the last step back, each time to the one that ended last before it began."""
    path = [max(bars, key=lambda bar: bar.ends_s)]
    while before := [bar for bar in bars if bar.ends_s <= path[0].begins_s and bar.lasts_s > 0]:
        path.insert(0, max(before, key=lambda bar: bar.ends_s))
    return path


def shortest_s(bars: Sequence[Bar]) -> float:
    """What would be left if everything that depends on nothing unfinished could run at once, and ran no slower."""
    longest = {kind: max((bar.lasts_s for bar in bars if bar.kind == kind), default=0.0) for kind in KINDS}
    drawn_or_read = max(longest["picture"], longest["narration"])
    return longest["script"] + drawn_or_read + longest["clip"] + longest["film"] + longest["manifest"]


def section(first: dict[str, Any], second: dict[str, Any], peaks: Peaks, loads: Sequence[float]) -> Section:
    """The table and what it is held to."""
    lasts = first["result"]["duration_s"]
    found = Section(
        f"A whole letter: {len(first['frames'])} frames, {lasts:.0f} s, 720p, on the embedded default",
        "`make vsl`'s sample over what `make run` starts, its engines warm. All of it on this machine's cores:\n"
        "server, Postgres, the models of text, pictures and speech, ffmpeg. Then the same with one sentence changed.",
        ("", "wall s", "steps done", "found again", "vendor calls", "cost $"),
    )
    for name, job in (("first", first), ("one sentence changed", second)):
        fresh = [step for step in job["steps"] if not step["cached"]]
        paid = [step for step in fresh if step["name"].partition("/")[0] in PAID]
        calls = [step for step in paid if step.get("provider")]
        found.rows.append(
            (name, wall_s(job), str(len(fresh)), str(len(job["steps"]) - len(fresh)), str(len(calls)), job["cost_usd"])
        )
    bars = bars_of(first)
    path = path_of(bars)
    along = sum(bar.lasts_s for bar in path)
    found.goals.append(Goal("whole job by its critical path", wall_s(first) / along, MAX_OVER_PATH))
    totals = {kind: sum(bar.lasts_s for bar in bars if bar.kind == kind) for kind in KINDS}
    notes = [
        f"Critical path as it ran, {along:.1f} s: {', '.join(bar.name for bar in path)}.",
        f"By dependencies alone, as if nothing had to share cores, engines and ffmpeg: {shortest_s(bars):.1f} s.",
        f"Seconds by kind of step: {', '.join(f'{kind} {seconds:.1f}' for kind, seconds in totals.items())}.",
        f"Peak memory: server {peaks.server:.0f} MiB, with the Supabase's gateway; ffmpeg {peaks.ffmpeg:.0f} MiB.",
        f"Load of the machine before, between and after: {', '.join(f'{load:.1f}' for load in loads)}.",
        f"The first job's steps, drawn from their rows: ![timeline]({PICTURE.name})",
    ]
    found.notes += [textwrap.fill(note, 118, subsequent_indent="  ", break_on_hyphens=False) for note in notes]
    return found


def drawn(bars: Sequence[Bar]) -> str:
    """The steps as bars over time, as SVG."""
    end_s = max(bar.ends_s for bar in bars)
    height = ROW * len(bars) + 40
    path = {bar.name for bar in path_of(bars)}
    scale = WIDTH / end_s
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {height}" role="img" {FONT}>',
        f"<title>{len(bars)} steps in {end_s:.1f} seconds; the critical path is outlined</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    step_s = next(each for each in (1, 2, 5, 10, 20, 60) if end_s / each <= MOST_LINES)
    for second in range(0, int(end_s) + 1, step_s):
        x = LEFT + second * scale
        lines.append(f'<path d="M{x:.1f} 20V{height - 14}" stroke="#d0d7de"/>')
        lines.append(f'<text x="{x:.1f}" y="14" text-anchor="middle" fill="#57606a">{second} s</text>')
    for row, bar in enumerate(bars):
        y = 24 + ROW * row
        edge = ' stroke="#1f2328" stroke-width="1.5"' if bar.name in path else ""
        lines.append(f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end" fill="#1f2328">{bar.name}</text>')
        lines.append(
            f'<rect x="{LEFT + bar.begins_s * scale:.1f}" y="{y}" width="{max(bar.lasts_s * scale, 1.5):.1f}"'
            f' height="{ROW - 5}" rx="2" fill="{COLOURS.get(bar.kind, "#6e7781")}"{edge}/>'
        )
        lines.append(
            f'<text x="{LEFT + bar.ends_s * scale + 5:.1f}" y="{y + 11}" fill="#57606a">{bar.lasts_s:.1f}</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    began = time.perf_counter()
    print(measured())
    print(f"{time.perf_counter() - began:.0f} s")

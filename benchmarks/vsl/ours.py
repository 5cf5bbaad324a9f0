"""`python -m benchmarks.vsl.ours FOLDER COUNT still|motion`: compose in a process of its own, and say what it took."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from lib.vsl import film as filming
from lib.vsl.compose import Composition, Scene, compose
from lib.vsl.ffmpeg import Ffmpeg, find
from lib.vsl.film import ENCODER, clips

TEXT = "This small lamp collects light all day and gives it back for forty hours, without a cable or a battery."


async def main(material: Path, count: int, *, motion: bool) -> dict[str, float]:
    """Compose, then encode the very same frames once more from raw pictures."""
    scenes = tuple(Scene(material / f"{index}.png", material / f"{index}.wav", TEXT) for index in range(count))
    composition = Composition(scenes, motion=motion)
    ffmpeg = Ffmpeg(find(), threads=1)
    deadline = asyncio.get_running_loop().time() + 900
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin, used = time.perf_counter(), cpu_s()
        made = await compose(ffmpeg, composition, folder, deadline)
        wall, cpu = time.perf_counter() - begin, cpu_s() - used
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        begin = time.perf_counter()
        await compose(ffmpeg, composition, folder, deadline)
        again = time.perf_counter() - begin
        encoding = encoding_cpu = 0.0
        for clip in clips([scene.picture for scene in scenes], made.line, width=1280, height=720, motion=motion):
            raw, step = folder / "raw.yuv", filming.Step("benchmark")
            pictures = [*filming.shown(clip, folder), "-f", "rawvideo", "-pix_fmt", "yuv420p", str(raw)]
            await ffmpeg.run(pictures, folder, step, deadline)
            frames = ["-v", "error", *("-f", "rawvideo", "-s", "1280x720", "-r", "25", "-i", str(raw))]
            begin, used = time.perf_counter(), cpu_s()
            await ffmpeg.run([*frames, *ENCODER, "-threads", "1", "-f", "mp4", "raw.mp4"], folder, step, deadline)
            encoding, encoding_cpu = encoding + time.perf_counter() - begin, encoding_cpu + cpu_s() - used
            raw.unlink()
        return {
            "lasts_s": made.line.duration_s,
            "wall_s": wall,
            "cpu_s": cpu,
            "again_s": again,
            "encoding_s": encoding,
            "encoding_cpu_s": encoding_cpu,
            "ffmpeg_mib": memory,
            "python_mib": own_mib(),
            "mib": made.video.stat().st_size / 2**20,
        }


def own_mib() -> float:
    """The most memory that this process has held; ru_maxrss would be that of whoever started it, if that had more."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def cpu_s() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), motion=sys.argv[3] == "motion"))))

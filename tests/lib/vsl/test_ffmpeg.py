"""Runs of ffmpeg end when they must, and say why."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lib.errors import RenderFailed
from lib.vsl.compose import Composition, compose
from lib.vsl.ffmpeg import Ffmpeg, Step, find, picture, sound
from lib.vsl.film import made_by
from tests.conftest import ROOT
from tests.lib.vsl.media import ffmpeg, run, scenes

STEP = Step("render", 4)
ENDLESS = ["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=s=64x64", "-f", "null", "-"]
"""Works for ever, in real time."""
ONE_PICTURE = [
    "-v",
    "error",
    "-f",
    "lavfi",
    "-i",
    "testsrc=s=64x64",
    "-frames:v",
    "1",
    "-c:v",
    "png",
    "-f",
    "image2pipe",
]
PARENT = """
import asyncio, sys
from pathlib import Path
from lib.vsl.ffmpeg import Ffmpeg, Step
async def main():
    ffmpeg = Ffmpeg(Path(sys.argv[1]))
    await ffmpeg.run(sys.argv[2:], Path("."), Step("render"), asyncio.get_running_loop().time() + 60)
asyncio.run(main())
"""


def children(pid: int) -> set[int]:
    """The processes that one has started and not yet buried."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def started(pid: int, before: set[int]) -> int:
    """The process id of the ffmpeg that a process has started, once it is one."""
    while True:
        for child in children(pid) - before:
            if Path(f"/proc/{child}/comm").read_text().startswith("ffmpeg"):  # noqa: ASYNC240 - the kernel's, at once
                return child
        await asyncio.sleep(0.01)


@asynccontextmanager
async def endless(folder: Path) -> AsyncGenerator[tuple[asyncio.Task[str], int]]:
    """A run that would never end, and the process id of its ffmpeg."""
    before = children(os.getpid())
    running = asyncio.create_task(ffmpeg().run(ENDLESS, folder, STEP, asyncio.get_running_loop().time() + 60))
    yield running, await started(os.getpid(), before)
    running.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cancelled(tmp_path: Path) -> None:
    """When its caller is cancelled, ffmpeg is gone by the time the caller is."""

    async def main() -> int:
        async with endless(tmp_path) as (running, pid):
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return pid

    assert not Path(f"/proc/{asyncio.run(main())}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fault_45_ffmpeg_is_killed(tmp_path: Path) -> None:
    """When somebody kills ffmpeg, the error says so, with stage and frame."""

    async def main() -> None:
        async with endless(tmp_path) as (running, pid):
            os.kill(pid, signal.SIGKILL)
            await running

    with pytest.raises(RenderFailed, match=r"ffmpeg was killed \(render, frame 4\)") as failed:
        asyncio.run(main())
    assert failed.value.reason == "killed"


@pytest.mark.skipif(sys.platform != "linux", reason="a service of Linux")
def test_dies_with_its_parent(tmp_path: Path) -> None:
    """A process that is killed outright takes its ffmpeg with it."""

    async def main() -> None:
        command = [sys.executable, "-c", PARENT, str(find()), *ENDLESS]
        parent = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
        child = await started(parent.pid, set())
        watch = os.pidfd_open(child)  # readable when it has ended, even though it is nobody's child here
        parent.kill()
        await parent.wait()
        ended = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(watch, lambda: ended.done() or ended.set_result(None))
        try:
            async with asyncio.timeout(10):
                await ended
        finally:
            asyncio.get_running_loop().remove_reader(watch)
            os.close(watch)

    asyncio.run(main())


def test_deadline(tmp_path: Path) -> None:
    """Past its deadline ffmpeg is ended, and nothing half-made is left."""
    with pytest.raises(RenderFailed) as failed:
        run(
            lambda deadline: made_by(ffmpeg(), [*ENDLESS[:-3], "-f", "nut"], tmp_path / "a", STEP, deadline),
            within_s=0.3,
        )
    assert failed.value.reason == "deadline"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"no program", b"\x7fELF and no more"])
def test_fault_45_ffmpeg_is_missing(tmp_path: Path, content: bytes | None) -> None:
    """An ffmpeg that is not there, is not executable or is none: the error says so."""
    path = tmp_path / "ffmpeg"
    if content:
        path.write_bytes(content)
        path.chmod(0o755 if content.startswith(b"\x7f") else 0o644)
    with pytest.raises(RenderFailed) as failed:
        run(lambda deadline: Ffmpeg(path).run(ENDLESS, tmp_path, STEP, deadline))
    assert failed.value.reason == "ffmpeg_missing"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_fault_45_disk_is_full(tmp_path: Path) -> None:
    """A full disk is told as that, with stage and frame."""
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(RenderFailed, match=r"The disk is full \(render, frame 4\)") as failed:
        run(lambda deadline: made_by(ffmpeg(), ONE_PICTURE, tmp_path / "a", STEP, deadline))
    assert failed.value.reason == "disk_full"


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_memory(tmp_path: Path) -> None:
    """A run that wants more memory than it may have fails alone, and says so."""
    small = replace(ffmpeg(), memory_bytes=120 * 2**20)
    big = [each.replace("64x64", "4000x4000") for each in ONE_PICTURE]
    with pytest.raises(RenderFailed) as failed:
        run(lambda deadline: made_by(small, big, tmp_path / "a", STEP, deadline))
    assert failed.value.reason == "out_of_memory"


def test_reads_files_alone(tmp_path: Path) -> None:
    """No input may lead to another file or an address: formats are told by content, protocols are one."""
    for path, content in (("a.png", b"\x89PNG\r\n\x1a\n"), ("concat:a|b", b"\xff\xd8\xff"), ("http:", b"RIFF....WEBP")):
        (tmp_path / path).write_bytes(content)
        given = picture(tmp_path / path, STEP)
        assert given[:2] == ["-protocol_whitelist", "file"]
        assert given[-1] == f"file:{tmp_path / path}"
    kinds = {b"ID3": "mp3", b"\xff\xfb\x90": "mp3", b"\xff\xf1\x50": "aac", b"OggS": "ogg", b"0000ftypM4A ": "mov"}
    for content, kind in kinds.items():
        (tmp_path / "sound").write_bytes(content)
        given = sound(tmp_path / "sound", STEP)
        assert given[given.index("-f") + 1] == kind


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_failure_ends_what_runs_beside(tmp_path: Path) -> None:
    """When a picture cannot be filmed, the sound that is being mixed is given up before the error is told."""
    story = scenes(tmp_path, (60.0, 0.6))
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    async def main() -> None:
        before, deadline = children(os.getpid()), asyncio.get_running_loop().time() + 60
        with pytest.raises(RenderFailed):
            await compose(ffmpeg(), Composition(story, 64, 64), tmp_path, deadline)
        assert children(os.getpid()) <= before

    asyncio.run(main())
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("sound-*")]

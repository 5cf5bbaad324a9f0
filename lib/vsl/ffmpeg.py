"""One ffmpeg for everything: where it lies, and runs of it that are bounded in time, memory and threads.

Arguments are a list, no shell ever reads them. Files are named to it by `file:` and their format is told, not guessed,
so that no content makes it open another file or an address. A run ends with its deadline, with its caller
(cancellation) or with this process, however that dies.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.errors import RenderFailed

VENDORED = Path(__file__).parents[2] / "vendor" / "ffmpeg"
"""Where scripts/vendor_ffmpeg puts it for the one function on Vercel that carries it."""
FONTS = Path(__file__).with_name("fonts")
LAUNCHER = Path(__file__).with_name("launch.py")
LOG_BYTES = 16_384
NOT_STARTED = 127
"""How the launcher ends where there is no such program."""
MAX_PIXELS = 50_000_000
"""A picture of more would take more memory than a run may have."""
PICTURES = {b"\x89PNG\r\n\x1a\n": "png_pipe", b"\xff\xd8\xff": "jpeg_pipe"}
SOUNDS = {b"OggS": "ogg", b"fLaC": "flac", b"ID3": "mp3", b"\x1aE\xdf\xa3": "matroska"}


@dataclass(frozen=True, slots=True)
class Step:
    """What a run is for, as its error will say: a stage, and the frame that it is about if it is one."""

    stage: str
    frame: int | None = None

    def failed(self, message: str, reason: str, log: str = "") -> RenderFailed:
        """The error to raise."""
        return RenderFailed(message, stage=self.stage, frame=self.frame, reason=reason, log=log)


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """An ffmpeg and the bounds of each run: threads per codec and filter graph, bytes of address space."""

    path: Path
    threads: int = 2
    memory_bytes: int = 2 * 2**30

    async def run(self, arguments: Sequence[str], folder: Path, step: Step, deadline: float) -> str:
        """Run in `folder`; returns the end of what it logged.

        `deadline` is a time of the running loop's clock. Raises RenderFailed. Whatever it wrote is the caller's to
        remove: write to a temporary name first.
        """
        threads = str(self.threads)
        if not os.access(self.path, os.X_OK):
            raise step.failed("ffmpeg is missing or cannot be started", "ffmpeg_missing")
        command = [
            *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(self.memory_bytes)),
            *(str(self.path), "-nostdin", "-hide_banner", "-nostats", "-y"),
            *("-filter_threads", threads, "-filter_complex_threads", threads),
            *arguments,
        ]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env={"FONTCONFIG_FILE": str(FONTS / "fonts.conf")},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EACCES, errno.ENOEXEC}:
                raise step.failed("ffmpeg is missing or cannot be started", "ffmpeg_missing") from error
            raise step.failed("ffmpeg could not be started", reason_of(error.errno or 0)) from error
        try:
            async with asyncio.timeout_at(deadline):
                log = await _tail(process)
                code = await process.wait()
        except TimeoutError as error:
            raise step.failed("There was no time left", "deadline") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            raise _failure(code, log, step)
        return log


def find() -> Path:
    """The ffmpeg that the deployment carries, else that of the package imageio-ffmpeg. Raises RenderFailed.

    The package is looked up, not imported: importing it starts processes and reads the environment.
    """
    if VENDORED.is_file():
        return VENDORED
    package = importlib.util.find_spec("imageio_ffmpeg")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        for binary in sorted(Path(folder, "binaries").glob("ffmpeg-*")):
            return binary
    raise RenderFailed("No ffmpeg: install imageio-ffmpeg==0.6.0", stage="render", reason="ffmpeg_missing")


def picture(path: Path, step: Step) -> list[str]:
    """The arguments that read a still picture (PNG, JPEG, WebP), whatever its name says. Raises RenderFailed."""
    head = _head(path, step)
    demuxer = next((name for magic, name in PICTURES.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        demuxer = "webp_pipe"
    if demuxer is None:
        raise step.failed("The picture is no PNG, JPEG or WebP", "unreadable")
    return [*_input(demuxer), "-max_pixels", str(MAX_PIXELS), "-i", f"file:{path.absolute()}"]


def sound(path: Path, step: Step, *, loop: bool = False) -> list[str]:
    """The arguments that read audio (WAV, MP3, Ogg, FLAC, MP4, AAC, WebM), again and again with `loop`."""
    head = _head(path, step)
    demuxer = next((name for magic, name in SOUNDS.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        demuxer = "wav"
    elif head[4:8] == b"ftyp":
        demuxer = "mov"
    elif len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # noqa: PLR2004 - MPEG's sync word
        demuxer = "mp3" if head[1] & 0x06 else "aac"
    if demuxer is None:
        raise step.failed("The audio is of no kind that is known", "unreadable")
    return [*(["-stream_loop", "-1"] if loop else []), *_input(demuxer), "-vn", "-i", f"file:{path.absolute()}"]


def _input(demuxer: str) -> list[str]:
    return ["-protocol_whitelist", "file", "-f", demuxer]


def _head(path: Path, step: Step) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise step.failed("A file that was to be read is not there", "unreadable") from error


async def _tail(process: asyncio.subprocess.Process) -> str:
    """The end of what it logs, however much that is."""
    if process.stderr is None:
        return ""
    tail = b""
    while piece := await process.stderr.read(LOG_BYTES):
        tail = (tail + piece)[-LOG_BYTES:]
    return tail.decode("utf-8", "replace")


def _failure(code: int, log: str, step: Step) -> RenderFailed:
    """Ffmpeg ends with the low byte of a negative errno; a signal is told as a negative code."""
    if code < 0:
        return step.failed("ffmpeg was killed", "killed", log)
    if code == NOT_STARTED:
        return step.failed("ffmpeg is missing or cannot be started", "ffmpeg_missing", log)
    reason = reason_of(256 - code)
    messages = {"disk_full": "The disk is full", "out_of_memory": "ffmpeg ran out of memory"}
    return step.failed(messages.get(reason, "ffmpeg failed"), reason, log)


def reason_of(number: int) -> str:
    """What an error of the system means to a run."""
    if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "disk_full"
    # EAGAIN: no thread could be started, for want of address space.
    return "out_of_memory" if number in {errno.ENOMEM, errno.EAGAIN} else "failed"

"""`make vsl`: a sales letter of the sample product, made by what `make run` starts, and left where one can open it."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "vsl" / "lantern.json"
FOLDER = ROOT / ".local" / "vsl"
STARTS_WITHIN_S = 60.0
MADE_WITHIN_S = 600.0
NAMES = {
    "video": "video.mp4",
    "poster": "poster.jpg",
    "captions_vtt": "captions.vtt",
    "captions_srt": "captions.srt",
    "transcript": "transcript.html",
    "manifest": "manifest.json",
}


def main(brief: Path, folder: Path) -> None:
    """Make the letter of a brief; its files are in `folder` afterwards. Raises SystemExit where it can't be made."""
    with site() as url, httpx.Client(base_url=url, timeout=30) as client:
        job = made(client, json.loads(brief.read_text()))
        folder.mkdir(parents=True, exist_ok=True)
        for name, file_name in NAMES.items():
            (folder / file_name).write_bytes(client.get(job["result"]["files"][name]["url"]).content)
    seconds = job["result"]["duration_s"]
    print(f"\n  {seconds:.0f} seconds, {len(job['frames'])} frames: {folder / NAMES['video']}")


@contextmanager
def site() -> Generator[str]:
    """The URL of this clone's `make run`, which has its database; else of one that lasts as long as it is needed."""
    if url := running(FOLDER.parent):
        print(f"  made by what runs already: {url}/vsl.html", flush=True)
        yield url
        return
    with served() as (url, _):
        yield url


def running(state: Path) -> str | None:
    """The URL of the server whose state that is, if it answers."""
    with suppress(OSError, httpx.HTTPError):
        url = (state / "url").read_text()
        httpx.get(f"{url}/api/health", timeout=10)
        return url
    return None


@contextmanager
def served() -> Generator[tuple[str, int]]:
    """What `make run` starts: its URL, and its process id. Raises SystemExit where it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-m", "local.server", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    url = f"http://localhost:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            _wait_for(client, server)
        yield url, server.pid
    finally:
        server.terminate()
        server.wait()


def _wait_for(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while server.poll() is None and time.monotonic() < until:
        with suppress(httpx.TransportError):
            client.get("/api/health")
            return
        time.sleep(0.2)
    raise SystemExit("The server did not start: `make run` says why.")


def made(client: httpx.Client, brief: dict[str, Any]) -> dict[str, Any]:
    """The job, once it is finished; what it is at is printed meanwhile. Raises SystemExit where it fails."""
    headers = {"accept": "application/json"}
    answer = client.post("/api/vsl", json=brief, headers=headers)
    if answer.is_error:
        raise SystemExit(f"{answer.status_code}: {answer.json()['detail']}")
    place, last = answer.json()["location"], ""
    until = time.monotonic() + MADE_WITHIN_S
    while time.monotonic() < until:
        job = client.get(place, headers=headers).json()
        if (now := f"  {job['percent']:3} %  {job['stage']}") != last:
            print(now, flush=True)
            last = now
        if job["status"] == "succeeded":
            return job
        if job["status"] in {"failed", "canceled"}:
            raise SystemExit(f"It {job['status']}: {job.get('error', {}).get('detail', 'nobody knows why')}")
        time.sleep(0.5)
    raise SystemExit(f"It was not done within {MADE_WITHIN_S:.0f} s.")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--brief", type=Path, default=SAMPLE)
    arguments.add_argument("--folder", type=Path, default=FOLDER)
    options = arguments.parse_args()
    main(options.brief, options.folder)

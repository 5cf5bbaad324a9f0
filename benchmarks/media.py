"""Pictures and speech: side by side, found again, without growth; the embedded voice's pace. `make bench-media`."""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.report import Goal, Section
from benchmarks.tools import ROOT

ROUNDS, REPEATS, CALLS, WARM_UP = 5, 300, 500, 100
PAUSE_S = 0.02
"""Until the server has done what follows an answer: nobody waits for that."""
KEYS = [f"bench{number}:user:bench-secret-{number}-0123456789" for number in range(4)]
"""More than one: each may make 600 requests a minute."""
NARRATION = (
    "Every morning the harbour wakes before the town does. Boats leave one after another, their lamps small on the "
    "dark water, and the first gulls follow them out. By seven the market stands are up: fish on ice, bread that is "
    "still warm, coffee in tall cans. People talk about the weather, because it decides the day. If the wind turns "
    "north, the boats come home early, and the children run down to the pier to count them. In the evening the nets "
    "are mended, the radio plays old songs, and the lighthouse begins its slow round. Nothing much happens here, and "
    "that is exactly why so many who left come back, once a year, to sit on the wall and look at the sea for a while. "
    "They bring their own children, who learn to bait a hook, and who will tell it all again one day."
)
"""About forty-five seconds when it is read."""


def measure() -> Section:
    """All four, on one server over vendors that take a known time."""
    section = Section(
        "Pictures and speech",
        f"`python -m local.server` with its real database and files, over vendors that write for 1 s, draw for 2 s and "
        f"read for 1.5 s. Median of {ROUNDS} calls; {REPEATS} repeats; {CALLS} calls for memory.",
        ("", "value", "unit"),
    )
    with (
        _vendors() as vendors,
        _server(vendors) as (url, process),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        _side_by_side(section, client)
        _found_again(section, client)
        _memory(section, client, process)
    seconds, took = _narrated()
    section.rows.append(("narration of the embedded voice", seconds, "s of sound"))
    section.rows.append(("that took of one core", took, "s"))
    section.goals.append(Goal("narration, times real time", seconds / took, 5, at_least=True))
    return section


def _side_by_side(section: Section, client: httpx.Client) -> None:
    image, speech = {"image": {"prompt": "slow"}}, {"speech": {"text": "slow"}}
    text_s = _median(client, {"prompt": "x"})
    image_s = _median(client, {"outputs": ["image"], **image})
    speech_s = _median(client, {"outputs": ["speech"], **speech})
    both_s = _median(client, {"outputs": ["image", "speech"], **image, **speech})
    all_s = _median(client, {"prompt": "x", "outputs": ["text", "image", "speech"]})
    for name, value in (
        *(("text alone", text_s), ("picture alone", image_s), ("speech alone", speech_s)),
        *(("picture and speech", both_s), ("all three, the text read aloud", all_s)),
    ):
        section.rows.append((name, value, "s"))
    slower = max(image_s, speech_s)
    section.goals.append(Goal("picture and speech, to the slower of them", both_s / slower, 1.1))
    section.goals.append(Goal("all three, to the text and the slower of the others", all_s / (text_s + slower), 1.1))


def _found_again(section: Section, client: httpx.Client) -> None:
    body = {"outputs": ["image"], "image": {"prompt": "quick"}, "stream": False}
    client.post("/api/generate", json=body, headers=_key(0)).raise_for_status()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(REPEATS):
        times[0].append(_timed(client, "POST", "/api/generate", number, json=body))
        time.sleep(PAUSE_S)
        times[1].append(_timed(client, "GET", "/api/session", number))
    quantiles = [[cut * 1000 for cut in statistics.quantiles(each, n=20)] for each in times]
    for name, of in zip(("a kept picture", "identity alone"), quantiles, strict=True):
        section.rows += [(f"{name}, p50", of[9], "ms"), (f"{name}, p95", of[18], "ms")]
    repeat_ms, identity_ms = (of[18] for of in quantiles)
    section.goals.append(Goal("a kept picture beyond identity, p95", repeat_ms - identity_ms, 8, " ms"))


def _memory(section: Section, client: httpx.Client, process: int) -> None:
    def call(number: int) -> None:
        parts = {"image": {"prompt": f"quick {number}"}, "speech": {"text": f"quick {number}"}}
        body = {"outputs": ["image", "speech"], "stream": False, **parts}
        client.post("/api/generate", json=body, headers=_key(number)).raise_for_status()

    for number in range(WARM_UP):
        call(number)
    before = _resident_mb(process)
    for number in range(WARM_UP, WARM_UP + CALLS):
        call(number)
    after = _resident_mb(process)
    section.rows.append((f"memory after {WARM_UP} calls", before, "MB"))
    section.rows.append((f"after {CALLS} more", after, "MB"))
    section.goals.append(Goal(f"growth over {CALLS} calls", after - before, 10, " MB"))


def _narrated() -> tuple[float, float]:
    """Seconds of sound, and the processor's time that the embedded voice took for them, on all cores together."""
    command = [sys.executable, "-m", "benchmarks.media_narration"]
    done = subprocess.run(command, cwd=ROOT, input=NARRATION, capture_output=True, text=True, check=True)
    seconds, took = map(float, done.stdout.split())
    return seconds, took


def _median(client: httpx.Client, body: dict[str, Any]) -> float:
    whole = {**body, "stream": False, "cache": False}
    _timed(client, "POST", "/api/generate", 0, json=whole)
    return statistics.median(_timed(client, "POST", "/api/generate", each, json=whole) for each in range(ROUNDS))


def _timed(client: httpx.Client, method: str, path: str, number: int, **options: Any) -> float:
    began = time.perf_counter()
    client.request(method, path, headers=_key(number), **options).raise_for_status()
    return time.perf_counter() - began


def _key(number: int) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[number % len(KEYS)].split(':')[2]}"}


def _resident_mb(process: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def _vendors() -> Generator[str]:
    command = [sys.executable, "-m", "benchmarks.media_vendors"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def _server(vendors: str) -> Generator[tuple[str, int]]:
    """The whole product on this machine; its URL and its process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    urls = {"GROQ_BASE_URL": vendors, "FAL_BASE_URL": vendors, "ELEVENLABS_BASE_URL": vendors}
    keys = {"GROQ_API_KEY": "bench-key", "FAL_KEY": "bench-key", "ELEVENLABS_API_KEY": "bench-key"}
    environ = {**os.environ, **urls, **keys, "API_KEYS": ",".join(KEYS)}  # noqa: TID251 - of the child
    command = [sys.executable, "-m", "local.server", "--port", str(port), "--env-file", "/dev/null"]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE
        try:
            for line in process.stdout:
                if "http://localhost" in line:
                    break
            drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)  # noqa: S607 - everywhere
            yield f"http://localhost:{port}", process.pid
            drain.kill()
            drain.wait()
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    print(measure())

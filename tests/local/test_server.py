"""`make run`'s server as a process: what it says, how it starts and stops, and the embedded model behind it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from lib.settings import variables
from local.edge_config import FOLDER
from tests.conftest import ROOT
from tests.fakes.vendor import Hang, Vendor, words

Start = Callable[..., "Running"]


class Running:
    """A server process of its own, with its output."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environ}
        command = [sys.executable, "-m", "local.server", "--env-file", "/dev/null", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.output = ""
        self.url = ""

    def ready(self) -> Running:
        """Wait for the banner."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if (match := re.search(r"http://localhost:\d+", line)) is not None:
                self.url = match[0]
                # Somebody has to read on, or a full pipe would stop the server.
                self._reading = threading.Thread(target=self._read_on, daemon=True)
                self._reading.start()
                return self
        raise AssertionError(self.output)

    def _read_on(self) -> None:
        assert self.process.stdout is not None
        self.output += self.process.stdout.read()

    def rest(self) -> str:
        """The whole output, once the server has ended."""
        self._reading.join(10)
        return self.output

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts server processes and kills what is left of them."""
    running: list[Running] = []

    def run(environ: dict[str, str] | None = None, *arguments: str) -> Running:
        running.append(Running(environ or {}, *(arguments or ("--port", str(free_port())))))
        return running[-1]

    yield run
    for server in running:
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


def engine_of(server: Running) -> int:
    """The process of a server's embedded model, by /proc."""
    (engine,) = engines_of(server, b"local.text")
    return engine


def engines_of(server: Running, module: bytes) -> list[int]:
    """The processes that a server has started for an engine."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(server.process.pid) and module in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def gone(process_id: int) -> bool:
    """Wait, with a bound, until a process that is not our child has ended."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        watched = os.pidfd_open(process_id)
        try:
            import select  # noqa: PLC0415 - Linux alone

            return bool(select.select([watched], [], [], 10)[0])
        finally:
            os.close(watched)
    return True


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_embedded_model_answers(start: Start) -> None:
    """Without any key, a real model answers on this machine, and the page is served."""
    server = start().ready()
    answer = httpx.post(
        f"{server.url}/api/generate",
        json={"prompt": "What is the capital of France?", "stream": False, "max_tokens": 40, "temperature": 0},
        timeout=60,
    )
    body = answer.json()
    assert (body["provider"], body["model"], body["cost_usd"]) == ("local", "smollm2-135m-instruct", 0.0)
    assert "Paris" in body["text"]
    assert 0 < body["usage"]["output_tokens"] <= 40
    page = httpx.get(server.url)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert server.stop() == 0


def test_embedded_model_streams(start: Start) -> None:
    """Its answer arrives in pieces."""
    server = start().ready()
    request = {"prompt": "Count from one to ten.", "max_tokens": 30}
    with httpx.stream(
        "POST", f"{server.url}/api/generate", json=request, headers={"accept": "text/plain"}, timeout=60
    ) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 5


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(start: Start, number: int) -> None:
    """However the server ends, its engine ends with it."""
    server = start().ready()
    engine = engine_of(server)
    code = server.stop(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert gone(engine)


@linux
def test_engine_is_started_again(start: Start) -> None:
    """An engine that dies comes back at its address, and the next question is answered."""
    server = start().ready()
    engine = engine_of(server)
    request = {"prompt": "Hi", "stream": False, "max_tokens": 5}
    # The first call takes longer than the engine needs to come back.
    assert httpx.post(f"{server.url}/api/generate", json=request, timeout=60).status_code == 200
    os.kill(engine, signal.SIGKILL)
    assert gone(engine)
    refused = httpx.post(f"{server.url}/api/generate", json=request, timeout=60)
    assert refused.status_code == 503
    # On a busy machine it may be back by now, and still be loading: then it says 503 itself.
    assert re.search(r"tried local \((connection_failed|provider_unavailable)\)", refused.json()["detail"])
    deadline = time.monotonic() + 30
    while httpx.post(f"{server.url}/api/generate", json=request, timeout=60).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@linux
def test_embeddings_wait_for_their_first_call(start: Start) -> None:
    """`make run` has embeddings on and starts nothing for them."""
    server = start().ready()
    assert re.search(r"on +embeddings .*demo quality", server.output)
    assert engines_of(server, b"local.embeddings") == []


def test_taken_port(start: Start) -> None:
    """A taken port is said plainly, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = start({}, "--port", str(listener.getsockname()[1]))
        output, _ = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert "is taken" in output
    assert "Traceback" not in output


def test_banner(start: Start, vendor: Vendor) -> None:
    """The banner names what is on, what is off and which variable turns it on; never a value."""
    environ = {
        "LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1",
        "GROQ_API_KEY": "gsk-canary-0123456789",
        "XAI_BASE_URL": "nonsense",
    }
    server = start(environ).ready()
    assert re.search(r"on +groq", server.output)
    assert re.search(r"off +deepinfra .*set DEEPINFRA_API_KEY", server.output)
    assert re.search(r"bad +XAI_BASE_URL", server.output)
    assert "canary" not in server.output
    assert "nonsense" not in server.output


SAMPLES = [
    {},
    {"ALLOW_ANONYMOUS": "maybe"},
    {"API_KEYS": "broken", "SESSION_SECRET": "short"},
    {"GROQ_API_KEY": "has space", "GROQ_BASE_URL": "ftp://x"},
    {"XAI_API_KEY": "xai-0123456789", "FEATURE_AI_PROVIDER": "nobody/at-all", "ALLOWED_ORIGINS": "not an origin,*"},
    {variable.name: "\N{SNOWMAN} nonsense" for variable in variables() if variable.name != "LOCAL_TEXT_BASE_URL"},
]


@pytest.mark.parametrize("environ", SAMPLES)
def test_odd_environments(start: Start, vendor: Vendor, environ: dict[str, str]) -> None:
    """Whatever the variables hold, the server starts, and health says by name what is wrong."""
    server = start({**environ, "LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1"}).ready()
    health = httpx.get(f"{server.url}/api/health").json()
    malformed = set(health["malformed"])
    assert malformed <= set(environ)
    assert health["status"] == ("degraded" if malformed else "ok")
    assert all(name in server.output for name in malformed)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """A copy of the shipped items."""
    return Path(shutil.copytree(FOLDER, tmp_path / "items"))


def start_with_items(start: Start, vendor: Vendor, items: Path) -> Running:
    """A server over a folder of items."""
    environ = {"LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1"}
    return start(environ, "--port", str(free_port()), "--items", str(items)).ready()


def arm(server: Running) -> tuple[str, str]:
    """The arm of a new guest, and the model that answered it."""
    answer = httpx.post(f"{server.url}/api/generate", json={"prompt": "Hi", "stream": False}, timeout=60).json()
    return answer["flags"][0]["arm"], answer["model"]


@pytest.mark.parametrize("way", ["file", "panel"])
def test_edit_of_a_flag_is_followed(start: Start, vendor: Vendor, items: Path, way: str) -> None:
    """Without a restart, an edit of the flags' file or by the panel's route decides what comes a few seconds later."""
    server = start_with_items(start, vendor, items)
    assert arm(server)[1] == "smollm2-135m-instruct"
    file = items / "statsig-local.json"
    document = json.loads(file.read_text())
    document["dynamic_configs"][0]["rules"][0]["conditions"][0]["targetValue"] = 1000
    document["dynamic_configs"][0]["rules"][0]["returnValue"] = {"provider": "local", "model": "another"}
    if way == "file":
        file.write_text(json.dumps(document))
    else:
        assert httpx.put(f"{server.url}/local/items/statsig-local", json=document).status_code == 204
    deadline = time.monotonic() + 10
    while arm(server) != ("groq", "another"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_panel_answers_this_machine_alone(start: Start, vendor: Vendor, items: Path) -> None:
    """Under another host's name, or from another site's page, the items are neither read nor written."""
    server = start_with_items(start, vendor, items)
    url = f"{server.url}/local/items/statsig-local"
    before = (items / "statsig-local.json").read_bytes()
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 400
    assert httpx.put(url, json={}, headers={"host": "evil.example"}).status_code == 400
    assert httpx.put(url, json={}, headers={"origin": "http://evil.example"}).status_code == 403
    assert (items / "statsig-local.json").read_bytes() == before


def test_own_edge_config_is_left_alone(start: Start, vendor: Vendor) -> None:
    """Where an Edge Config or a Statsig project is named, flags come from there and not from the files here."""
    environ = {"LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1", "EDGE_CONFIG": f"{vendor.url}/ecfg_x"}
    server = start(environ).ready()
    assert re.search(r"off +edge config .*EDGE_CONFIG malformed", server.output)
    answer = httpx.post(f"{server.url}/api/generate", json={"prompt": "Hi", "stream": False}, timeout=60)
    assert answer.json()["flags"] == []


def test_parallel_callers_of_the_embedded_model(start: Start) -> None:
    """The embedded server offers to keep connections and then closes them: no caller pays for that."""
    server = start().ready()

    def ask_often(_: int) -> set[int]:
        request = {"prompt": "hi", "max_tokens": 1, "stream": False}
        return {httpx.post(f"{server.url}/api/generate", json=request, timeout=60).status_code for _ in range(15)}

    with ThreadPoolExecutor(6) as callers:
        assert set().union(*callers.map(ask_often, range(6))) == {200}


def test_stopping_while_an_answer_streams(start: Start, vendor: Vendor) -> None:
    """Ctrl-C ends open answers soon, and without a trace of the code."""
    vendor.script(words("Hello", Hang()))
    server = start({"LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1"}).ready()
    request = {"prompt": "Hi"}
    with httpx.stream("POST", f"{server.url}/api/generate", json=request, headers={"accept": "text/plain"}) as answer:
        assert next(answer.iter_text()) == "Hello"
        assert server.stop(signal.SIGINT) == 0
    assert vendor.requests[0].hung_up.wait(5)
    assert "Traceback" not in server.rest()

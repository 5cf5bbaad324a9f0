"""Every function under Vercel's own runtime, as it is started in production."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import KEY_HEADER, ROOT, local_over, require
from tests.fakes.loop import LoopThread
from tests.fakes.statsig import Statsig
from tests.fakes.vendor import Gate, Hang, Reply, Vendor, words
from tests.fakes.web import Asked, Told, Web, told
from tests.runtime import REQUEST_ID, Runtime, RuntimeMissing, interpreter

FILES = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("api/**/*.py"))
GENERATE = "api/generate.py"
NUMBER = 7
"""The platform's number for the request that a test sends."""
TIMEOUT_S = 20
DEADLINE = "x-vercel-internal-deadline"
"""The header by which the platform tells its deadline to the runtime."""
SEARCH = """
import sys
from vercel_runtime import cache, headers, wait_until

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vercel":
            print(name)

sys.meta_path.insert(0, Watch())
headers.set_headers({})
cache.clear_runtime_cache_context()
wait_until.begin_wait_until()
wait_until.clear_wait_until_context()
"""
"""What the runtime does around every request; prints the modules that are searched for."""

Start = Callable[[str, dict[str, str]], Runtime]


class Milestone(Gate):
    """A point in a script that the vendor passes without waiting, and that a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    async def passed(self) -> None:
        """The vendor is here."""
        self.reached.set()


PHASES: dict[str, Callable[[Milestone], Reply]] = {
    "the vendor has not answered": lambda here: Reply([here, Hang()], head=False),
    "there is no token": lambda here: words(here, Hang()),
    "there is one": lambda here: words("first", here, Hang()),
}


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter for the runtime."""
    try:
        return interpreter()
    except RuntimeMissing as error:
        require("REQUIRE_RUNTIME", str(error))
        raise


@pytest.fixture
def start(python: Path) -> Iterator[Start]:
    """Starts a function under the runtime, in this environment and no other."""
    with ExitStack() as running:
        yield lambda file, environ: running.enter_context(Runtime.of_file(file, environ, python))


@pytest.mark.parametrize("file", FILES)
def test_every_function_answers(start: Start, file: str) -> None:
    """Without a single variable set, a function starts and answers JSON that can be traced."""
    answer = httpx.get(f"{start(file, {}).url}/{file.removesuffix('.py')}", timeout=TIMEOUT_S)
    assert answer.status_code in {200, 401, 405} or answer.json()["code"] == "not_configured"
    assert isinstance(answer.json(), dict)
    assert answer.headers["x-request-id"]


def test_deltas_are_not_held_back(start: Start, vendor: Vendor) -> None:
    """The caller can read a delta before the vendor sends the next one."""
    gate = Gate()
    vendor.script(words("first", gate, "second"))
    with closing(ask(start(GENERATE, local_over(vendor)), {"prompt": "Hi"})) as connection:
        texts = deltas(connection.getresponse())
        assert next(texts) == "first"
        gate.open()
        assert list(texts) == ["second"]


def test_caller_leaves_in_mid_stream(start: Start, vendor: Vendor) -> None:
    """A caller who leaves an answer that has begun stops the vendor, and the call is on record."""
    vendor.script(words("first", Hang()))
    runtime = start(GENERATE, local_over(vendor))
    with closing(ask(runtime, {"prompt": "Hi"})) as connection:
        assert next(deltas(connection.getresponse())) == "first"
    assert_cancelled(runtime, vendor)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "not streamed"])
@pytest.mark.parametrize("phase", PHASES)
def test_caller_leaves_while_waiting(start: Start, vendor: Vendor, phase: str, *, stream: bool) -> None:
    """A caller who leaves without having read anything stops the vendor too."""
    here = Milestone()
    vendor.script(PHASES[phase](here))
    runtime = start(GENERATE, local_over(vendor))
    with closing(ask(runtime, {"prompt": "Hi", "stream": stream})):
        assert here.reached.wait(TIMEOUT_S)
    assert_cancelled(runtime, vendor)


@pytest.fixture
def statsig(loop: LoopThread) -> Iterator[Statsig]:
    """Statsig; what it got must have been understood."""
    fake = Statsig(loop)
    yield fake
    fake.close()
    assert fake.violations == []


def test_fault_27_frozen_after_the_answer(start: Start, vendor: Vendor, statsig: Statsig) -> None:
    """A request's events have left when the platform may freeze the process: at the end of the invocation."""
    vendor.script(words("Hello", " world"))
    runtime = start(GENERATE, {**local_over(vendor), **statsig.environ})
    with closing(ask(runtime, {"prompt": "Hi"})) as connection:
        assert list(deltas(connection.getresponse())) == ["Hello", " world"]
    runtime.wait_for(lambda message: message.type == "end" and message.request == NUMBER)
    with runtime.frozen():
        (call,) = statsig.events("ai_inference")
        assert len(statsig.batches) == 1
    assert call["metadata"]["outcome"] == "ok"
    (logged,) = [json.loads(message.text) for message in runtime.messages if message.request == NUMBER and message.text]
    assert call["metadata"]["request_id"] == logged["request_id"]


def test_fault_27_events_of_a_caller_who_left(start: Start, vendor: Vendor, statsig: Statsig) -> None:
    """A caller who leaves in mid-stream leaves events behind all the same."""
    vendor.script(words("first", Hang()))
    runtime = start(GENERATE, {**local_over(vendor), **statsig.environ})
    with closing(ask(runtime, {"prompt": "Hi"})) as connection:
        assert next(deltas(connection.getresponse())) == "first"
    runtime.wait_for(lambda message: message.type == "end" and message.request == NUMBER)
    assert [event["metadata"]["outcome"] for event in statsig.events("ai_inference")] == ["cancelled"]


def test_reader_does_not_wait_for_events(start: Start, vendor: Vendor, statsig: Statsig) -> None:
    """The last byte is read while the events are still on their way, and the invocation lasts until they are there."""
    gate = Gate()
    vendor.script(words("Hello"))
    statsig.web.script(told({}), Told(202, b"{}", gate=gate))
    runtime = start(GENERATE, {**local_over(vendor), **statsig.environ})
    with closing(ask(runtime, {"prompt": "Hi"})) as connection:
        assert list(deltas(connection.getresponse())) == ["Hello"]
    statsig.web.wait_for(2)
    assert [message for message in runtime.messages if message.type == "end" and message.request == NUMBER] == []
    gate.open()
    runtime.wait_for(lambda message: message.type == "end" and message.request == NUMBER)


def test_first_request_after_a_thaw(start: Start, vendor: Vendor, loop: LoopThread) -> None:
    """Flags that grew old while the process was frozen are read again before the first request is decided."""
    order: list[str] = []
    items: dict[str, Any] = {"statsig-x": json.loads((ROOT / "local" / "items" / "statsig-local.json").read_text())}

    def read(_: Asked) -> Told:
        order.append("read")
        return told(items, x_edge_config_digest=str(len(items)))

    store = Web(loop, read)
    environ = {"EDGE_CONFIG": f"{store.url}/ecfg_x?token=t", "EDGE_CONFIG_FRESHNESS": "1"}
    runtime = start(GENERATE, {**local_over(vendor), **environ})
    vendor.script(*[Reply([Noted(order), *words("Hello").steps])] * 3)
    versions = [config_version(runtime, 1)]
    with runtime.frozen():
        items["another"] = {}
        time.sleep(1.2)  # the wall clock goes on
        order.clear()
    versions += [config_version(runtime, 2), config_version(runtime, 3)]
    store.close()
    assert order[:2] == ["read", "asked"]
    assert (versions[0], versions[2]) == ("1", "2")


class Noted(Gate):
    """A point in a script that is passed without waiting, and noted."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self._order = order

    async def passed(self) -> None:
        """The vendor was asked."""
        self._order.append("asked")


def config_version(runtime: Runtime, number: int) -> str:
    """Send one request, wait for its invocation to end; the version of the flags that it was decided by."""
    headers = {REQUEST_ID: str(number), **KEY_HEADER}
    httpx.post(f"{runtime.url}/api/generate", json={"prompt": "Hi"}, headers=headers, timeout=TIMEOUT_S)
    runtime.wait_for(lambda message: message.type == "end" and message.request == number)
    texts = [message.text for message in runtime.messages if message.request == number and message.text]
    return next(line["config_version"] for line in map(json.loads, texts))


@pytest.mark.parametrize("settled", [True, False])
def test_runtime_does_not_search_for_vercels_sdk(python: Path, *, settled: bool) -> None:
    """Once the app is there, the runtime's own look for a package that is not installed ends at once."""
    begin = "from lib.app import current; current()" if settled else ""
    done = subprocess.run(
        [python, "-c", f"{begin}\n{SEARCH}"], cwd=ROOT, env={}, capture_output=True, text=True, check=True
    )
    assert (done.stdout.split() == []) is settled


def test_a_deployed_process_collects_seldom() -> None:
    """The process that serves a function looks for cycles less often than Python would; who imports lib does not."""
    told = "print(gc.get_threshold()[0])"
    program = f"import gc; from lib.app import current; {told}; current(); {told}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(gc.get_threshold()[0]), "10000"]


def test_vercels_sdk_is_left_alone_where_it_is_installed(tmp_path: Path) -> None:
    """Who adds the package gets it."""
    (tmp_path / "vercel").mkdir()
    (tmp_path / "vercel" / "__init__.py").write_text("")
    (tmp_path / "vercel" / "headers.py").write_text("print('here')")
    program = "from lib.app import current; current(); import vercel.headers"
    environ = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, check=True)
    assert done.stdout == b"here\n"


def test_large_body(start: Start, vendor: Vendor) -> None:
    """A body of three megabytes arrives whole."""
    prompt = "0123456789abcdef" * (3 * 2**16)
    vendor.script(words("read"))
    url = start(GENERATE, local_over(vendor)).url
    answer = httpx.post(
        f"{url}/api/generate", json={"prompt": prompt, "stream": False}, headers=KEY_HEADER, timeout=TIMEOUT_S
    )
    assert answer.status_code == 200
    assert vendor.requests[0].body["messages"] == [{"role": "user", "content": prompt}]


def test_platforms_deadline(start: Start, vendor: Vendor) -> None:
    """A deadline that the platform sets ends the request in time, whatever the vendor does."""
    url = f"{start(GENERATE, local_over(vendor)).url}/api/generate"
    # First one without a deadline: on a busy machine two seconds would go by before the vendor's SDK is there.
    assert httpx.post(url, json={"prompt": "Hi"}, headers=KEY_HEADER, timeout=TIMEOUT_S).status_code == 200
    vendor.script(words(Hang()))
    deadline = (datetime.now(UTC) + timedelta(seconds=2)).isoformat(timespec="milliseconds")
    answer = httpx.post(url, json={"prompt": "Hi"}, headers={**KEY_HEADER, DEADLINE: deadline}, timeout=TIMEOUT_S)
    assert (answer.status_code, answer.json()["code"]) == (503, "no_provider_available")
    assert vendor.requests[1].hung_up.wait(TIMEOUT_S)


def test_nobody_is_let_in_by_default(start: Start) -> None:
    """Deployed without API_KEYS and ALLOW_ANONYMOUS, the function serves no one."""
    answer = httpx.post(f"{start(GENERATE, {}).url}/api/generate", json={"prompt": "Hi"}, timeout=TIMEOUT_S)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthorized"


def ask(runtime: Runtime, body: dict[str, object]) -> HTTPConnection:
    """Send a body to /api/generate, as request NUMBER; the caller reads the answer, or leaves by closing."""
    connection = HTTPConnection(urlsplit(runtime.url).netloc, timeout=TIMEOUT_S)
    headers = {"content-type": "application/json", REQUEST_ID: str(NUMBER), **KEY_HEADER}
    connection.request("POST", "/api/generate", json.dumps(body), headers)
    return connection


def deltas(lines: Iterable[bytes]) -> Iterator[str]:
    """The texts of a UI message stream."""
    for line in lines:
        if b'"text-delta"' in line:
            yield json.loads(line.removeprefix(b"data: "))["delta"]


def assert_cancelled(runtime: Runtime, vendor: Vendor) -> None:
    """The vendor saw the hang-up, and all that was logged until the request's end is one cancelled call."""
    assert vendor.requests[0].hung_up.wait(TIMEOUT_S)
    runtime.wait_for(lambda message: message.type == "end" and message.request == NUMBER)
    messages = [message for message in runtime.messages if message.request == NUMBER]
    assert [message.type for message in messages] == ["handler-started", "log", "end"]
    logged = json.loads(messages[1].text)
    assert (logged["event"], logged["outcome"]) == ("ai_inference", "cancelled")

"""Our own matrix of faults, a test per row, each through real sockets; wall-clock figures are not asserted."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from typing import Any, Protocol, overload
from urllib.parse import urlsplit

import httpx
import pytest

from lib.app import App
from lib.data.limits import Cap
from lib.router.breaker import BreakerPolicy
from lib.router.health import Health
from tests.conftest import ACCESS, InferenceLog, MakeVendor, hosted_over, require
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Cut, Gate, Hang, Reply, Step, Vendor, chunk, event, failure, words
from tests.faults.bench import CASES, rows_for
from tests.faults.serving import Adjust, Result, call, make_app, served
from tests.faults.wall import ANSWER, Times, Wall
from tests.runtime import Runtime, RuntimeMissing, interpreter

SLOW = pytest.mark.slow
HELLO: dict[str, object] = {"prompt": "Hi"}
NEVER_OPENS = BreakerPolicy(consecutive=1_000_000, calls=1_000_000)
BROKEN = {"stream_interrupted", "stream_timeout"}


class Start(Protocol):
    """Serves the product over an environment, with another policy or health where the test says so."""

    def __call__(self, environ: dict[str, str], adjust: Adjust | None = None, health: Health | None = None) -> str:
        """The URL."""
        ...


@pytest.fixture
def start(loop: LoopThread) -> Iterator[Start]:
    """Serves the product; see Start."""
    with ExitStack() as running:

        def begin(environ: dict[str, str], adjust: Adjust | None = None, health: Health | None = None) -> str:
            return serve(make_app(environ, adjust=adjust, health=health))

        def serve(app: App) -> str:
            return running.enter_context(served(app, loop))

        yield begin


@pytest.fixture
def pair(make_vendor: MakeVendor) -> tuple[Vendor, Vendor]:
    """Two vendors: groq, who is asked first, and xai."""
    return make_vendor(), make_vendor()


def over(pair: tuple[Vendor, Vendor]) -> dict[str, str]:
    """The environment in which these two are on."""
    return hosted_over(groq=pair[0], xai=pair[1])


def asked(vendors: Sequence[Vendor]) -> list[int]:
    """How often each vendor was asked."""
    return [len(vendor.requests) for vendor in vendors]


def in_parallel(url: str, bodies: Sequence[dict[str, object]], at_once: int) -> list[Result]:
    """Call for all of these bodies, so many at once; results in their order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(partial(call, url), bodies))


def hello(count: int) -> list[dict[str, object]]:
    """So many equal bodies."""
    return [HELLO] * count


def uncounted(*texts: str) -> Reply:
    """A complete answer whose tokens nobody counted."""
    steps: list[Step] = [event(chunk({"content": text})) for text in texts]
    return Reply([*steps, event(chunk({}, finish_reason="stop")), b"data: [DONE]\n\n"])


@SLOW
def test_fault_01_primary_fails_before_its_first_byte(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """1000 of 1000 requests are answered by the second while the first answers 500, 502, 503 and 504."""
    statuses = itertools.cycle((500, 502, 503, 504))
    pair[0].script(*(failure(next(statuses)) for _ in range(1000)))
    results = in_parallel(start(over(pair), health=Health(NEVER_OPENS)), hello(1000), 16)
    assert sum(result.ok and result.text == "You said: Hi" for result in results) == 1000
    assert {result.metadata["provider"] for result in results} == {"xai"}
    assert asked(pair) == [1000, 1000]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_fault_02_rate_limited_for_30_s(start: Start, pair: tuple[Vendor, Vendor], form: str) -> None:
    """A 429 that says when to come back is not waited for, and the provider is left alone until then."""
    told = "30" if form == "seconds" else formatdate(time.time() + 30, usegmt=True)
    pair[0].script(failure(429, "rate_limit_exceeded", **{"retry-after": told}))
    url = start(over(pair))
    results = [call(url, HELLO) for _ in range(3)]
    assert [result.metadata["provider"] for result in results] == ["xai"] * 3
    assert asked(pair) == [1, 3]
    assert max(result.elapsed_s for result in results) < 10


def test_fault_02_asked_again_afterwards(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """Once the time that the provider asked for is over, it is first again."""
    pair[0].script(failure(429, "rate_limit_exceeded", **{"retry-after": "1"}))
    url = start(over(pair))
    providers = [call(url, HELLO).metadata["provider"] for _ in range(2)]
    time.sleep(1.1)
    assert [*providers, call(url, HELLO).metadata["provider"]] == ["xai", "xai", "groq"]


@pytest.mark.parametrize("where", ["closed port", "unknown host"])
def test_fault_03_no_connection(start: Start, vendor: Vendor, where: str) -> None:
    """A provider that can't be reached is passed over."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    environ = hosted_over(groq=vendor, xai=vendor)
    environ["GROQ_BASE_URL"] = closed if where == "closed port" else "http://nowhere.invalid"
    result = call(start(environ), HELLO)
    assert (result.ok, result.metadata["provider"], len(vendor.requests)) == (True, "xai", 1)


@SLOW
def test_fault_04_connecting_hangs(start: Start, vendor: Vendor) -> None:
    """A host that drops the first packet is given up before the first token's deadline would have passed twice."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener, ExitStack() as fillers:
        for _ in range(4):
            filler = fillers.enter_context(closing(socket.socket()))
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        environ = hosted_over(groq=vendor, xai=vendor)
        environ["GROQ_BASE_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        result = call(start(environ), HELLO)
    assert (result.ok, result.metadata["provider"], len(vendor.requests)) == (True, "xai", 1)
    assert result.elapsed_s < 8


@SLOW
def test_fault_05_first_token_never(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """A provider that sends its headers and a role, then nothing, is left; its connection is closed."""
    pair[0].script(words(Hang()))
    result = call(start(over(pair)), HELLO)
    assert (result.text, result.metadata["provider"], asked(pair)) == ("You said: Hi", "xai", [1, 1])
    assert pair[0].requests[0].hung_up.wait(5)
    assert result.elapsed_s < 10


@SLOW
@pytest.mark.parametrize("fallback", ["fb-ok", "fb-ok-noprefill"])
def test_fault_06_cut_at_any_word(loop: LoopThread, fallback: str) -> None:
    """In 500 cuts at random words, by FIN or reset, the reader gets the exact text: continued or provably rejoined."""
    case = next(case for case in CASES if case.fallback == fallback and "stream-cut" in case.model)
    choose = random.Random(6)  # noqa: S311 - not a secret
    cuts = [(choose.randrange(60), choose.random() < 0.5) for _ in range(500)]
    wall = Wall(loop, Times(token=0))
    wall.cut = lambda attempt: cuts[(attempt - 1) % len(cuts)]
    environ = {**ACCESS, "PRIMARY_BASE_URL": wall.url, "FALLBACK_BASE_URL": wall.url, "FEATURE_AI_PROVIDER": "primary"}
    # A model of unknown price is held to be a dear one, and without a database an instance spends $10 a day.
    app = make_app(environ, rows_for(case), health=Health(NEVER_OPENS), cap=Cap(microusd_per_day=10**12))
    with closing(wall), served(app, loop) as url:
        results = in_parallel(url, hello(500), 8)
    assert [result.error for result in results if not result.ok] == []
    assert {result.text for result in results} == {ANSWER}
    assert (len(wall.of(case.model)), len(wall.of(fallback))) == (500, 500)
    assert wall.violations == []


def test_fault_06_slow_rejoin(loop: LoopThread) -> None:
    """A provider that tells the answer anew may take as long as it speaks until it gets to what is new."""
    case = next(case for case in CASES if case.id == "S14")
    wall = Wall(loop, Times(token=0.03))
    environ = {**ACCESS, "PRIMARY_BASE_URL": wall.url, "FALLBACK_BASE_URL": wall.url, "FEATURE_AI_PROVIDER": "primary"}
    app = make_app(environ, rows_for(case), lambda policy: replace(policy, first_token_s=0.5, patience_s=0.5))
    with closing(wall), served(app, loop) as url:
        result = call(url, HELLO)
    assert (result.ok, result.error, result.text) == (True, None, ANSWER)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "reset"])
def test_fault_06_cut_and_repeated_anchor(start: Start, pair: tuple[Vendor, Vendor], *, reset: bool) -> None:
    """The next provider repeats the end of what was said and goes on; the reader gets each word once."""
    pair[0].script(words("The boats come home ", "at night", Cut(reset=reset)))
    pair[1].script(words("The boats come home at night", ", one by ", "one."))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.text) == (True, "The boats come home at night, one by one.")
    assert pair[1].requests[0].body["messages"][1] == {"role": "assistant", "content": "The boats come home at night"}


def test_fault_06_cut_and_another_answer(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """Where the next provider says something else, it is not glued on: the caller is told that the answer broke off."""
    told = "The boats come home at night, one by one"
    pair[0].script(words(told, Cut()))
    pair[1].script(words("I am sorry, but I do not know what you were about to say, nor why. " * 5))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.text, result.error) == (False, told, "stream_interrupted")


@pytest.mark.parametrize("asked_for", ["restart", "error"])
def test_fault_06_other_wishes(start: Start, pair: tuple[Vendor, Vendor], asked_for: str) -> None:
    """Who wants no splice gets none: an error, or a fresh start where the reader can take text back."""
    pair[0].script(words("Hel", Cut()))
    body = {**HELLO, "on_interrupt": asked_for, "ui_stream": "v7"}
    text = httpx.post(f"{start(over(pair))}/api/generate", json=body).text
    assert ("reset-step" in text, "You said: " in text) == ((True, True) if asked_for == "restart" else (False, False))
    assert ('"error"' in text) == (asked_for == "error")


def test_fault_07_stall_in_mid_stream(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """A provider that falls silent in the middle is left; the next one goes on, and the connection is closed."""
    pair[0].script(words("The boats come home ", "at night", Hang()))
    pair[1].script(words("The boats come home at night", "."))
    result = call(start(over(pair), lambda policy: replace(policy, idle_s=0.3)), HELLO)
    assert (result.ok, result.text) == (True, "The boats come home at night.")
    assert pair[0].requests[0].hung_up.wait(5)


def test_fault_07_stall_with_nobody_left(start: Start, vendor: Vendor) -> None:
    """With one provider alone, and silent again, the caller gets an explicit error."""
    vendor.script(*(words("The boats", Hang()) for _ in range(8)))
    result = call(start(hosted_over(groq=vendor), lambda policy: replace(policy, idle_s=0.3)), HELLO, cap_s=9)
    assert (result.hung, result.ok, result.text, result.error in BROKEN) == (False, False, "The boats", True)


def test_fault_08_one_malformed_event(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """One event that can't be read costs that event alone."""
    pair[0].script(words("Hello", b"data: {broken\n\n", " world"))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.text, asked(pair)) == (True, "Hello world", [1, 0])


def test_fault_08_two_malformed_events(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """A second one means that the stream is not sane: the next provider goes on."""
    pair[0].script(words("Hello", b"data: {broken\n\n", b"data: {broken\n\n", " world"))
    pair[1].script(words("Hello", " there"))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.text, asked(pair)) == (True, "Hello there", [1, 1])


@pytest.mark.parametrize("position", ["before", "after"])
def test_fault_09_error_inside_the_stream(start: Start, pair: tuple[Vendor, Vendor], position: str) -> None:
    """An error object in a 200: before the first token the next provider answers, after it that one goes on."""
    error = event({"error": {"message": "boom", "code": "server_error"}})
    told = ["Hello"] if position == "after" else []
    pair[0].script(words(*told, error, " nonsense"))
    pair[1].script(words("Hello", " there"))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.text, asked(pair)) == (True, "Hello there", [1, 1])


@pytest.mark.parametrize("ends", [b"\n\n", b"\r\n\r\n"], ids=["LF", "CRLF"])
def test_fault_10_bytes_one_by_one(start: Start, vendor: Vendor, ends: bytes) -> None:
    """An answer cut inside of characters and line ends arrives as it was written."""
    text = "Olá 🌍, ça va? 漢字 — \\u00e9"
    whole = b"".join(step for step in words(text).steps if isinstance(step, bytes)).replace(b"\n\n", ends)
    vendor.script(Reply([whole[index : index + 1] for index in range(len(whole))]))
    assert call(start(hosted_over(groq=vendor)), HELLO).text == text


def test_fault_10_endless_line(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """A line of 1 MiB is a failure of the provider, not a burden on us."""
    pair[0].script(Reply([b"data: " + b"x" * 65_536, *([b"x" * 65_536] * 15)]))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.metadata["provider"], asked(pair)) == (True, "xai", [1, 1])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (failure(400), "request_rejected"),
        (failure(422), "request_rejected"),
        (failure(400, "content_policy_violation"), "content_refused"),
    ],
    ids=["400", "422", "content filter"],
)
def test_fault_11_callers_own_fault(start: Start, pair: tuple[Vendor, Vendor], fault: Reply, code: str) -> None:
    """What the provider rejects is neither retried nor passed around."""
    pair[0].script(fault)
    result = call(start(over(pair)), HELLO)
    assert (result.status, result.error, asked(pair)) == (422, code, [1, 0])


@pytest.mark.parametrize("status", [405, 406, 418, 421, 451])
def test_fault_11_not_the_callers_fault(start: Start, pair: tuple[Vendor, Vendor], status: int) -> None:
    """What a provider refuses for reasons of its own, the next one answers."""
    pair[0].script(failure(status))
    result = call(start(over(pair)), HELLO)
    assert (result.ok, result.metadata["provider"], asked(pair)) == (True, "xai", [1, 1])


def test_fault_11_surely_too_long(start: Start, make_vendor: MakeVendor) -> None:
    """A conversation that a model surely can't hold does not go there; one that nobody can hold goes nowhere."""
    small, large = make_vendor(), make_vendor()
    url = start({**hosted_over(xai=large), "LOCAL_TEXT_BASE_URL": f"{small.url}/v1", "FEATURE_AI_PROVIDER": "local"})
    for words_said, provider in ((1_400, "local"), (1_600, "xai")):
        assert call(url, {"prompt": "word " * words_said}).metadata["provider"] == provider
    alone = call(start({**ACCESS, "LOCAL_TEXT_BASE_URL": f"{small.url}/v1"}), {"prompt": "word " * 1_600})
    assert (alone.status, alone.error, asked([small, large])) == (422, "context_length_exceeded", [1, 1])


def test_fault_11_context_too_long(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """A conversation too long for one model goes to a larger one, never to the same again or to one no larger."""
    too_long = failure(400, "context_length_exceeded")
    pair[0].script(too_long)
    url = start(over(pair))
    assert (call(url, HELLO).metadata["provider"], asked(pair)) == ("xai", [1, 1])
    pair[0].script(too_long)
    pair[1].script(too_long)
    result = call(url, HELLO)
    assert (result.status, result.error, asked(pair)) == (422, "context_length_exceeded", [2, 2])


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_fault_12_misconfigured_provider(start: Start, pair: tuple[Vendor, Vendor], status: int) -> None:
    """A provider that does not take our key or lacks our model is passed over, and then left alone."""
    pair[0].script(*[failure(status)] * 3)
    url = start(over(pair))
    assert [call(url, HELLO).metadata["provider"] for _ in range(3)] == ["xai"] * 3
    assert asked(pair) == [1, 3]


@pytest.mark.parametrize(("headers", "calls"), [({"retry-after": "30"}, 2), ({}, 3)], ids=["told when", "not told"])
def test_fault_13_all_down(start: Start, pair: tuple[Vendor, Vendor], headers: dict[str, str], calls: int) -> None:
    """When nobody answers, the caller gets one 503 that says when to come back, after a bounded number of calls."""
    for vendor in pair:
        vendor.script(*[failure(503, **headers)] * 4)
    response = httpx.post(f"{start(over(pair))}/api/generate", json=HELLO, timeout=30)
    problem = response.json()
    assert (response.status_code, problem["code"], sum(asked(pair))) == (503, "no_provider_available", calls)
    if headers:
        assert (problem["retry_after"], response.headers["retry-after"]) == (31, "31")


def test_fault_13_all_rest(start: Start, pair: tuple[Vendor, Vendor], inference_log: InferenceLog) -> None:
    """While all rest nobody is called; the caller is told at once when to come back, and it is on record."""
    for vendor in pair:
        vendor.script(failure(401))
    url = start(over(pair))
    call(url, HELLO)
    result = call(url, HELLO)
    assert (result.status, result.error, asked(pair)) == (503, "no_provider_available", [1, 1])
    assert 0 < result.metadata["retry_after"] <= 61
    _, _, line = (inference_log.next() for _ in range(3))
    assert (line["attempt"], line["kind"], line["outcome"], line["error_code"]) == (0, "skipped", "error", "resting")


@pytest.mark.parametrize(("wait_s", "calls"), [(1, 2), (9, 1)])
def test_fault_13_only_provider_says_when(start: Start, vendor: Vendor, wait_s: int, calls: int) -> None:
    """With no other provider left its Retry-After is waited for, no longer than its silence would have been."""
    vendor.script(failure(503, **{"retry-after": str(wait_s)}))
    result = call(start(hosted_over(groq=vendor)), HELLO)
    assert (result.ok, len(vendor.requests)) == (calls == 2, calls)
    assert result.ok or result.metadata["retry_after"] == wait_s + 1


@SLOW
@pytest.mark.parametrize("breaks", [True, False], ids=["with breakers", "by the retry budget alone"])
def test_fault_14_everything_fails(start: Start, pair: tuple[Vendor, Vendor], *, breaks: bool) -> None:
    """While everything fails, upstream calls stay below 1.2 per request and the few that a process begins with."""
    vendors = pair if breaks else pair[:1]
    for vendor in vendors:
        vendor.script(*[failure(503)] * 2000)
    environ = hosted_over(**dict(zip(("groq", "xai"), vendors, strict=False)))
    url = start(environ, health=None if breaks else Health(NEVER_OPENS))
    results = in_parallel(url, hello(500), 25)
    assert {(result.status, result.error) for result in results} == {(503, "no_provider_available")}
    assert sum(asked(vendors)) <= 1.2 * 500 + (10 if breaks else 3)


@SLOW
def test_fault_15_flapping_provider(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """A provider that fails every other time costs no caller an answer."""
    choose = random.Random(15)  # noqa: S311 - not a secret
    pair[0].script(*(failure(503) if choose.random() < 0.5 else words("You said: Hi") for _ in range(1000)))
    results = in_parallel(start(over(pair)), hello(1000), 16)
    assert sum(result.ok and result.text == "You said: Hi" for result in results) >= 999
    assert len(pair[0].requests) < 1000


def test_fault_15_opens_and_probes_once(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """After five failures in a row it rests; then one call alone tries it, and its success brings all back."""
    gate = Gate()
    pair[0].script(*[failure(503)] * 5, words(gate, "You said: Hi"))
    url = start(over(pair), health=Health(BreakerPolicy(rest_s=0.5)))
    assert {call(url, HELLO).metadata["provider"] for _ in range(8)} == {"xai"}
    assert asked(pair) == [5, 8]
    time.sleep(0.7)
    with ThreadPoolExecutor(10) as pool:
        running = [pool.submit(call, url, HELLO) for _ in range(10)]
        until(lambda: sum(future.done() for future in running) == 9)
        assert asked(pair) == [6, 17]
        gate.open()
        assert sorted(future.result().metadata["provider"] for future in running) == ["groq", *["xai"] * 9]
    assert {call(url, HELLO).metadata["provider"] for _ in range(3)} == {"groq"}


def test_fault_16_no_memory_of_failures(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """An instance that knows nothing yet leaves a silent provider in time by itself; no hedge is needed for that."""
    pair[0].script(words(Hang()))
    url = start(over(pair), lambda policy: replace(policy, first_token_s=0.5))
    result = call(url, HELLO)
    assert (result.ok, result.metadata["provider"], asked(pair)) == (True, "xai", [1, 1])
    assert pair[0].requests[0].hung_up.wait(5)
    assert 0.5 <= result.elapsed_s < 4


@SLOW
def test_fault_16_first_request_of_a_process(pair: tuple[Vendor, Vendor]) -> None:
    """The first request of a process, which imports what it needs, meets a silent provider and is answered in time."""
    pair[0].script(words(Hang()))
    try:
        cold = Runtime.of_file("api/generate.py", over(pair), interpreter())
    except RuntimeMissing as error:
        require("REQUIRE_RUNTIME", str(error))
        raise
    with cold:
        result = call(cold.url, HELLO)
    assert (result.ok, result.metadata["provider"], asked(pair)) == (True, "xai", [1, 1])
    assert result.elapsed_s < 10


@SLOW
def test_fault_17_deadline_before_the_first_word(start: Start, pair: tuple[Vendor, Vendor]) -> None:
    """The whole deadline holds over all attempts, and nobody is asked after it."""
    for vendor in pair:
        vendor.script(*[words(Hang())] * 4)
    result = call(start(over(pair), lambda policy: replace(policy, total_s=1.0, first_token_s=0.6)), HELLO)
    assert (result.status, result.error, asked(pair)) == (503, "no_provider_available", [1, 1])
    assert result.elapsed_s < 4


def test_fault_17_deadline_in_the_first_silence(
    start: Start, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture
) -> None:
    """A deadline that ends in the first provider's silence ends the request: the second is not asked any more."""
    caplog.set_level(logging.INFO, "ai_inference")
    pair[0].script(words(Hang()))
    result = call(start(over(pair), lambda policy: replace(policy, total_s=0.6)), HELLO)
    assert (result.status, result.error) == (503, "no_provider_available")
    assert (asked(pair), result.elapsed_s < 4) == ([1, 0], True)
    assert providers_on_record(caplog) == ["groq"]


def test_fault_17_deadline_in_mid_stream(
    start: Start, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that is not complete at the deadline ends in an explicit error, and nobody else is asked or blamed."""
    caplog.set_level(logging.INFO, "ai_inference")
    pair[0].script(words("Hello", Hang()))
    result = call(start(over(pair), lambda policy: replace(policy, total_s=0.6)), HELLO)
    assert (result.ok, result.text, result.error in BROKEN) == (False, "Hello", True)
    assert (asked(pair), result.elapsed_s < 4) == ([1, 0], True)
    assert providers_on_record(caplog) == ["groq"]


@SLOW
def test_fault_18_client_disconnects(
    start: Start, vendor: Vendor, loop: LoopThread, inference_log: InferenceLog
) -> None:
    """1000 callers who leave in mid-stream: each upstream call is closed and on record, and no task is left."""
    url = start(hosted_over(groq=vendor), health=Health(NEVER_OPENS))
    call(url, HELLO)
    vendor.script(*[words("Hello", Hang()) for _ in range(1000)])
    before = settled_tasks(loop)
    for _ in range(20):
        with ThreadPoolExecutor(25) as pool:
            list(pool.map(leave_in_mid_stream, [url] * 50))
    assert all(received.hung_up.wait(5) for received in vendor.requests[1:])
    lines = [inference_log.next() for _ in range(1001)][1:]
    assert {(line["outcome"], line["output_tokens"], line["estimated"]) for line in lines} == {("cancelled", 2, True)}
    until(lambda: settled_tasks(loop) <= before)


def test_fault_19_slow_reader(start: Start, vendor: Vendor) -> None:
    """A caller who does not read stops the provider: what is in between does not pile up; nothing is lost."""
    steps = Counting([event(chunk({"content": "x" * 16_384}))] * 2048, event(chunk({}, finish_reason="stop")))
    vendor.script(Reply(steps))
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    with closing(connection):
        send(connection, start(hosted_over(groq=vendor)), accept="text/plain")
        sent = -1
        while sent != steps.sent:
            sent = steps.sent
            time.sleep(0.5)
        assert 0 < sent < 1500
        connection.settimeout(30)
        answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert answer.partition(b"\r\n\r\n")[2].count(b"x") == 2048 * 16_384


def test_fault_20_parallel_streams(start: Start, vendor: Vendor) -> None:
    """200 streams at once: each caller gets its own words and nobody else's."""
    bodies: list[dict[str, object]] = [{"prompt": f"marker {number:04} " * 20} for number in range(200)]
    results = in_parallel(start(hosted_over(groq=vendor)), bodies, 200)
    assert [result.text for result in results] == [f"You said: {body['prompt']}" for body in bodies]


def test_fault_29_usage_missing(start: Start, vendor: Vendor, inference_log: InferenceLog) -> None:
    """What the provider did not count is estimated and marked so; the price follows from the estimate."""
    vendor.script(uncounted("Hello", " world"))
    result = call(start(hosted_over(groq=vendor)), HELLO, accept="application/json")
    assert result.metadata["usage"] == {"input_tokens": 1, "output_tokens": 3, "cached_tokens": 0, "estimated": True}
    assert result.metadata["cost_usd"] > 0
    line = inference_log.next()
    assert (line["estimated"], line["cost_unknown"]) == (True, False)
    assert line["cost_micro_usd"] >= 0


def test_fault_30_price_unknown(start: Start, vendor: Vendor, inference_log: InferenceLog) -> None:
    """A model without a price costs an unknown amount, which is null and never zero."""
    environ = {**hosted_over(xai=vendor), "FEATURE_AI_PROVIDER": "xai/not-in-any-list"}
    result = call(start(environ), HELLO, accept="application/json")
    assert (result.metadata["model"], result.metadata["cost_usd"]) == ("not-in-any-list", None)
    line = inference_log.next()
    assert (line["cost_micro_usd"], line["cost_unknown"]) == (None, True)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"prompt": "' + b"x" * 10_485_760 + b'"}', {413}),
        (b'{"prompt": ' + b"[" * 100_000, {400, 422}),
        (b'{"prompt": "Hi", "metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501, {400, 422}),
        (b'{"prompt": "a\\u0000b"}', {422}),
        (b'{"prompt": "a\\ud800"}', {422}),
        (b'{"prompt": "Hi", "temperature": 1e400}', {400, 422}),
        (b'{"prompt": "Hi", "seed": ' + b"9" * 5000 + b"}", {400, 422}),
        (b'{"prompt": "Hi", "' + b"k" * 1_000_000 + b'": 1}', {422}),
        (b'{"messages": [' + b'{"role": "user", "content": "Hi"},' * 50_000 + b"1]}", {422}),
    ],
    ids=["10 MiB", "deep, open", "deep", "NUL", "surrogate", "1e400", "long number", "long name", "many messages"],
)
def test_fault_46_hostile_bodies(start: Start, vendor: Vendor, content: bytes, status: set[int]) -> None:
    """Bodies that are too big, too deep or unfit are the caller's mistake; no provider hears of them."""
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{start(hosted_over(groq=vendor))}/api/generate", content=content, headers=headers)
    assert response.status_code in status
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 4096
    assert vendor.requests == []


def test_fault_51_secrets_in_upstream_errors(
    start: Start, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture
) -> None:
    """Through a whole run of faults, neither keys nor prompts that the providers repeat get anywhere."""
    caplog.set_level(logging.DEBUG)
    secrets = {"GROQ_API_KEY": "canary-groq-0123456789", "XAI_API_KEY": "canary-xai-0123456789"}
    canaries = [*secrets.values(), "canary-prompt-0123456789", ACCESS["SESSION_SECRET"]]
    leak = " ".join(canaries)
    error = event({"error": {"message": leak, "code": leak, "type": leak}})
    faults = [
        *(failure(status, leak, leak, **{"x-leak": leak}) for status in (400, 401, 404, 422, 429, 500, 503)),
        words(error),
        words("Hello", error),
        words("Hello", Cut(reset=True)),
        words(event({"choices": leak}), event({"choices": leak})),
    ]
    seen: list[str] = []
    url = start({**over(pair), **secrets}, health=Health(NEVER_OPENS))
    for fault, accept in itertools.product(faults, ("application/json", "text/plain", "*/*")):
        for vendor in pair:
            vendor.script(fault, fault)
        seen.append(everything(url, canaries[2], accept))
    seen += [record.getMessage() + str(record.exc_info) + str(record.exc_text) for record in caplog.records]
    assert {vendor.requests[0].headers["authorization"] for vendor in pair} == {
        f"Bearer {secret}" for secret in secrets.values()
    }
    assert [canary for canary in canaries if any(canary in text for text in seen)] == []


class Counting(Sequence[Step]):
    """Steps that count how many of them were taken."""

    def __init__(self, steps: Sequence[Step], *more: Step) -> None:
        self._steps = [*steps, *more]
        self.sent = 0

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        return self._steps[index]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        for step in self._steps:
            self.sent += 1
            yield step


def providers_on_record(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Who was asked, as the log has it; it is written right after the answer, so there may be a moment to wait."""
    until(lambda: any(record.name == "ai_inference" for record in caplog.records))
    return [json.loads(record.getMessage())["provider"] for record in caplog.records if record.name == "ai_inference"]


def send(connection: socket.socket, url: str, accept: str = "*/*") -> None:
    """Send a request by hand, so that the connection can be read slowly or dropped."""
    content = json.dumps(HELLO).encode()
    head = (
        f"POST /api/generate HTTP/1.0\r\nhost: x\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    parts = urlsplit(url)
    connection.settimeout(10)
    connection.connect((str(parts.hostname), parts.port or 80))
    connection.sendall(head.encode() + content)


def leave_in_mid_stream(url: str) -> None:
    """Call, read the first word, and go."""
    with closing(socket.socket()) as connection:
        send(connection, url)
        received = b""
        while b"Hello" not in received:
            data = connection.recv(65_536)
            assert data, received
            received += data


def everything(url: str, prompt: str, accept: str) -> str:
    """One request's whole answer, headers and what was read of a body that was cut."""
    text = ""
    with httpx.stream("POST", f"{url}/api/generate", json={"prompt": prompt}, headers={"accept": accept}) as response:
        text += str(response.headers)
        try:
            for piece in response.iter_text():
                text += piece
        except httpx.RemoteProtocolError as error:
            text += str(error)
    return text


def settled_tasks(loop: LoopThread) -> int:
    """How many tasks the servers' loop has now."""

    async def count() -> int:
        return len(asyncio.all_tasks())

    return loop.run(count())


def until(holds: Callable[[], Any]) -> None:
    """Wait for it; fails after 10 s."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Tool calls when a vendor fails in the middle: none is ever made of half its arguments, or of two vendors' halves."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest

from lib.router.breaker import BreakerPolicy
from lib.router.health import Health
from tests.conftest import InferenceLog, MakeVendor, Serve, hosted_over
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Cut, Reply, Step, Vendor, call_piece, calls, chunk, event, words
from tests.faults.serving import make_app, served

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}
ASKED: dict[str, Any] = {"prompt": "Pay", "tools": [TOOL]}
SUM, OTHER = '{"to": "Ana", "sum": 1000}', '{"to": "Rui", "sum": 7}'
JSON = {"accept": "application/json"}
BEGIN = event(chunk(call_piece(0, id="call_0", name="pay", arguments="")))


def piece(text: str) -> bytes:
    """The next of a call's arguments."""
    return event(chunk(call_piece(0, arguments=text)))


def ends(reason: str) -> list[Step]:
    """A vendor's word that it has finished."""
    return [event(chunk({}, finish_reason=reason)), b"data: [DONE]\n\n"]


# After {"to": "Ana", "sum": 1 a closing brace would make a call of it, a thousand short.
HALVES: dict[str, list[Step]] = {
    "closed": [BEGIN, piece(SUM[:22]), Cut()],
    "reset": [BEGIN, piece(SUM[:22]), Cut(reset=True)],
    "closed before any argument": [BEGIN, Cut()],
    "closed after the last": [BEGIN, piece(SUM), Cut()],
    "body over": [BEGIN, piece(SUM[:22])],
    "said to be finished": [BEGIN, piece(SUM[:22]), *ends("tool_calls")],
    "said to have stopped": [BEGIN, piece(SUM[:22]), *ends("stop")],
    "said to be done": [BEGIN, piece(SUM[:22]), b"data: [DONE]\n\n"],
    "no arguments at all": [BEGIN, *ends("tool_calls")],
    "no object": [BEGIN, piece("[1000]"), *ends("tool_calls")],
    "an event lost": [BEGIN, piece(SUM[:22]), b"data: {broken\n\n", piece(SUM[-1:]), *ends("tool_calls")],
    "an event lost before": [b"data: {broken\n\n", BEGIN, piece(SUM), *ends("tool_calls")],
    "an error": [BEGIN, piece(SUM[:22]), event({"error": {"message": "boom", "code": "server_error"}})],
    "finished, then reset": [BEGIN, piece(SUM[:22]), event(chunk({}, finish_reason="tool_calls")), Cut(reset=True)],
}
each_half = pytest.mark.parametrize("half", HALVES)


@pytest.fixture
def pair(make_vendor: MakeVendor) -> tuple[Vendor, Vendor]:
    """Two vendors: groq, who is asked first, and xai."""
    return make_vendor(), make_vendor()


def post(url: str, **fields: Any) -> httpx.Response:
    """Ask with the tool."""
    return httpx.post(f"{url}/api/generate", json={**ASKED, **fields}, timeout=30)


def parts(response: httpx.Response) -> list[dict[str, Any]]:
    """The UI message stream's chunks."""
    return [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n")[:-2]]


@each_half
def test_ui_stream_breaks_off(serve: Serve, pair: tuple[Vendor, Vendor], half: str) -> None:
    """A page that can't take back is told of an error, and that the call is not to be made; nobody else goes on."""
    pair[0].script(Reply(HALVES[half]))
    got = parts(post(serve(hosted_over(groq=pair[0], xai=pair[1]))))
    kinds = [part["type"] for part in got]
    assert "tool-input-available" not in kinds
    if "before" in half and "lost" in half:
        # Nothing had been said yet: the next vendor just answers.
        assert (kinds[-1], got[-1]["finishReason"]) == ("finish", "stop")
        return
    assert kinds[-4:] == ["tool-input-error", "message-metadata", "error", "finish"]
    assert got[-3]["messageMetadata"]["error_code"] == "stream_interrupted"
    assert [len(vendor.requests) for vendor in pair] == [1, 0]


@each_half
def test_ui_stream_begins_anew(serve: Serve, pair: tuple[Vendor, Vendor], half: str) -> None:
    """A page that can take back drops the half call and gets the next vendor's, whole, as if it were the only one."""
    pair[0].script(Reply(HALVES[half]))
    pair[1].script(calls(("pay", OTHER)))
    got = parts(post(serve(hosted_over(groq=pair[0], xai=pair[1])), ui_stream="v7"))
    available = [part for part in got if part["type"] == "tool-input-available"]
    assert [part["input"] for part in available] == [{"to": "Rui", "sum": 7}]
    kinds = [part["type"] for part in got]
    assert "tool-input-error" not in kinds
    if "before" not in half or "lost" not in half:
        assert kinds.count("reset-step") == 1
        assert kinds.index("reset-step") < kinds.index("tool-input-available")
    assert pair[1].requests[0].body["messages"] == pair[0].requests[0].body["messages"]


@each_half
def test_json_begins_anew(serve: Serve, pair: tuple[Vendor, Vendor], inference_log: InferenceLog, half: str) -> None:
    """In JSON the caller sees nothing of the half call: the answer is the next vendor's alone."""
    pair[0].script(Reply(HALVES[half]))
    pair[1].script(calls(("pay", OTHER), text="Paying."))
    response = httpx.post(
        f"{serve(hosted_over(groq=pair[0], xai=pair[1]))}/api/generate", json=ASKED, headers=JSON, timeout=30
    )
    body = response.json()
    assert (body["text"], body["finish_reason"], body["provider"]) == ("Paying.", "tool_calls", "xai")
    assert [call["function"]["arguments"] for call in body["tool_calls"]] == [OTHER]
    assert pair[1].requests[0].body["messages"] == pair[0].requests[0].body["messages"]
    assert inference_log.next()["outcome"] in {"interrupted", "error"}
    assert inference_log.next()["kind"] in {"restart", "fallback"}


def test_json_that_never_gets_a_whole_call(serve: Serve, vendor: Vendor) -> None:
    """Where every try ends in the middle of a call, that is a 502, not a call."""
    vendor.script(*[Reply(HALVES["said to be finished"])] * 8)
    response = httpx.post(f"{serve(hosted_over(groq=vendor))}/api/generate", json=ASKED, headers=JSON, timeout=30)
    assert (response.status_code, response.json()["code"]) == (502, "stream_interrupted")
    assert "tool_calls" not in response.json()
    assert len(vendor.requests) == 4


def test_call_beyond_max_tokens(serve: Serve, pair: tuple[Vendor, Vendor]) -> None:
    """A call that is longer than the answer may be is told as such, and asked of nobody else."""
    pair[0].script(Reply([BEGIN, piece(SUM[:22]), *ends("length")]))
    response = httpx.post(
        f"{serve(hosted_over(groq=pair[0], xai=pair[1]))}/api/generate", json=ASKED, headers=JSON, timeout=30
    )
    assert (response.status_code, response.json()["code"]) == (502, "tool_call_truncated")
    assert pair[1].requests == []


def test_finished_then_cut(serve: Serve, pair: tuple[Vendor, Vendor]) -> None:
    """Once the vendor has said that it is finished, and the calls are whole, losing the connection loses nothing."""
    pair[0].script(Reply([BEGIN, piece(SUM), event(chunk({}, finish_reason="tool_calls")), Cut(reset=True)]))
    got = parts(post(serve(hosted_over(groq=pair[0], xai=pair[1]))))
    assert [part["input"] for part in got if part["type"] == "tool-input-available"] == [{"to": "Ana", "sum": 1000}]
    assert got[-1]["finishReason"] == "tool-calls"
    assert pair[1].requests == []


def test_text_before_a_half_call(serve: Serve, pair: tuple[Vendor, Vendor]) -> None:
    """Text alone would be gone on with; text and a piece of a call are not."""
    pair[0].script(words("I will pay Ana now, as you", BEGIN, Cut()))
    got = parts(post(serve(hosted_over(groq=pair[0], xai=pair[1]))))
    assert [part["type"] for part in got[-4:]] == ["tool-input-error", "message-metadata", "error", "finish"]
    assert pair[1].requests == []


def test_cut_anywhere(loop: LoopThread, pair: tuple[Vendor, Vendor]) -> None:
    """Cut at 60 random bytes, by FIN or reset: each time the page gets both calls of one vendor, whole, or an error."""
    choose = random.Random(7)  # noqa: S311 - not a secret
    whole = b"".join(step for step in calls(("pay", SUM), ("pay", OTHER), size=3).steps if isinstance(step, bytes))
    expected = [json.loads(SUM), json.loads(OTHER)]
    health = Health(BreakerPolicy(consecutive=1_000, calls=1_000))
    with served(make_app(hosted_over(groq=pair[0], xai=pair[1]), health=health), loop) as url:
        for _ in range(60):
            at = choose.randrange(1, len(whole))
            pair[0].script(Reply([whole[:at], Cut(reset=choose.random() < 0.5)]))
            # Not always asked; what is left over is as good for the next.
            pair[1].script(calls(("pay", SUM), ("pay", OTHER)))
            got = parts(post(url, ui_stream=choose.choice(["v7", None])))
            made = [part["input"] for part in got if part["type"] == "tool-input-available"]
            assert made == ([] if got[-1]["finishReason"] == "error" else expected), at
    assert len(pair[0].requests) == 60
    assert 10 < len(pair[1].requests) < 60

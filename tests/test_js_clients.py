"""The JavaScript clients that people use, npm's `ai` and `@ai-sdk/react`, read our answers in Node (tests/js)."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from lib.app import App
from lib.settings import from_environ
from local.edge_config import FOLDER, Files, endpoints
from local.server import Site
from tests.conftest import ACCESS, KEY_HEADER, ROOT, MakeVendor, Serve, Served, hosted_over, local_over
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Cut, Gate, Reply, Vendor, call_piece, calls, chunk, event, failure, usage, words
from tests.npm import node_with_packages

PACKAGE = Path(__file__).parent / "js"
ANSWER_S = 90
"""More than the pages' own patience (tests/js/page.mjs), so that what they saw gets here."""

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = (
    "👩‍👩‍👧‍👦🇺🇳 e\u0301 漢字かな 한국어 العربية \u202eright to left\u202c "
    "line\u2028paragraph\u2029next\u0085 \ufeff\u200b\u00a0 \uffff \U0010ffff \x07\x1b[31m\x7f "
    "</script><script>alert(1)</script> <!-- ]]> &amp; \" ' ` \\ \\n \\u0041 \\\\ %s {0} ${1} "
    '\r\n\r\n\n\ndata: [DONE]\n\ndata: {"type":"error"}\n\n: comment\nevent: x\n'
)
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "shots": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "shots"],
}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PARIS = '{"city": "Paris"}'
TOOLS = {"tools": [WEATHER]}

Seen = dict[str, Any]


class Node:
    """A Node process at work on the commands of tests/js/main.mjs."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, "main.mjs"], cwd=PACKAGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def ask(self, command: str, *details: object) -> Any:
        """Carry out a command. A failure, or silence, fails the test."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *details]).encode() + b"\n")
        answer = json.loads(self._line())
        if "error" in answer:
            pytest.fail(f"{command}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + ANSWER_S
        line = bytearray()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            part = self._process.stdout.read(1 << 20) if ready else b""
            if not part:
                self.close()
                pytest.fail("Node died; see stderr" if ready else "Node keeps silent")
            line += part
        return bytes(line)


@dataclass(frozen=True)
class Page:
    """A page that shows one hook."""

    node: Node

    def act(self, action: str, *details: object) -> None:
        """Begin an action."""
        self.node.ask("act", action, *details)

    def until(self, **fields: object) -> Seen:
        """What the page shows once these fields have these values."""
        return self.node.ask("until", fields)

    def at_rest(self) -> Seen:
        """What the page shows once nothing is under way."""
        return self.until(idle=True)


OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def node_path() -> str:
    """Node, able to run the packages of tests/js."""
    return node_with_packages(PACKAGE)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """The Node processes of the module; the last one may be alive."""
    running: list[Node] = []
    yield running
    for node in running:
        node.close()


@pytest.fixture
def node(node_path: str, nodes: list[Node]) -> Node:
    """The module's Node process: started once, since that takes a second, and anew where a test has killed it."""
    if not nodes or not nodes[-1].is_alive:
        nodes.append(Node(node_path))
    return nodes[-1]


@pytest.fixture
def open_page(node: Node) -> Iterator[OpenPage]:
    """Opens pages by the name of their hook; React and the SDK must find nothing to complain of."""

    def start(hook: str, **options: object) -> Page:
        node.ask("open", hook, options)
        return Page(node)

    yield start
    if node.is_alive:
        assert node.ask("close") == []


def everything_at_once(reply: Reply) -> Reply:
    """The same reply in a single write."""
    return in_pieces(reply, 1 << 30)


def in_pieces(reply: Reply, size: int) -> Reply:
    """The same reply, cut without regard for events and characters."""
    body = b"".join(step for step in reply.steps if isinstance(step, bytes))
    return Reply([body[start : start + size] for start in range(0, len(body), size)])


THOUGHTS = [event(chunk({"reasoning": text})) for text in ("Let me ", "think.")]
THINKING = Reply([*THOUGHTS, *words("It is ", "42.").steps])


def problem(seen: Seen) -> dict[str, Any]:
    """The problem+json that a page got for an error."""
    return json.loads(seen["error"]["message"])


def said(vendor: Vendor) -> list[tuple[str, Any]]:
    """Who said what in the last request that the vendor got."""
    return [(message["role"], message["content"]) for message in vendor.requests[-1].body["messages"]]


def test_chat_gets_text_and_metadata(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A chat holds the whole text, who answered, what it took, and why it ended."""
    vendor.script(words("Hello", " world", counted=usage(7, 3)))
    page = open_page("use_chat", url=serve(hosted_over(deepinfra=vendor)))
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    question, answer = seen["messages"]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert answer["parts"] == [{"type": "step-start"}, {"type": "text", "text": "Hello world", "state": "done"}]
    metadata = answer["metadata"]
    assert (metadata["provider"], metadata["model"]) == ("deepinfra", "meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert metadata["usage"] == {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 0}
    assert 0 < metadata["cost_usd"] < 0.0001
    assert 0 <= metadata["timing_ms"]["queue"] <= metadata["timing_ms"]["ttft"] <= metadata["timing_ms"]["total"]
    assert seen["finishes"] == [{"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}]


def test_chat_shows_text_while_it_is_written(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A chat goes from submitted over streaming to ready, and shows each word before the next one exists."""
    before, between = Gate(), Gate()
    vendor.script(words(before, "Hello", between, " world"))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Hi"})
    page.until(status="submitted")
    before.open()
    assert page.until(text="Hello")["status"] == "streaming"
    between.open()
    seen = page.at_rest()
    assert seen["text"] == "Hello world"
    assert seen["statuses"] == ["ready", "submitted", "streaming", "ready"]


def test_chat_sends_the_history(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A chat's second question reaches the vendor together with the first one and its answer."""
    vendor.script(words("Paris."), words("Berlin."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Capital of France?"})
    page.at_rest()
    page.act("send", {"text": "And of Germany?"})
    seen = page.at_rest()
    assert said(vendor) == [("user", "Capital of France?"), ("assistant", "Paris."), ("user", "And of Germany?")]
    assert [message["role"] for message in seen["messages"]] == ["user", "assistant", "user", "assistant"]
    assert len({message["id"] for message in seen["messages"]}) == 4
    assert seen["text"] == "Berlin."


def test_chat_regenerates(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """regenerate() asks the same question again and puts the new answer in the old one's place."""
    vendor.script(words("First."), words("Second."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Say something"})
    page.at_rest()
    page.act("regenerate")
    seen = page.at_rest()
    assert said(vendor) == [("user", "Say something")]
    assert [message["role"] for message in seen["messages"]] == ["user", "assistant"]
    assert seen["text"] == "Second."


def test_chat_stops(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """stop() keeps the text so far, hangs up on the vendor at once, and leaves a chat that goes on."""
    never = Gate()
    vendor.script(words("Once upon", never, " a time"), words("Sure."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "A story"})
    page.until(text="Once upon")
    page.act("stop")
    seen = page.at_rest()
    assert vendor.requests[0].hung_up.wait(30)
    never.open()
    assert (seen["status"], seen["text"], seen["error"]) == ("ready", "Once upon", None)
    assert seen["finishes"][0]["isAbort"] is True
    page.act("send", {"text": "Another one"})
    assert page.at_rest()["text"] == "Sure."
    assert said(vendor) == [("user", "A story"), ("assistant", "Once upon"), ("user", "Another one")]


def test_chat_stops_before_the_first_word(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """stop() before anything was said hangs up on the vendor too, and leaves no error."""
    never = Gate()
    vendor.script(words(never, "Hello"))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Hi"})
    page.until(status="submitted")
    assert vendor.asked.wait(60)
    page.act("stop")
    seen = page.at_rest()
    assert vendor.requests[0].hung_up.wait(30)
    never.open()
    assert (seen["status"], seen["error"]) == ("ready", None)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_chat_keeps_the_text_of_a_broken_answer(
    open_page: OpenPage, serve: Serve, vendor: Vendor, *, reset: bool
) -> None:
    """A vendor that goes in mid-answer leaves useChat with an error, the text so far, and a chance to try again."""
    proceed = Gate()
    vendor.script(words("Half an", proceed, Cut(reset=reset)), words("A whole answer"))
    page = open_page("use_chat", url=serve(local_over(vendor)), body={"on_interrupt": "error"})
    page.act("send", {"text": "Hi"})
    page.until(text="Half an")
    proceed.open()
    seen = page.at_rest()
    assert (seen["status"], seen["text"]) == ("error", "Half an")
    assert seen["error"]["message"] == "The provider broke off in the middle of its answer."
    assert seen["finishes"][0]["isError"] is True
    assert seen["messages"][-1]["metadata"]["error_code"] == "stream_interrupted"
    page.act("regenerate")
    seen = page.at_rest()
    assert (seen["status"], seen["text"], seen["error"]) == ("ready", "A whole answer", None)
    assert len(seen["messages"]) == 2


def test_chat_shows_why_there_is_no_answer(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Where no provider answers, useChat's error is our problem+json: a stable code and nothing secret."""
    environ = hosted_over(xai=vendor)
    vendor.script(failure(401, "invalid_api_key", f"Incorrect API key provided: {environ['XAI_API_KEY']}"))
    page = open_page("use_chat", url=serve(environ))
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], seen["error"]["statusCode"]) == ("error", 503)
    assert problem(seen)["code"] == "no_provider_available"
    assert environ["XAI_API_KEY"] not in json.dumps(seen)


def test_chat_shows_which_field_is_wrong(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A field that we don't know is named in useChat's error, and nothing is asked of the vendor."""
    page = open_page("use_chat", url=serve(local_over(vendor)), body={"temprature": 0.5})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert seen["error"]["statusCode"] == 422
    assert [field["path"] for field in problem(seen)["errors"]] == ["temprature"]
    assert vendor.requests == []


def test_chat_takes_our_options(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """What a page adds to the transport's body (system, temperature, max_tokens) reaches the vendor."""
    body = {"system": "Be brief.", "temperature": 0.5, "max_tokens": 9, "metadata": {"page": "home"}}
    page = open_page("use_chat", url=serve(local_over(vendor)), body=body)
    page.act("send", {"text": "Hi"})
    page.at_rest()
    assert said(vendor) == [("system", "Be brief."), ("user", "Hi")]
    assert (vendor.requests[0].body["temperature"], vendor.requests[0].body["max_tokens"]) == (0.5, 9)


def test_chat_gets_reasoning(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A model's reasoning arrives as a part of its own, before the text, and stays out of the next question."""
    vendor.script(THINKING, words("Yes."))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "What is it?"})
    seen = page.at_rest()
    assert seen["messages"][-1]["parts"] == [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Let me think.", "state": "done", "id": "1"},
        {"type": "text", "text": "It is 42.", "state": "done"},
    ]
    page.act("send", {"text": "Sure?"})
    page.at_rest()
    assert said(vendor) == [("user", "What is it?"), ("assistant", "It is 42."), ("user", "Sure?")]


def test_chat_sends_pictures(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A picture that a page attaches reaches a model that can see."""
    page = open_page("use_chat", url=serve(hosted_over(xai=vendor)))
    files = [{"type": "file", "mediaType": "image/png", "filename": "dot.png", "url": PIXEL}]
    page.act("send", {"text": "What is this?", "files": files})
    assert page.at_rest()["status"] == "ready"
    picture, text = {"type": "image_url", "image_url": {"url": PIXEL}}, {"type": "text", "text": "What is this?"}
    assert said(vendor) == [("user", [picture, text])]


def test_chat_may_not_send_other_files(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A file that is no picture is refused by name rather than dropped."""
    page = open_page("use_chat", url=serve(hosted_over(xai=vendor)))
    files = [{"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf;base64,JVBERi0="}]
    page.act("send", {"text": "Read this", "files": files})
    seen = page.at_rest()
    assert seen["error"]["statusCode"] == 422
    assert "messages[0].parts[0].mediaType" in {field["path"] for field in problem(seen)["errors"]}


def test_chat_may_hold_parts_of_other_kinds(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """What a message holds besides text and pictures stays on the page: the vendor gets the text."""
    earlier: list[dict[str, Any]] = [
        {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hi"}], "metadata": {"draft": None}},
        {
            "id": "2",
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "Hmm", "state": "done"},
                {"type": "tool-weather", "toolCallId": "c", "state": "input-streaming", "input": {}},
                {"type": "source-url", "sourceId": "s", "url": "https://example.com"},
                {"type": "source-document", "sourceId": "s", "mediaType": "text/plain", "title": "A"},
                {"type": "data-progress", "id": "p", "data": {"percent": 50}},
                {"type": "text", "text": "Hello", "state": "done", "providerMetadata": {"x": {"y": 1}}},
            ],
        },
    ]
    page = open_page("use_chat", url=serve(local_over(vendor)), messages=earlier)
    page.act("send", {"text": "And now?"})
    assert page.at_rest()["status"] == "ready"
    assert said(vendor) == [("user", "Hi"), ("assistant", "Hello"), ("user", "And now?")]


def tool_part(**fields: Any) -> dict[str, Any]:
    """A call of the weather tool as a page holds it."""
    return {"type": "tool-weather", "toolCallId": "call_0", "input": {"city": "Paris"}, **fields}


@pytest.mark.parametrize(
    ("output", "told"),
    [({"celsius": 21}, '{"celsius":21}'), ("Sunny", "Sunny"), ({"errorText": "No such city."}, "No such city.")],
    ids=["object", "text", "error"],
)
def test_chat_calls_a_tool(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor, output: Any, told: str) -> None:
    """A call goes to the page, its result back by itself, and both stand before the answer in one message."""
    groq = make_vendor()
    groq.script(calls(("weather", PARIS), text="Let me see."), words("It is ", "sunny."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": output})
    page.act("send", {"text": "The weather in Paris?"})
    seen = page.at_rest()
    assert (seen["status"], seen["error"]) == ("ready", None)
    question, answer = seen["messages"]
    failed = isinstance(output, dict) and "errorText" in output
    came_of_it: dict[str, Any] = {"state": "output-available", "output": output}
    if failed:
        came_of_it = {"state": "output-error", **output}
    assert answer["parts"] == [
        {"type": "step-start"},
        {"type": "text", "text": "Let me see.", "state": "done"},
        tool_part(**came_of_it),
        {"type": "step-start"},
        {"type": "text", "text": "It is sunny.", "state": "done"},
    ]
    assert question["id"] != answer["id"]
    assert [finish["finishReason"] for finish in seen["finishes"]] == ["tool-calls", "stop"]
    first, second = (request.body for request in groq.requests)
    assert first["tools"] == second["tools"] == [WEATHER]
    user, called, result = second["messages"]
    assert user == first["messages"][0]
    assert called["content"] == "Let me see."
    assert [call["id"] for call in called["tool_calls"]] == ["call_0"]
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    assert result == {"role": "tool", "tool_call_id": "call_0", "content": told}


def test_chat_calls_tools_again_and_again(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """Several calls at once, then one more, then the answer: each result stands behind its call, whatever its id."""
    groq = make_vendor()
    groq.script(calls(("weather", PARIS), ("weather", '{"city": "Rome"}')), calls(("time", "{}")), words("Done."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21, "time": "noon"})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], seen["text"], len(seen["messages"])) == ("ready", "Done.", 2)
    assert [message["role"] for message in groq.requests[2].body["messages"]] == [
        *("user", "assistant", "tool", "tool"),
        *("assistant", "tool"),
    ]
    assert said(groq)[2:] == [("tool", "21"), ("tool", "21"), ("assistant", None), ("tool", "noon")]


def test_chat_shows_a_call_while_it_is_written(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """A call's input is shown as it grows; the page's tool runs only when the whole answer is there."""
    groq, between, last = make_vendor(), Gate(), Gate()
    steps = calls(("weather", PARIS), size=13).steps
    groq.script(Reply([*steps[:3], between, steps[3], last, *steps[4:]]), words("Sunny."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    page.until(tools=[["tool-weather", "input-streaming", {"city": "Par"}]])
    between.open()
    page.until(tools=[["tool-weather", "input-streaming", {"city": "Paris"}]])
    assert len(groq.requests) == 1
    last.open()
    assert page.at_rest()["text"] == "Sunny."


@pytest.mark.parametrize("ending", [[Cut()], calls().steps[1:]], ids=["cut", "said to be finished"])
def test_chat_never_runs_half_a_call(
    open_page: OpenPage, serve: Serve, make_vendor: MakeVendor, ending: list[Any]
) -> None:
    """A call that breaks off is shown to have failed and its tool never runs; the chat goes on afterwards."""
    groq = make_vendor()
    half = [event(chunk(call_piece(0, id="call_0", name="weather", arguments='{"city": "Par')))]
    groq.script(Reply([*half, *ending]), words("Sunny."), words("Bye."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], len(groq.requests)) == ("error", 1)
    assert [state for _, state, _ in seen["tools"]] == ["output-error"]
    assert seen["messages"][-1]["metadata"]["error_code"] == "stream_interrupted"
    page.act("regenerate")
    assert page.at_rest()["text"] == "Sunny."
    page.act("send", {"text": "Thanks"})
    assert page.at_rest()["text"] == "Bye."


def test_chat_goes_on_after_a_failed_call(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """Where the page goes on without asking again, the model is told that the call failed, and made none of it."""
    groq = make_vendor()
    groq.script(Reply([event(chunk(call_piece(0, id="call_0", name="weather", arguments='{"city'))), Cut()]))
    groq.script(words("Never mind."))
    page = open_page("use_chat", url=serve(hosted_over(groq=groq)), body=TOOLS, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    page.at_rest()
    page.act("send", {"text": "So?"})
    assert page.at_rest()["text"] == "Never mind."
    _, called, result, _ = groq.requests[1].body["messages"]
    assert called["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{}"}
    assert result["content"] == "The provider broke off in the middle of its answer."


def test_chat_takes_half_a_call_back(open_page: OpenPage, serve: Serve, make_vendor: MakeVendor) -> None:
    """A page of AI SDK 7 that says so gets the next vendor's call in place of the half one, and runs only that."""
    groq, xai = make_vendor(), make_vendor()
    groq.script(Reply([event(chunk(call_piece(0, id="call_0", name="weather", arguments='{"city": "Par'))), Cut()]))
    xai.script(calls(("weather", '{"city": "Rome"}')))
    groq.script(words("Sunny in Rome."))
    url, body = serve(hosted_over(groq=groq, xai=xai)), {**TOOLS, "ui_stream": "v7"}
    page = open_page("use_chat", url=url, body=body, outputs={"weather": 21})
    page.act("send", {"text": "Hi"})
    seen = page.at_rest()
    assert (seen["status"], seen["text"]) == ("ready", "Sunny in Rome.")
    assert seen["tools"] == [["tool-weather", "output-available", {"city": "Rome"}]]


CONVERSATIONS: list[list[dict[str, Any]]] = [
    [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hm"},
        {"type": "text", "text": "One"},
        tool_part(state="output-available", output={"celsius": 21, "sky": None}),
        {"type": "dynamic-tool", "toolName": "time", "toolCallId": "b", "state": "output-available", "output": "noon"},
        {"type": "step-start"},
        tool_part(state="output-error", errorText="No such city.", toolCallId="c"),
        {"type": "text", "text": "Two"},
        {"type": "step-start"},
        {"type": "text", "text": "Three"},
    ],
    [tool_part(state="input-streaming"), {"type": "text", "text": "Stopped"}],
    [tool_part(state="output-denied", approval={"id": "1", "approved": False, "reason": "No."})],
    [tool_part(state="output-available", output=[]), {"type": "source-url", "sourceId": "s", "url": "https://x.y"}],
]


@pytest.mark.parametrize("parts", CONVERSATIONS)
def test_conversations_reach_the_vendor_as_the_sdk_has_them(
    node: Node, serve: Serve, vendor: Vendor, parts: list[dict[str, Any]]
) -> None:
    """The vendor gets a page's tool calls and results in the order of the SDK's own convertToModelMessages."""
    asked = {"role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    messages = [asked, {"id": "m", "role": "assistant", "parts": parts}, asked]
    expected = [each for message in node.ask("convert", messages) for each in in_openai_style(message)]
    node.ask("read", {"url": serve(hosted_over(groq=vendor)), "body": {**TOOLS, "messages": messages}})
    got = vendor.requests[0].body["messages"]
    for call in (call for message in got for call in message.get("tool_calls", [])):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert got == expected


def in_openai_style(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message of the SDK's for its models, as its providers turn it into OpenAI's wire shape."""
    if message["role"] == "tool":
        results = [part for part in message["content"] if part["type"] == "tool-result"]
        outputs = [part["output"]["value"] for part in results]
        texts = [output if isinstance(output, str) else json.dumps(output, separators=(",", ":")) for output in outputs]
        ids = [part["toolCallId"] for part in results]
        return [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in zip(ids, texts, strict=True)]
    texts = [part["text"] for part in message["content"] if part["type"] == "text"]
    made = [
        {
            "id": part["toolCallId"],
            "type": "function",
            "function": {"name": part["toolName"], "arguments": part.get("input", {})},
        }
        for part in message["content"]
        if part["type"] == "tool-call"
    ]
    said = {"role": message["role"], "content": "\n".join(texts) if texts else None}
    return [{**said, "tool_calls": made} if made else said]


def test_chat_carries_any_text(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Emoji, line separators, markup, quotes and what looks like our framing go both ways unchanged."""
    vendor.script(in_pieces(words(*(HOSTILE[start : start + 5] for start in range(0, len(HOSTILE), 5))), 61))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": HOSTILE})
    assert page.at_rest()["text"] == HOSTILE
    assert said(vendor) == [("user", HOSTILE)]


def test_chat_carries_long_text(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A megabyte of text arrives whole, wherever the network cuts it."""
    piece = "Größe 漢字 🎬 " * 1500
    pieces = [f"{number} {piece}" for number in range(1_000_000 // len(piece.encode()) + 1)]
    vendor.script(in_pieces(words(*pieces), 4093))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "A novel"})
    seen = page.at_rest()
    assert seen["text"] == "".join(pieces)
    assert len(seen["text"].encode()) > 1_000_000


def test_chat_takes_everything_at_once(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Two hundred deltas in one network write make one whole answer."""
    numbers = [f"{number} " for number in range(200)]
    vendor.script(everything_at_once(words(*numbers)))
    page = open_page("use_chat", url=serve(local_over(vendor)))
    page.act("send", {"text": "Count"})
    seen = page.at_rest()
    assert (seen["status"], seen["text"]) == ("ready", "".join(numbers))


PROTOCOLS = pytest.mark.parametrize("protocol", ["data", "text"])


@PROTOCOLS
def test_completion_gets_text(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """The text is shown as it grows, in both protocols of useCompletion."""
    proceed = Gate()
    vendor.script(words("Hello", proceed, " 🌍"))
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", "Hi")
    assert page.until(text="Hello")["idle"] is False
    proceed.open()
    seen = page.at_rest()
    assert (seen["text"], seen["finishes"], seen["error"]) == ("Hello 🌍", ["Hello 🌍"], None)
    assert said(vendor) == [("user", "Hi")]


@PROTOCOLS
def test_completion_carries_any_text(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """What is hard to frame or to quote arrives unchanged in both protocols of useCompletion."""
    vendor.script(words("So: ", HOSTILE))
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", HOSTILE)
    assert page.at_rest()["text"] == f"So: {HOSTILE}"
    assert said(vendor) == [("user", HOSTILE)]


@PROTOCOLS
def test_completion_stops(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """stop() keeps the text so far and hangs up on the vendor, in both protocols of useCompletion."""
    never = Gate()
    vendor.script(words("Once upon", never, " a time"))
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", "A story")
    page.until(text="Once upon")
    page.act("stop")
    seen = page.at_rest()
    assert vendor.requests[0].hung_up.wait(30)
    never.open()
    assert (seen["text"], seen["finishes"], seen["error"]) == ("Once upon", [], None)


@PROTOCOLS
def test_completion_notices_a_broken_answer(open_page: OpenPage, serve: Serve, vendor: Vendor, protocol: str) -> None:
    """A vendor that goes in mid-answer is an error to useCompletion, in both of its protocols, never a short text."""
    proceed = Gate()
    vendor.script(words("Half an", proceed, Cut()), *[failure(500)] * 3)
    page = open_page("use_completion", url=serve(local_over(vendor)), streamProtocol=protocol)
    page.act("complete", "Hi")
    page.until(text="Half an")
    proceed.open()
    seen = page.at_rest()
    assert (seen["text"], seen["finishes"]) == ("Half an", [])
    assert seen["error"] is not None


def test_completion_shows_why_there_is_no_answer(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """Where no provider answers, useCompletion's error is our problem+json."""
    vendor.script(failure(500), failure(500))
    page = open_page("use_completion", url=serve(local_over(vendor)))
    page.act("complete", "Hi")
    assert problem(page.at_rest())["code"] == "no_provider_available"


def test_object_grows(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """An object's fields are shown as they are written, and the schema that useObject asks for reaches the vendor."""
    first, second = Gate(), Gate()
    vendor.script(words('{"title": "Tea', first, ' time", "shots": ["cup', second, '", "pot"]}'))
    page = open_page("use_object", url=serve(local_over(vendor)), schema=SCHEMA)
    wanted = {"type": "json_schema", "json_schema": {"name": "storyboard", "schema": SCHEMA}}
    page.act("submit", {"prompt": "A storyboard", "response_format": wanted})
    page.until(object={"title": "Tea"})
    first.open()
    page.until(object={"title": "Tea time", "shots": ["cup"]})
    second.open()
    seen = page.at_rest()
    whole = {"title": "Tea time", "shots": ["cup", "pot"]}
    assert seen["object"] == whole
    assert seen["finishes"] == [{"object": whole, "error": None}]
    assert vendor.requests[0].body["response_format"] == wanted


def test_object_notices_a_broken_answer(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A vendor that goes in mid-answer is an error to useObject, with what there is kept."""
    proceed = Gate()
    vendor.script(words('{"title": "Tea', proceed, Cut()), *[failure(500)] * 3)
    page = open_page("use_object", url=serve(local_over(vendor)), schema=SCHEMA)
    page.act("submit", {"prompt": "A storyboard"})
    page.until(object={"title": "Tea"})
    proceed.open()
    seen = page.at_rest()
    assert (seen["object"], seen["finishes"]) == ({"title": "Tea"}, [])
    assert seen["error"] is not None


@pytest.mark.parametrize("answer", ['{"title": 7, "shots": []}', '{"title": "Tea"}', '{"title": "Tea"'])
def test_object_that_does_not_fit(open_page: OpenPage, serve: Serve, vendor: Vendor, answer: str) -> None:
    """JSON that does not fit the schema that was asked for is an error to useObject, though it was streamed."""
    vendor.script(words(answer))
    page = open_page("use_object", url=serve(local_over(vendor)), schema={})
    wanted = {"type": "json_schema", "json_schema": {"name": "storyboard", "schema": SCHEMA}}
    page.act("submit", {"prompt": "A storyboard", "response_format": wanted})
    seen = page.at_rest()
    assert seen["error"] is not None
    assert seen["finishes"] == []


def test_object_of_a_model_that_thinks(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """What a model thinks before its JSON stays out of useObject's text; any object will do where none is described."""
    vendor.script(Reply([*THOUGHTS, *words('{"title": "Tea", ', '"shots": []}').steps]))
    page = open_page("use_object", url=serve(hosted_over(groq=vendor)), schema=SCHEMA)
    page.act("submit", {"prompt": "A storyboard as JSON", "response_format": {"type": "json_object"}})
    assert page.at_rest()["finishes"] == [{"object": {"title": "Tea", "shots": []}, "error": None}]


def test_object_whose_schema_is_none(open_page: OpenPage, serve: Serve, vendor: Vendor) -> None:
    """A schema that is none is named in useObject's error, and nothing is asked of the vendor."""
    page = open_page("use_object", url=serve(local_over(vendor)), schema=SCHEMA)
    wanted = {"type": "json_schema", "json_schema": {"name": "storyboard", "schema": {"type": "obj"}}}
    page.act("submit", {"prompt": "A storyboard", "response_format": wanted})
    assert problem(page.at_rest())["errors"][0]["path"] == "response_format.json_schema.schema.type"
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        pytest.param(words("One", " two"), ["text"], id="success"),
        pytest.param(THINKING, ["reasoning", "text"], id="reasoning"),
        pytest.param(words("Half", finish_reason=None), ["text", "error"], id="failure"),
        pytest.param(Reply(THOUGHTS), ["reasoning", "error"], id="failure while reasoning"),
        pytest.param(words(HOSTILE), ["text"], id="hostile text"),
        pytest.param(words(), [], id="nothing said"),
        pytest.param(calls(("weather", PARIS), text="So:"), ["text", "tool-input", "tool-input-available"], id="call"),
        pytest.param(calls(("weather", PARIS[:9])), ["tool-input", "tool-input-error", "error"], id="half a call"),
    ],
)
def test_every_chunk_fits_the_sdks_schema(
    node: Node, serve: Serve, vendor: Vendor, reply: Reply, kinds: list[str]
) -> None:
    """Every event of ours is a chunk by the SDK's own schema, and [DONE] is the last."""
    vendor.script(reply)
    body = {"prompt": "Hi", "on_interrupt": "error"}
    read = node.ask("read", {"url": serve(local_over(vendor)), "body": body})
    types = [chunk["type"] for chunk in read["chunks"]]
    assert read["rejected"] == []
    assert types[:2] == ["start", "start-step"]
    assert types[-1] == "finish"
    assert [kind for kind in kinds if f"{kind}-start" in types or kind in types] == kinds
    assert len(read["errors"]) == kinds.count("error")
    assert read["raw"].endswith("\n\ndata: [DONE]\n\n")
    assert read["raw"].count("\n\n") == len(types) + 1
    assert read["headers"]["x-vercel-ai-ui-message-stream"] == "v1"


@pytest.mark.parametrize(
    ("vendors", "sdks"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content-filter"), ("tool_calls", "tool-calls")],
)
def test_finish_reasons(node: Node, serve: Serve, vendor: Vendor, vendors: str, sdks: str) -> None:
    """The vendor's reason to end arrives under the SDK's name for it."""
    vendor.script(words("Text", finish_reason=vendors))
    read = node.ask("read", {"url": serve(local_over(vendor)), "body": {"prompt": "Hi"}})
    assert read["rejected"] == []
    assert read["chunks"][-1]["finishReason"] == sdks


@pytest.fixture
def local_store(loop: LoopThread) -> Iterator[str]:
    """The URL of a site with the shipped items beside it."""
    app = App(from_environ(ACCESS))
    with Served(Site(ROOT, app, endpoints(Files(FOLDER))), loop) as site:
        yield site.url


def test_edge_config_of_this_machine(node: Node, local_store: str) -> None:
    """Vercel's own client reads the Edge Config of `make run` as it reads the genuine one."""
    connection = f"{local_store}/ecfg_local?token=local"
    items = Files(FOLDER).items()
    seen = node.ask("edge_config", {"connection": connection, "key": "statsig-local"})
    item = items["statsig-local"]
    assert (seen["id"], seen["all"], seen["some"]) == ("ecfg_local", items, {"statsig-local": item})
    assert [seen["one"], seen["again"], seen["consistent"], seen["missing"]] == [item, item, item, None]
    assert (seen["has"], len(seen["digest"])) == ([True, False], 64)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("ecfg_local?token=wrong", "Unauthorized"), ("nowhere/ecfg_x?id=x&token=local", "Edge Config not found")],
)
def test_edge_config_that_is_none(node: Node, local_store: str, path: str, complaint: str) -> None:
    """A wrong token and a missing store are told apart."""
    assert complaint in node.ask("no_edge_config", {"connection": f"{local_store}/{path}"})


@pytest.mark.parametrize("stable_id", [None, "device-1"])
def test_statsig_client_starts_from_our_flags(
    node: Node, serve: Serve, local_store: str, stable_id: str | None
) -> None:
    """Statsig's browser client starts from /api/flags, knows what the server decided, and finds nothing amiss."""
    environ = {**ACCESS, "EDGE_CONFIG": f"{local_store}/ecfg_local?token=local"}
    url = f"{serve(environ)}/api/flags" + (f"?stableID={stable_id}" if stable_id else "")
    flag = {"experiment": "feature_ai_provider", "gate": "groq_r1_v_production"}
    seen = node.ask("statsig", {"url": url, "headers": KEY_HEADER, **flag})
    experiment, gate = seen["experiment"], seen["gate"]
    assert (experiment["reason"], gate["reason"]) == ("Bootstrap:Recognized", "Bootstrap:Recognized")
    assert seen["unknown"] == "Bootstrap:Unrecognized"
    assert experiment["value"]["provider"] == "local"
    assert experiment["rule"] == f"rule_{experiment['group']}"
    assert (gate["rule"], gate["value"] in {True, False}) == ("rule_rollout", True)
    assert seen["stableID"] == (stable_id or str(uuid5(NAMESPACE_URL, "api-key:web")))

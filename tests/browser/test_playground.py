"""The playground in a real browser, over a fake vendor; run with REQUIRE_BROWSER=1, it may not be skipped."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

import pytest

from lib.router.completion import RECOVERIES
from tests.browser.chromium import Locator, Page, ViewportSize, expect, wider_than_page
from tests.conftest import Serve, hosted_over, local_over
from tests.fakes.vendor import Cut, Gate, Hang, Step, Vendor, failure, words

pytestmark = pytest.mark.slow

PHONE: ViewportSize = {"width": 360, "height": 740}
HOSTILE = "<img src=x onerror=alert(1)>"
BYTE_BY_BYTE = """
    const whole = window.fetch;
    window.fetch = async (...request) => {
        const bytes = new Uint8Array(await (await whole(...request)).arrayBuffer());
        return new Response(new ReadableStream({
            start(stream) {
                for (const byte of bytes) stream.enqueue(new Uint8Array([byte]));
                stream.close();
            },
        }));
    };
"""


@dataclass(frozen=True)
class Playground:
    """The site's address and the vendor behind it."""

    url: str
    vendor: Vendor


def script_answer(site: Playground, *steps: str | Step) -> None:
    """Let the vendor give these pieces as its next answer, in one stream."""
    site.vendor.script(words(*steps))


def script_refusal(site: Playground) -> None:
    """Let the vendor refuse its next request, before any token."""
    site.vendor.script(failure(400))


@pytest.fixture
def site(serve: Serve, vendor: Vendor) -> Playground:
    """The site as it is deployed, its provider `local` a fake vendor."""
    return Playground(serve({**local_over(vendor), "VERCEL_DEPLOYMENT_ID": "dpl_test"}), vendor)


def ask(page: Page, question: str) -> Locator:
    """Type a question and send it by the keyboard; return the turn that it begins."""
    page.get_by_label("Your prompt").fill(question)
    page.keyboard.press("Control+Enter")
    return page.locator(".turn").last


def expect_state(turn: Locator, state: str) -> None:
    """Wait until the turn is in this state."""
    expect(turn).to_have_attribute("data-state", state)


def facts(turn: Locator) -> dict[str, str]:
    """The line under an answer, by its labels."""
    return dict(zip(*(turn.locator(f".facts {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True))


def test_loads_and_answers_without_complaint(site: Playground, page: Page, complaints: list[str]) -> None:
    """From the empty page to an answer nothing is refused by the content security policy, and nothing throws."""
    page.goto(site.url)
    expect(page.get_by_role("heading", name="Ask something")).to_be_visible()
    expect(page.get_by_label("Your prompt")).to_be_focused()
    page.get_by_role("button", name="Why is the sky blue?").click()
    expect_state(page.locator(".turn"), "done")
    expect(page.get_by_text("Control")).to_be_hidden()
    assert complaints == []


def test_answer_streams(site: Playground, page: Page) -> None:
    """What the vendor has said is on the page before it says the rest."""
    gate = Gate()
    script_answer(site, "Because ", gate, "of Rayleigh.")
    page.goto(site.url)
    turn = ask(page, "Why is the sky blue?")
    expect(turn.locator(".text")).to_have_text("Because ")
    expect_state(turn, "streaming")
    gate.open()
    expect(turn.locator(".text")).to_have_text("Because of Rayleigh.")
    expect_state(turn, "done")


def test_facts_under_the_answer(site: Playground, page: Page) -> None:
    """Under an answer: provider, model, time to first token, tokens and cost; the demo model says what it is."""
    script_answer(site, "Hello.")
    page.goto(site.url)
    turn = ask(page, "Hi")
    expect_state(turn, "done")
    shown = facts(turn)
    assert re.fullmatch(r"\d+ ms|\d+\.\d\d s", shown.pop("First token"))
    assert shown == {"Provider": "local", "Model": "smollm2-135m-instruct", "Tokens": "7 in / 3 out", "Cost": "free"}
    expect(page.get_by_text("Embedded demo model")).to_be_visible()


def test_a_hosted_answer_has_its_price(serve: Serve, vendor: Vendor, page: Page) -> None:
    """A hosted vendor's answer shows what it cost, however little, and is not taken for the demo's."""
    page.goto(serve(hosted_over(deepinfra=vendor)))
    turn = ask(page, "Hi")
    expect_state(turn, "done")
    assert facts(turn)["Provider"] == "deepinfra"
    assert re.fullmatch(r"\$0\.0*[1-9]\d*", facts(turn)["Cost"])
    expect(page.get_by_text("Embedded demo model")).to_be_hidden()


def test_stop(site: Playground, page: Page) -> None:
    """Stop keeps the text, marks it, says what is unknown, and the vendor is let go."""
    script_answer(site, "Half an ans", Hang())
    page.goto(site.url)
    turn = ask(page, "Hi")
    expect(turn.locator(".text")).to_have_text("Half an ans")
    page.get_by_role("button", name="Stop").click()
    expect_state(turn, "stopped")
    expect(turn).to_contain_text("Stopped: the answer is incomplete.")
    expect(turn.locator(".text")).to_have_text("Half an ans")
    assert facts(turn)["Cost"] == "unknown"
    assert site.vendor.requests[0].hung_up.wait(5)
    expect(page.get_by_role("button", name="Send")).to_be_focused()


def test_broken_answer_says_so(site: Playground, page: Page) -> None:
    """An answer that breaks off keeps its text and says that it is interrupted; asking again replaces it."""
    script_answer(site, "Half an ans", Cut())
    for _ in range(RECOVERIES):
        script_refusal(site)
    script_answer(site, "A whole answer.")
    page.goto(site.url)
    turn = ask(page, "Hi")
    expect_state(turn, "interrupted")
    expect(turn.locator(".text")).to_have_text("Half an ans")
    expect(turn.get_by_role("alert")).to_contain_text("Interrupted")
    turn.get_by_role("button", name="Try again").click()
    expect(page.locator(".turn .text")).to_have_text(["A whole answer."])


def test_stream_may_be_split_anywhere(site: Playground, page: Page) -> None:
    """An answer that arrives one byte at a time is the same answer, down to its emoji."""
    script_answer(site, "Zoë 👩‍🚀: ", "\u2028data: [DONE]")
    page.add_init_script(BYTE_BY_BYTE)
    page.goto(site.url)
    turn = ask(page, "Hi")
    expect_state(turn, "done")
    assert turn.locator(".text").text_content() == "Zoë 👩‍🚀: \u2028data: [DONE]"


def test_stream_without_an_end_is_interrupted(site: Playground, page: Page) -> None:
    """A stream that ends before its `finish` chunk, as a proxy's timeout makes it, is no complete answer."""
    cut = 'data: {"type":"text-delta","id":"1","delta":"Half an ans"}\n\n'
    page.route("**/api/generate", lambda route: route.fulfill(content_type="text/event-stream", body=cut))
    page.goto(site.url)
    turn = ask(page, "Hi")
    expect_state(turn, "interrupted")
    expect(turn.locator(".text")).to_have_text("Half an ans")


def test_refusal_says_why(site: Playground, page: Page) -> None:
    """An error instead of an answer shows its reason and the request's id; the conversation goes on without it."""
    script_refusal(site)
    page.goto(site.url)
    with page.expect_response("**/api/generate") as answered:
        turn = ask(page, "Hi")
    expect_state(turn, "failed")
    expect(turn.get_by_role("alert")).to_contain_text(answered.value.json()["detail"])
    expect(turn.get_by_role("alert")).to_contain_text(answered.value.headers["x-request-id"])
    expect_state(ask(page, "And now?"), "done")
    assert site.vendor.requests[-1].body["messages"] == [{"role": "user", "content": "And now?"}]


def test_conversation(site: Playground, page: Page) -> None:
    """A second question goes out with the first and its answer; a new conversation forgets both."""
    script_answer(site, "Four.")
    page.goto(site.url)
    expect_state(ask(page, "What is 2 + 2?"), "done")
    expect_state(ask(page, "And twice that?"), "done")
    assert site.vendor.requests[-1].body["messages"] == [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "And twice that?"},
    ]
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect_state(ask(page, "Hello?"), "done")
    assert site.vendor.requests[-1].body["messages"] == [{"role": "user", "content": "Hello?"}]


def test_hostile_text_stays_text(site: Playground, page: Page, complaints: list[str]) -> None:
    """Markup in a prompt and in its echo from the vendor is shown as typed, never as elements."""
    page.goto(site.url)
    turn = ask(page, HOSTILE)
    expect(turn.locator(".prompt")).to_have_text(HOSTILE)
    expect(turn.locator(".text")).to_have_text(f"You said: {HOSTILE}")
    expect(turn.locator("img")).to_have_count(0)
    assert complaints == []


def test_copy_as_curl(site: Playground, page: Page) -> None:
    """The copied command is one that a shell reads back as the very request that the page would send."""
    question = 'Is it\'s "its"?\n$HOME `id` \\'
    page.goto(site.url)
    page.get_by_label("Your prompt").fill(question)
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = shlex.split(page.evaluate("() => navigator.clipboard.readText()"))
    assert command[:3] == ["curl", "-N", f"{site.url}/api/generate"]
    assert json.loads(command[command.index("-d") + 1]) == {"prompt": question}


def test_a_reader_who_scrolled_up_is_left_alone(site: Playground, page: Page) -> None:
    """The page follows an answer that grows, until its reader scrolls up."""
    gates = Gate(), Gate()
    script_answer(site, "line\n" * 60, gates[0], "line\n" * 60, gates[1], "line\n" * 60)
    page.goto(site.url)
    turn = ask(page, "Hi")
    gates[0].open()
    end = turn.locator(".facts")
    expect(turn.locator(".text")).to_have_text("line " * 120)
    expect(end).to_be_in_viewport()
    page.evaluate("() => scrollTo(0, 0)")
    gates[1].open()
    expect_state(turn, "done")
    assert page.evaluate("() => scrollY") == 0


def test_parts(site: Playground, page: Page) -> None:
    """The list of parts names what is off and the variable that turns it on; Escape closes it."""
    page.goto(site.url)
    page.get_by_text(re.compile(r"\d of \d+ on")).click()
    expect(page.locator(".part").filter(has_text="groq")).to_contain_text(re.compile(r"off\s*groq\s*set GROQ_API_KEY"))
    expect(page.locator(".part").filter(has_text=re.compile(r"^\s*on\s*local\s*$"))).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".part").first).to_be_hidden()


def test_fits_a_phone(site: Playground, page: Page) -> None:
    """On a phone nothing sticks out sideways, however long a word is."""
    page.set_viewport_size(PHONE)
    page.goto(site.url)
    expect_state(ask(page, "x" * 500), "done")
    assert wider_than_page(page) == []

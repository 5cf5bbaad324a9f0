"""examples/nextjs, built and started as its README says, in a real browser, over the functions and fake vendors."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from lib.app import App
from lib.settings import from_environ
from local.edge_config import FOLDER, Files, endpoints
from local.server import Site
from tests.browser.chromium import Locator, Page, expect, wider_than_page
from tests.conftest import ACCESS, ROOT, local_over, served_site
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate, Hang, Vendor, failure, words
from tests.npm import node_with_packages

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "nextjs"
NEXT = "node_modules/next/dist/bin/next"
BUILD_S, START_S = 600, 60
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""A folder to leave pictures of the page in."""
HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Example:
    """The example's address, that of the functions behind it, and their vendor."""

    url: str
    backend: str
    vendor: Vendor


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, loop: LoopThread) -> Iterator[Example]:
    """The example, built for the address of functions whose provider `local` is a fake vendor, and started."""
    items = Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("example") / "items"))
    (items / "ai_config.json").write_text('{"temperature": 0.75}')
    node = node_with_packages(EXAMPLE)
    vendor = Vendor(loop)
    with ExitStack() as running:
        running.callback(vendor.close)
        store = App(from_environ(ACCESS))
        kept = running.enter_context(served_site(Site(ROOT, store, endpoints(Files(items))), loop))
        app = App(from_environ({**local_over(vendor), "EDGE_CONFIG": f"{kept}/ecfg_local?token=local"}))
        backend = running.enter_context(served_site(Site(ROOT, app), loop))
        # Destinations are fixed in the build, so that nobody else may build until this run has ended.
        lock = running.enter_context((EXAMPLE / "package.json").open("rb"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        environ = {**os.environ, "BACKEND_URL": backend, "NEXT_TELEMETRY_DISABLED": "1"}
        built = subprocess.run(
            [node, NEXT, "build"],
            cwd=EXAMPLE,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_S,
        )
        assert built.returncode == 0, built.stdout + built.stderr
        yield Example(running.enter_context(started(node, environ)), backend, vendor)
    assert vendor.violations == []


@contextmanager
def started(node: str, environ: dict[str, str]) -> Generator[str]:
    """`next start` on a free port; its address."""
    command = [node, NEXT, "start", "--port", "0", "--hostname", "127.0.0.1"]
    with subprocess.Popen(command, cwd=EXAMPLE, env=environ, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            told: list[str] = []
            for line in server.stdout:
                told.append(line)
                found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
                if found and found[1] != "0":
                    yield found[0]
                    return
            pytest.fail("".join(told))
        finally:
            server.terminate()


def ask(page: Page, question: str) -> Locator:
    """Send a question; where its answer will be."""
    page.get_by_label("Your prompt").fill(question)
    page.keyboard.press("Enter")
    return page.locator("article.assistant").last


def expect_status(page: Page, status: str) -> None:
    """Wait until useChat is in this state."""
    expect(page.get_by_role("log")).to_have_attribute("data-status", status)


def described(page: Page, title: str) -> dict[str, str]:
    """The list under a title, by its terms."""
    section = page.get_by_role("region", name=title)
    return dict(zip(*(section.locator(tag).all_inner_texts() for tag in ("dt", "dd")), strict=True))


def picture(page: Page, name: str) -> None:
    """Leave a picture of the page where somebody wants one."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"nextjs-{name}.png")


def values_of(example: Example, page: Page) -> dict[str, Any]:
    """What /api/flags says for this page's visitor, asked of the functions themselves."""
    (guest,) = [cookie for cookie in page.context.cookies() if cookie.get("name") == "guest"]
    answer = httpx.get(f"{example.backend}/api/flags", headers={"cookie": f"guest={guest.get('value')}"})
    return answer.json()


def test_server_and_client_have_the_flags_of_the_functions(example: Example, page: Page, complaints: list[str]) -> None:
    """A first visit's page is rendered by the flags of its visitor, who stays the same; the client starts from them."""
    page.goto(example.url)
    values = values_of(example, page)
    (experiment,) = [each for each in values["dynamic_configs"].values() if each.get("group_name")]
    by_server, by_client = (
        described(page, "Flags, by a Server Component"),
        described(page, "The same, by hooks of Statsig"),
    )
    assert by_server.pop("Temperature") == "0.75"
    assert by_client.pop("Reason") == "Bootstrap:Recognized"
    assert by_server == by_client
    assert by_server["Arm"] == experiment["group_name"]
    assert (by_server["Provider"], by_server["Model"]) == ("local", "smollm2-135m-instruct")
    page.reload()
    assert described(page, "The same, by hooks of Statsig")["Arm"] == experiment["group_name"]
    assert values_of(example, page)["user"] == values["user"]
    assert complaints == []


def test_chat_streams(example: Example, page: Page, complaints: list[str]) -> None:
    """What the vendor has said is on the page before it says the rest; below it, who answered and for how much."""
    gate = Gate()
    example.vendor.script(words("Because ", gate, "of Rayleigh."))
    page.goto(example.url)
    answer = ask(page, "Why is the sky blue?")
    expect(answer.locator("p").first).to_have_text("Because ")
    expect_status(page, "streaming")
    gate.open()
    expect(answer.locator("p").first).to_have_text("Because of Rayleigh.")
    expect_status(page, "ready")
    expect(answer.locator(".facts")).to_have_text(
        re.compile(r"^local · smollm2-135m-instruct · first token \d+ ms · 7 in / 3 out · free$")
    )
    picture(page, "answer")
    assert complaints == []


def test_stop_and_regenerate(example: Example, page: Page) -> None:
    """Stop keeps the text and lets the vendor go, through Next's proxy too; regenerate replaces the answer."""
    example.vendor.script(words("Half an ans", Hang()), words("A whole answer."))
    page.goto(example.url)
    answer = ask(page, "Hi")
    expect(answer.locator("p").first).to_have_text("Half an ans")
    page.get_by_role("button", name="Stop").click()
    expect_status(page, "ready")
    expect(answer.locator("p").first).to_have_text("Half an ans")
    assert example.vendor.requests[-1].hung_up.wait(10)
    page.get_by_role("button", name="Regenerate").click()
    expect(answer.locator("p").first).to_have_text("A whole answer.")
    expect_status(page, "ready")
    assert [message["role"] for message in example.vendor.requests[-1].body["messages"]] == ["user"]


def test_error_says_why(example: Example, page: Page) -> None:
    """A refusal shows the reason that the functions give, not their JSON; hostile text stays text."""
    example.vendor.script(failure(400))
    page.goto(example.url)
    ask(page, HOSTILE)
    expect_status(page, "error")
    expect(page.locator("article.user")).to_have_text(HOSTILE)
    expect(page.locator("article img")).to_have_count(0)
    expect(page.get_by_role("alert").filter(has_text=re.compile("."))).not_to_contain_text("{")
    picture(page, "error")


def test_server_action(example: Example, page: Page) -> None:
    """The Server Action's answer comes by lib/ai.ts, in one piece."""
    example.vendor.script(words("Hello", " there."))
    page.goto(example.url)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("output")).to_have_text("local: Hello there.")


def test_looks(example: Example, page: Page) -> None:
    """On a phone nothing sticks out sideways."""
    page.emulate_media(color_scheme="dark")
    page.goto(example.url)
    expect_status(page, "ready")
    picture(page, "desktop-dark")
    page.set_viewport_size({"width": 360, "height": 740})
    picture(page, "phone-dark")
    assert wider_than_page(page) == []

"""The thumbs under an answer, in a real browser: what a reader thinks of it becomes a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Locator, Page, expect
from tests.browser.test_playground import ask, expect_state
from tests.conftest import InferenceLog, Serve, local_over
from tests.database import Database
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor, words
from tests.local.supabase.conftest import Clock, Project, served, supabase

pytestmark = pytest.mark.slow
THUMBS = ("Good answer", "Bad answer")


@pytest.fixture
def project(database: Database, loop: LoopThread, tmp_path: Path) -> Iterator[Project]:
    """A gateway over a database of this test's own."""
    with served(database, tmp_path, loop, Clock()) as running:
        yield running


def answered(page: Page, url: str, vendor: Vendor) -> Locator:
    """The turn of a question that was answered, after the page has learned what is on."""
    page.goto(url)
    expect(page.locator("#parts-summary")).not_to_have_text("checking…")
    vendor.script(words("Hello."))
    turn = ask(page, "Hi")
    expect_state(turn, "done")
    return turn


def press(turn: Locator, name: str) -> None:
    """Press a thumb, and wait until the page says that it was heard."""
    turn.get_by_role("button", name=name).click()
    expect(turn.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    (other,) = set(THUMBS) - {name}
    expect(turn.get_by_role("button", name=other)).to_have_attribute("aria-pressed", "false")
    expect(turn.locator(".thumb-said")).to_have_text("Thank you.")


def test_the_last_thumb_is_kept(
    project: Project, serve: Serve, vendor: Vendor, page: Page, inference_log: InferenceLog, complaints: list[str]
) -> None:
    """One row per answer, of the request that it was the answer to; the next answer has thumbs of its own."""
    environ = {**local_over(vendor), **supabase(project.url), "VERCEL_DEPLOYMENT_ID": "dpl_test"}
    first = answered(page, serve(environ), vendor)
    kept = "select request_id::text, thumb from public.feedback order by created_at"
    assert project.sql(kept) == []
    asked = inference_log.next()["request_id"]
    press(first, "Good answer")
    assert project.sql(kept) == [(asked, 1)]
    press(first, "Bad answer")
    assert project.sql(kept) == [(asked, -1)]
    vendor.script(words("Hello again."))
    second = ask(page, "And now?")
    expect_state(second, "done")
    press(second, "Good answer")
    assert {*project.sql(kept)} == {(asked, -1), (inference_log.next()["request_id"], 1)}
    assert complaints == []


def test_a_thumb_that_could_not_be_kept(project: Project, serve: Serve, vendor: Vendor, page: Page) -> None:
    """The page says so, and shows no thumb as given."""
    turn = answered(page, serve({**local_over(vendor), **supabase(project.url)}), vendor)
    project.sql("drop function public.record_feedback")
    turn.get_by_role("button", name="Good answer").click()
    expect(turn.locator(".thumb-said")).to_have_text("That could not be kept.")
    for name in THUMBS:
        expect(turn.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "false")


def test_no_thumbs_where_none_are_kept(serve: Serve, vendor: Vendor, page: Page) -> None:
    """Without a database nobody is asked for what would be lost."""
    turn = answered(page, serve(local_over(vendor)), vendor)
    expect(turn.locator(".facts")).to_be_visible()
    expect(turn.locator(".thumbs")).to_be_hidden()

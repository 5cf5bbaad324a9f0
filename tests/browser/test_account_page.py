"""Signing up, out and in on the page, in a real browser over the real gateway and Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from local.postgres import Postgres
from tests.browser.chromium import Page, expect, wider_than_page
from tests.browser.test_playground import PHONE
from tests.conftest import ACCESS, Serve
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import PASSWORD, Clock, Project, served, supabase

pytestmark = pytest.mark.slow
DEPLOYED = {**ACCESS, "VERCEL_DEPLOYMENT_ID": "dpl_x"}
"""As on the platform: the page asks for nothing that `make run` alone has."""
OPERATOR = '{"role": "operator"}'


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"page_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


def fill(page: Page, email: str, password: str = PASSWORD) -> None:
    """Type an address and a password."""
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)


def test_sign_up_out_and_in(project: Project, serve: Serve, page: Page, complaints: list[str]) -> None:
    """A guest makes an account, leaves and comes back, by keyboard alone; a reload does not forget who they are."""
    email = f"{uuid4()}@mail.test"
    page.goto(serve({**DEPLOYED, **supabase(project.url)}))
    menu = page.locator("#account > summary")
    expect(menu).to_contain_text("Guest")
    menu.focus()
    page.keyboard.press("Enter")
    fill(page, email)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Create account")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("You are signed in.")).to_be_focused()
    expect(menu).to_contain_text(email)
    expect(page.get_by_label("Password")).to_be_hidden()
    page.reload()
    expect(menu).to_contain_text(email)
    menu.click()
    page.get_by_role("button", name="Sign out").click()
    expect(menu).to_contain_text("Guest")
    assert complaints == []
    fill(page, email, "wrong horse")
    page.keyboard.press("Enter")
    expect(page.locator("#account-problem")).to_contain_text("The address or the password is wrong.")
    fill(page, email)
    page.keyboard.press("Enter")
    expect(menu).to_contain_text(email)
    expect(page.locator("#account-problem")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_fits_on_a_phone(project: Project, serve: Serve, page: Page) -> None:
    """Both menus open within the page, with nothing beside it."""
    page.set_viewport_size(PHONE)
    page.goto(serve({**DEPLOYED, **supabase(project.url)}))
    for menu in ("#parts", "#account"):
        page.locator(f"{menu} > summary").click()
        box = page.locator(f"{menu} .panel").bounding_box()
        assert box is not None
        assert (box["x"] >= 0, box["x"] + box["width"] <= PHONE["width"]) == (True, True)
    assert wider_than_page(page) == []


def test_a_session_that_has_ended(project: Project, serve: Serve, page: Page) -> None:
    """The page says that its visitor is a guest again."""
    url = serve({**DEPLOYED, **supabase(project.url)})
    page.context.add_cookies([{"name": "session", "value": "over:over", "url": url}])
    page.goto(url)
    expect(page.locator("#account > summary")).to_contain_text("Guest")
    assert [cookie.get("name") for cookie in page.context.cookies()] == ["guest"]


def test_without_accounts(serve: Serve, page: Page, complaints: list[str]) -> None:
    """Where there is no project the page says nothing of accounts."""
    with page.expect_response("**/api/session"):
        page.goto(serve(DEPLOYED))
    expect(page.locator("#account")).to_be_hidden()
    assert complaints == []


def test_an_operator_tries_the_webhook(project: Project, serve: Serve, page: Page, complaints: list[str]) -> None:
    """The button is there for operators alone; what it says is text, step by step."""
    email = f"{uuid4()}@mail.test"
    page.goto(serve({**DEPLOYED, **supabase(project.url)}))
    page.locator("#account > summary").click()
    fill(page, email)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text("You are signed in.")).to_be_visible()
    page.locator("#parts > summary").click()
    button = page.get_by_role("button", name="Try the deploy webhook")
    expect(button).to_be_hidden()
    project.sql("update auth.users set raw_app_meta_data = raw_app_meta_data || %s where email = %s", OPERATOR, email)
    page.locator("#account > summary").click()
    page.get_by_role("button", name="Sign out").click()
    fill(page, email)
    page.keyboard.press("Enter")
    expect(page.get_by_text("You are signed in as operator.")).to_be_visible()
    page.locator("#parts > summary").click()
    button.click()
    told = page.locator("#webhook-result")
    expect(told).to_contain_text("off signature: set VERCEL_WEBHOOK_SECRET")
    expect(told).to_contain_text("ok row")
    expect(told).to_contain_text("It would open: Production deployment of sample failed")
    assert complaints == []

"""The dashboard in a real browser, over the real gateway and Postgres."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from local.postgres import Postgres
from tests.browser.chromium import Browser, Page, expect, wider_than_page
from tests.browser.test_playground import PHONE
from tests.conftest import ACCESS, OPERATOR_KEY, Serve
from tests.database import copied
from tests.db.conftest import Session
from tests.db.test_access import vsl_job
from tests.db.test_events import event
from tests.fakes.loop import LoopThread
from tests.generated import generated
from tests.local.supabase.conftest import Clock, Project, served, supabase
from tests.npm import node_with_packages

pytestmark = pytest.mark.slow
HOSTILE = '<img src=x onerror="document.title=1">"\'=1+1'
AXE = Path(__file__).parent / "axe"


def film(session: Session, at: datetime) -> None:
    """A video job that failed after a minute and a half, at its second picture."""
    user, over = uuid4(), at + timedelta(seconds=90)
    session.rows("insert into auth.users (id) values (%s)", user)
    job = {
        **vsl_job(user, 1),
        "status": "failed",
        "stage": "frames",
        "error": Jsonb({}),
        "cost_microusd": 250_000,
        "created_at": at,
        "updated_at": over,
        "finished_at": over,
    }
    session.insert("vsl_jobs", **job)
    for step, status in (("script", "done"), ("frames/2", "failed")):
        more = {"content_key": "0" * 64, "result": Jsonb({}), "error": Jsonb({}), "started_at": at, "finished_at": over}
        session.insert("vsl_steps", job_id=job["id"], user_id=user, step=step, status=status, **more)


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway over a day of events, and one whose every text is hostile."""
    with copied(postgres, f"dashboard_{uuid4().hex}") as database:
        now = datetime.now(UTC)
        with database.connect() as connection:
            session = Session(connection)
            session.call("record_events", events=Jsonb(generated(7, 1500, now - timedelta(hours=20), now)))
            texts = (
                "route",
                "provider",
                "model",
                "error_code",
                "fallback_from",
                "experiment",
                "experiment_arm",
                "kind",
            )
            more = {**dict.fromkeys(texts, HOSTILE), "outcome": "error", "region": HOSTILE, "deployment": HOSTILE}
            session.call("record_events", events=Jsonb([event(now - timedelta(seconds=1), **more)]))
            session.call("rollup_inference", windows=1000)
            film(session, now - timedelta(hours=2))
        with served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running:
            yield running


@pytest.fixture
def site(project: Project, serve: Serve) -> str:
    """The page's address."""
    return f"{serve({**ACCESS, **supabase(project.url)})}/dashboard.html"


@pytest.fixture
def operator(browser: Browser) -> Iterator[Page]:
    """An operator's tab."""
    context = browser.new_context(extra_http_headers={"authorization": f"Bearer {OPERATOR_KEY}"})
    yield context.new_page()
    context.close()


@pytest.fixture
def complaints(operator: Page) -> list[str]:
    """What the tab complains about."""
    seen: list[str] = []
    operator.on("pageerror", lambda error: seen.append(str(error)))
    operator.on("console", lambda message: seen.append(message.text) if message.type in {"error", "warning"} else None)
    return seen


def opened(page: Page, address: str) -> None:
    """Open it, and wait until it is drawn."""
    page.goto(address)
    expect(page.locator("#title-recent")).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    expect(page.locator('[aria-busy="true"]')).to_have_count(0)


def test_filters_stand_in_the_address(operator: Page, site: str, complaints: list[str]) -> None:
    """Chosen by keyboard, they change the numbers and the address; going back undoes, a reload keeps them."""
    opened(operator, site)
    requests = operator.locator(".tile", has_text="Requests").locator("dd").first
    everything = requests.inner_text()
    operator.get_by_label("Provider", exact=True).select_option("groq")
    expect(requests).not_to_have_text(everything)
    assert "provider=groq" in operator.url
    some = requests.inner_text()
    operator.get_by_role("radio", name="24 h").focus()
    operator.keyboard.press("ArrowRight")
    expect(operator).to_have_url(re.compile(r"range=7d&provider=groq$"))
    operator.reload()
    expect(operator.get_by_role("radio", name="7 d")).to_be_checked()
    expect(operator.get_by_label("Provider", exact=True)).to_have_value("groq")
    expect(requests).to_have_text(some)
    for _ in range(2):
        operator.go_back()
    expect(requests).to_have_text(everything)
    assert complaints == []


def test_video_jobs(operator: Page, site: str) -> None:
    """The card says where a job failed, after how long and at what cost."""
    opened(operator, site)
    card = operator.locator("section[aria-labelledby=title-jobs]")
    expect(card.locator("th")).to_have_text(["Time (UTC)", "Job", "Status", "Step", "Took", "Cost"])
    expect(card.locator("td").nth(1)).to_have_text(re.compile("^[0-9a-f-]{36}$"))
    assert card.locator("td").all_inner_texts()[2:] == ["failed", "frames/2", "1.5 min", "$0.25"]
    operator.get_by_role("radio", name="5 min").check()
    expect(card).to_contain_text("No video was asked for in this range.")


def test_drawer(operator: Page, site: str, complaints: list[str]) -> None:
    """A request opens with all its calls, by keyboard, closes with Escape, and has an address of its own."""
    opened(operator, site)
    row = operator.locator("tr", has_text=" → ").first
    path = row.locator("td").nth(4).inner_text()
    button = row.locator("button.open")
    button.focus()
    operator.keyboard.press("Enter")
    dialog = operator.get_by_role("dialog")
    expect(dialog.locator(".one-call")).to_have_count(len(path.split(" → ")))
    address = operator.url
    assert "request=" in address
    operator.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert "request=" not in operator.url
    operator.goto(address)
    expect(dialog.locator(".one-call")).to_have_count(len(path.split(" → ")))
    assert complaints == []


def test_exports(operator: Page, site: str) -> None:
    """CSV as the API has it, SVG that is whole by itself."""
    opened(operator, site)
    with operator.expect_download() as table:
        operator.get_by_role("button", name="Requests as CSV", exact=True).click()
    assert table.value.path().read_text().startswith("at,provider,requests,failed,rescued,calls,failed_calls")
    with operator.expect_download() as picture:
        operator.get_by_role("button", name="Latency as SVG").click()
    svg = picture.value.path().read_text()
    assert svg.startswith("<svg")
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert "http" not in svg.replace("http://www.w3.org/", "")


def test_fault_50_hostile_texts_show_as_text(operator: Page, site: str, complaints: list[str]) -> None:
    """In tables, filters, charts, their exports and the drawer."""
    opened(operator, site)
    operator.locator("button.open").first.click()
    expect(operator.get_by_role("dialog").get_by_text(HOSTILE).first).to_be_visible()
    operator.keyboard.press("Escape")
    for summary in operator.locator(".card > details summary").all():
        summary.click()
    assert operator.locator("td", has_text=HOSTILE).count() > 3
    operator.get_by_label("Model", exact=True).select_option(HOSTILE)
    expect(operator.locator(".tile dd").first).to_have_text("1")
    assert operator.locator("main img").count() == 0
    assert operator.title().startswith("Dashboard")
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(operator: Page, site: str, scheme: Any) -> None:
    """In both themes, with the drawer closed and open."""
    node_with_packages(AXE)
    operator.emulate_media(color_scheme=scheme)
    opened(operator, site)
    # The policy forbids other sites' scripts, not what a debugger evaluates.
    source = (AXE / "node_modules/axe-core/axe.min.js").read_text()
    for opens in (False, True):
        if opens:
            operator.locator("button.open").first.click()
            expect(operator.locator(".one-call").first).to_be_visible()
        operator.evaluate(source)
        found = operator.evaluate("axe.run()")["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_dark_is_drawn_dark(operator: Page, site: str) -> None:
    """Charts follow the theme when it changes."""
    operator.emulate_media(color_scheme="light")
    opened(operator, site)
    line = operator.locator(".card", has=operator.locator("#title-latency")).locator(".legend path").first
    expect(line).to_have_attribute("stroke", "#0f6b5c")
    operator.emulate_media(color_scheme="dark")
    expect(line).to_have_attribute("stroke", "#7fd6c4")


def test_states(operator: Page, site: str) -> None:
    """What fails says so and can be tried again; what is empty says that."""
    broken = True

    def answer(route: Any) -> None:
        if broken:
            route.fulfill(status=503, content_type="application/problem+json", body='{"detail": "The database rests."}')
        else:
            route.continue_()

    operator.route("**/api/dashboard/errors*", answer)
    operator.goto(site)
    card = operator.locator(".card", has=operator.locator("#title-errors"))
    expect(card.get_by_role("alert")).to_contain_text("The database rests.")
    broken = False
    card.get_by_role("button", name="Try again").click()
    expect(card.locator("tbody tr").first).to_be_visible()
    expect(operator.get_by_text("No rollout has begun.")).to_be_visible()


def test_on_a_phone(operator: Page, site: str, complaints: list[str]) -> None:
    """Nothing is wider than the page."""
    operator.set_viewport_size(PHONE)
    opened(operator, site)
    assert wider_than_page(operator) == []
    assert complaints == []


def test_guests_see_their_own(page: Page, site: str) -> None:
    """Which is nothing yet."""
    opened(page, site)
    expect(page.get_by_text("Your own requests")).to_be_visible()
    expect(page.get_by_text("No requests in this range.")).to_be_visible()

"""The rollout's card in a real browser; the API's answers are made at the network's edge, by the rollout's machine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lib.control.anytime import Split
from lib.control.forecast import plan
from lib.control.guardrails import Baseline, Counters, Frozen, assess
from lib.control.rollout import Evidence, Params, Reason, Save, State, Status, command
from lib.control.rollout_words import explain, table
from lib.data.panels import period
from lib.errors import Conflict
from lib.http.table import as_csv
from tests.browser.chromium import Browser, Locator, Page, Route, expect, wider_than_page
from tests.browser.test_playground import PHONE
from tests.conftest import ACCESS, Serve
from tests.npm import node_with_packages

pytestmark = pytest.mark.slow
AXE = Path(__file__).parent / "axe"
GATE = "groq_r1_v_production"
HOSTILE = '<img src=x onerror="document.title=1">"\'=1+1'
TIMES = "\N{MULTIPLICATION SIGN}"
HOUR_S = 3600.0
USERS_PER_DAY = 1200.0
COLUMNS = ("at", "gate", "rollout_id", "decision", "percent", "reason")
CUTS = tuple(100.0 * 1.2**cut for cut in range(15))
BASELINE = Baseline(500, 0.01, Frozen(1500.0, CUTS), Frozen(1500.0, CUTS), Frozen(900.0, CUTS))
PARAMS = Params()
HARMLESS = Counters(
    first_bad={
        "errors": [Split(0.05, 1, 14), Split(0.1, 2, 21)],
        "ttft": [Split(0.05, 2, 60), Split(0.1, 7, 70)],
        "latency": [Split(0.05, 3, 55), Split(0.1, 12, 61)],
        "cost": [Split(0.05, 6, 120), Split(0.1, 11, 118)],
    },
    exposed=[Split(0.01, 12, 1180), Split(0.05, 60, 1150), Split(0.1, 132, 1160)],
)
HARMFUL = replace(HARMLESS, first_bad={**HARMLESS.first_bad, "errors": [Split(0.05, 3, 14), Split(0.1, 13, 21)]})
RISE = [("started", 0.0, None), ("promoted", 1.0, None), ("promoted", 5.0, None), ("promoted", 10.0, None)]


@cache
def forecast() -> dict[str, Any]:
    """What is to be expected; it takes a while."""
    return {"users_per_day": USERS_PER_DAY, **plan(BASELINE, PARAMS, USERS_PER_DAY)}


def part(counters: Counters, share: float) -> Counters:
    """The counters when so much of them had come in."""
    return replace(
        counters,
        first_bad={
            name: [Split(each.share, round(each.treated * share), round(each.control * share)) for each in splits]
            for name, splits in counters.first_bad.items()
        },
    )


@dataclass
class Gateway:
    """What the API knows of one gate, and what was asked of it. `decisions`: an hour apart, the last an hour ago."""

    state: State
    counters: Counters = field(default_factory=Counters)
    decisions: list[tuple[str, float, str | None]] = field(default_factory=list[tuple[str, float, str | None]])
    scope: str = "all"
    traffic: bool = True
    commands: list[str] = field(default_factory=list[str])
    overlay: dict[str, Any] = field(default_factory=dict[str, Any])
    now: float = field(default_factory=lambda: datetime.now(UTC).timestamp())

    def at(self, hours: float) -> str:
        """So many hours ago."""
        return datetime.fromtimestamp(self.now - hours * HOUR_S, UTC).isoformat().replace("+00:00", "Z")

    def status(self) -> dict[str, Any]:
        """The gate's status, as the panel and each command answer it."""
        evidence = Evidence(self.state.share, self.now, BASELINE, self.counters)
        readings = [
            assess(part(self.counters, n / 30), PARAMS.stages, tolerated=PARAMS.tolerated).readings for n in range(31)
        ]
        known = bool(self.counters.first_bad)
        return {
            "gate": self.state.gate,
            "rollout_id": self.state.rollout_id,
            "status": self.state.status,
            "percent": self.state.share * 100,
            "stages": [share * 100 for share in PARAMS.stages],
            "since": self.at(1),
            "reason": self.state.reason,
            "words": explain(self.state, evidence, PARAMS, self.now),
            "store": "database",
            "evidence": table(evidence, PARAMS) if known else [],
            "readings": [
                {"at": self.at(3 - n / 10), "log_e": {reading.test: reading.log_e for reading in row}}
                for n, row in enumerate(readings)
                if known
            ],
            "thresholds": {reading.test: reading.threshold for reading in readings[0]},
            **self.overlay,
        }

    def panel(self, route: Route) -> None:
        """GET /api/dashboard/{panel}: the rollout's, and others without rows."""
        begin, end = period("24h", datetime.fromtimestamp(self.now, UTC))
        name = route.request.url.partition("?")[0].rpartition("/")[2]
        body: dict[str, Any] = {"panel": name, "range": "24h", "from": begin.isoformat(), "to": end.isoformat()}
        body |= {"step_s": 3600, "scope": self.scope, "columns": [], "rows": []}
        if name == "rollout":
            hours = len(self.decisions)
            body |= {"columns": COLUMNS, "rollouts": [self.status()]}
            rows: list[dict[str, Any]] = [
                dict(zip(COLUMNS, (self.at(hours - n), self.state.gate, "one", *decision), strict=True))
                for n, decision in enumerate(self.decisions)
            ]
            body["rows"] = rows
        if route.request.headers["accept"] == "text/csv":
            route.fulfill(content_type="text/csv", body=as_csv(body["columns"], body["rows"]))
        else:
            route.fulfill(json=body)

    def commanded(self, route: Route) -> None:
        """POST /api/rollout: the machine decides; what it allows is saved."""
        assert route.request.method == "POST"
        asked = json.loads(route.request.post_data or "")
        assert asked["gate"] == self.state.gate
        self.commands.append(asked["action"])
        try:
            told = self.forecast() if asked["action"] == "plan" else self.obey(asked["action"])
        except Conflict as conflict:
            problem = {"type": "about:blank", "title": "Conflict", "status": 409, "detail": str(conflict)}
            route.fulfill(status=409, content_type="application/problem+json", body=json.dumps(problem))
        else:
            route.fulfill(json=told)

    def forecast(self) -> dict[str, Any]:
        """What `plan` answers."""
        if not self.traffic:
            raise Conflict("Nobody asked the gate in the last days.")
        return {"gate": self.state.gate, **forecast()}

    def obey(self, name: Any) -> dict[str, Any]:
        """What any other command answers."""
        after, actions = command(
            self.state, name, in_store=self.state.share, params=PARAMS, now=self.now, rollout_id=uuid4().hex
        )
        kinds = [action.kind for action in actions if isinstance(action, Save)]
        self.state = after
        self.decisions += [(kind, after.share * 100, after.reason) for kind in kinds]
        return self.status()


def under_way(status: Status = "stage", reason: Reason | None = None) -> Gateway:
    """A rollout at 10 %."""
    state = State(GATE, "one", status, 2, 0.1, 0.1, 0.0, 5, reason, BASELINE)
    gateway = Gateway(state, HARMLESS, [*RISE])
    if status == "hold":
        gateway.counters = replace(HARMLESS, exposed=[Split(0.1, 61, 540)])
        gateway.decisions.append(("held", 10.0, reason))
    return replace(gateway, state=replace(state, since=gateway.now - HOUR_S))


def idle() -> Gateway:
    """A gate whose rollout was never begun."""
    return Gateway(State(GATE))


def rolled_back() -> Gateway:
    """A rollout whose candidate failed more users."""
    state = State(GATE, "one", "rolled_back", 2, 0.0, 0.0, 0.0, 6, "breach", BASELINE, settled=True, announced=True)
    return Gateway(state, HARMFUL, [*RISE, ("rolled_back", 0.0, "breach")])


def done() -> Gateway:
    """A rollout that ended well."""
    state = State(GATE, "one", "done", 5, 1.0, 1.0, 0.0, 9, None, BASELINE, announced=True)
    ends = [("promoted", 25.0, None), ("promoted", 50.0, None), ("promoted", 100.0, None), ("done", 100.0, None)]
    return Gateway(state, HARMLESS, [*RISE, *ends])


@pytest.fixture
def site(serve: Serve) -> str:
    """The page's address."""
    return f"{serve(ACCESS)}/dashboard.html"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty tab."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def opened(page: Page, site: str, gateway: Gateway) -> Locator:
    """Open the page over the gateway; the card, drawn."""
    page.route("**/api/dashboard/**", gateway.panel)
    page.route("**/api/rollout", gateway.commanded)
    page.goto(site)
    card = page.locator(".card", has=page.locator("#title-rollout"))
    expect(card.locator(".rollout-status")).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    return card


def buttons(card: Locator) -> list[str]:
    """What an operator may do."""
    return card.locator(".commands button").all_inner_texts()


def test_stage(page: Page, site: str, complaints: list[str]) -> None:
    """Where it is and why, its steps by mark and word, each test's evidence in chart and table."""
    gateway = under_way()
    card = opened(page, site, gateway)
    expect(card.locator(".rollout-status")).to_have_text("Under way at 10 %")
    expect(card.get_by_text(gateway.status()["words"])).to_be_visible()
    expect(card.locator(".stages [data-reached]")).to_have_text(["1 %", "5 %", "10 %"])
    expect(card.locator(".stages [aria-current=step]")).to_have_text("10 %")
    share, evidence = card.locator(".chart svg").all()
    expect(share).to_have_attribute(
        "aria-label", "Share of users with the candidate over time, at last 10 %; 1 started, 3 promoted"
    )
    expect(share.get_by_text("promoted")).to_have_count(3)
    expect(evidence.locator('g[stroke-width="1.9"] path')).to_have_count(6)
    expect(evidence.locator('g[stroke-width="1.9"][stroke-dasharray]')).to_have_count(5)
    told = {row["words"]: row for row in gateway.status()["evidence"]}
    rows = card.locator(".rollout tbody tr")
    expect(rows.locator("th")).to_have_text(list(told))
    errors = rows.filter(has_text="errors").locator("td")
    expect(errors).to_have_text(
        [
            str(float(f"{told['errors']['e']:.2g}")).removesuffix(".0"),
            "250",
            "3",
            "35",
            f"{int(100 * told['errors']['safe'])} %",
        ]
    )
    assert set(card.locator(".legend").nth(1).locator("li").all_inner_texts()) == set(told)
    assert buttons(card) == ["Pause", "Roll back…"]
    assert complaints == []


def test_start(page: Page, site: str, complaints: list[str]) -> None:
    """By keyboard alone: what it takes is shown first; who turns back starts nothing, who confirms does."""
    gateway = idle()
    card = opened(page, site, gateway)
    expect(card.locator(".rollout-status")).to_have_text("Not started")
    expect(card.locator(".chart")).to_have_count(0)
    dialog = page.get_by_role("dialog", name="Start the rollout?")
    start = card.get_by_role("button", name="Start…")
    start.focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_text("With 1,200 users a day")).to_contain_text("everybody after 99 days.")
    harms = dialog.locator("tbody tr")
    expect(harms.locator("th")).to_have_text([harm["harm"] for harm in forecast()["harms"]])
    expect(harms.first.locator("td")).to_have_text(["46 days", "121 days", "552 users", "1 %"])
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(start).to_be_focused()
    page.keyboard.press("Enter")
    expect(harms).to_have_count(3)
    expect(dialog.get_by_role("button", name="Start")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(card.locator(".rollout-status")).to_have_text("Measuring the control")
    expect(card.locator(".rollout-status")).to_be_focused()
    expect(card.get_by_role("status")).to_have_text("Started.")
    assert buttons(card) == ["Pause", "Roll back…"]
    assert gateway.commands == ["plan", "plan", "start"]
    assert complaints == []


def test_start_without_a_forecast(page: Page, site: str) -> None:
    """Where there is no traffic to reckon with, that is said, and one may start nevertheless."""
    gateway = replace(idle(), traffic=False)
    card = opened(page, site, gateway)
    card.get_by_role("button", name="Start…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_have_text("No forecast: Nobody asked the gate in the last days.")
    dialog.get_by_role("button", name="Start").click()
    expect(card.locator(".rollout-status")).to_have_text("Measuring the control")
    assert gateway.commands == ["plan", "start"]


def test_nothing_starts_before_the_forecast(page: Page, site: str) -> None:
    """The button of the dialog waits for it."""
    gateway = idle()
    card = opened(page, site, gateway)
    held: list[Route] = []
    page.route("**/api/rollout", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it is given
    card.get_by_role("button", name="Start…").click()
    start = page.get_by_role("dialog").get_by_role("button", name="Start")
    expect(start).to_have_attribute("aria-disabled", "true")
    start.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_text("Reckoning how long it takes…")).to_be_visible()
    (forecasting,) = held
    gateway.commanded(forecasting)
    expect(start).to_have_attribute("aria-disabled", "false")
    assert gateway.commands == ["plan"]


def test_hold(page: Page, site: str, complaints: list[str]) -> None:
    """On hold with its reason; paused and resumed with one press each."""
    gateway = under_way("hold", "fewest")
    card = opened(page, site, gateway)
    expect(card.locator(".rollout-status")).to_have_text("On hold at 10 %")
    expect(card.get_by_text("waiting for users, 61 of 100 in this stage")).to_be_visible()
    expect(card.locator(".legend").first.locator("li")).to_have_text(["started", "promoted", "on hold"])
    expect(card.locator(".chart svg").first.get_by_text("on hold")).to_have_count(1)
    assert buttons(card) == ["Pause", "Roll back…"]
    card.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(card.locator(".rollout-status")).to_have_text("Paused at 10 %")
    expect(card.locator(".rollout-status")).to_be_focused()
    expect(card.get_by_role("status")).to_have_text("Paused.")
    assert buttons(card) == ["Resume", "Roll back…"]
    card.get_by_role("button", name="Resume").click()
    expect(card.locator(".rollout-status")).to_have_text("Under way at 10 %")
    expect(card.get_by_role("status")).to_have_text("Resumed.")
    assert gateway.commands == ["pause", "resume"]
    assert complaints == []


def test_rolled_back(page: Page, site: str, complaints: list[str]) -> None:
    """What proved harm is marked in words, the way back down by a cross and its word; one may begin anew."""
    gateway = rolled_back()
    card = opened(page, site, gateway)
    expect(card.locator(".rollout-status")).to_have_text("Rolled back")
    expect(card.get_by_text("provably worse on errors.")).to_be_visible()
    expect(card.locator("tbody tr", has_text="worse").locator("th")).to_have_text("errors")
    expect(card.locator(".legend").first.locator("li").last).to_have_text("rolled back")
    expect(card.locator(".chart svg").first.get_by_text("rolled back")).to_have_count(1)
    expect(card.locator(".chart svg").nth(1).get_by_text(re.compile(f"^{TIMES}"))).to_have_text(
        [f"{TIMES}10", f"{TIMES}100"]
    )
    expect(card.locator(".stages [data-reached]")).to_have_count(0)
    assert buttons(card) == ["Restart…"]
    card.get_by_role("button", name="Restart…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("tbody tr")).to_have_count(3)
    dialog.get_by_role("button", name="Restart").click()
    expect(card.locator(".rollout-status")).to_have_text("Measuring the control")
    assert gateway.commands == ["plan", "restart"]
    assert complaints == []


def test_done(page: Page, site: str) -> None:
    """A refusal is told in the dialog, in the server's words; rolling back is asked for once, and done."""
    gateway = done()
    card = opened(page, site, gateway)
    expect(card.locator(".rollout-status")).to_have_text("Done")
    expect(card.locator(".stages [data-reached]")).to_have_count(6)
    assert buttons(card) == ["Restart…", "Roll back…"]
    card.get_by_role("button", name="Restart…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("tbody tr")).to_have_count(3)
    dialog.get_by_role("button", name="Restart").click()
    expect(dialog.get_by_role("alert")).to_contain_text("the gate at 0 % before a rollout begins.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(card.get_by_role("alert")).to_have_count(0)
    card.get_by_role("button", name="Roll back…").click()
    assert gateway.commands == ["plan", "restart"]
    expect(dialog.get_by_role("button", name="Roll back")).to_be_focused()
    page.keyboard.press("Enter")
    expect(card.locator(".rollout-status")).to_have_text("Rolled back")
    expect(card.get_by_text("Rolled back by an operator.")).to_be_visible()
    assert gateway.commands == ["plan", "restart", "roll_back"]


def test_what_fails_is_told(page: Page, site: str) -> None:
    """What the state does not allow any more, and a server that is out of reach; then the same button works."""
    gateway = under_way()
    card = opened(page, site, gateway)
    pause, alert = card.get_by_role("button", name="Pause"), card.get_by_role("alert")
    gateway.state = replace(gateway.state, status="rolled_back")
    pause.click()
    expect(alert).to_have_text("The rollout is rolled back, so it can't be paused.")
    page.route("**/api/rollout", lambda route: route.abort())
    pause.click()
    expect(alert).to_have_text("The server could not be reached.")
    gateway.state = replace(gateway.state, status="stage")
    page.route("**/api/rollout", gateway.commanded)
    pause.click()
    expect(card.locator(".rollout-status")).to_have_text("Paused at 10 %")
    expect(alert).to_have_count(0)


def test_one_can_go_back_while_the_panel_fails(page: Page, site: str) -> None:
    """A panel that can't be renewed says so and takes away neither an open dialog nor the buttons."""
    gateway = under_way()
    card = opened(page, site, gateway)
    card.get_by_role("button", name="Roll back…").click()
    refusal = json.dumps({"detail": "The database rests."})
    page.route("**/api/dashboard/rollout*", lambda route: route.fulfill(status=503, body=refusal))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(card.get_by_text("The database rests.")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(card.locator(".rollout-status")).to_have_text("Rolled back")
    assert gateway.commands == ["roll_back"]
    page.unroute("**/api/dashboard/rollout*")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(card.get_by_text("The database rests.")).to_have_count(0)
    expect(card.locator(".rollout-status")).to_have_text("Rolled back")


def test_others_only_look(page: Page, site: str) -> None:
    """Who is no operator sees where the rollout is, and has no buttons."""
    card = opened(page, site, replace(under_way(), scope="own"))
    expect(card.locator(".rollout-status")).to_have_text("Under way at 10 %")
    assert buttons(card) == []


def test_before_the_range(page: Page, site: str) -> None:
    """A rollout that has not moved since the range began still has its share drawn, all along."""
    card = opened(
        page, site, replace(under_way(), decisions=[], counters=Counters(), overlay={"since": "2026-01-01T00:00:00Z"})
    )
    svg = card.locator(".chart svg")
    expect(svg).to_have_attribute("aria-label", re.compile("at last 10 %"))
    box, drawn = svg.bounding_box(), svg.locator('g[stroke="#0f6b5c"] path').bounding_box()
    assert box is not None
    assert drawn is not None
    assert drawn["width"] > 0.7 * box["width"]


def test_exports(page: Page, site: str) -> None:
    """The decisions as CSV; both charts as SVG that are whole by themselves."""
    card = opened(page, site, rolled_back())
    with page.expect_download() as decisions:
        card.get_by_role("button", name="Rollout as CSV").click()
    lines = decisions.value.path().read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert [line.split(",")[3] for line in lines[1:]] == ["started", "promoted", "promoted", "promoted", "rolled_back"]
    for name, says in (("Rollout as SVG", "Share of users"), ("Evidence as SVG", "Evidence that the candidate")):
        with page.expect_download() as picture:
            card.get_by_role("button", name=name).click()
        svg = picture.value.path().read_text()
        assert svg.startswith("<svg")
        assert f'aria-label="{says}' in svg


def test_hostile_texts_show_as_text(page: Page, site: str, complaints: list[str]) -> None:
    """Whatever the API says: gate, words, store, tests, reasons, decisions and its refusals."""
    gateway = under_way()
    gateway.state = replace(gateway.state, gate=HOSTILE, rollout_id=HOSTILE)
    evidence = [{**row, "words": HOSTILE} for row in gateway.status()["evidence"]]
    gateway.overlay = {"words": HOSTILE, "store": HOSTILE, "evidence": evidence, "reason": HOSTILE}
    gateway.decisions += [("held", 10.0, HOSTILE), (HOSTILE, 10.0, HOSTILE), ("constructor", 10.0, None)]
    card = opened(page, site, gateway)
    expect(card.get_by_text(HOSTILE).first).to_be_visible()
    card.locator("details summary").click()
    expect(card.locator("details td", has_text=HOSTILE).first).to_be_visible()
    refusal = json.dumps({"detail": HOSTILE})
    page.route("**/api/rollout", lambda route: route.fulfill(status=409, body=refusal))
    card.get_by_role("button", name="Pause").click()
    expect(card.get_by_role("alert")).to_have_text(HOSTILE)
    assert page.locator("main img").count() == 0
    assert page.title().startswith("Dashboard")
    assert [each for each in complaints if "409" not in each] == []


def test_a_status_nobody_knows(page: Page, site: str) -> None:
    """Null, or a word of tomorrow's: it can be started, if the server agrees."""
    for status in (None, "constructor"):
        card = opened(page, site, replace(idle(), overlay={"status": status}))
        expect(card.locator(".rollout-status")).to_have_text("Not started")
        assert buttons(card) == ["Start…"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", [idle, under_way, rolled_back, done])
def test_axe_finds_nothing(page: Page, site: str, scheme: Any, made: Callable[[], Gateway]) -> None:
    """In both themes and on a phone as well, with the dialog closed and open."""
    node_with_packages(AXE)
    page.emulate_media(color_scheme=scheme)
    if scheme == "dark":
        page.set_viewport_size(PHONE)
    card = opened(page, site, made())
    source = (AXE / "node_modules/axe-core/axe.min.js").read_text()
    for opens in (False, True):
        if opens:
            card.locator(".commands button").last.click()
            expect(page.get_by_role("dialog").locator('[aria-disabled="false"]')).to_be_visible()
        page.evaluate(source)
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
    assert wider_than_page(page) == []

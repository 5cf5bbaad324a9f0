"""The rollout's card in a real browser. The API's answers are made at the network's edge, by the rollout's own machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from tests.browser.chromium import Browser, Locator, Page, Route, expect
from tests.browser.test_playground import PHONE
from tests.conftest import ACCESS, Serve
from tests.npm import node_with_packages

pytestmark = pytest.mark.slow
AXE = Path(__file__).parent / "axe"
GATE = "groq_r1_v_production"
HOSTILE = '<img src=x onerror="document.title=1">"\'=1+1'
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
        readings = [assess(part(self.counters, n / 30), PARAMS.stages, tolerated=PARAMS.tolerated).readings for n in range(31)]
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
            body["rows"] = [
                dict(zip(COLUMNS, (self.at(hours - n), self.state.gate, "one", *decision), strict=True))
                for n, decision in enumerate(self.decisions)
            ]
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
    expect(share).to_have_attribute("aria-label", "Share of users with the candidate over time, at last 10 %; 1 started, 3 promoted")
    expect(share.locator('[aria-hidden="true"], text').filter(has_text="promoted").first).to_be_visible()
    expect(evidence.locator("path[stroke-dasharray]").first).to_be_attached()
    told = {row["words"]: row for row in gateway.status()["evidence"]}
    rows = card.locator(".rollout tbody tr")
    expect(rows.locator("th")).to_have_text(list(told))
    errors = rows.filter(has_text="errors").locator("td")
    expect(errors).to_have_text([str(float(f"{told['errors']['e']:.2g}")).removesuffix(".0"), "250", "3 users",
                                 "35 users", f"{int(100 * told['errors']['safe'])} %"])
    assert set(card.locator(".legend").nth(1).locator("li").all_inner_texts()) == set(told)
    assert buttons(card) == ["Pause", "Roll back…"]
    assert complaints == []

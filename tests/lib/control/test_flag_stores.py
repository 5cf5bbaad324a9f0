"""Stores of flags over real sockets: a share is read, moved under conditions and read back; nothing else changes."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

import pytest

from lib.control.edge_config import Writer
from lib.control.engine import Engine
from lib.control.flag_stores import EdgeConfigStore, FlagStore, StatsigConsole
from lib.control.rollout import STAGES
from lib.errors import ServiceFailed
from lib.exchange import Exchange
from lib.outbound import Outbound
from tests.conftest import ROOT
from tests.fakes.loop import LoopThread
from tests.fakes.statsig_console import KEY, Console, rule, rule_id
from tests.fakes.vercel_api import TEAM, TOKEN, VercelApi
from tests.fakes.web import Told, Web, told

Result = TypeVar("Result")
VECTORS = ROOT / "tests" / "vectors" / "statsig"
V1: dict[str, Any] = json.loads((VECTORS / "specs_v1.json").read_text())
V2: dict[str, Any] = json.loads((VECTORS / "specs_v2.json").read_text())
GATE, OTHER = "groq_r1_v_production", "seg_paid"
ITEM = "statsig-abc"
AMBIGUOUS, EMPTY = "two_candidates", "no_rule"


class Clock:
    """The time of day."""

    now = 1_795_000_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Vendor(Protocol):
    """A store and the vendor's side of it."""

    web: Web
    loses_writes: bool
    shows_late: bool
    refusal: Told | None
    after_write: Callable[[], None]

    def store(self, exchange: Exchange, key: str | None = None) -> FlagStore:
        """Ours, over this vendor; with another key for the vendor."""
        ...

    def percentage(self) -> float:
        """What the gate's rollout rule says at the vendor."""
        ...

    def put(self, percentage: float) -> None:
        """What somebody does by hand."""
        ...

    def disable(self) -> None:
        """Turn the gate off, by hand."""
        ...

    def everything(self) -> str:
        """All that the vendor holds, in one form."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class AtStatsig(Console):
    """A project with the vectors' gate, another one and two that no rollout can move."""

    def __init__(self, loop: LoopThread) -> None:
        conditions = [{"type": "email", "operator": "str_contains_any", "targetValue": ["@example.com"]}]
        phases = [{"time": 1, "passPercent": 5}]
        rollout = rule("rollout", 10, "38tt", environments=["production"], completedAutomatedRollouts=phases)
        gates = {
            GATE: [rule("internal", 100, "7w9r", conditions=conditions), rollout],
            OTHER: [rule("paid", 100, "9xyz")],
            AMBIGUOUS: [rule("a", 10, "a"), rule("b", 20, "b")],
            EMPTY: [],
        }
        super().__init__(loop, {name: gate(name, rules) for name, rules in gates.items()})
        self.clock = Clock()

    def store(self, exchange: Exchange, key: str | None = None) -> FlagStore:
        """See Vendor."""
        return StatsigConsole(exchange, self.web.url, key or KEY, clock=self.clock)

    def percentage(self) -> float:
        """See Vendor."""
        return self.rule(GATE, "rollout")["passPercentage"]

    def put(self, percentage: float) -> None:
        """See Vendor."""
        self.set_by_hand(GATE, "rollout", percentage)

    def disable(self) -> None:
        """See Vendor."""
        self.gates[GATE]["isEnabled"] = False

    def everything(self) -> str:
        """See Vendor. Without the id of the rule that moves, which is to change."""
        gates = copy.deepcopy(self.gates)
        for each in gates[GATE]["rules"]:
            each.pop("id")
        return json.dumps(gates, sort_keys=True)


def gate(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """A gate as the Console API shows it."""
    review: dict[str, Any] = {"requiredReview": False, "allowedReviewers": []}
    return {"id": name, "name": name, "isEnabled": True, "rules": rules, "reviewSettings": review, "tags": ["* Core"]}


class AtVercel(VercelApi):
    """An Edge Config with the vectors' specs, as an object or as a string, and parameters beside them."""

    def __init__(self, loop: LoopThread, specs: dict[str, Any], *, is_text: bool = False) -> None:
        super().__init__(loop, "ecfg_x")
        specs = copy.deepcopy(specs)
        rollout = gate_in(specs)["rules"][-1]
        for name, called in ((AMBIGUOUS, ("a", "b")), (EMPTY, ())):
            rules = [{**rollout, "name": each, "groupName": each} for each in called]
            added = {**gate_in(specs), "name": name, "rules": rules}
            specs["feature_gates"] = with_gate(specs["feature_gates"], name, added)
        self._is_text = is_text
        self.stores["ecfg_x"] = {"ai_config": {"temperature": 1.0}, ITEM: json.dumps(specs) if is_text else specs}

    @property
    def specs(self) -> dict[str, Any]:
        """The document that is in the item, which is of the kind that it was."""
        item = self.stores["ecfg_x"][ITEM]
        assert isinstance(item, str) == self._is_text
        return json.loads(item) if self._is_text else item

    def store(self, exchange: Exchange, key: str | None = None) -> FlagStore:
        """See Vendor."""
        return EdgeConfigStore([self.writer(exchange, "ecfg_x", key)], None)

    def writer(self, exchange: Exchange, store: str, key: str | None = None) -> Writer:
        """What changes one of the stores."""
        return Writer(exchange, api_url=self.web.url, store_id=store, token=key or TOKEN, team_id=TEAM)

    def percentage(self) -> float:
        """See Vendor."""
        return gate_in(self.specs)["rules"][-1]["passPercentage"]

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """What somebody else does to the document."""
        specs = copy.deepcopy(self.specs)
        change(specs)
        self.stores["ecfg_x"][ITEM] = json.dumps(specs) if self._is_text else specs

    def put(self, percentage: float) -> None:
        """See Vendor."""
        self.edit(lambda specs: gate_in(specs)["rules"][-1].update(passPercentage=percentage))

    def disable(self) -> None:
        """See Vendor."""
        self.edit(lambda specs: gate_in(specs).update(enabled=False))

    def everything(self) -> str:
        """See Vendor."""
        return json.dumps({**self.stores["ecfg_x"], ITEM: self.specs}, sort_keys=True)


def with_gate(gates: Any, name: str, added: dict[str, Any]) -> Any:
    """The gates of a document, in their layout, and one more."""
    return [*gates, added] if isinstance(gates, list) else {**gates, name: added}


def gate_in(specs: dict[str, Any], name: str = GATE) -> dict[str, Any]:
    """A gate of a document in either layout."""
    gates = specs["feature_gates"]
    if not isinstance(gates, list):
        return gates[name]
    return next(each for each in cast("list[dict[str, Any]]", gates) if each["name"] == name)


VENDORS: dict[str, Callable[[LoopThread], Vendor]] = {
    "statsig": AtStatsig,
    "edge config, v1": lambda loop: AtVercel(loop, V1),
    "edge config, v2": lambda loop: AtVercel(loop, V2),
    "edge config, text": lambda loop: AtVercel(loop, V1, is_text=True),
}


@pytest.fixture(params=VENDORS)
def vendor(loop: LoopThread, request: pytest.FixtureRequest) -> Iterator[Vendor]:
    """Each kind of store."""
    vendor = VENDORS[request.param](loop)
    yield vendor
    vendor.close()


@pytest.fixture
def console(loop: LoopThread) -> Iterator[AtStatsig]:
    """A project of Statsig's."""
    console = AtStatsig(loop)
    yield console
    console.close()


@pytest.fixture
def vercel(loop: LoopThread) -> Iterator[AtVercel]:
    """An Edge Config."""
    vercel = AtVercel(loop, V1)
    yield vercel
    vercel.close()


def over(work: Callable[[Exchange], Awaitable[Result]]) -> Result:
    """Do something with connections of its own."""

    async def go() -> Result:
        outbound = Outbound()
        try:
            return await work(Exchange(outbound.session))
        finally:
            await outbound.aclose()

    return asyncio.run(go())


def using(vendor: Vendor, work: Callable[[FlagStore], Awaitable[Result]], key: str | None = None) -> Result:
    """Do something with the store."""
    return over(lambda exchange: work(vendor.store(exchange, key)))


def failure_of(vendor: Vendor, work: Callable[[FlagStore], Awaitable[object]], key: str | None = None) -> str:
    """The code of how it fails."""
    with pytest.raises(ServiceFailed) as failed:
        using(vendor, work, key)
    return failed.value.code


def writes(vendor: Vendor) -> int:
    """How often the vendor was asked to change anything."""
    return sum(asked.method != "GET" for asked in vendor.web.asked)


def answering(answer: bool, note: Callable[[], object] = lambda: None) -> Callable[[], Awaitable[bool]]:  # noqa: FBT001
    """A condition that holds or does not; `note` is called when it is asked."""

    async def still() -> bool:
        note()
        return answer

    return still


def test_share(vendor: Vendor) -> None:
    """What the vendor holds now is the share, and one request tells it."""

    async def ask(store: FlagStore) -> list[float]:
        shares = [await store.share(GATE)]
        for percentage in (0, 0.25, 100):
            vendor.put(percentage)
            shares.append(await store.share(GATE))
        return shares

    assert using(vendor, ask) == [0.1, 0, 0.0025, 1]
    assert [asked.method for asked in vendor.web.asked] == ["GET"] * 4


def test_set_share(vendor: Vendor) -> None:
    """The percentage is all that changes; it is read before, written once and read back."""
    before = vendor.everything()
    using(vendor, lambda store: store.set_share(GATE, 0.25))
    assert vendor.percentage() == 25
    assert [asked.method for asked in vendor.web.asked] == ["GET", "PATCH", "GET"]
    vendor.put(10)
    assert vendor.everything() == before


def test_whole_rollout(vendor: Vendor) -> None:
    """Stage by stage under both conditions and back to 0, through the same store: none meets an id of before."""
    vendor.put(0)

    async def go(store: FlagStore) -> list[float]:
        shares: list[float] = []
        for before, share in zip((0, *STAGES), (*STAGES, 0), strict=True):
            await store.set_share(GATE, share, expected=before, still=answering(answer=True))
            shares.append(vendor.percentage())
        return shares

    assert using(vendor, go) == [1, 5, 10, 25, 50, 100, 0]


def test_only_if_expected(vendor: Vendor) -> None:
    """Somebody set another share by hand: that stands, and nothing is written."""
    vendor.put(7)
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0.25, expected=0.1)) == "changed_meanwhile"
    assert (vendor.percentage(), writes(vendor)) == (7, 0)


def test_only_if_it_still_holds(vendor: Vendor) -> None:
    """Another driver was faster: nothing is written."""
    still = answering(answer=False)
    code = failure_of(vendor, lambda store: store.set_share(GATE, 0.25, expected=0.1, still=still))
    assert (code, vendor.percentage(), writes(vendor)) == ("changed_meanwhile", 10, 0)


def test_what_happens_while_it_is_asked(vendor: Vendor) -> None:
    """A share set while the condition is asked is seen, since the store is looked at last."""
    still = answering(answer=True, note=lambda: vendor.put(0))
    code = failure_of(vendor, lambda store: store.set_share(GATE, 0.25, expected=0.1, still=still))
    assert (code, vendor.percentage(), writes(vendor)) == ("changed_meanwhile", 0, 0)


def test_to_zero_whatever_it_holds(vendor: Vendor) -> None:
    """A rollback has no condition."""
    vendor.put(62.5)
    using(vendor, lambda store: store.set_share(GATE, 0))
    assert vendor.percentage() == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [("unknown", "gate_missing"), (AMBIGUOUS, "rule_ambiguous"), (EMPTY, "rule_missing")],
)
def test_gate_that_cannot_be_moved(vendor: Vendor, name: str, code: str) -> None:
    """Reading and writing say the same of a gate without the one rule that would be meant."""
    assert failure_of(vendor, lambda store: store.share(name)) == code
    assert failure_of(vendor, lambda store: store.set_share(name, 0)) == code
    assert writes(vendor) == 0


def test_gate_with_one_rule(vendor: Vendor) -> None:
    """A gate's only rule is its rollout rule, whatever it is called."""
    assert using(vendor, lambda store: store.share(OTHER)) == 1


def test_disabled_gate(vendor: Vendor) -> None:
    """A gate that was turned off lets nobody in, and is not raised."""
    vendor.disable()
    assert using(vendor, lambda store: store.share(GATE)) == 0
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0.25)) == "gate_disabled"
    using(vendor, lambda store: store.set_share(GATE, 0))
    assert (vendor.percentage(), writes(vendor)) == (0, 1)


@pytest.mark.parametrize("share", [1.01, -0.01, 1 / 3])
def test_share_that_no_store_keeps(vendor: Vendor, share: float) -> None:
    """What would be kept as another share is not sent."""
    assert failure_of(vendor, lambda store: store.set_share(GATE, share)) == "share_unfit"
    assert writes(vendor) == 0


def test_wrong_key(vendor: Vendor) -> None:
    """A key that the vendor refuses is named so, at once."""
    assert failure_of(vendor, lambda store: store.share(GATE), key="wrong") == "unauthorized"
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0), key="wrong") == "unauthorized"
    assert [asked.method for asked in vendor.web.asked] == ["GET", "GET"]


def test_lost_write(vendor: Vendor) -> None:
    """What the vendor takes and forgets is noticed."""
    vendor.loses_writes = True
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0.25)) == "not_as_written"


def test_stale_read_back(vendor: Vendor) -> None:
    """A write that can't be seen yet counts as none, and is not repeated: the next reading will show it."""
    vendor.shows_late = True
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0.25)) == "not_as_written"
    assert (using(vendor, lambda store: store.share(GATE)), writes(vendor)) == (0.25, 1)


BAD: dict[str, tuple[Told, str]] = {
    "429": (told({}, 429), "rate_limited"),
    "500": (told({}, 500), "http_500"),
    "403": (told({}, 403), "http_403"),
    "302": (Told(302, headers={"location": "http://127.0.0.1:9/"}), "http_302"),
    "half a body": (Told(200, b'{"data": {}}', cut=5), "connection_failed"),
    "no JSON": (Told(200, b"<html>"), "invalid_json"),
    "other JSON": (told([7]), "invalid_json"),
    "too large": (Told(200, b'"' + b"x" * 1_100_000 + b'"'), "too_large"),
}


@pytest.mark.parametrize("fault", BAD)
def test_no_answer_to_work_with(vendor: Vendor, fault: str) -> None:
    """What can't be read is neither guessed nor asked for again, and nothing is written over it."""
    answer, code = BAD[fault]
    vendor.web.script(answer)
    assert failure_of(vendor, lambda store: store.share(GATE)) == code
    vendor.web.script(answer)
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0)) == code
    assert [asked.method for asked in vendor.web.asked] == ["GET", "GET"]


@pytest.mark.parametrize("fault", ["429", "500", "403", "half a body"])
def test_refused_write(vendor: Vendor, fault: str) -> None:
    """A write without a good answer has failed, and is sent once."""
    vendor.refusal, code = BAD[fault]
    assert failure_of(vendor, lambda store: store.set_share(GATE, 0.25)) == code
    assert (vendor.percentage(), writes(vendor)) == (10, 1)


def test_foreign_write_after_ours(vendor: Vendor) -> None:
    """What somebody sets between our write and reading it back is not taken for ours."""

    async def go(store: FlagStore) -> None:
        await store.set_share(GATE, 0.25)

    vendor.after_write = lambda: vendor.put(3)
    assert failure_of(vendor, go) == "not_as_written"
    assert (vendor.percentage(), writes(vendor)) == (3, 1)


def test_foreign_write_before_ours_at_statsig(console: AtStatsig) -> None:
    """Set by hand after we looked: the rule has another id by then, so ours is not written over it."""
    console.before_write = lambda: console.put(3)
    assert failure_of(console, lambda store: store.set_share(GATE, 0.25, expected=0.1)) == "changed_meanwhile"
    assert (console.percentage(), writes(console)) == (3, 1)


def test_what_statsig_is_sent(console: AtStatsig) -> None:
    """The whole rule with another percentage, but for what is read-only, under its id of now."""
    using(console, lambda store: store.set_share(GATE, 0.005))
    (sent,) = [asked for asked in console.web.asked if asked.method == "PATCH"]
    assert sent.path.endswith(f"/rules/{rule_id('38tt', 10)}")
    assert sent.json() == {
        "name": "rollout",
        "id": "38tt:10.00:1",
        "baseID": "38tt",
        "passPercentage": 0.5,
        "conditions": [{"type": "public"}],
        "environments": ["production"],
    }
    assert (console.rule(GATE, "rollout")["id"], console.violations) == ("38tt:0.50:1", [])


def test_name_in_the_path(console: AtStatsig) -> None:
    """Whatever a gate is called, it is one part of the path."""
    assert failure_of(console, lambda store: store.share("../a gate?")) == "gate_missing"
    assert [asked.target for asked in console.web.asked] == ["/console/v1/gates/..%2Fa%20gate%3F"]


@pytest.mark.parametrize("whose", ["gate", "project"])
@pytest.mark.parametrize("status", [None, 400, 403, 409])
def test_review_required(console: AtStatsig, whose: str, status: int | None) -> None:
    """A change that people have to review is said to be one, however Statsig refuses or shelves it."""
    console.review = whose == "project"
    console.gates[GATE]["reviewSettings"]["requiredReview"] = whose == "gate"
    console.answer_to_unreviewed = None if status is None else told({"status": status, "message": "No."}, status)
    assert failure_of(console, lambda store: store.set_share(GATE, 0.25)) == "review_required"
    assert (console.percentage(), writes(console)) == (10, 1)


def test_refusal_for_another_reason(console: AtStatsig) -> None:
    """Where nobody asks for reviews, or Statsig does not say, a refusal keeps its own status."""
    console.refusal = told({"status": 403, "message": "Insufficient permissions."}, 403)
    assert failure_of(console, lambda store: store.set_share(GATE, 0.25)) == "http_403"
    paths = [asked.path for asked in console.web.asked]
    assert paths[-1] == "/console/v1/settings/reviews"


@pytest.mark.parametrize(
    ("told_s", "after_s", "sent"),
    [("30", 29, 1), ("30", 30, 2), (None, 0, 2), ("soon", 0, 2), ("999999", 899, 1), ("999999", 900, 2)],
)
def test_rate_limit(console: AtStatsig, told_s: str | None, after_s: float, sent: int) -> None:
    """No change is sent before the time that Statsig names, at most a quarter of an hour; reading goes on."""
    headers = {} if told_s is None else {"retry-after": told_s}
    console.refusal = Told(429, b"{}", headers)

    async def go(store: FlagStore) -> float:
        for wait_s in (0.0, after_s):
            console.clock.now += wait_s
            with pytest.raises(ServiceFailed, match=r"^rate_limited$"):
                await store.set_share(GATE, 0.25)
        return await store.share(GATE)

    assert (using(console, go), writes(console)) == (0.1, sent)


@pytest.mark.parametrize("body", [{"data": {"rules": "none"}}, {"data": {}}, {"data": {"rules": [7]}}])
def test_gate_of_another_form(console: AtStatsig, body: object) -> None:
    """A gate without rules that could be read has none."""
    console.web.script(told(body))
    assert failure_of(console, lambda store: store.share(GATE)) == "rule_missing"


def test_other_edits_are_kept(vercel: AtVercel) -> None:
    """What somebody changed elsewhere in the document while the condition was asked stays changed."""

    def kill(specs: dict[str, Any]) -> None:
        gate_in(specs, OTHER)["rules"][0]["passPercentage"] = 0

    still = answering(answer=True, note=lambda: vercel.edit(kill))
    using(vercel, lambda store: store.set_share(GATE, 0.25, expected=0.1, still=still))
    assert (vercel.percentage(), gate_in(vercel.specs, OTHER)["rules"][0]["passPercentage"]) == (25, 0)


def test_which_store_and_item(loop: LoopThread) -> None:
    """Of two stores the first that has specs, known by their shape; the named item first, if it is of that shape."""
    vercel = AtVercel(loop, V1)
    parameters = {"ai_config": {}, "hypertune": {"commitId": 1}}
    vercel.stores = {"ecfg_parameters": parameters, "ecfg_x": {**vercel.stores["ecfg_x"], "a": V1}}

    def put(*stores: str, key: str | None) -> dict[str, float | None]:
        async def go(exchange: Exchange) -> None:
            writers = [vercel.writer(exchange, store) for store in stores]
            await EdgeConfigStore(writers, key).set_share(GATE, 0.25)

        over(go)
        items = vercel.stores["ecfg_x"]
        return {name: gate_in(items[name])["rules"][-1]["passPercentage"] for name in ("a", ITEM)}

    assert put("ecfg_parameters", "ecfg_x", key=ITEM) == {"a": 10, ITEM: 25}
    assert put("ecfg_parameters", "ecfg_x", key="hypertune") == {"a": 25, ITEM: 25}
    assert vercel.stores["ecfg_parameters"] == parameters
    with pytest.raises(ServiceFailed, match=r"^item_missing$"):
        put("ecfg_parameters", key=None)
    vercel.close()


def test_store_that_is_not_there(vercel: AtVercel) -> None:
    """A store that was deleted, or is another team's."""
    vercel.stores = {}
    assert failure_of(vercel, lambda store: store.share(GATE)) == "store_missing"


@pytest.mark.parametrize("specs", [V1, V2], ids=["v1", "v2"])
def test_raising_never_takes_anybody_out(loop: LoopThread, specs: dict[str, Any]) -> None:
    """From 1 to 100 % the genuine engine lets in all whom it let in before, and about as many as the share says."""
    vercel = AtVercel(loop, specs)
    inside: set[int] = set()
    for share in STAGES:
        using(vercel, lambda store, share=share: store.set_share(GATE, share))
        engine = Engine(vercel.specs, str(share), tier="development")
        verdicts = {number: engine.gate(engine.user(f"user-{number}"), GATE) for number in range(2000)}
        passed = {number for number, verdict in verdicts.items() if verdict is not None and verdict.passed}
        assert inside <= passed
        assert abs(len(passed) / 2000 - share) < 0.03
        inside = passed
    assert len(inside) == 2000
    vercel.close()

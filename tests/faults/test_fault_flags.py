"""Rows of our matrix about flags and about events: whatever their services do, the caller gets an answer."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from lib.app import App
from lib.control.edge_config import EdgeConfig
from lib.control.flags import Flags
from lib.control.sources import StatsigNetwork
from lib.settings import from_environ
from tests.conftest import KEY_HEADER, ROOT, InferenceLog, hosted_over
from tests.fakes.loop import LoopThread
from tests.fakes.statsig import SECRET, Statsig
from tests.fakes.vendor import Gate, Vendor, words
from tests.fakes.web import Asked, Told, Web, told
from tests.faults.serving import call, served

VECTORS = ROOT / "tests" / "vectors" / "statsig"
V1: dict[str, Any] = json.loads((VECTORS / "specs_v1.json").read_text())
V2: dict[str, Any] = json.loads((VECTORS / "specs_v2.json").read_text())
HELLO: dict[str, object] = {"prompt": "Hi"}
PATIENT_S = 30.0
"""In place of the tenth of a second, where a busy machine should make no difference."""


def specs(provider: str, gate_percentage: float = 0) -> dict[str, Any]:
    """The vectors' specs with everybody assigned to one provider."""
    document = copy.deepcopy(V1)
    experiment = document["dynamic_configs"][0]
    rule = next(rule for rule in experiment["rules"] if rule["name"] == provider)
    rule["conditions"][0]["targetValue"] = 1000
    rule["returnValue"] = {"provider": provider}
    experiment["rules"] = [rule]
    gate = document["feature_gates"][0]
    gate["rules"] = [{**gate["rules"][1], "passPercentage": gate_percentage}]
    return document


class Store:
    """An Edge Config with Statsig's specs in it."""

    def __init__(self, loop: LoopThread, document: Any) -> None:
        self.items: dict[str, Any] = {"statsig-x": document}
        self.web = Web(loop, self._answer)

    def _answer(self, asked: Asked) -> Told:
        digest = str(hash(json.dumps(self.items)))
        if asked.headers.get("if-none-match") == f'"{digest}"':
            return Told(304)
        return told(self.items, etag=f'"{digest}"', x_edge_config_digest=digest)


@pytest.fixture
def store(loop: LoopThread) -> Iterator[Store]:
    """A store that assigns everybody to xai."""
    store = Store(loop, specs("xai"))
    yield store
    store.web.close()


@pytest.fixture
def statsig(loop: LoopThread) -> Iterator[Statsig]:
    """Statsig."""
    fake = Statsig(loop, dict(V2))
    yield fake
    fake.close()
    assert fake.violations == []


@pytest.fixture
def pair(make_vendor: Any) -> tuple[Vendor, Vendor]:
    """Two vendors: groq, who is first in order, and xai."""
    return make_vendor(), make_vendor()


class Start:
    """Serves the product, with flags that are read again for every request."""

    def __init__(self, loop: LoopThread, running: ExitStack) -> None:
        self._loop = loop
        self._running = running

    def __call__(self, environ: dict[str, str], budget_s: float = PATIENT_S) -> str:
        """The URL."""
        app = App(from_environ(environ))
        app.edge_config = EdgeConfig(app.settings.stores, app.exchange, freshness_s=0, budget_s=budget_s)
        return self._running.enter_context(served(app, self._loop))


@pytest.fixture
def start(loop: LoopThread) -> Iterator[Start]:
    """See Start."""
    with ExitStack() as running:
        yield Start(loop, running)


def over(pair: tuple[Vendor, Vendor], store: Store) -> dict[str, str]:
    """The environment in which both vendors are on and flags come from the store."""
    return {**hosted_over(groq=pair[0], xai=pair[1]), "EDGE_CONFIG": f"{store.web.url}/ecfg_x?token=t"}


def provider(url: str) -> str:
    """Who answers a caller."""
    result = call(url, HELLO, 30, **KEY_HEADER)
    assert result.ok, result
    return result.metadata["provider"]


def troubles(url: str) -> dict[str, str]:
    """What health says is wrong, by part; its status must agree."""
    health = httpx.get(f"{url}/api/health").json()
    wrong = {part["name"]: part["trouble"] for part in health["parts"] if "trouble" in part}
    assert health["status"] == ("degraded" if wrong else "ok")
    return wrong


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings about flags or events."""
    names = {"control", "telemetry"}
    return [entry.getMessage() for entry in caplog.records if entry.name in names and entry.levelno >= logging.WARNING]


MISBEHAVES: dict[str, tuple[Told, str]] = {
    "500": (told({}, 500), "http_500"),
    "503": (told({}, 503), "http_503"),
    "401": (told({"code": "unauthorized"}, 401), "unauthorized"),
    "404 without a digest": (told({}, 404), "store_missing"),
    "half a body": (Told(200, b'{"statsig-x": {"feature_gates": []}}', cut=20), "connection_failed"),
    "wrong JSON": (Told(200, b'{"statsig-x": {"feature_gates"'), "invalid_json"),
    "wrong type": (told([]), "not_an_object"),
    "garbage for specs": (told({"statsig-x": {"feature_gates": 7}}), "specs_unreadable"),
    "too large": (Told(200, b'{"x": "' + b"x" * 1_100_000 + b'"}'), "too_large"),
}


@pytest.mark.parametrize("fault", MISBEHAVES)
def test_fault_21_edge_config_misbehaves(
    start: Start, store: Store, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Whatever the Edge Config answers, requests are decided by its last good items; health and one line tell of it."""
    answer, code = MISBEHAVES[fault]
    url = start(over(pair, store))
    assert provider(url) == "xai"
    store.web.script(*[answer] * 40)
    assert [provider(url) for _ in range(5)] == ["xai"] * 5
    assert troubles(url) == {"edge config": code}
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("fault", MISBEHAVES)
def test_fault_21_edge_config_misbehaves_from_the_start(
    start: Start, store: Store, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Where an Edge Config was never read, the default holds until it can be."""
    answer, code = MISBEHAVES[fault]
    store.web.script(*[answer] * 4)
    url = start(over(pair, store))
    assert provider(url) == "groq"
    assert troubles(url) == {"edge config": code}
    assert len(warnings(caplog)) == 1


def test_fault_21_edge_config_recovers(start: Start, store: Store, pair: tuple[Vendor, Vendor]) -> None:
    """Once it answers again, its items hold again, and health is well."""
    url = start(over(pair, store))
    provider(url)
    store.web.script(*[told({}, 503)] * 2)
    provider(url)
    store.items["statsig-x"] = specs("groq")
    assert (provider(url), troubles(url)) == ("groq", {})


def test_fault_21_empty_edge_config(start: Start, store: Store, pair: tuple[Vendor, Vendor]) -> None:
    """404 with a digest is a store without items: the default holds, and nothing is wrong."""
    store.web.script(*[told({}, 404, x_edge_config_digest="d")] * 10)
    url = start(over(pair, store))
    assert (provider(url), troubles(url)) == ("groq", {})


def test_fault_21_large_edge_config(start: Start, store: Store, pair: tuple[Vendor, Vendor]) -> None:
    """A store of half a megabyte, the largest that is sold, is read."""
    store.items["padding"] = "x" * 512 * 1024
    url = start(over(pair, store))
    assert (provider(url), troubles(url)) == ("xai", {})


def test_fault_21_slow_edge_config(start: Start, store: Store, pair: tuple[Vendor, Vendor]) -> None:
    """A store that says nothing holds no request up for long; what it says later serves the next one."""
    url = start(over(pair, store), budget_s=0.1)
    gate = Gate()
    store.web.script(Told(200, json.dumps(store.items).encode(), gate=gate))
    assert provider(url) == "groq"
    gate.open()
    assert {provider(url) for _ in range(3)} >= {"xai"}


BROKEN_SPECS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "empty": ({"feature_gates": [], "dynamic_configs": [], "layer_configs": []}, {}),
    "another shape of value": (specs("xai"), {}),
    "unknown operator": (specs("xai"), {"edge config": "flag_unreadable"}),
    "unknown condition": (specs("xai"), {"edge config": "flag_unreadable"}),
    "unknown provider": (specs("xai"), {}),
}
_RULES = {name: document["dynamic_configs"][0]["rules"][0] for name, (document, _) in list(BROKEN_SPECS.items())[1:]}
_RULES["another shape of value"]["returnValue"] = {"provider": ["xai"]}
_RULES["unknown operator"]["conditions"][0] |= {"type": "user_field", "field": "x", "operator": "frobnicate"}
_RULES["unknown condition"]["conditions"][0]["type"] = "phase_of_the_moon"
_RULES["unknown provider"]["returnValue"] = {"provider": "nobody"}


@pytest.mark.parametrize("name", BROKEN_SPECS)
def test_fault_22_flag_cannot_be_used(
    start: Start, store: Store, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A flag that is missing, or not as we know it, leaves the choice to the default, with one line at most."""
    document, wrong = BROKEN_SPECS[name]
    store.items["statsig-x"] = document
    url = start(over(pair, store))
    assert [provider(url) for _ in range(5)] == ["groq"] * 5
    assert troubles(url) == wrong
    assert len(warnings(caplog)) == (0 if name == "empty" else 1)


STATSIG_DOWN = {
    "500": (told({}, 500), "http_500"),
    "401": (told({}, 401), "http_401"),
    "garbage": (Told(200, b"<html>"), "invalid_json"),
    "cut": (Told(200, b'{"feature_gates": {}}', cut=3), "connection_failed"),
    "no specs": (told({"has_updates": True}), "specs_unreadable"),
}


@pytest.mark.parametrize("fault", STATSIG_DOWN)
def test_fault_22_statsig_is_down(
    start: Start, statsig: Statsig, pair: tuple[Vendor, Vendor], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """With Statsig down the default holds, and every request is answered."""
    answer, code = STATSIG_DOWN[fault]
    environ = {**hosted_over(groq=pair[0], xai=pair[1]), **statsig.environ, "STATSIG_API_URL": "http://127.0.0.1:9"}
    statsig.web.script(*[answer] * 10)
    url = start(environ)
    assert provider(url) == "groq"
    assert troubles(url) == {"statsig": code}
    assert len([line for line in warnings(caplog) if line.startswith("Statsig ")]) == 1


def test_fault_22_statsig_keeps_its_last_word(loop: LoopThread, statsig: Statsig, pair: tuple[Vendor, Vendor]) -> None:
    """Specs that Statsig once gave hold while it is down."""
    app = App(from_environ({**hosted_over(groq=pair[0], xai=pair[1]), **statsig.environ}))
    network = StatsigNetwork(app.exchange, cdn_url=statsig.web.url, secret=SECRET, freshness_s=0)
    app.flags = Flags(None, [network], on=["groq", "xai"], assignable=["groq", "xai"])
    with served(app, loop) as url:
        before = call(url, {**HELLO, "stream": False}, 30, **KEY_HEADER).metadata["flags"]
        statsig.web.script(*[told({}, 500)] * 3)
        after = call(url, {**HELLO, "stream": False}, 30, **KEY_HEADER).metadata["flags"]
    assert before == after != []


def test_fault_23_flag_flips_in_mid_request(
    start: Start, store: Store, pair: tuple[Vendor, Vendor], inference_log: InferenceLog
) -> None:
    """A flag that changes while an answer is written changes nothing about it: not its provider, not its account."""
    gate = Gate()
    pair[1].script(words("first ", gate, "second"))
    url = start(over(pair, store))
    with httpx.stream(
        "POST", f"{url}/api/generate", json=HELLO, headers={"accept": "text/plain", **KEY_HEADER}, timeout=30
    ) as answer:
        texts = answer.iter_text()
        assert next(texts) == "first "
        store.items["statsig-x"] = specs("groq")
        assert provider(url) == "groq"
        gate.open()
        assert "".join(texts) == "second"
    new, old = inference_log.next(), inference_log.next()
    assert [(line["provider"], line["experiment_arm"]) for line in (old, new)] == [("xai", "xai"), ("groq", "groq")]
    assert old["config_version"] != new["config_version"]


def test_fault_24_nobody_leaves_the_gate(start: Start, store: Store, pair: tuple[Vendor, Vendor]) -> None:
    """As the gate's share grows, a guest who has got the new model keeps it; at 0 % everybody is back."""
    url = start(over(pair, store))
    guests = [httpx.Client(base_url=url) for _ in range(20)]
    treated: list[set[int]] = []
    for percentage in (0, 10, 50, 100, 0):
        store.items["statsig-x"] = specs("groq", percentage)
        answers = [guest.post("/api/generate", json={**HELLO, "stream": False}).json() for guest in guests]
        models = {(answer["flags"][1]["arm"], answer["model"]) for answer in answers}
        assert models <= {("control", "openai/gpt-oss-20b"), ("treatment", "openai/gpt-oss-120b")}
        treated.append({number for number, answer in enumerate(answers) if answer["model"] == "openai/gpt-oss-120b"})
    assert treated[0] == set() <= treated[1] <= treated[2] <= treated[3] == set(range(20))
    assert treated[4] == set()
    efforts = {(request.body["model"], request.body.get("reasoning_effort")) for request in pair[0].requests}
    assert efforts == {("openai/gpt-oss-20b", None), ("openai/gpt-oss-120b", "medium")}
    for guest in guests:
        guest.close()


def test_fault_26_statsig_is_silent(start: Start, statsig: Statsig, store: Store, pair: tuple[Vendor, Vendor]) -> None:
    """While Statsig holds its answer back, the caller has all of its own; what Statsig did not take is told again."""
    gate = Gate()
    statsig.web.script(*[Told(500, gate=gate)] * 2)
    url = start({**over(pair, store), **statsig.environ})
    assert [provider(url), provider(url)] == ["xai", "xai"]
    assert [len(batch.json()["events"]) for batch in statsig.web.wait_for(2)] == [2, 2]
    gate.open()

"""Calls and exposures to Statsig: in the wire form of its own engine, and each exposure once."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lib.app import App
from lib.errors import ServiceFailed
from lib.providers.base import Model, Usage
from lib.router.attempt import Attempt
from lib.router.plan import Candidate, Exposure, ProviderFlag
from lib.settings import from_environ
from lib.telemetry import statsig
from lib.telemetry.cost import Costs
from lib.telemetry.events import Event, Recorder, Subject
from lib.telemetry.sinks import Sinks
from lib.telemetry.statsig import StatsigSink
from tests.conftest import ROOT
from tests.fakes.loop import LoopThread
from tests.fakes.statsig import SECRET, Statsig
from tests.fakes.vendor import Gate
from tests.fakes.web import Asked, Told, Web, told

ARM = Exposure("config", "feature_ai_provider", "rule_groq", passed=True, version=1)
GATE = Exposure("gate", "groq_r1_v_production", "rule_rollout", passed=False, version=1)
FLAG = ProviderFlag(
    arm="groq",
    provider="groq",
    gate="groq_r1_v_production",
    gate_arm="control",
    config_version="v1",
    exposures=(ARM, GATE),
)
SUBJECT = Subject("request-1", "user-17", "guest", "/api/generate", FLAG, 41, {"page": "home"})
DEEPINFRA = Candidate("deepinfra", Model("openai/gpt-oss-120b", 8_192, 1_024))
UNPRICED = Candidate("acme", Model("acme-1", 8_192, 1_024))


@pytest.fixture
def fake(loop: LoopThread) -> Iterator[Statsig]:
    """Statsig; what it got must have been understood."""
    fake = Statsig(loop)
    yield fake
    fake.close()
    assert fake.violations == []


class Keep:
    """Keeps what a request leaves behind."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def deliver(self, events: Sequence[Event]) -> None:
        """See Sink."""
        self.events += events


def left_behind(subject: Subject = SUBJECT, *attempts: Attempt) -> list[Event]:
    """What a request with these attempts leaves behind."""

    async def record() -> list[Event]:
        keep = Keep()
        recorder = Recorder(Costs(), region="fra1", deployment=None, sinks=Sinks(keep))
        await recorder.record(subject, attempts)
        assert keep.events == []
        await recorder.deliver("another request")
        assert keep.events == []
        await recorder.deliver(subject.request_id)
        await recorder.deliver(subject.request_id)
        return keep.events

    return asyncio.run(record())


def attempt(candidate: Candidate = DEEPINFRA, **known: Any) -> Attempt:
    """An attempt of two seconds, its first token after half of one."""
    usual: dict[str, Any] = {"number": 1, "first_token_at": 100.5, "ended_at": 102.0, "outcome": "ok"}
    usual["usage"] = Usage(1000, 100, 30, 20)
    return Attempt(candidate=candidate, started_at=100.0, **{**usual, **known})


def send(fake: Statsig, *batches: list[Event]) -> list[str | None]:
    """Deliver batches, one after the other; how each failed."""

    async def go() -> list[str | None]:
        app = App(from_environ(fake.environ))
        sink = StatsigSink(app.exchange, api_url=fake.web.url, secret=SECRET, tier="production")
        failed: list[str | None] = []
        for batch in batches:
            try:
                await sink.deliver(batch)
                failed.append(None)
            except ServiceFailed as error:
                failed.append(error.code)
        await app.aclose()
        return failed

    return asyncio.run(go())


def test_batch(fake: Statsig) -> None:
    """One batch holds the exposures and then every call, its cost as the value and the numbers as metadata."""
    fallback = attempt(number=2, kind="fallback", fallback_from="deepinfra", outcome="error", error_code="timeout")
    assert send(fake, left_behind(SUBJECT, attempt(), fallback)) == [None]
    assert len(fake.batches) == 1
    assert [event["eventName"] for event in fake.events()] == [
        "statsig::config_exposure",
        "statsig::gate_exposure",
        "ai_inference",
        "ai_inference",
    ]
    first, second = fake.events("ai_inference")
    assert first["value"] == 0.000056
    assert first["user"] == {
        "userID": "user-17",
        "customIDs": {"stableID": "user-17"},
        "custom": {"kind": "guest"},
        "statsigEnvironment": {"tier": "production"},
    }
    assert first["metadata"] == {
        "request_id": "request-1",
        "attempt": 1,
        "kind": "first",
        "route": "/api/generate",
        "modality": "text",
        "provider": "deepinfra",
        "model": "openai/gpt-oss-120b",
        "outcome": "ok",
        "ttft_ms": 500.0,
        "latency_ms": 2000.0,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cached_tokens": 30,
        "estimated": False,
        "experiment_arm": "groq",
        "gate_arm": "control",
        "config_version": "v1",
        "cold_start": True,
        "region": "fra1",
    }
    assert (second["metadata"]["fallback_from"], second["metadata"]["error_code"]) == ("deepinfra", "timeout")


def test_unknown_cost(fake: Statsig) -> None:
    """A cost that is unknown is no value, and never zero."""
    send(fake, left_behind(SUBJECT, attempt(UNPRICED)))
    assert [event["value"] for event in fake.events("ai_inference")] == [None]


def test_exposed_once(fake: Statsig) -> None:
    """A caller is exposed to a rule once; another caller, or another rule, is another exposure."""
    other_rule = replace(FLAG, exposures=(replace(ARM, rule="rule_xai"),))
    send(
        fake,
        left_behind(SUBJECT, attempt()),
        left_behind(SUBJECT, attempt()),
        left_behind(replace(SUBJECT, caller_id="user-18"), attempt()),
        left_behind(replace(SUBJECT, flag=other_rule), attempt()),
    )
    exposed = [
        (event["user"]["userID"], event["metadata"]["ruleID"]) for event in fake.events() if event["value"] is None
    ]
    assert exposed == [
        ("user-17", "rule_groq"),
        ("user-17", "rule_rollout"),
        ("user-18", "rule_groq"),
        ("user-18", "rule_rollout"),
        ("user-17", "rule_xai"),
    ]
    assert len(fake.events("ai_inference")) == 4


def test_nothing_to_say(fake: Statsig) -> None:
    """A request that called nobody, and whose exposures are known, sends nothing."""
    send(fake, left_behind(SUBJECT, attempt()), left_behind(SUBJECT), [])
    assert len(fake.batches) == 1


def test_exposures_without_a_call(fake: Statsig) -> None:
    """Where every provider rests, the caller was exposed all the same."""
    send(fake, left_behind(SUBJECT))
    assert [event["metadata"]["ruleID"] for event in fake.events()] == ["rule_groq", "rule_rollout"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (told({"success": False}, 401), "http_401"),
        (told({}, 500), "http_500"),
        (Told(202, b'{"success": true}', cut=3), "connection_failed"),
    ],
)
def test_lost_batch(fake: Statsig, answer: Told, code: str) -> None:
    """A batch that Statsig did not take is not repeated; its exposures are told again with the next call."""
    fake.web.script(answer)
    assert send(fake, left_behind(SUBJECT, attempt()), left_behind(SUBJECT, attempt())) == [code, None]
    assert [len(batch.json()["events"]) for batch in fake.batches] == [3, 3]


def test_silent_statsig(fake: Statsig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statsig's silence is not waited for."""
    gate = Gate()
    monkeypatch.setattr(statsig, "TIMEOUT_S", 0.05)
    fake.web.script(Told(202, b"{}", gate=gate))
    assert send(fake, left_behind(SUBJECT, attempt())) == ["timeout"]
    gate.open()


def test_memory_of_exposures_is_bounded(fake: Statsig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest exposures are forgotten, and then told again."""
    monkeypatch.setattr(statsig, "MAX_KNOWN_EXPOSURES", 4)
    callers = ["a", "b", "c", "c", "a"]
    send(fake, *(left_behind(replace(SUBJECT, caller_id=caller), attempt()) for caller in callers))
    assert [len(batch.json()["events"]) for batch in fake.batches] == [3, 3, 3, 1, 3]


def requests_of_the_engine(loop: LoopThread) -> list[Asked]:
    """What Statsig's engine itself sends for a config, a gate and an event, with its network on."""
    sdk: Any = importlib.import_module("statsig_python_core")
    specs = told(json.loads((ROOT / "tests" / "vectors" / "statsig" / "specs_v2.json").read_text()))
    web = Web(loop, lambda asked: specs if asked.method == "GET" else told({"success": True}, 202))
    options = sdk.StatsigOptions(
        specs_url=f"{web.url}/v2/download_config_specs",
        log_event_url=f"{web.url}/v1/log_event",
        environment="production",
        disable_country_lookup=True,
        disable_disk_access=True,
        output_log_level="none",
    )
    engine = sdk.Statsig(SECRET, options)
    engine.initialize().wait(10)
    user = sdk.StatsigUser("user-17", custom_ids={"stableID": "user-17"}, custom={"kind": "guest"})
    engine.get_experiment(user, "feature_ai_provider")
    engine.check_gate(user, "groq_r1_v_production")
    engine.log_event(user, "ai_inference", 0.000056, {"provider": "deepinfra"})
    engine.flush_events().wait(10)
    engine.shutdown().wait(10)
    web.close()
    return web.asked


def test_wire_form_is_the_engines(fake: Statsig, loop: LoopThread) -> None:
    """What we send for a config, a gate and a call is what the engine would send, but for how it came by its specs."""
    download, *batches = requests_of_the_engine(loop)
    assert (download.path, download.headers["statsig-api-key"]) == (f"/v2/download_config_specs/{SECRET}.json", SECRET)
    assert {(batch.path, batch.headers["statsig-api-key"]) for batch in batches} == {("/v1/log_event", SECRET)}
    sent = [event for batch in batches for event in json.loads(gzip.decompress(batch.body))["events"]]
    theirs = {event["eventName"]: event for event in sent}
    exposed = replace(FLAG, exposures=(ARM, replace(GATE, passed=True)))
    send(fake, left_behind(replace(SUBJECT, flag=exposed), attempt()))
    for ours in fake.events():
        their = theirs[ours["eventName"]]
        assert ours["user"] == their["user"]
        assert ours["value"] == their["value"]
        assert abs(ours["time"] - their["time"]) < 60_000
        if ours["eventName"] != "ai_inference":
            assert ours["secondaryExposures"] == their["secondaryExposures"]
            dropped = {"reason", "lcut", "receivedAt"}
            assert ours["metadata"] == {name: text for name, text in their["metadata"].items() if name not in dropped}
    assert theirs.keys() - {"statsig::diagnostics"} == {event["eventName"] for event in fake.events()}

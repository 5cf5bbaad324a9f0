"""The flags: one decision per request, the same for the same caller, and always one, whatever becomes of the specs."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from lib.control.engine import Engine
from lib.control.flags import Flags
from lib.control.sources import Specs
from lib.control.specs import with_share
from lib.router.plan import Exposure, ProviderFlag
from local.edge_config import FOLDER
from tests.conftest import ROOT

VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "statsig" / "specs_v1.json").read_text())
SHIPPED: dict[str, Any] = json.loads((FOLDER / "statsig-local.json").read_text())
VENDORS = ("groq", "xai", "deepinfra")
PUBLIC: dict[str, Any] = {"type": "public", "targetValue": None, "operator": None, "field": None, "idType": "userID"}
GATE = "groq_r1_v_production"


class SpecsFile:
    """Specs as a test has them, in place of an Edge Config or Statsig."""

    part = "edge config"

    def __init__(self, document: dict[str, Any] | None) -> None:
        self.error: str | None = None
        self.age_s: float | None = 0.0
        self.renewed = 0
        self._specs: Specs | None = None
        self.edit(document)

    def edit(self, document: dict[str, Any] | None) -> None:
        """Put another document in the place of this one."""
        version = f"v{int(self._specs.version[1:]) + 1}" if self._specs else "v1"
        self._specs = None if document is None else Specs(copy.deepcopy(document), version)

    async def specs(self) -> Specs | None:
        """See Source."""
        return self._specs

    async def renew(self) -> None:
        """See Source."""
        self.renewed += 1


def specs(**values: dict[str, Any]) -> dict[str, Any]:
    """The vectors' specs; per arm of the experiment, values to lay over the arm's own."""
    document = copy.deepcopy(VECTORS)
    for rule in document["dynamic_configs"][0]["rules"]:
        rule["returnValue"] = {"provider": rule["name"], "model": f"{rule['name']}-1", **values.get(rule["name"], {})}
    return document


def gate(name: str, percentage: float, *, salt: str | None = None) -> dict[str, Any]:
    """A gate with one rule for everyone."""
    rule = {
        "name": "rollout",
        "passPercentage": percentage,
        "conditions": [PUBLIC],
        "returnValue": True,
        "id": f"rule_{name}",
        "salt": f"rule_{name}",
        "idType": "userID",
    }
    return {
        "name": name,
        "type": "feature_gate",
        "salt": salt or name,
        "enabled": True,
        "defaultValue": False,
        "rules": [rule],
        "idType": "userID",
        "entity": "feature_gate",
    }


def flags(document: dict[str, Any] | None, setting: str | None = None, on: Iterable[str] = VENDORS) -> Flags:
    """Flags over these specs."""
    on = list(on)
    return Flags(setting, [SpecsFile(document)], on=on, assignable=on)


def decide(flags: Flags, *callers: str) -> list[ProviderFlag]:
    """What is decided for each."""

    async def ask() -> list[ProviderFlag]:
        return [await flags.provider(caller) for caller in callers]

    return asyncio.run(ask())


def assigned(arm: str, document: dict[str, Any]) -> str:
    """A caller who is assigned to an arm."""
    callers = [f"user-{number}" for number in range(100)]
    return next(
        caller for caller, flag in zip(callers, decide(flags(document), *callers), strict=True) if flag.arm == arm
    )


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        (None, ProviderFlag()),
        ("", ProviderFlag()),
        ("groq", ProviderFlag(arm="groq", provider="groq")),
        ("groq/", ProviderFlag(arm="groq", provider="groq")),
        ("groq/openai/gpt-oss-120b", ProviderFlag(arm="groq", provider="groq", model="openai/gpt-oss-120b")),
    ],
)
def test_setting(setting: str | None, flag: ProviderFlag) -> None:
    """Without specs the setting holds: a provider, or a provider and a model, whose name may hold slashes."""
    assert decide(Flags(setting), "caller-1", "caller-2") == [flag, flag]


def test_experiment() -> None:
    """The experiment's group names provider and model; it is the arm, and the exposure names the rule."""
    (flag,) = decide(flags(specs()), assigned("xai", specs()))
    assert flag == ProviderFlag(
        arm="xai",
        provider="xai",
        model="xai-1",
        config_version="v1",
        exposures=(Exposure("config", "feature_ai_provider", "rule_xai", True, 1),),  # noqa: FBT003 - a record
    )


def test_same_caller_same_arm() -> None:
    """A caller's arm does not depend on when it asks, nor on the process; all arms are given out."""
    callers = [f"user-{number}" for number in range(300)]
    once, again = (decide(flags(specs()), *order) for order in (callers, callers[::-1]))
    assert once == again[::-1]
    assert {flag.arm for flag in once} == {"groq", "xai", "deepinfra"}


def test_gate_is_asked_of_its_own_arm_alone() -> None:
    """The gate concerns callers assigned to groq; nobody else is exposed to it."""
    decided = decide(flags(specs()), *(f"user-{number}" for number in range(1000)))
    assert {(flag.arm, flag.gate) for flag in decided} == {("groq", GATE), ("xai", None), ("deepinfra", None)}
    asked = [flag for flag in decided if flag.gate]
    assert {len(flag.exposures) for flag in asked} == {2}
    shares = Counter(flag.gate_arm for flag in asked)
    assert shares.keys() == {"treatment", "control"}
    assert 0.06 < shares["treatment"] / len(asked) < 0.14


@pytest.mark.parametrize(
    ("values", "treated"),
    [
        ({}, ("openai/gpt-oss-120b", "medium")),
        ({"candidate_model": "qwen/qwen3.8-27b"}, ("qwen/qwen3.8-27b", "medium")),
        ({"candidate_reasoning_effort": "high"}, ("openai/gpt-oss-120b", "high")),
        ({"candidate_model": 7, "candidate_reasoning_effort": "extreme"}, ("openai/gpt-oss-120b", "medium")),
        ({"provider": "xai", "candidate_model": "grok-4.7"}, ("grok-4.7", None)),
        ({"provider": "xai"}, ("groq-1", None)),
    ],
)
def test_gate_swaps_the_model(values: dict[str, Any], treated: tuple[str, str | None]) -> None:
    """Behind the gate the arm's own candidate answers, or the usual one; on this side nothing changes."""
    document = specs(groq=values)
    caller = assigned("groq", document)
    for percentage, expected in ((100, treated), (0, ("groq-1", None))):
        document["feature_gates"][0] = gate(GATE, percentage)
        (flag,) = decide(flags(document), caller)
        assert (flag.model, flag.reasoning_effort) == expected
        assert flag.gate_arm == ("treatment" if percentage else "control")
        assert flag.exposures[1] == Exposure("gate", GATE, f"rule_{GATE}", bool(percentage), None)


def test_no_gate() -> None:
    """Where the gate does not exist, nobody is exposed to it."""
    document = specs()
    caller = assigned("groq", document)
    del document["feature_gates"][0]
    (flag,) = decide(flags(document), caller)
    assert (flag.model, flag.gate, len(flag.exposures)) == ("groq-1", None, 1)


def test_dynamic_config_in_place_of_the_experiment() -> None:
    """A dynamic config of the experiment's name decides as well; its arms are the providers that it names."""
    document = specs()
    config = document["dynamic_configs"][0]
    config["entity"] = "dynamic_config"
    config["rules"] = [
        {**gate("x", 50)["rules"][0], "name": "half", "groupName": "half", "returnValue": {"provider": "xai"}}
    ]
    config["defaultValue"] = {"provider": "deepinfra", "model": "d-1"}
    decided = decide(flags(document), *(f"user-{number}" for number in range(200)))
    seen = {(flag.arm, flag.provider, flag.model, flag.exposures[0].passed) for flag in decided}
    assert seen == {("xai", "xai", None, True), ("deepinfra", "deepinfra", "d-1", False)}


def test_caller_outside_the_experiment() -> None:
    """Who is in no group is in no arm, and gets what the experiment says for everybody else."""
    document = specs()
    document["dynamic_configs"][0]["rules"] = []
    document["dynamic_configs"][0]["defaultValue"] = {"provider": "deepinfra"}
    (flag,) = decide(flags(document), "user-1")
    assert (flag.arm, flag.provider, flag.exposures[0].passed) == (None, "deepinfra", False)
    assert flag.public() == []


@pytest.mark.parametrize("value", [{}, {"provider": 7}, {"provider": None}, {"provider": ["groq"]}])
def test_no_provider_in_the_value(value: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A value of another shape leaves the choice to the setting, with one line for all requests."""
    document = specs()
    for rule in document["dynamic_configs"][0]["rules"]:
        rule["returnValue"] = value
    decided = decide(flags(document, "deepinfra/m"), *(f"user-{number}" for number in range(20)))
    assert {(flag.arm, flag.provider, flag.model) for flag in decided} == {("deepinfra", "deepinfra", "m")}
    assert len(caplog.records) == 1
    assert "names no provider" in caplog.text


@pytest.mark.parametrize("provider", ["xai", "nobody", ""])
def test_provider_that_is_off(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    """A provider that is off or unknown leaves the order to the catalogue; the arm stays, and one line tells of it."""
    document = specs()
    for rule in document["dynamic_configs"][0]["rules"]:
        rule["returnValue"] = {"provider": provider, "model": "m"}
    decided = decide(flags(document, "groq/m", on=["groq"]), *(f"user-{number}" for number in range(50)))
    assert {(flag.provider, flag.model) for flag in decided} == {(None, None)}
    assert {flag.arm for flag in decided} == {"groq", "xai", "deepinfra"}
    assert {flag.gate for flag in decided} == {None}
    assert len(caplog.records) == 1
    assert "off or unknown" in caplog.text


def test_warned_again_about_other_specs(caplog: pytest.LogCaptureFixture) -> None:
    """Each version of the specs gets a warning of its own."""
    source = SpecsFile(specs(xai={"provider": 1}, groq={"provider": 1}, deepinfra={"provider": 1}))
    both = Flags(None, [source], on=VENDORS, assignable=VENDORS)
    decide(both, "a", "b")
    source.edit(specs(xai={"provider": 2}, groq={"provider": 2}, deepinfra={"provider": 2}))
    decide(both, "a", "b")
    assert len(caplog.records) == 2


def test_flag_is_missing() -> None:
    """Specs without the flag leave the choice to the setting; kill switches hold all the same."""
    document = specs()
    document["dynamic_configs"] = []
    document["feature_gates"].append(gate("kill_xai", 100))
    (flag,) = decide(flags(document, "groq"), "user-1")
    assert flag == ProviderFlag(
        arm="groq", provider="groq", killed=frozenset({"xai"}), config_version="v1", exposures=()
    )


def test_kill_switches() -> None:
    """A gate kill_<vendor> that lets a caller pass switches that vendor off; without one the vendor is on."""
    document = specs()
    document["feature_gates"] += [gate("kill_groq", 100), gate("kill_xai", 0), gate("kill_nobody", 100)]
    decided = decide(flags(document), *(f"user-{number}" for number in range(50)))
    assert {flag.killed for flag in decided} == {frozenset({"groq"})}
    assert {flag.gate for flag in decided} == {None}


def test_not_applied() -> None:
    """Who chose by itself is in no arm and exposed to nothing, but bound by the kill switches."""
    document = specs()
    document["feature_gates"].append(gate("kill_xai", 100))
    (flag,) = decide(flags(document), assigned("groq", document))
    assert flag.not_applied() == ProviderFlag(killed=frozenset({"xai"}), config_version="v1")


def test_traits_and_tier() -> None:
    """Rules may ask for the kind and role of a caller, and for the environment."""
    document = specs()
    kill = gate("kill_xai", 100)
    kill["rules"][0]["conditions"] = [
        {**PUBLIC, "type": "user_field", "targetValue": ["operator"], "operator": "any", "field": "role"},
        {**PUBLIC, "type": "environment_field", "targetValue": ["production"], "operator": "any", "field": "tier"},
    ]
    document["feature_gates"].append(kill)

    async def killed(role: str, tier: str) -> bool:
        decided = Flags(None, [SpecsFile(document)], on=VENDORS, assignable=VENDORS, tier=tier)
        return bool((await decided.provider("user-1", {"role": role})).killed)

    cases = [("operator", "production"), ("user", "production"), ("operator", "staging")]
    assert [asyncio.run(killed(*case)) for case in cases] == [True, False, False]


def test_edit_is_followed_from_one_request_to_the_next() -> None:
    """A new version of the specs holds for the next request; one that was decided for keeps its decision."""
    source = SpecsFile(specs(groq={"model": "old"}))
    followed = Flags(None, [source], on=VENDORS, assignable=VENDORS)
    caller = assigned("groq", specs())
    (before,) = decide(followed, caller)
    source.edit(specs(groq={"model": "new"}))
    (after,) = decide(followed, caller)
    assert [(flag.model, flag.config_version) for flag in (before, after)] == [("old", "v1"), ("new", "v2")]


UNUSABLE: dict[str, dict[str, Any]] = {
    "garbage": {"feature_gates": "garbage"},
    "numbers": {"feature_gates": [1, 2, 3]},
    "half of v2": {"feature_gates": {}, "dynamic_configs": 7},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_specs(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Specs that can't be used leave the last good ones in place, with one line, until there are good ones again."""
    source = SpecsFile(specs())
    kept = Flags("deepinfra", [source], on=VENDORS, assignable=VENDORS)
    caller = assigned("xai", specs())
    (good,) = decide(kept, caller)
    source.edit(UNUSABLE[name])
    assert decide(kept, *[caller] * 5) == [good] * 5
    assert len(asyncio.run(troubles(kept))["edge config"]) > 0
    source.edit(UNUSABLE[name])
    decide(kept, caller)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    source.edit(specs())
    assert decide(kept, caller)[0].config_version == "v4"
    assert asyncio.run(troubles(kept)) == {}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_specs_from_the_start(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where there never were any others, the setting holds."""
    assert decide(flags(UNUSABLE[name], "xai"), *["user-1"] * 5) == [ProviderFlag(arm="xai", provider="xai")] * 5
    assert len(caplog.records) == 1


def with_broken(part: str, how: str) -> dict[str, Any]:
    """Specs in which one thing is not as the engine knows it."""
    document = specs()
    spec = document["dynamic_configs"][0] if part == "experiment" else document["feature_gates"][0]
    if how == "percentage":
        spec["rules"][0]["passPercentage"] = "many"
    else:
        spec["rules"][0]["conditions"] = [{**PUBLIC, "type": "user_field", "field": "x", "operator": "frobnicate"}]
    return document


@pytest.mark.parametrize("how", ["operator", "percentage"])
def test_experiment_that_cannot_be_read(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """An experiment with an operator that the engine does not know leaves the choice to the setting, and is told of."""
    broken = flags(with_broken("experiment", how), "xai")
    decided = decide(broken, *(f"user-{number}" for number in range(20)))
    assert {(flag.arm, flag.provider, flag.exposures) for flag in decided} == {("xai", "xai", ())}
    assert asyncio.run(troubles(broken)) == {"edge config": "flag_unreadable"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("how", ["operator", "percentage"])
def test_gate_that_cannot_be_read(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A gate that the engine can't read is not asked; the experiment decides all the same."""
    caller = assigned("groq", specs())
    broken = flags(with_broken("gate", how))
    (flag,) = decide(broken, caller)
    assert (flag.arm, flag.model, flag.gate, len(flag.exposures)) == ("groq", "groq-1", None, 1)
    assert asyncio.run(troubles(broken)) == {"edge config": "flag_unreadable"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_sources_in_order() -> None:
    """The first source that has specs counts; what is wrong with any is told by its part."""
    empty, full = SpecsFile(None), SpecsFile(specs())
    empty.error, full.part = "timeout", "statsig"
    both = Flags("groq", [empty, full], on=VENDORS, assignable=VENDORS)
    assert decide(both, "user-1")[0].config_version == "v1"
    assert asyncio.run(troubles(both)) == {"edge config": "timeout"}
    empty.edit(specs())
    full.edit(None)
    assert decide(both, "user-1")[0].config_version == "v1"
    empty.edit(None)
    assert decide(both, "user-1") == [ProviderFlag(arm="groq", provider="groq")]


def test_renew() -> None:
    """After an answer every source is renewed, and new specs are made ready."""
    source = SpecsFile(specs())
    renewed = Flags(None, [source], on=VENDORS, assignable=VENDORS)
    decide(renewed, "user-1")
    source.edit(specs())

    async def renew() -> None:
        await renewed.renew()

    asyncio.run(renew())
    assert source.renewed == 1
    assert renewed._engine is not None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    assert renewed._engine.version == "v2"  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def test_parallel_requests_make_one_engine() -> None:
    """Requests that find new specs at the same time wait for the same engine."""
    made = flags(specs())

    async def ask() -> set[str | None]:
        return {flag.config_version for flag in await asyncio.gather(*(made.provider(f"u{n}") for n in range(50)))}

    assert asyncio.run(ask()) == {"v1"}


def passing(percentage: float, callers: Iterable[str]) -> set[str]:
    """Those of the callers who pass a gate with this percentage."""
    gates = [gate("g", percentage, salt="a-salt")]
    engine = Engine({"feature_gates": gates, "dynamic_configs": [], "layer_configs": []}, "v", tier="development")
    verdicts = ((caller, engine.gate(engine.user(caller), "g")) for caller in callers)
    return {caller for caller, verdict in verdicts if verdict is not None and verdict.passed}


def test_share() -> None:
    """Of 100,000 callers a gate at 10 % lets 10 % pass, to half a point."""
    callers = [f"{number:032x}" for number in range(100_000)]
    assert abs(len(passing(10, callers)) / 1_000 - 10) < 0.5


def test_nobody_leaves_as_the_share_grows() -> None:
    """Who passes a gate passes it at every higher percentage."""
    callers = [f"{number:032x}" for number in range(5_000)]
    before: set[str] = set()
    for percentage in (0, 1, 5, 10, 25, 50, 100):
        now = passing(percentage, callers)
        assert before <= now
        assert len(now) > len(before) or percentage == 0
        before = now
    assert before == set(callers)


def test_shipped_specs(caplog: pytest.LogCaptureFixture) -> None:
    """The specs of local/items have the genuine names of flag, gate and arms, and models of this machine."""
    caplog.set_level(logging.INFO)
    shipped = flags(SHIPPED, on=["local"])
    decided = decide(shipped, *(f"user-{number}" for number in range(300)))
    assert {flag.arm for flag in decided} == {"groq", "deepinfra", "xai"}
    assert {(flag.provider, flag.model) for flag in decided} == {("local", "smollm2-135m-instruct")}
    # A rollout begins at 0 %.
    assert {flag.gate_arm for flag in decided if flag.arm == "groq"} == {"control"}
    assert {flag.gate_arm for flag in decided if flag.arm != "groq"} == {None}
    opened = flags(with_share(SHIPPED, GATE, 0.5), on=["local"])
    arms = {flag.gate_arm for flag in decide(opened, *(f"user-{number}" for number in range(300)))}
    assert arms == {"control", "treatment", None}
    assert {flag.killed for flag in decided} == {frozenset()}
    assert asyncio.run(troubles(shipped)) == {}
    assert caplog.records == []


async def troubles(flags: Flags) -> dict[str, str]:
    """What is wrong, by part."""
    return dict(await flags.troubles())


@pytest.mark.parametrize(
    ("age_s", "percent", "asked"), [(10.9, 10, True), (11.1, 10, False), (None, 10, False), (99, 100, True)]
)
def test_a_gate_is_not_opened_by_outdated_specs(age_s: float | None, percent: float, asked: bool) -> None:  # noqa: FBT001
    """It may have been closed meanwhile; one that was open to all is no experiment any more."""
    source = SpecsFile(with_share(specs(), GATE, percent / 100))
    source.age_s = age_s
    flags = Flags(None, [source], on=VENDORS, assignable=VENDORS, trusted_s=11)
    decided = decide(flags, *(f"user-{number}" for number in range(60)))
    gates = {flag.gate for flag in decided if flag.provider == "groq"}
    assert gates == ({GATE} if asked else {None})
    assert {flag.gate_share for flag in decided if flag.gate} <= {percent / 100}

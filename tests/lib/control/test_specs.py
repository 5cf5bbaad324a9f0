"""Statsig's specs from one layout to the other: the same decisions for everyone, and nothing made of nonsense."""

from __future__ import annotations

import copy
import importlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.control.engine import Engine
from lib.control.specs import Unreadable, share_of, to_v2, with_share
from lib.errors import ServiceFailed
from tests.conftest import ROOT

VECTORS = ROOT / "tests" / "vectors" / "statsig"
V1: dict[str, Any] = json.loads((VECTORS / "specs_v1.json").read_text())
V2: dict[str, Any] = json.loads((VECTORS / "specs_v2.json").read_text())
ASSIGNMENTS: dict[str, Any] = json.loads((VECTORS / "assignments.json").read_text())
USERS = 10_000
EXPERIMENT, GATE, CONFIG, LAYER = (
    *("feature_ai_provider", "groq_r1_v_production", "generation_params", "ai_provider_layer"),
)
Row = list[Any]


def person(number: int) -> dict[str, Any]:
    """User number i of the vectors."""
    plan = ("free", "pro", "team")[number % 3] if number % 5 == 0 else "free"
    domain = "example.com" if number % 1000 == 0 else "example.org"
    return {"user_id": f"user-{number}", "email": f"user-{number}@{domain}", "custom": {"plan": plan}}


def with_ids_spelled_out(specs: dict[str, Any]) -> dict[str, Any]:
    """The specs with each rule's conditions in place of their ids, which anybody may choose."""
    specs = copy.deepcopy(specs)
    conditions = specs.pop("condition_map")
    for kind in ("feature_gates", "dynamic_configs", "layer_configs"):
        for spec in specs[kind].values():
            for rule in spec["rules"]:
                rule["conditions"] = [conditions[condition_id] for condition_id in rule["conditions"]]
    return specs


def test_conversion() -> None:
    """The converted document is the one that was proven against both of Statsig's engines."""
    assert with_ids_spelled_out(to_v2(V1)) == with_ids_spelled_out(V2)


def test_v2_stays_as_it_is() -> None:
    """A document that is in the engine's layout already is not touched."""
    assert to_v2(V2) == V2


def rows_of_the_engine() -> Iterator[Row]:
    """What our engine says of each user, over the converted specs."""
    engine = Engine(V1, "v", tier="development")
    statsig, new_user = engine._statsig, engine._sdk.StatsigUser  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    for number in range(USERS):
        user = new_user(**person(number))
        gate, layer = statsig.get_feature_gate(user, GATE), statsig.get_layer(user, LAYER)
        experiment, config = statsig.get_experiment(user, EXPERIMENT), statsig.get_dynamic_config(user, CONFIG)
        yield [
            *(gate.value, gate.rule_id),
            *(experiment.value["provider"], experiment.rule_id, experiment.group_name),
            *(config.value["voice_id"], config.rule_id),
            *(layer.get("provider", None), layer.rule_id),
        ]


def test_everyone_is_decided_for_as_before() -> None:
    """10,000 users get what both engines gave them over the original documents."""
    rows = list(rows_of_the_engine())
    assert {number: rows[int(number)] for number in ASSIGNMENTS["first"]} == ASSIGNMENTS["first"]
    for column, counts in ASSIGNMENTS["counts_10k"].items():
        assert Counter(str(row[int(column)]) for row in rows) == Counter(counts)


def test_old_package_agrees() -> None:
    """Statsig's old package, which reads the original layout by itself, says the same of all 10,000 users."""
    statsig: Any = importlib.import_module("statsig")  # its types are incomplete
    old = statsig.StatsigServer()
    options = statsig.StatsigOptions(bootstrap_values=json.dumps(V1), local_mode=True, disable_diagnostics=True)
    old.initialize("secret-unused", options)
    try:
        for number, row in enumerate(rows_of_the_engine()):
            user = statsig.StatsigUser(**person(number))
            gate, layer = old.get_feature_gate(user, GATE), old.get_layer(user, LAYER)
            experiment, config = old.get_experiment(user, EXPERIMENT), old.get_config(user, CONFIG)
            assert row == [
                *(gate.value, gate.rule_id),
                *(experiment.value["provider"], experiment.rule_id, experiment.group_name),
                *(config.value["voice_id"], config.rule_id),
                *(layer.get("provider", None), layer.rule_id),
            ]
    finally:
        old.shutdown()


NONSENSE: dict[str, tuple[dict[str, Any], str, str]] = {
    "a list of nothing": ({"feature_gates": [1, 2]}, "feature_gates.0", "be an object"),
    "text": ({"feature_gates": "gates"}, "feature_gates", "be a list"),
    "a number": ({"feature_gates": 7}, "feature_gates", "be a list"),
    "rules of text": ({"feature_gates": [{"rules": "none"}]}, "feature_gates.0.rules", "be a list"),
    "rules of numbers": ({"dynamic_configs": [{"rules": [{}, 1]}]}, "dynamic_configs.0.rules.1", "be an object"),
    "conditions of text": (
        {"feature_gates": [{}, {"rules": [{"conditions": ["x"]}]}]},
        "feature_gates.1.rules.0.conditions.0",
        "be an object",
    ),
    "layers in a list": ({"feature_gates": [], "layers": [1]}, "layers", "be an object"),
    "experiments of text": ({"feature_gates": [], "layers": {"a": "b"}}, "layers.a", "be a list"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(name: str) -> None:
    """What is not in either layout is refused by a word, whatever it is, and by where it is."""
    document, path, must = NONSENSE[name]
    with pytest.raises(Unreadable) as refused:
        to_v2(document)
    assert (refused.value.code, refused.value.path, refused.value.must) == ("specs_unreadable", path, must)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)
FIELDS = [*V1, "name", "rules", "conditions", "passPercentage"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), JSON)
def test_any_document(specs: dict[str, Any], gates: Any) -> None:
    """Any document whatever is either converted into one that the engine starts with, or refused."""
    try:
        converted = to_v2({**specs, "feature_gates": gates})
    except ServiceFailed:
        return
    assert isinstance(converted["feature_gates"], dict)


def test_nothing_in_it() -> None:
    """Specs without a single flag are fine: nobody is decided for."""
    engine = Engine({"feature_gates": [], "dynamic_configs": [], "layer_configs": []}, "v", tier="production")
    user = engine.user("user-1")
    assert (engine.config(user, EXPERIMENT), engine.gate(user, GATE), engine.gates) == (None, None, frozenset())


PUBLIC: dict[str, Any] = {"type": "public", "targetValue": None, "operator": None, "field": None}


def rule(name: str, percentage: object = 10, **more: object) -> dict[str, Any]:
    """A rule of a gate."""
    return {"name": name, "passPercentage": percentage, "returnValue": True, "conditions": [PUBLIC], **more}


def gate_of(*rules: object, **more: object) -> dict[str, Any]:
    """A document of one gate with these rules."""
    return {"feature_gates": [{"name": "gate", "salt": "s", "enabled": True, "rules": list(rules), **more}]}


@pytest.mark.parametrize("document", [V1, V2], ids=["v1", "v2"])
def test_share_in_either_layout(document: dict[str, Any]) -> None:
    """The gate's share is read and changed in both layouts; the percentage is all that changes."""
    before = copy.deepcopy(document)
    assert (share_of(document, GATE), share_of(document, "unknown")) == (0.1, None)
    changed = with_share(document, GATE, 0.25)
    assert (share_of(changed, GATE), document) == (0.25, before)
    was, now = json.dumps(before, sort_keys=True), json.dumps(changed, sort_keys=True)
    assert now != was == now.replace('"passPercentage": 25', '"passPercentage": 10')


@pytest.mark.parametrize(
    ("rules", "share"),
    [
        ([rule("everyone", 5)], 0.05),
        ([rule("internal", 100), rule("rollout", 5)], 0.05),
        ([rule("7w9", 100, groupName="internal"), rule("38t", 5, groupName="rollout")], 0.05),
        ([rule("internal", 100, baseID="7w9"), rule("ours", 5, baseID="rollout")], 0.05),
        ([rule("internal", returnValue=False), rule("everyone", 5)], 0.05),
        ([rule("no percentage", None), rule("everyone", 0.25)], 0.0025),
        ([rule("a"), rule("b")], "rule_ambiguous"),
        ([rule("rollout"), rule("rollout")], "rule_ambiguous"),
        ([rule("internal", returnValue=False)], "rule_missing"),
        (
            [rule("rollout", percentage=True), rule("rollout", "10"), rule("rollout", 101), rule("rollout", -1), 7],
            "rule_missing",
        ),
        ([], "rule_missing"),
    ],
)
def test_rollout_rule(rules: list[object], share: float | str) -> None:
    """The rule called rollout, else the only one that lets callers in; several candidates are none."""
    document = gate_of(*rules)
    if isinstance(share, float):
        assert share_of(document, "gate") == share
        return
    for work in (lambda: share_of(document, "gate"), lambda: with_share(document, "gate", 0)):
        with pytest.raises(ServiceFailed, match=rf"^{share}$"):
            work()


@pytest.mark.parametrize(
    ("share", "written"), [(0, "0"), (0.07, "7"), (0.29, "29"), (1, "100"), (0.0025, "0.25"), (0.005, "0.5")]
)
def test_percentage_as_it_is_written(share: float, written: str) -> None:
    """No rounding error of binary fractions reaches the document."""
    changed: Any = with_share(gate_of(rule("rollout")), "gate", share)
    assert json.dumps(changed["feature_gates"][0]["rules"][0]["passPercentage"]) == written


@pytest.mark.parametrize("share", [1 / 3, 0.00001, -0.01, 1.01, float("nan"), float("inf")])
def test_share_that_cannot_be_kept(share: float) -> None:
    """A share that the store would keep as another one is refused before it is written."""
    with pytest.raises(ServiceFailed, match=r"^share_unfit$"):
        with_share(gate_of(rule("rollout")), "gate", share)


def test_gate_of_which_there_are_two() -> None:
    """The one that the engine would see is read and changed."""
    document = {
        "feature_gates": [*gate_of(rule("rollout", 5))["feature_gates"], *gate_of(rule("rollout"))["feature_gates"]]
    }
    assert share_of(document, "gate") == share_of(to_v2(document), "gate") == 0.1
    assert share_of(to_v2(with_share(document, "gate", 0.5)), "gate") == 0.5


def test_disabled_gate() -> None:
    """A disabled gate lets nobody in, whatever its rule says; it can be set to 0, but not raised."""
    document = gate_of(rule("rollout", 50), enabled=False)
    assert share_of(document, "gate") == 0
    assert share_of(with_share(document, "gate", 0), "gate") == 0
    with pytest.raises(ServiceFailed, match=r"^gate_disabled$"):
        with_share(document, "gate", 0.01)


@pytest.mark.parametrize(
    "document", [{"feature_gates": "no"}, {"feature_gates": [7]}, {"feature_gates": {"gate": [7]}}]
)
def test_share_of_nonsense(document: dict[str, Any]) -> None:
    """What is in neither layout is named so."""
    with pytest.raises(ServiceFailed, match=r"^specs_unreadable$"):
        share_of(document, "gate")


def test_share_of_a_gate_that_is_not_there() -> None:
    """No gate can be written that isn't there."""
    with pytest.raises(ServiceFailed, match=r"^gate_missing$"):
        with_share(V1, "unknown", 0)

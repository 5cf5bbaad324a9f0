"""An experiment's arms and shares, as its specs have them; what can't be read is not guessed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from lib.control.design import design_of
from lib.control.experiments import Design
from lib.control.flags import EXPERIMENT
from lib.control.specs import to_v2
from tests.lib.control.test_flags import specs
from tests.rollouts import SPECS

Rules: TypeAlias = list[dict[str, Any]]
VECTORS = Design("groq", {"groq": 400, "deepinfra": 300, "xai": 300})


def test_both_layouts() -> None:
    """The vectors' arms and the shipped ones."""
    assert design_of(specs(), EXPERIMENT) == VECTORS
    assert design_of(to_v2(specs()), EXPERIMENT) == VECTORS
    assert design_of(SPECS, EXPERIMENT) == Design("groq", {"groq": 340, "deepinfra": 330, "xai": 330})


def test_control_by_name() -> None:
    """The arm that is called so is the control, wherever it stands."""
    document = changed(lambda rules: rules[1].update(groupName="Control"))
    assert design_of(document, EXPERIMENT) == Design("Control", {"groq": 400, "Control": 300, "xai": 300})


def changed(edit: Callable[[Rules], object]) -> dict[str, Any]:
    """The vectors with the experiment's rules edited."""
    document = copy.deepcopy(specs())
    edit(next(config for config in document["dynamic_configs"] if config["name"] == EXPERIMENT)["rules"])
    return document


def _no_arms(rules: Rules) -> None:
    rules.clear()


def _one_arm(rules: Rules) -> None:
    del rules[1:]


EDITS: dict[str, Callable[[Rules], object]] = {
    "another condition": lambda rules: rules[0]["conditions"][0].update(type="user_field"),
    "another operator": lambda rules: rules[0]["conditions"][0].update(operator="gt"),
    "no number": lambda rules: rules[0]["conditions"][0].update(targetValue="400"),
    "two conditions": lambda rules: rules[0]["conditions"].append({"type": "public"}),
    "no condition": lambda rules: rules[0]["conditions"].clear(),
    "a part of them": lambda rules: rules[1].update(passPercentage=50),
    "a name twice": lambda rules: rules[1].update(groupName="groq"),
    "too many buckets": lambda rules: rules[2]["conditions"][0].update(targetValue=1001),
    "falling": lambda rules: rules.reverse(),
    "no arms": _no_arms,
    "one arm": _one_arm,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_what_is_not_guessed(edit: Callable[[Rules], object]) -> None:
    """Any other way of dividing users, and an experiment with a single arm."""
    assert design_of(changed(edit), EXPERIMENT) is None


def test_not_there() -> None:
    """No such experiment, no specs."""
    assert design_of(specs(), "other") is None
    assert design_of({}, EXPERIMENT) is None
    assert design_of({"feature_gates": [1]}, EXPERIMENT) is None


@pytest.mark.parametrize(
    "document",
    [
        {"feature_gates": {}, "dynamic_configs": ["no map"]},
        {"feature_gates": {}, "dynamic_configs": {"e": {"rules": ["no rule"]}}},
        {"feature_gates": {}, "dynamic_configs": {"e": {"rules": {"no": "list"}}}},
        {"feature_gates": {}, "dynamic_configs": {"e": {"rules": [{"groupName": "a", "conditions": [{"no": "id"}]}]}}},
        {
            "feature_gates": {},
            "dynamic_configs": {"e": {"rules": [{"groupName": "a", "conditions": ["c"]}]}},
            "condition_map": ["no map"],
        },
    ],
)
def test_a_broken_document_has_no_design(document: dict[str, object]) -> None:
    """What the layout of the engine lets through reaches nobody as an exception."""
    assert design_of(document, "e") is None

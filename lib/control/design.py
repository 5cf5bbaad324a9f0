"""What an experiment's specs say of its arms: how many users each gets, and which is the control. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lib.control.experiments import Design
from lib.control.specs import to_v2
from lib.errors import ServiceFailed

BUCKETS = 1000
"""Statsig hashes a user into one of so many; an arm is a rule `user_bucket < n` behind the arms before it."""


def design_of(document: Mapping[str, object], experiment: str) -> Design | None:
    """The arms' shares, in buckets; None where the experiment is not there, or divides its users in another way.

    The control is the arm called so, in any case of letters, else the first one. The document may be in either layout.
    """
    try:
        specs = to_v2(document)
    except ServiceFailed:
        return None
    spec = _mapping(_mapping(specs.get("dynamic_configs")).get(experiment))
    conditions = _mapping(specs.get("condition_map"))
    shares: dict[str, float] = {}
    taken = 0.0
    # What is in v2's layout already was looked at by nobody.
    for rule in map(_mapping, _list(spec.get("rules"))):
        upto = _upto(rule, conditions)
        name = rule.get("groupName") or rule.get("name")
        if upto is None or not taken < upto <= BUCKETS or not isinstance(name, str) or name in shares:
            return None
        shares[name] = upto - taken
        taken = upto
    control = next((name for name in shares if name.lower() == "control"), next(iter(shares), None))
    return Design(control, shares) if control is not None and len(shares) > 1 else None


def _upto(rule: Mapping[str, Any], conditions: Mapping[str, Any]) -> float | None:
    """Below which bucket users pass this rule; None where it asks for anything else."""
    found = [_mapping(conditions.get(str(each))) for each in _list(rule.get("conditions"))]
    if len(found) != 1 or rule.get("passPercentage") != 100:  # noqa: PLR2004
        return None
    condition = found[0]
    upto = condition.get("targetValue")
    fits = condition.get("type") == "user_bucket" and condition.get("operator") == "lt"
    return upto if fits and isinstance(upto, int | float) and not isinstance(upto, bool) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []

"""Statsig's config specs, from the layout in which its integrations write them (v1) to the one its engine reads (v2).

v1, in Edge Config items and at /v1/download_config_specs: lists of gates and configs, conditions inside their rules.
v2, for statsig-python-core: maps by name, conditions in one `condition_map` that rules refer to by id, and
`experiment_to_layer` instead of `layers`. Values, salts and conditions themselves are the same in both.

A gate's share is the pass percentage of its rollout rule, and can be read and changed in either layout. A user passes
by a hash of the gate's salt, the rule's and their id, compared with that percentage: raised, it only adds users.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from math import isclose
from typing import TypeAlias, cast

import orjson

from lib.errors import ServiceFailed

Json: TypeAlias = dict[str, object]
KINDS = ("feature_gates", "dynamic_configs", "layer_configs")
MARK = "feature_gates"
"""What every specs document has, and no other item."""
ROLLOUT = "rollout"
"""What the rule is called whose percentage a rollout moves, where a gate has several."""
WHOLE = 100.0
"""The most that a pass percentage may say."""
ROUNDING = 1e-6


class Unreadable(ServiceFailed):
    """Specs in neither layout: what stands at `path` must be something else, which `must` names."""

    def __init__(self, path: str, must: str) -> None:
        super().__init__("specs_unreadable")
        self.path = path
        self.must = must


def to_v2(specs: Mapping[str, object]) -> Json:
    """The specs in the layout of v2; a document that is in it already stays as it is.

    Raises Unreadable where it is neither.
    """
    if isinstance(specs.get(MARK), Mapping):
        return dict(specs)
    conditions: Json = {}
    layers: object = specs.get("layers") or cast("Json", {})
    if not isinstance(layers, Mapping):
        raise Unreadable("layers", "be an object")
    time = specs.get("time")
    return {
        **{key: value for key, value in specs.items() if key != "layers"},
        **{
            kind: {
                str(spec.get("name")): _spec(spec, f"{kind}.{number}", conditions)
                for number, spec in enumerate(_objects(specs.get(kind), kind))
            }
            for kind in KINDS
        },
        "condition_map": conditions,
        "experiment_to_layer": {
            str(experiment): layer
            for layer, experiments in cast("Mapping[str, object]", layers).items()
            for experiment in _list(experiments, f"layers.{layer}")
        },
        "override_rules": {},
        "overrides": {},
        "id_lists": None,
        "has_updates": True,
        # When the specs were last edited, in ms; the engine takes none without it.
        "time": time if isinstance(time, int) and time > 0 else 1,
    }


def share_of(document: Mapping[str, object], gate: str) -> float | None:
    """What share of callers the gate's rollout rule lets in, 0 to 1; 0 of a disabled gate, None without such a gate.

    The document may be in either layout. Raises ServiceFailed: rule_missing, rule_ambiguous, specs_unreadable.
    """
    spec = _gate(document, gate)
    return None if spec is None else share_in(spec)


def same_share(one: float, other: float) -> bool:
    """Whether two shares are one: stores keep percentages, some of them with two digits."""
    return isclose(one, other, abs_tol=1e-6)


def with_share(document: Mapping[str, object], gate: str, share: float) -> Json:
    """The document with that share, otherwise the same; what was passed in is left as it is.

    Raises ServiceFailed: gate_missing, gate_disabled (for more than 0), share_unfit, and as share_of.
    """
    changed = copy.deepcopy(dict(document))
    spec = _gate(changed, gate)
    if spec is None:
        raise ServiceFailed("gate_missing")
    rollout_rule(spec)["passPercentage"] = percentage_for(spec, share)
    return changed


def share_in(spec: Mapping[str, object]) -> float:
    """What share of callers a gate's rollout rule lets in, 0 to 1. `isEnabled` is the Console API's `enabled`.

    Raises ServiceFailed: rule_missing, rule_ambiguous.
    """
    rule = rollout_rule(spec)
    return 0.0 if _is_off(spec) else cast("float", rule["passPercentage"]) / WHOLE


def percentage_for(spec: Mapping[str, object], share: float) -> float:
    """What to write into the gate's rule: whole where it can be, with two digits at most, as Statsig keeps it.

    Raises ServiceFailed: share_unfit for a share outside 0 to 1 or a finer one, gate_disabled where nobody would pass.
    """
    percentage = round(share * WHOLE, 2)
    if not 0 <= share <= 1 or abs(percentage - share * WHOLE) > ROUNDING:
        raise ServiceFailed("share_unfit")
    if share > 0 and _is_off(spec):
        raise ServiceFailed("gate_disabled")
    return int(percentage) if percentage.is_integer() else percentage


def rollout_rule(spec: Mapping[str, object]) -> Json:
    """The rule of a gate whose percentage a rollout moves: the one called `rollout`, else the only one there is.

    Not by its id, which holds the percentage at Statsig. A rule that keeps callers out, or has no percentage, is none.
    Raises ServiceFailed: rule_missing, rule_ambiguous.
    """
    rules = spec.get("rules")
    found = [rule for rule in cast("list[object]", rules) if _lets_in(rule)] if isinstance(rules, list) else []
    those = cast("list[Json]", found)
    named = [rule for rule in those if ROLLOUT in (rule.get("name"), rule.get("groupName"), rule.get("baseID"))]
    candidates = named or those
    if len(candidates) != 1:
        raise ServiceFailed("rule_ambiguous" if candidates else "rule_missing")
    return candidates[0]


def _lets_in(rule: object) -> bool:
    if not isinstance(rule, dict):
        return False
    fields = cast("Json", rule)
    percentage = fields.get("passPercentage")
    is_number = isinstance(percentage, int | float) and not isinstance(percentage, bool) and 0 <= percentage <= WHOLE
    return is_number and fields.get("returnValue") is not False


def _is_off(spec: Mapping[str, object]) -> bool:
    return spec.get("enabled", spec.get("isEnabled")) is False


def _gate(document: Mapping[str, object], name: str) -> Json | None:
    """The gate in either layout; of two with one name, which only lists allow, the last, as in to_v2."""
    gates = document.get(MARK)
    if isinstance(gates, Mapping):
        named = cast("Mapping[str, object]", gates)
        return _objects([named[name]], f"{MARK}.{name}")[0] if name in named else None
    return next((spec for spec in reversed(_objects(gates, MARK)) if spec.get("name") == name), None)


def _spec(spec: Json, path: str, conditions: Json) -> Json:
    found = _objects(spec.get("rules"), f"{path}.rules")
    rules = [_rule(rule, f"{path}.rules.{number}", conditions) for number, rule in enumerate(found)]
    return {**{key: value for key, value in spec.items() if key != "name"}, "rules": rules}


def _rule(rule: Json, path: str, conditions: Json) -> Json:
    ids: list[str] = []
    for condition in _objects(rule.get("conditions"), f"{path}.conditions"):
        condition_id = hashlib.sha256(orjson.dumps(condition, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        conditions[condition_id] = condition
        ids.append(condition_id)
    return {**rule, "conditions": ids}


def _objects(value: object, path: str) -> list[Json]:
    objects = _list(value, path)
    for number, each in enumerate(objects):
        if not isinstance(each, dict):
            raise Unreadable(f"{path}.{number}", "be an object")
    return cast("list[Json]", objects)


def _list(value: object, path: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unreadable(path, "be a list")
    return cast("list[object]", value)

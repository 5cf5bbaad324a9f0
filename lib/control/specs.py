"""Statsig's config specs, from the layout in which its integrations write them (v1) to the one its engine reads (v2).

v1, in Edge Config items and at /v1/download_config_specs: lists of gates and configs, conditions inside their rules.
v2, for statsig-python-core: maps by name, conditions in one `condition_map` that rules refer to by id, and
`experiment_to_layer` instead of `layers`. Values, salts and conditions themselves are the same in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias, cast

import orjson

from lib.errors import ServiceFailed

Json: TypeAlias = dict[str, object]
KINDS = ("feature_gates", "dynamic_configs", "layer_configs")
MARK = "feature_gates"
"""What every specs document has, and no other item."""


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

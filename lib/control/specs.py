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


def to_v2(specs: Mapping[str, object]) -> Json:
    """The specs in the layout of v2; a document that is in it already stays as it is.

    Raises ServiceFailed where it is neither.
    """
    if isinstance(specs.get(MARK), Mapping):
        return dict(specs)
    conditions: Json = {}
    layers: object = specs.get("layers") or cast("Json", {})
    if not isinstance(layers, Mapping):
        raise _unfit()
    time = specs.get("time")
    return {
        **{key: value for key, value in specs.items() if key != "layers"},
        **{
            kind: {str(spec.get("name")): _spec(spec, conditions) for spec in _objects(specs.get(kind))}
            for kind in KINDS
        },
        "condition_map": conditions,
        "experiment_to_layer": {
            str(experiment): layer
            for layer, experiments in cast("Mapping[str, object]", layers).items()
            for experiment in _list(experiments)
        },
        "override_rules": {},
        "overrides": {},
        "id_lists": None,
        "has_updates": True,
        # When the specs were last edited, in ms; the engine takes none without it.
        "time": time if isinstance(time, int) and time > 0 else 1,
    }


def _spec(spec: Json, conditions: Json) -> Json:
    rules = [_rule(rule, conditions) for rule in _objects(spec.get("rules"))]
    return {**{key: value for key, value in spec.items() if key != "name"}, "rules": rules}


def _rule(rule: Json, conditions: Json) -> Json:
    ids: list[str] = []
    for condition in _objects(rule.get("conditions")):
        condition_id = hashlib.sha256(orjson.dumps(condition, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        conditions[condition_id] = condition
        ids.append(condition_id)
    return {**rule, "conditions": ids}


def _objects(value: object) -> list[Json]:
    objects = _list(value)
    if not all(isinstance(each, dict) for each in objects):
        raise _unfit()
    return cast("list[Json]", objects)


def _list(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _unfit()
    return cast("list[object]", value)


def _unfit() -> ServiceFailed:
    return ServiceFailed("specs_unreadable")

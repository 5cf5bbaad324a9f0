"""Our evaluation of made-up expressions, beside that of Hypertune's own SDK."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from lib.control.hypertune import InitData
from tests.lib.control.expressions.trees import Chance, init_data
from tests.npm import node_with_packages

PACKAGE = Path(__file__).parent / "hypertune_sdk"
TREES = 1_500
CALLERS = 4


def _comparable(value: Any) -> Any:
    """A value as the SDK's side writes it: numbers without a JSON form by name, whole ones as floats."""
    if isinstance(value, dict):
        return {name: _comparable(item) for name, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_comparable(item) for item in cast("list[Any]", value)]
    if type(value) is float and not math.isfinite(value):
        return {"$number": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return float(value) if type(value) is int else value


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("HYPERTUNE_SDK") != "1",
    reason="HYPERTUNE_SDK=1 installs Hypertune's SDK from npm and compares; its licence is for Hypertune's customers",
)
def test_the_sdk_gives_the_same_values() -> None:
    """Wherever the SDK has a value, ours is the same; it has none where a branch that isn't taken is mistaken."""
    node = node_with_packages(PACKAGE)
    batches: list[dict[str, Any]] = []
    for seed in range(TREES):
        chance = Chance(seed)
        field = chance.field()
        cases = [{"rootArgs": chance.caller(), "field": "field"} for _ in range(CALLERS)]
        batches.append({"initData": init_data(field=field), "cases": cases})
    done = subprocess.run(
        [node, "evaluate.mjs"], cwd=PACKAGE, input=json.dumps(batches), capture_output=True, text=True, check=True
    )
    wrong: list[Any] = []
    both = 0
    for seed, (batch, theirs) in enumerate(zip(batches, json.loads(done.stdout), strict=True)):
        prepared = InitData(batch["initData"])
        for case, expected in zip(batch["cases"], theirs, strict=True):
            ours = prepared.root(case["rootArgs"]).get("field", fallback="__fallback__")
            both += expected != "__fallback__"
            if expected != "__fallback__" and _comparable(ours) != _comparable(expected):
                wrong.append((seed, case, ours, expected))
    assert wrong == []
    assert both > TREES * CALLERS / 2

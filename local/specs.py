"""What is wrong with an edited specs document, found by the engine itself before anybody's flag is decided by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from lib.control.engine import Engine
from lib.control.specs import KINDS, MARK, Unreadable, to_v2
from lib.errors import FieldError, ServiceFailed


def faults(document: Mapping[str, object]) -> tuple[FieldError, ...]:
    """Where the document can't be used, and why; empty where it can. Takes up to 100 ms: use a thread."""
    if MARK not in document:
        return (FieldError(MARK, "is missing: these are no specs"),)
    try:
        named = to_v2(document)
        engine = Engine(document, "edited", tier="development")
    except Unreadable as error:
        return (FieldError(error.path, f"must {error.must}"),)
    except ServiceFailed:
        return (FieldError("", "is nothing that Statsig's engine can read"),)
    gates, configs = (cast("Mapping[str, object]", named.get(kind) or {}) for kind in KINDS[:2])
    unknown = {
        "feature_gates": engine.unreadable("", tuple(gates)),
        "dynamic_configs": [name for name in configs if engine.unreadable(name, ())],
    }
    return tuple(
        FieldError(f"{kind}.{name}", "has a form that Statsig's engine does not know: nobody could be decided for")
        for kind, names in unknown.items()
        for name in names
    )

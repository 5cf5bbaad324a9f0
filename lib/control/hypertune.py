"""Hypertune's init data, as its Vercel integration stores it in Edge Config: read, and evaluated field by field.

The data is one JSON object {commitId, hash, reducedExpression, splits, commitConfig}, whose expression gives an object
with one field, `root`: a function of {context: {…}}, whose result holds the fields.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, cast

import orjson

from lib.control.expressions.compiler import compiled
from lib.control.expressions.values import Function, Meter, Object, Scope, Unfit, member, plain

log = logging.getLogger("hypertune")

MAX_BYTES = 2 << 20
"""Of init data that comes as a string; the largest Edge Config holds a quarter."""
JSONITO = "jsonito_"


def is_compressed(item: object) -> bool:
    """Whether this is Hypertune's compressed form, which is not read here."""
    return isinstance(item, str) and item.startswith(JSONITO)


class InitData:
    """One version of the init data, prepared: make it once and keep it as long as the item is the same."""

    def __init__(self, item: object) -> None:
        """`item` is the stored value, an object or a string of JSON. Never raises: what is unusable has no fields."""
        self._warned: set[str] = set()
        self._code = None
        try:
            data = _read(item)
        except Unfit as error:
            log.warning("Hypertune's init data %s; everything falls back.", error)
        else:
            self._code = compiled(data.get("reducedExpression"), data.get("splits"))

    def root(self, root_args: Mapping[str, object]) -> Root:
        """The fields for one caller: `root_args` is {context: {…}} as the project's schema has it."""
        return Root(self, self._code, root_args)

    def warn(self, field: str, why: str) -> None:
        """Say once that a field can't be used."""
        if field not in self._warned:
            self._warned.add(field)
            log.warning("Hypertune's field %s %s; it falls back.", field, why)


class Root:
    """The fields for one caller, evaluated one by one as they are asked for."""

    def __init__(self, init_data: InitData, code: Any, root_args: Mapping[str, object]) -> None:
        self._init_data = init_data
        self._meter = Meter()
        self._fields: object = None
        self.names: Collection[str] = ()
        """The fields that there are."""
        if code is None:
            return
        try:
            root = member(self._meter.run(code, Scope({}, self._meter)), "root")
            self._fields = root.call([root_args]) if isinstance(root, Function) else root
            if isinstance(self._fields, Object):
                self.names = self._fields.names()
        except Unfit as error:
            init_data.warn("root", str(error))

    def get(self, field: str, args: Mapping[str, object] | None = None, fallback: object = None) -> object:
        """The field's value as JSON, or `fallback` where it has none; why is logged once per version of the data."""
        if self._fields is None:
            return fallback
        self._meter.reset()
        try:
            value = member(self._fields, field)
            if isinstance(value, Function):
                value = value.call([args or {}])
            return plain(value, self._meter)
        except Unfit as error:
            self._init_data.warn(field, str(error))
            return fallback


def evaluate(
    init_data: object,
    root_args: Mapping[str, object],
    field: str,
    field_args: Mapping[str, object] | None = None,
    fallback: object = None,
) -> object:
    """One field's value, equal to what Hypertune's TypeScript SDK gives, or `fallback`. Never raises.

    `init_data` is the stored value; the last few are kept prepared, known by identity: don't change one in place.
    """
    return _prepared(_Same(init_data)).root(root_args).get(field, field_args, fallback)


class _Same:
    """Equal to another only if both hold the very same object, which it keeps alive."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(maxsize=4)
def _prepared(item: _Same) -> InitData:
    return InitData(item.value)


def _read(item: object) -> dict[str, Any]:
    if isinstance(item, str):
        if is_compressed(item):
            raise Unfit("is compressed as jsonito, which is not read here: store it as plain JSON, or use ai_config")
        if len(item) > MAX_BYTES:
            raise Unfit("is too large")
        try:
            item = orjson.loads(item)
        except orjson.JSONDecodeError:
            raise Unfit("is no JSON") from None
    if not isinstance(item, dict) or not cast("dict[str, Any]", item).get("commitId"):
        raise Unfit("has no commitId")
    return cast("dict[str, Any]", item)

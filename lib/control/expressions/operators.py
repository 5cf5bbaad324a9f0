"""The language's comparisons and sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from lib.control.expressions import javascript
from lib.control.expressions.regex import Refused, pattern
from lib.control.expressions.values import Meter, Unfit, equal

Test: TypeAlias = Callable[[object, object, Meter], bool]
Sum: TypeAlias = Callable[[float, float], float]


def test_named(name: str) -> tuple[Test, bool]:
    """The comparison of that name, and the result that makes it true: `!=` is `==` with False. Raises Unfit."""
    test = _TESTS.get(_OPPOSITES.get(name, name))
    if test is None:
        raise Unfit("compares in a way that is not supported")
    return test, name not in _OPPOSITES


def sum_named(name: str) -> Sum:
    """The arithmetic operation of that name. Raises Unfit."""
    if name not in _SUMS:
        raise Unfit("reckons in a way that is not supported")
    return _SUMS[name]


def number(value: object) -> float:
    """The value, if it is a number; true is none."""
    if type(value) not in {int, float}:
        raise Unfit("reckons with something that is no number")
    return cast("float", value)


def truth(value: object) -> bool:
    """The value, if it is true or false."""
    if not isinstance(value, bool):
        raise Unfit("decides by something that is neither true nor false")
    return value


def _is_in(item: object, items: object, meter: Meter) -> bool:
    members = _list(items)
    meter.spend(len(members))
    return any(equal(item, member, meter) for member in members)


def _contains(a: object, b: object, meter: Meter) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        meter.spend(len(a) >> 6)
        return b in a
    return _is_in(b, a, meter)


def _begins(a: object, b: object, meter: Meter) -> bool:
    return a.startswith(b) if isinstance(a, str) and isinstance(b, str) else _has_at(0, a, b, meter)


def _ends(a: object, b: object, meter: Meter) -> bool:
    return a.endswith(b) if isinstance(a, str) and isinstance(b, str) else _has_at(-1, a, b, meter)


def _has_at(index: int, items: object, item: object, meter: Meter) -> bool:
    members = _list(items)
    return bool(members) and equal(members[index], item, meter)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Unfit("looks into something that is no list")
    return cast("list[object]", value)


def _matches(a: object, b: object, meter: Meter) -> bool:
    if not isinstance(a, str) or not isinstance(b, str):
        raise Unfit("matches something that is no text")
    meter.spend(len(b))
    try:
        regex = pattern(b)
        meter.spend(len(a) * regex.size >> 6)
        return regex.found_in(a)
    except Refused as error:
        raise Unfit(str(error)) from None


_TESTS: dict[str, Test] = {
    "==": equal,
    "<": lambda a, b, _: number(a) < number(b),
    "<=": lambda a, b, _: number(a) <= number(b),
    ">": lambda a, b, _: number(a) > number(b),
    ">=": lambda a, b, _: number(a) >= number(b),
    "AND": lambda a, b, _: truth(a) & truth(b),
    "OR": lambda a, b, _: truth(a) | truth(b),
    "in": _is_in,
    "startsWith": _begins,
    "endsWith": _ends,
    "contains": _contains,
    "matches": _matches,
}
_OPPOSITES = {
    "!=": "==",
    "notIn": "in",
    "notStartsWith": "startsWith",
    "notEndsWith": "endsWith",
    "notContains": "contains",
    "notMatches": "matches",
}
_SUMS: dict[str, Sum] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": javascript.divided,
    "POW": javascript.power,
    "MOD": javascript.remainder,
}

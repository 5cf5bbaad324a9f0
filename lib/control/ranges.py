"""What a parameter's value may be: each range reads a JSON value, or refuses it, and can say itself in words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeVar, cast

Read_co = TypeVar("Read_co", covariant=True)
MAX_NAMES = 20


class Refused(ValueError):
    """The value is of another type, or out of range."""


class Range(Protocol[Read_co]):
    """The values that a parameter may have."""

    @property
    def words(self) -> str:
        """The type and the range, for people."""
        ...

    def read(self, value: object) -> Read_co:
        """The value, in the type that the code works with. Raises Refused."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number; `low` itself is left out where `above`."""

    low: float
    high: float
    above: bool = False

    @property
    def words(self) -> str:
        """See Range."""
        return f"number {'above' if self.above else 'from'} {self.low:g} {'up ' if self.above else ''}to {self.high:g}"

    def read(self, value: object) -> float:
        """See Range."""
        number = _number(value)
        if not self.low <= number <= self.high or (self.above and number == self.low):
            raise Refused
        return number


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number. 2.0 is one: JavaScript and Hypertune know no other kind."""

    low: int
    high: int

    @property
    def words(self) -> str:
        """See Range."""
        return f"whole number from {self.low} to {self.high}"

    def read(self, value: object) -> int:
        """See Range."""
        number = _number(value)
        if not self.low <= number <= self.high or not number.is_integer():
            raise Refused
        return int(number)


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    words: str = "true or false"

    def read(self, value: object) -> bool:
        """See Range."""
        if not isinstance(value, bool):
            raise Refused
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A text that a pattern matches in full."""

    pattern: re.Pattern[str]
    words: str

    def read(self, value: object) -> str:
        """See Range."""
        if not isinstance(value, str) or self.pattern.fullmatch(value) is None:
            raise Refused
        return value


@dataclass(frozen=True, slots=True)
class Names:
    """A list of different texts."""

    item: Text
    words: str

    def read(self, value: object) -> tuple[str, ...]:
        """See Range."""
        if not isinstance(value, list) or len(cast("list[object]", value)) > MAX_NAMES:
            raise Refused
        names = tuple(self.item.read(item) for item in cast("list[object]", value))
        if len(set(names)) < len(names):
            raise Refused
        return names


@dataclass(frozen=True, slots=True)
class Rising:
    """A list of numbers, each above the one before, of which the last is `last`."""

    item: Number
    last: float

    @property
    def words(self) -> str:
        """See Range."""
        return f"list of rising numbers, each a {self.item.words}, the last one {self.last:g}"

    def read(self, value: object) -> tuple[float, ...]:
        """See Range."""
        if not isinstance(value, list) or not 0 < len(cast("list[object]", value)) <= MAX_NAMES:
            raise Refused
        numbers = tuple(self.item.read(item) for item in cast("list[object]", value))
        if any(one >= other for one, other in pairwise(numbers)) or numbers[-1] != self.last:
            raise Refused
        return numbers


@dataclass(frozen=True, slots=True)
class Delay:
    """`off`, `auto` or milliseconds, which may come as text: a field of Hypertune's has one type."""

    milliseconds: Whole

    @property
    def words(self) -> str:
        """See Range."""
        return f"`off`, `auto` or milliseconds, a {self.milliseconds.words}"

    def read(self, value: object) -> Literal["off", "auto"] | int:
        """See Range."""
        if isinstance(value, str):
            if value in {"off", "auto"}:
                return cast("Literal['off', 'auto']", value)
            value = int(value) if re.fullmatch("[0-9]{1,6}", value) else None
        return self.milliseconds.read(value)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Refused
    try:
        number = float(value)
    except OverflowError:
        raise Refused from None
    if not math.isfinite(number):
        raise Refused
    return number

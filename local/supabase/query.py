"""What a caller asks of a table: PostgREST's query parameters, parsed. Pure.

The grammar is that of https://docs.postgrest.org/en/v14/references/api/tables_views.html. Whatever is not understood
is an error: a filter that is passed over in a DELETE would take rows that nobody named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, LiteralString, NoReturn, TypeVar

Item = TypeVar("Item")

OPERATORS: dict[str, LiteralString] = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
}
"""Operators with one value; `in` takes a list and `is` one of IS."""
IS: dict[str, LiteralString] = {
    "null": "null",
    "not_null": "not null",
    "true": "true",
    "false": "false",
    "unknown": "unknown",
}
MAX_DEPTH = 16
"""How deep and(...) and or(...) may be nested."""

NAME = re.compile(r"[\w $]+(?:-(?!>)[\w $]+)*")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
PATH_STEP = re.compile(r"->>?")
PATH_INDEX = re.compile(r"-?\d+(?=->|[.,:)]|$)")
OPERATOR = re.compile(r"([a-z_]+)\.")
TREE_VALUE = re.compile(r"\{[^{}]*\}(?=[,)])|[^,)]*")
LIST_VALUE = re.compile(r"[^,)]*")
NUMBER = re.compile(r"\d{1,18}")


class QueryError(ValueError):
    """A parameter or preference that isn't understood: 400 PGRST100."""

    def __init__(self, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow into a JSON value; the last one may ask for text (`->>`)."""

    key: str | int
    as_text: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or something within its JSON value."""

    name: str
    path: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Selected:
    """One item of `select`; no column means all of them."""

    column: Column | None
    alias: str | None = None


EVERYTHING = (Selected(None),)


@dataclass(frozen=True, slots=True)
class Filter:
    """A column compared; `operator` is of OPERATORS, or `is` with a value of IS, or `in` with a list."""

    column: Column
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined."""

    operator: Literal["and", "or"]
    members: tuple[Condition, ...]
    negated: bool = False


Condition = Filter | Group


@dataclass(frozen=True, slots=True)
class Order:
    """One term of `order`."""

    column: Column
    descending: bool = False
    nulls: Literal["first", "last"] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of one request. A parameter that was not given is None or empty."""

    select: tuple[Selected, ...] = EVERYTHING
    where: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None


def parse(parameters: Iterable[tuple[str, str]], *, allowed: Sequence[str], filters: bool = True) -> Query:
    """The query that these parameters describe.

    `allowed` are the reserved names that this method takes, of select, order, limit, offset, columns, on_conflict;
    `filters` says whether it takes conditions. Raises QueryError.
    """
    single: dict[str, str] = {}
    where: list[Condition] = []
    for key, value in parameters:
        if "\0" in key or "\0" in value:
            raise QueryError("A parameter contains the character NUL")
        if key in _RESERVED:
            if key not in allowed:
                raise QueryError(f"The parameter {key} can't be used here")
            if key in single:
                raise QueryError(f"The parameter {key} is given twice")
            single[key] = value
        elif not filters:
            raise QueryError(f"The parameter {key} can't be used here")
        else:
            where.append(_condition(key, value))
    return Query(
        select=_read(_select, "select", single["select"]) if "select" in single else EVERYTHING,
        where=tuple(where),
        order=_read(_order, "order", single["order"]) if "order" in single else (),
        limit=_number("limit", single["limit"]) if "limit" in single else None,
        offset=_number("offset", single.get("offset", "0")),
        columns=_read(_names, "columns", single["columns"]) if "columns" in single else None,
        on_conflict=_read(_names, "on_conflict", single["on_conflict"]) if "on_conflict" in single else None,
    )


_RESERVED = ("select", "order", "limit", "offset", "columns", "on_conflict")
_GROUPS: dict[str, Literal["and", "or"]] = {"and": "and", "or": "or"}


class _Scanner:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def done(self) -> bool:
        return self.at == len(self.text)

    def take(self, literal: str) -> bool:
        """Whether this comes next; goes behind it."""
        found = self.text.startswith(literal, self.at)
        self.at += len(literal) * found
        return found

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What of this pattern comes next; goes behind it."""
        found = pattern.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found

    def need(self, literal: str) -> None:
        """Go behind this. Raises QueryError where something else comes next."""
        if not self.take(literal):
            self.fail(f'"{literal}"')

    def name(self) -> str:
        """A name, bare or quoted."""
        quoted = self.quoted()
        if quoted is not None:
            name = quoted
        else:
            bare = self.match(NAME)
            name = bare[0].strip(" ") if bare else ""
        if not name:
            self.fail("a name")
        return name

    def quoted(self) -> str | None:
        """A text in double quotes, in which a backslash escapes."""
        found = self.match(QUOTED)
        return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found else None

    def fail(self, expected: str) -> NoReturn:
        """Raise QueryError."""
        here = self.text[self.at : self.at + 1]
        unexpected = f'unexpected "{here}"' if here else "unexpected end of input"
        raise QueryError(f"failed to parse ({self.text}) at column {self.at + 1}", f"{unexpected} expecting {expected}")


def _read(item: Callable[[_Scanner], Item], what: str, text: str) -> tuple[Item, ...]:
    """A comma-separated list that is the whole text."""
    scanner = _Scanner(text)
    items = _items(item, scanner)
    if not scanner.done:
        scanner.fail(f"the end of {what}")
    return items


def _items(item: Callable[[_Scanner], Item], scanner: _Scanner) -> tuple[Item, ...]:
    items = [item(scanner)]
    while scanner.take(","):
        items.append(item(scanner))
    return tuple(items)


def _number(name: str, text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise QueryError(f"{name} is no number from 0 on")
    return int(text)


def _names(scanner: _Scanner) -> str:
    return scanner.name()


def _column(scanner: _Scanner) -> Column:
    name = scanner.name()
    path: list[Step] = []
    while arrow := scanner.match(PATH_STEP):
        index = scanner.match(PATH_INDEX)
        path.append(Step(int(index[0]) if index else scanner.name(), as_text=arrow[0] == "->>"))
    return Column(name, tuple(path))


def _select(scanner: _Scanner) -> Selected:
    if scanner.take("*"):
        return Selected(None)
    column = _column(scanner)
    if not column.path and not scanner.text.startswith("::", scanner.at) and scanner.take(":"):
        return _until_comma(scanner, Selected(_column(scanner), column.name))
    keys = [step.key for step in column.path if isinstance(step.key, str)]
    return _until_comma(scanner, Selected(column, keys[-1] if keys else None))


def _until_comma(scanner: _Scanner, selected: Selected) -> Selected:
    if not scanner.done and scanner.text[scanner.at] != ",":
        scanner.fail('"," (embedded resources, casts and aggregates are not supported here)')
    return selected


def _order(scanner: _Scanner) -> Order:
    column = _column(scanner)
    descending = False
    if scanner.take(".desc"):
        descending = True
    else:
        scanner.take(".asc")
    if scanner.take(".nullsfirst"):
        return Order(column, descending, "first")
    return Order(column, descending, "last" if scanner.take(".nullslast") else None)


def _condition(key: str, value: str) -> Condition:
    operator = _GROUPS.get(key.removeprefix("not."))
    if operator:
        scanner = _Scanner(value)
        group = _group(scanner, operator, negated=operator != key, depth=1)
        if not scanner.done:
            scanner.fail("the end of the conditions")
        return group
    scanner = _Scanner(key)
    column = _column(scanner)
    if not scanner.done:
        scanner.fail("the end of the column's name")
    scanner = _Scanner(value)
    condition = _filter(scanner, column, in_tree=False)
    if not scanner.done:
        scanner.fail("the end of the filter")
    return condition


def _group(scanner: _Scanner, operator: Literal["and", "or"], *, negated: bool, depth: int) -> Group:
    if depth > MAX_DEPTH:
        raise QueryError(f"Conditions are nested more than {MAX_DEPTH} deep")
    scanner.need("(")
    members = _items(lambda scanner: _member(scanner, depth), scanner)
    scanner.need(")")
    return Group(operator, members, negated)


def _member(scanner: _Scanner, depth: int) -> Condition:
    start = scanner.at
    negated = scanner.take("not.")
    if scanner.take("and("):
        scanner.at -= 1
        return _group(scanner, "and", negated=negated, depth=depth + 1)
    if scanner.take("or("):
        scanner.at -= 1
        return _group(scanner, "or", negated=negated, depth=depth + 1)
    scanner.at = start
    column = _column(scanner)
    scanner.need(".")
    return _filter(scanner, column, in_tree=True)


def _filter(scanner: _Scanner, column: Column, *, in_tree: bool) -> Filter:
    negated = scanner.take("not.")
    start = scanner.at
    found = scanner.match(OPERATOR)
    operator = found[1] if found else ""
    if operator == "in":
        return Filter(column, operator, _list(scanner), negated)
    if operator == "is":
        value = _value(scanner, in_tree=in_tree).lower()
        if value not in IS:
            scanner.fail(f"one of {', '.join(IS)}")
        return Filter(column, operator, value, negated)
    if operator not in OPERATORS:
        scanner.at = start
        scanner.fail(f"one of not, in, is, {', '.join(OPERATORS)}, then a dot")
    return Filter(column, operator, _value(scanner, in_tree=in_tree), negated)


def _value(scanner: _Scanner, *, in_tree: bool) -> str:
    if in_tree:
        return _item(scanner, TREE_VALUE)
    start, scanner.at = scanner.at, len(scanner.text)
    return scanner.text[start:]


def _list(scanner: _Scanner) -> tuple[str, ...]:
    scanner.need("(")
    if scanner.take(")"):
        return ()
    values = _items(lambda scanner: _item(scanner, LIST_VALUE), scanner)
    scanner.need(")")
    return values


def _item(scanner: _Scanner, bare: re.Pattern[str]) -> str:
    quoted = scanner.quoted()
    if quoted is not None:
        return quoted
    found = scanner.match(bare)
    if found and found[0].startswith('"'):
        scanner.fail("a closing quote")
    return found[0] if found else ""

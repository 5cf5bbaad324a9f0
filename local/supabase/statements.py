"""SQL of what was asked: names always quoted, values always parameters. Pure.

Every statement gives one row: the rows as a JSON text, how many these are, and how many there are in all where that
was asked for. So values are written by Postgres itself, as PostgREST has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, LiteralString, cast

from psycopg.sql import SQL, Composable, Composed, Identifier, Placeholder

from local.supabase.preferences import Preferences
from local.supabase.query import IS, OPERATORS, Column, Condition, Filter, Group, Order, Query

SCHEMA = "public"
MAX_ROWS = 1000
"""Rows of one answer at most, as `max_rows` of the hosted Data API."""

ROWS = SQL("coalesce(json_agg(pgrst_row), '[]')::text")
ROW = SQL("coalesce(json_agg(pgrst_row) -> 0, 'null')::text")
SCALARS = SQL("coalesce(json_agg(pgrst_row.pgrst_scalar), '[]')::text")
SCALAR = SQL("coalesce(json_agg(pgrst_row.pgrst_scalar) -> 0, 'null')::text")
NO_TOTAL = SQL("null::bigint")


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL text and its parameters."""

    text: Composed
    parameters: dict[str, Any]


NOTHING = Statement(SQL("select '[]', 0, {}").format(NO_TOTAL), {})
"""Changes nothing, since nothing was given."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the schema, as the catalogue describes it."""

    name: str
    arguments: Mapping[str, str]
    """Name and type, as SQL has it, of each argument that goes in."""
    defaults: int
    """So many of the last arguments may be left out."""
    returns_set: bool
    returns_rows: bool
    returns_nothing: bool

    def takes(self, given: Iterable[str]) -> bool:
        """Whether it can be called with arguments of these names."""
        names = list(self.arguments)
        return set(names[: len(names) - self.defaults]) <= set(given) <= set(names)


def name(*parts: str) -> Identifier:
    """A quoted name. A percent sign is doubled: psycopg looks for placeholders in names too."""
    return Identifier(*(part.replace("%", "%%") for part in parts))


def read(relation: str, query: Query, *, count: bool) -> Statement:
    """SELECT."""
    values = _Values()
    return Statement(_page(name(SCHEMA, relation), query, values, count=count), values.named)


def insert(
    relation: str,
    body: bytes,
    columns: Sequence[Sequence[str]],
    query: Query,
    preferences: Preferences,
    key: Sequence[str],
) -> Statement:
    """INSERT, or an upsert where that is preferred.

    `body` is a JSON array of objects, `columns` what to take of each: neighbours that bring the same columns are
    inserted together, and a column that a row does not bring gets its default. `key` is the primary key.
    """
    values = _Values()
    table = name(SCHEMA, relation)
    conflict = _on_conflict({column: None for each in columns for column in each}, query, preferences, key)
    groups = [(these, len(list(rows))) for these, rows in groupby(columns, key=tuple)]
    payload: Composable = SQL("{}::jsonb").format(values.add(body.decode()))
    steps: list[Composable] = []
    if len(groups) > 1:
        steps = [
            SQL("pgrst_body as (select * from jsonb_array_elements({}) with ordinality as t(v, n))").format(payload)
        ]
    end = 0
    for number, (these, size) in enumerate(groups):
        start, end = end + 1, end + size
        if len(groups) > 1:
            slice_ = SQL("(select jsonb_agg(v order by n) from pgrst_body where n between {} and {})")
            payload = slice_.format(values.add(start), values.add(end))
        names = SQL(", ").join(map(name, these))
        step = SQL("{} as (insert into {}{} select {} from jsonb_populate_recordset(null::{}, {}){} returning {})")
        target = SQL(" ({})").format(names) if these else SQL("")
        returning = _returning(table, query, preferences, values)
        steps.append(step.format(name(f"pgrst_{number}"), table, target, names, table, payload, conflict, returning))
    inserted = (SQL("select * from {}").format(name(f"pgrst_{number}")) for number in range(len(groups)))
    return _mutation(steps, SQL(" union all ").join(inserted), values)


def update(relation: str, body: bytes, columns: Sequence[str], query: Query, preferences: Preferences) -> Statement:
    """UPDATE. `body` is a JSON object, `columns` what to take of it."""
    values = _Values()
    table = name(SCHEMA, relation)
    record = SQL("(select {} from jsonb_populate_record(null::{}, {}::jsonb)) as pgrst_body")
    step = SQL("pgrst_0 as (update {} set {} from {}{} returning {})").format(
        table,
        SQL(", ").join(SQL("{0} = pgrst_body.{0}").format(name(column)) for column in columns),
        record.format(SQL(", ").join(map(name, columns)), table, values.add(body.decode())),
        _where(table, query.where, values),
        _returning(table, query, preferences, values),
    )
    return _mutation([step], SQL("select * from pgrst_0"), values)


def delete(relation: str, query: Query, preferences: Preferences) -> Statement:
    """DELETE."""
    values = _Values()
    table = name(SCHEMA, relation)
    where, returning = _where(table, query.where, values), _returning(table, query, preferences, values)
    step = SQL("pgrst_0 as (delete from {}{} returning {})").format(table, where, returning)
    return _mutation([step], SQL("select * from pgrst_0"), values)


def call(
    function: Function, given: bytes | Mapping[str, str], names: Sequence[str], query: Query, *, count: bool
) -> Statement:
    """A function called with the arguments `names`, taken from a JSON object or, as texts, from a mapping."""
    values = _Values()
    arguments: list[Composable] = []
    for each in names:
        # Of the catalogue, and a type is no identifier: not to be quoted.
        type_ = SQL(cast("LiteralString", function.arguments[each].replace("%", "%%")))
        if isinstance(given, bytes):
            record = SQL("(select {0} from json_to_record({1}::json) as pgrst_args({0} {2}))")
            value = record.format(name(each), values.add(given.decode()), type_)
        else:
            value = SQL("{}::{}").format(values.add(given[each]), type_)
        arguments.append(SQL("{} => {}").format(name(each), value))
    invoked = SQL("{}({})").format(name(SCHEMA, function.name), SQL(", ").join(arguments))
    if function.returns_nothing:
        return Statement(SQL("select nullif({}::text, ''), 1, {}").format(invoked, NO_TOTAL), values.named)
    if not function.returns_set and not function.returns_rows:
        return Statement(
            SQL("select coalesce(to_json({})::text, 'null'), 1, {}").format(invoked, NO_TOTAL), values.named
        )
    # Called once, however often it is read: it may write.
    result = SQL("with pgrst_call as materialized (select * from {} as pgrst_scalar) ").format(invoked)
    body = (ROWS if function.returns_set else ROW) if function.returns_rows else SCALARS
    page = _page(name("pgrst_call"), query, values, count=count, body=body)
    return Statement(result + page, values.named)


class _Values:
    """Collects values and gives each its placeholder."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def add(self, value: object) -> Placeholder:
        key = f"p{len(self.named)}"
        self.named[key] = value
        return Placeholder(key)


def _page(origin: Identifier, query: Query, values: _Values, *, count: bool, body: SQL = ROWS) -> Composed:
    where = _where(origin, query.where, values)
    total = SQL("(select count(*) from {}{})").format(origin, where) if count else NO_TOTAL
    order = SQL(", ").join(_order(origin, term, values) for term in query.order)
    rows = SQL("select {} from {}{}{} limit {} offset {}").format(
        _select(origin, query, values),
        origin,
        where,
        SQL(" order by {}").format(order) if query.order else SQL(""),
        values.add(MAX_ROWS if query.limit is None else min(query.limit, MAX_ROWS)),
        values.add(query.offset),
    )
    return SQL("select {}, count(*), {} from ({}) as pgrst_row").format(body, total, rows)


def _mutation(steps: Sequence[Composable], rows: Composable, values: _Values) -> Statement:
    text = SQL("with {} select {}, count(*), {} from ({}) as pgrst_row")
    return Statement(text.format(SQL(", ").join(steps), ROWS, NO_TOTAL, rows), values.named)


def _returning(table: Identifier, query: Query, preferences: Preferences, values: _Values) -> Composable:
    """What a mutation gives back. Columns only where they are wanted: they need the right to read."""
    return _select(table, query, values) if preferences.representation else SQL("1")


def _on_conflict(columns: Iterable[str], query: Query, preferences: Preferences, key: Sequence[str]) -> Composable:
    target = query.on_conflict or key
    if preferences.on_duplicates is None or not target:
        return SQL("")
    on = SQL(", ").join(map(name, target))
    changes = SQL(", ").join(SQL("{0} = excluded.{0}").format(name(column)) for column in columns)
    if preferences.on_duplicates == "ignore" or not changes.as_string():
        return SQL(" on conflict ({}) do nothing").format(on)
    return SQL(" on conflict ({}) do update set {}").format(on, changes)


def _select(origin: Identifier, query: Query, values: _Values) -> Composed:
    items: list[Composable] = []
    for selected in query.select:
        if selected.column is None:
            items.append(SQL("{}.*").format(origin))
        elif selected.alias is None and not selected.column.path:
            items.append(_column(origin, selected.column, values))
        else:
            alias = name(selected.alias or selected.column.name)
            items.append(SQL("{} as {}").format(_column(origin, selected.column, values), alias))
    return SQL(", ").join(items)


def _column(origin: Identifier, column: Column, values: _Values) -> Composed:
    text = SQL("{}.{}").format(origin, name(column.name))
    if column.path:
        text = SQL("to_jsonb({})").format(text)
    for step in column.path:
        arrow, type_ = SQL("->>") if step.as_text else SQL("->"), SQL("int" if isinstance(step.key, int) else "text")
        text = SQL("({} {} {}::{})").format(text, arrow, values.add(step.key), type_)
    return text


def _order(origin: Identifier, term: Order, values: _Values) -> Composed:
    nulls = {None: SQL(""), "first": SQL(" nulls first"), "last": SQL(" nulls last")}[term.nulls]
    return SQL("{}{}{}").format(_column(origin, term.column, values), SQL(" desc" if term.descending else ""), nulls)


def _where(origin: Identifier, conditions: Sequence[Condition], values: _Values) -> Composable:
    if not conditions:
        return SQL("")
    return SQL(" where {}").format(SQL(" and ").join(_condition(origin, each, values) for each in conditions))


def _condition(origin: Identifier, condition: Condition, values: _Values) -> Composed:
    if isinstance(condition, Group):
        joined = SQL(" and " if condition.operator == "and" else " or ")
        text = joined.join(_condition(origin, each, values) for each in condition.members)
    else:
        text = _filter(origin, condition, values)
    return SQL("not ({})" if condition.negated else "({})").format(text)


def _filter(origin: Identifier, condition: Filter, values: _Values) -> Composed:
    column = _column(origin, condition.column, values)
    value = condition.value
    if isinstance(value, tuple):
        return SQL("{} = any({})").format(column, values.add(array_literal(value)))
    if condition.operator == "is":
        return SQL("{} is {}").format(column, SQL(IS[value]))
    if condition.operator in {"like", "ilike"}:
        value = value.replace("*", "%")
    return SQL("{} {} {}").format(column, SQL(OPERATORS[condition.operator]), values.add(value))


def array_literal(items: Iterable[str]) -> str:
    """Postgres's notation of an array, so that it can read the items as whatever type the column has."""
    escaped = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in escaped) + "}"

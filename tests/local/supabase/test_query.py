"""PostgREST's parameters, parsed: what they mean, and that nothing misunderstood is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.supabase.preferences import Preferences, preferences
from local.supabase.query import (
    MAX_DEPTH,
    Column,
    Condition,
    Filter,
    Group,
    Order,
    Query,
    QueryError,
    Selected,
    Step,
    parse,
)

ALL = ("select", "order", "limit", "offset", "columns", "on_conflict")


def where(key: str, value: str) -> Condition:
    """The one condition that this parameter is."""
    (condition,) = parse([(key, value)], allowed=ALL).where
    return condition


def test_nothing_asked() -> None:
    """Without parameters all columns of all rows are meant."""
    assert parse([], allowed=ALL) == Query(select=(Selected(None),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", [Selected(None)]),
        ("id,title", [Selected(Column("id")), Selected(Column("title"))]),
        (" id , title ", [Selected(Column("id")), Selected(Column("title"))]),
        ("name:title,*", [Selected(Column("title"), "name"), Selected(None)]),
        ('"a,b":"c d"', [Selected(Column("c d"), "a,b")]),
        (r'"a\"b\\c"', [Selected(Column(r'a"b\c'))]),
        ("data->a->>b", [Selected(Column("data", (Step("a", as_text=False), Step("b", as_text=True))), "b")]),
        ("data->0", [Selected(Column("data", (Step(0, as_text=False),)))]),
        ("data->-1->>k", [Selected(Column("data", (Step(-1, as_text=False), Step("k", as_text=True))), "k")]),
        ("x:data->>0", [Selected(Column("data", (Step(0, as_text=True),)), "x")]),
        ("data->1a", [Selected(Column("data", (Step("1a", as_text=False),)), "1a")]),
        ("some-name", [Selected(Column("some-name"))]),
        ("überall", [Selected(Column("überall"))]),
    ],
)
def test_select(text: str, expected: list[Selected]) -> None:
    """Columns are named, renamed, and reached into where they are JSON."""
    assert parse([("select", text)], allowed=ALL).select == tuple(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "a,", "a b(c)", "rel(*)", "...rel(a)", "rel!inner(a)", "a::text", "count()", "a.sum()", "a:", ":a"),
        *('"a', '"a"b', "a->", "a->>", "a-", "*a", "a:*", "a;b", "a'b", "a)b", "-a", '""'),
    ],
)
def test_select_refused(text: str) -> None:
    """Embedded resources, casts, aggregates and what is no name at all are errors."""
    with pytest.raises(QueryError):
        parse([("select", text)], allowed=ALL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id", [Order(Column("id"))]),
        ("id.asc", [Order(Column("id"))]),
        ("id.desc,title", [Order(Column("id"), descending=True), Order(Column("title"))]),
        ("id.nullsfirst", [Order(Column("id"), nulls="first")]),
        ("id.desc.nullslast", [Order(Column("id"), descending=True, nulls="last")]),
        ("data->>k.desc", [Order(Column("data", (Step("k", as_text=True),)), descending=True)]),
        ('"a.b".asc', [Order(Column("a.b"))]),
    ],
)
def test_order(text: str, expected: list[Order]) -> None:
    """Terms have a direction and a place for nulls."""
    assert parse([("order", text)], allowed=ALL).order == tuple(expected)


@pytest.mark.parametrize("text", ["", "id.up", "id.asc.desc", "id.nullsfirst.desc", "rel(id).asc", "id,", "id asc)"])
def test_order_refused(text: str) -> None:
    """Another direction is an error."""
    with pytest.raises(QueryError):
        parse([("order", text)], allowed=ALL)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("id", "eq.1", Filter(Column("id"), "eq", "1")),
        ("id", "not.eq.1", Filter(Column("id"), "eq", "1", negated=True)),
        ("title", "eq.a.b,c(d)", Filter(Column("title"), "eq", "a.b,c(d)")),
        ("title", 'eq."quoted"', Filter(Column("title"), "eq", '"quoted"')),
        ("title", "eq.", Filter(Column("title"), "eq", "")),
        ("title", "like.*x*", Filter(Column("title"), "like", "*x*")),
        ("stars", "is.null", Filter(Column("stars"), "is", "null")),
        ("stars", "not.is.NULL", Filter(Column("stars"), "is", "null", negated=True)),
        ("id", "in.(1,2,3)", Filter(Column("id"), "in", ("1", "2", "3"))),
        ("id", "in.()", Filter(Column("id"), "in", ())),
        ("title", r'in.("a,b","c\"d",e f)', Filter(Column("title"), "in", ("a,b", 'c"d', "e f"))),
        ("tags", "cs.{a,b}", Filter(Column("tags"), "cs", "{a,b}")),
        ("span", "adj.[1,5)", Filter(Column("span"), "adj", "[1,5)")),
        ("data->>k", "eq.1", Filter(Column("data", (Step("k", as_text=True),)), "eq", "1")),
        ('"a.b"', "eq.1", Filter(Column("a.b"), "eq", "1")),
    ],
)
def test_filter(key: str, value: str, expected: Filter) -> None:
    """A column is compared by an operator with the rest of the text."""
    assert where(key, value) == expected


def test_groups() -> None:
    """Conditions are joined by and, or and not, to any depth."""
    found = where("or", '(a.eq.1,not.and(b.gt."2,3",c.is.null),d.not.in.(x,"y)"),e.cs.{1,2})')
    assert found == Group(
        "or",
        (
            Filter(Column("a"), "eq", "1"),
            Group("and", (Filter(Column("b"), "gt", "2,3"), Filter(Column("c"), "is", "null")), negated=True),
            Filter(Column("d"), "in", ("x", "y)"), negated=True),
            Filter(Column("e"), "cs", "{1,2}"),
        ),
    )
    assert where("not.and", "(a.eq.1)") == Group("and", (Filter(Column("a"), "eq", "1"),), negated=True)
    assert where("and", "(data->>k.eq.x,or(a.eq.1,b.eq.))") == Group(
        "and",
        (
            Filter(Column("data", (Step("k", as_text=True),)), "eq", "x"),
            Group("or", (Filter(Column("a"), "eq", "1"), Filter(Column("b"), "eq", ""))),
        ),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("id", value) for value in ("", "1", "eq", "foo.1", "EQ.1", "eq1", "not.1", "not.not.eq.1", "like(any).{a}")],
        *[("id", value) for value in ("fts.a", "in.1", "in.(1", "in.(1,2)x", 'in.("a"b)', "is.maybe", "is.", "or.1")],
        *[(key, "eq.1") for key in ("", "a.b", "rel.id", "a b)", "id;", "'id'", "id--", '"id', "id->", "and.or", "*")],
        *[("or", value) for value in ("", "()", "a.eq.1", "(a.eq.1", "(a.eq.1))", "(a)", "(a.eq)", "(a.foo.1)", "(,)")],
        *[("and", value) for value in ("(a.eq.1,)", "(or(a.eq.1)", "(not.a.eq.1)", '(a.eq."x)', "(a.in.(1)")],
        ("rel.or", "(a.eq.1)"),
        ("rel.limit", "1"),
        ("or", "(" + "or(" * MAX_DEPTH + "a.eq.1" + ")" * MAX_DEPTH + ")"),
        ("or", "(" * 10_000),
        ("a\0", "eq.1"),
        ("a", "eq.\0"),
    ],
)
def test_filter_refused(key: str, value: str) -> None:
    """An operator or a spelling that isn't known is an error, never no condition."""
    with pytest.raises(QueryError):
        where(key, value)


@pytest.mark.parametrize(
    "parameters",
    [
        [("limit", "-1")],
        [("limit", "1e3")],
        [("limit", "1"), ("limit", "2")],
        [("offset", "")],
        [("offset", "9" * 19)],
        [("columns", "a,")],
        [("on_conflict", "a b(c)")],
    ],
)
def test_numbers_and_lists_refused(parameters: list[tuple[str, str]]) -> None:
    """A number that is none, and a parameter given twice, are errors."""
    with pytest.raises(QueryError):
        parse(parameters, allowed=ALL)


def test_only_what_is_allowed() -> None:
    """A parameter that does not belong to the method is an error, so are conditions where there can be none."""
    with pytest.raises(QueryError):
        parse([("order", "id")], allowed=("select",))
    with pytest.raises(QueryError):
        parse([("id", "eq.1")], allowed=ALL, filters=False)


def test_preferences() -> None:
    """Preferences may come in one header or in several."""
    assert preferences([]) == Preferences()
    assert preferences(["return=representation,count=exact", "resolution=merge-duplicates, missing=default"]) == (
        Preferences(representation=True, count=True, on_duplicates="merge", missing_default=True)
    )
    assert preferences(["handling=strict,max-affected=3"]) == Preferences(max_affected=3)


@pytest.mark.parametrize(
    "header",
    [
        *("return=everything", "return", "count=planned", "count=estimated", "tx=rollback", "resolution=replace"),
        *("timezone=UTC", "params=single-object", "max-affected=-1", "max-affected=", "return=headers-only", "foo"),
        *("return=minimal,return=representation", "max-affected=" + "9" * 30, "max-affected=\u0663x"),
    ],
)
def test_preferences_refused(header: str) -> None:
    """A preference that can't be heeded is an error."""
    with pytest.raises(QueryError):
        preferences([header])


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


def quoted(name: str) -> str:
    """A name or value as the clients quote it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(NAMES)
def test_any_name_can_be_quoted(name: str) -> None:
    """In quotes every name comes through as it is: selected, renamed, compared, ordered by, inserted."""
    query = parse(
        [
            ("select", f"{quoted(name)}:{quoted(name)}"),
            (quoted(name), "eq.1"),
            ("order", f"{quoted(name)}.desc"),
            ("columns", quoted(name)),
            ("on_conflict", quoted(name)),
        ],
        allowed=ALL,
    )
    assert query.select == (Selected(Column(name), name),)
    assert query.where == (Filter(Column(name), "eq", "1"),)
    assert query.order == (Order(Column(name), descending=True),)
    assert query.columns == query.on_conflict == (name,)


@given(st.lists(NAMES, max_size=5))
def test_any_value_can_be_quoted(values: list[str]) -> None:
    """In quotes every value comes through a list and a group as it is."""
    listed = ",".join(map(quoted, values))
    assert where("a", f"in.({listed})") == Filter(Column("a"), "in", tuple(values))
    for value in values:
        assert where("or", f"(a.eq.{quoted(value)})") == Group("or", (Filter(Column("a"), "eq", value),))


PIECES = [
    "eq",
    ".",
    "not",
    "and",
    "or",
    "(",
    ")",
    ",",
    '"',
    "\\",
    "a",
    "->",
    "->>",
    "in",
    "is",
    "null",
    "{",
    "}",
    "1",
    " ",
]
WORDS = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=15).map("".join)


@given(WORDS, WORDS)
def test_anything_is_understood_or_refused(key: str, value: str) -> None:
    """Whatever comes, it is a condition or a QueryError; a parameter is never dropped."""
    try:
        query = parse([(key, value)], allowed=ALL)
    except QueryError:
        return
    reserved = key in ALL
    assert reserved or len(query.where) == 1

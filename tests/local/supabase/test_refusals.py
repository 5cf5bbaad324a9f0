"""What the gateway does not understand changes nothing, and no name or value is ever taken for SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.local.supabase.conftest import Project

ROWS = 3
Victims = Callable[[], list[int]]


@pytest.fixture
def left(project: Project) -> int:
    """Three rows of `pairs` that this test may lose; their left_id."""
    left = uuid4().int % 2**31
    project.admin().table("pairs").insert([{"left_id": left, "right_id": right} for right in range(ROWS)]).execute()
    return left


def count(project: Project, left: int) -> int:
    """How many of them are there, unchanged."""
    return project.sql("select count(*) from public.pairs where left_id = %s and note = 'none'", left)[0][0]


@pytest.mark.parametrize(
    "extra",
    [
        *(
            "right_id=foo.1",
            "right_id=1",
            "right_id=eq",
            "right_id=",
            "right_id",
            "nope.right_id=eq.1",
            "or=()",
            "or=x",
        ),
        *("or=(right_id.eq.0,right_id.foo.1)", "and=(right_id.eq.0", "not.right_id=eq.0", "limit=1", "order=left_id"),
        *(
            "offset=1",
            "columns=note",
            "on_conflict=left_id",
            "select=*&select=note",
            "select=rel(*)",
            "right_id->=eq.1",
        ),
        *("right_id=fts.1", "right_id=like(any).{1}", "right_id=in.1", "right_id=in.(0", "note=is.fine", "a b)=eq.1"),
        *("right_id=eq.0&or=(", "right_id=eq.%00", "%00=eq.1", "right_id=not.not.eq.1", "right_id=nöt.eq.0"),
    ],
)
@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_an_unknown_filter_changes_nothing(project: Project, left: int, method: str, extra: str) -> None:
    """A parameter that isn't understood is PGRST100, beside one that is, and no row is touched."""
    path = f"/rest/v1/pairs?left_id=eq.{left}&{extra}"
    response = project.send(method, path, json={"note": "changed"} if method == "PATCH" else None)
    if extra == "columns=note" and method == "PATCH":
        assert response.status_code == 204
        return
    assert (response.status_code, response.json()["code"]) == (400, "PGRST100")
    assert count(project, left) == ROWS


@pytest.mark.parametrize(
    "preference", ["count=planned", "tx=rollback", "return=headers-only", "max-affected=x", "foo=bar"]
)
@pytest.mark.parametrize("method", ["DELETE", "PATCH", "POST", "GET"])
def test_an_unknown_preference_changes_nothing(project: Project, left: int, method: str, preference: str) -> None:
    """A preference that can't be heeded is PGRST100, and nothing happens."""
    path = "/rest/v1/pairs" if method == "POST" else f"/rest/v1/pairs?left_id=eq.{left}"
    body = {"left_id": left, "right_id": 9} if method in {"POST", "PATCH"} else None
    response = project.send(method, path, json=body, headers={"prefer": preference})
    assert (response.status_code, response.json()["code"]) == (400, "PGRST100")
    assert count(project, left) == ROWS


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_without_a_filter_nothing_changes(project: Project, left: int, method: str) -> None:
    """Who forgets the filter is told so, as on the hosted service."""
    response = project.send(method, "/rest/v1/pairs", json={"note": "x"} if method == "PATCH" else None)
    assert (response.status_code, response.json()["code"]) == (400, "21000")
    assert response.json()["message"].endswith("requires a WHERE clause")
    assert count(project, left) == ROWS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *[
            (body, "PGRST102")
            for body in (b"", b"{", b"1", b'"x"', b"null", b"[1]", b"[[]]", b"\xff", b"[" * 5000, b"NaN")
        ],
        (b'[{"left_id": 1}, {"right_id": 2}]', "PGRST102"),
        (b'{"left_id": 1, "note": "\\u0000"}', "22P05"),
        (b'{"left_id": "one", "right_id": 1}', "22P02"),
        (b'{"left_id": 1e400, "right_id": 1}', "PGRST102"),
    ],
)
def test_bodies_that_are_no_rows(project: Project, body: bytes, code: str) -> None:
    """A body that isn't one object or an array of alike objects is an error."""
    response = project.send("POST", "/rest/v1/pairs", content=body)
    assert (response.status_code, response.json()["code"]) == (400, code)


def test_on_conflict_without_a_resolution(project: Project) -> None:
    """on_conflict alone would do nothing, so it is an error."""
    body = {"left_id": uuid4().int % 2**31, "right_id": 1}
    response = project.send("POST", "/rest/v1/pairs?on_conflict=left_id", json=body)
    assert (response.status_code, response.json()["code"]) == (400, "PGRST100")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[
            ("GET", "/rest/v1/"),
            ("PUT", "/rest/v1/pairs?left_id=eq.1"),
            ("POST", "/auth/v1/otp"),
            ("GET", "/auth/v1/verify"),
        ],
        *[("POST", "/auth/v1/recover"), ("GET", "/auth/v1/authorize"), ("POST", "/auth/v1/admin/generate_link")],
        *[("POST", "/storage/v1/upload/resumable"), ("POST", "/storage/v1/object/list-v2/own")],
        *[("GET", "/storage/v1/render/image/authenticated/own/a"), ("PUT", "/storage/v1/bucket/own")],
        *[("POST", "/functions/v1/hello"), ("GET", "/realtime/v1/websocket"), ("POST", "/graphql/v1")],
    ],
)
def test_what_is_not_there_says_so(project: Project, method: str, path: str) -> None:
    """A part of Supabase that the gateway lacks answers 501 in words that each client finds."""
    response = project.send(method, path)
    assert response.status_code == 501
    assert "does not support" in response.json()["message"]
    assert "does not support" in response.json()["msg"]


ODD = 'od%d "table"; --'


def test_odd_names_work(project: Project) -> None:
    """Names with quotes, percent signs and semicolons are names like others, in every position."""
    admin, key = project.admin(), uuid4().int % 2**31
    row = {"a b": key, "c%s": "x", 'sel"ect': "y"}
    made = admin.table(ODD).insert([row]).execute().data
    assert made == [{**row, "x'; drop": 7}]

    def odd(method: str, query: str, **options: Any) -> httpx.Response:
        return project.send(method, f"/rest/v1/{quote(ODD, safe='')}?{query}", **options)

    every = ",".join(quote(name, safe="") for name in ('"a b"', '"c%s"', r'"sel\"ect"', '"x\'; drop"'))
    assert odd("GET", f"select={every}&%22a%20b%22=eq.{key}&order={every}").json() == made
    quoted = quote(r'"sel\"ect"', safe="")
    changed = odd("PATCH", f"{quoted}=eq.y&a%20b=eq.{key}&select=c:%22c%25s%22", json={"c%s": "z"}, headers=RETURN)
    assert changed.json() == [{"c": "z"}]
    upsert = {"prefer": "return=representation,resolution=merge-duplicates"}
    path = f"on_conflict=a%20b&columns={every}"
    merged = odd("POST", path, json={**row, "x'; drop": 1, "ignored": 1}, headers=upsert)
    assert merged.json() == [{**row, "x'; drop": 1}]
    assert odd("DELETE", f"%22x%27%3B%20drop%22=eq.1&a%20b=eq.{key}", headers=RETURN).json() == merged.json()
    assert admin.rpc('fu%n "c"; --', {'a %s "b"': 5}).execute().data == 5
    function, argument = quote('fu%n "c"; --', safe=""), quote('a %s "b"', safe="")
    called = project.send("GET", f"/rest/v1/rpc/{function}?{argument}=6")
    assert called.json() == 6


RETURN = {"prefer": "return=representation"}
ATTACKS = st.sampled_from(
    [
        *(
            '"; drop table public.pairs; --',
            "'; drop table public.pairs; --",
            "pairs; delete from public.pairs",
            "* from pairs",
        ),
        *(
            '" or 1=1 --',
            "' or '1'='1",
            "1) or (1=1",
            "%s",
            "%(p0)s",
            "%%",
            "$1",
            "\\",
            '\\"',
            '""',
            "public.pairs",
            "a\nb",
        ),
        *(
            "pg_sleep(9)",
            "(select 1)",
            "left_id,right_id",
            "left_id->>'x'",
            "*",
            "/*",
            "--",
            ";",
            "\x7f",
            "\u2028",
            "\u2019",
        ),
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def attack(name: str, left: int) -> list[tuple[str, str, Any]]:
    """Requests that carry this text in every position a caller can write to."""
    raw, inner = quote(name, safe=""), quote('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"', safe="")
    requests: list[tuple[str, str, Any]] = [
        ("GET", f"/rest/v1/{raw}", None),
        ("GET", f"/rest/v1/rpc/{raw}", None),
        ("POST", f"/rest/v1/rpc/{raw}", {name: 1}),
        ("POST", "/rest/v1/rpc/add", {"a": 1, name: 1}),
        ("GET", f"/rest/v1/rpc/add?a={raw}", None),
        ("GET", f"/rest/v1/rpc/add?a=1&{raw}=1", None),
        ("POST", "/rest/v1/pairs", {"left_id": -1, name: 1}),
        ("PATCH", f"/rest/v1/pairs?left_id=eq.{left}", {name: 1}),
    ]
    for text in (raw, inner):
        requests += [
            ("GET", f"/rest/v1/pairs?select={text}", None),
            ("GET", f"/rest/v1/pairs?select={text}:left_id", None),
            ("GET", f"/rest/v1/pairs?select=note-%3E{text}", None),
            ("GET", f"/rest/v1/pairs?order={text}", None),
            ("GET", f"/rest/v1/pairs?{text}=eq.1", None),
            ("GET", f"/rest/v1/pairs?note-%3E%3E{text}=eq.1", None),
            ("GET", f"/rest/v1/pairs?left_id=eq.{left}&note={text}", None),
            ("GET", f"/rest/v1/pairs?or=({text}.eq.1,left_id.eq.{text})", None),
            ("GET", f"/rest/v1/pairs?note=eq.{text}", None),
            ("GET", f"/rest/v1/pairs?note=in.({text})", None),
            ("GET", f"/rest/v1/pairs?note=is.{text}", None),
            ("GET", f"/rest/v1/pairs?limit={text}", None),
            ("GET", f"/rest/v1/pairs?offset={text}", None),
            ("DELETE", f"/rest/v1/pairs?left_id=eq.{left}&{text}=eq.1", None),
            ("DELETE", f"/rest/v1/pairs?left_id=eq.{left}&note=eq.{text}", None),
            ("DELETE", f"/rest/v1/pairs?left_id=eq.{left}&note=in.({text})&select={text}", None),
            ("PATCH", f"/rest/v1/pairs?left_id=eq.{left}&{text}=eq.1", {"note": name}),
            ("POST", f"/rest/v1/pairs?columns={text}", {"left_id": -1, "right_id": -1}),
            ("POST", f"/rest/v1/pairs?on_conflict={text}", {"left_id": left, "right_id": 0, "note": "none"}),
            ("POST", f"/rest/v1/pairs?select={text}", {"left_id": left, "right_id": 0}),
        ]
    return requests


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(name="\0")
@given(name=ATTACKS)
def test_no_text_is_taken_for_sql(project: Project, left: int, name: str) -> None:
    """Wherever a caller's text stands, it is a name, a value or an error: all rows are there as before."""
    upsert = {"prefer": "resolution=merge-duplicates"}
    for method, path, body in attack(name, left):
        headers = upsert if "on_conflict" in path else {}
        response = project.send(method, path, json=body, headers=headers)
        assert response.status_code < 500 or response.status_code == 501, (path, response.text)
    assert count(project, left) == ROWS
    assert project.sql("select count(*) from pg_tables where tablename in ('pairs', 'hidden', 'notes')") == [(3,)]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_values_come_back_as_they_are(project: Project, value: str) -> None:
    """Whatever text is stored is found by it again, alone and in a list."""
    admin, left = project.admin(), uuid4().int % 2**31
    admin.table("pairs").insert({"left_id": left, "right_id": 0, "note": value}).execute()
    pairs = admin.table("pairs")
    assert pairs.select("note").eq("left_id", left).eq("note", value).execute().data == [{"note": value}]
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    path = f"/rest/v1/pairs?select=note&left_id=eq.{left}&"
    for condition in (f"note=in.({quote(quoted, safe='')})", f"or=(note.eq.{quote(quoted, safe='')},left_id.is.null)"):
        assert project.send("GET", path + condition).json() == [{"note": value}]

"""Rows and functions through supabase-py, unmodified, on a real Postgres: its types, its errors, its policies."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from postgrest import APIError, CountMethod, ReturnMethod

from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Project, Supabase, token, uid


def made(client: Supabase, *titles: str, **columns: Any) -> list[dict[str, Any]]:
    """Notes of a client's user, in this order."""
    rows = [{"title": title, "stars": position % 6, **columns} for position, title in enumerate(titles)]
    return rows_of(client.table("notes").insert(rows).execute())


def rows_of(response: Any) -> list[dict[str, Any]]:
    """The rows of a response."""
    rows: list[dict[str, Any]] = response.data
    assert isinstance(rows, list)
    return rows


def titles_of(response: Any) -> list[str]:
    """The notes' titles in a response."""
    return [row["title"] for row in rows_of(response)]


def test_types_are_written_by_postgres(project: Project) -> None:
    """Defaults are filled in, and each type comes back as Postgres writes it in JSON."""
    user = project.user()
    (row,) = made(
        user, "typed", price="12345678901234.5678", span="[1,5)", due="2026-01-02T03:04:05.678901Z", data={"a": [1]}
    )
    assert isinstance(row.pop("id"), int)
    assert row == {
        "owner": uid(user),
        "title": "typed",
        "stars": 0,
        "price": 12345678901234.5678,
        "tags": ["new"],
        "data": {"a": [1]},
        "span": "[1,5)",
        "due": "2026-01-02T03:04:05.678901+00:00",
    }
    text = project.send("GET", "/rest/v1/notes?select=price", token=token(user), key=PUBLISHABLE).text
    assert text == '[{"price":12345678901234.5678}]'


def test_select_columns(project: Project) -> None:
    """Columns are chosen, renamed, and reached into where they are JSON."""
    user = project.user()
    made(user, "one", data={"a": {"b": "deep"}, "list": [1, 2]})
    found = user.table("notes").select("name:title", "data->a->>b", "data->list->0", "last:data->list->-1").execute()
    assert rows_of(found) == [{"name": "one", "b": "deep", "list": 1, "last": 2}]


@pytest.mark.parametrize(
    ("column", "operator", "criteria", "expected"),
    [
        ("title", "eq", "b", "b"),
        ("title", "neq", "b", "acd"),
        ("stars", "gt", "1", "cd"),
        ("stars", "gte", "1", "bcd"),
        ("stars", "lt", "1", "a"),
        ("stars", "lte", "1", "ab"),
        ("title", "like", "*", "abcd"),
        ("title", "like", "B", ""),
        ("title", "ilike", "B", "b"),
        ("title", "match", "^[ab]$", "ab"),
        ("title", "imatch", "^[AB]$", "ab"),
        ("price", "is", "null", "abc"),
        ("price", "not.is", "null", "d"),
        ("price", "isdistinct", "2.5", "abc"),
        ("stars", "in", "(0,3)", "ad"),
        ("stars", "not.in", "(0,3)", "bc"),
        ("tags", "cs", "{x}", "ab"),
        ("tags", "cd", "{x,y}", "ab"),
        ("tags", "ov", "{y,z}", "bc"),
        ("data", "cs", '{"k":1}', "a"),
        ("data->>k", "eq", "1", "a"),
        ("data->k", "gt", "1", "b"),
        ("span", "sl", "[6,9)", "ab"),
        ("span", "sr", "[1,2)", "bc"),
        ("span", "nxr", "[0,6)", "ab"),
        ("span", "nxl", "[3,9)", "bc"),
        ("span", "adj", "[2,3)", "ab"),
        ("span", "ov", "[4,5)", "b"),
    ],
)
def test_filters(filtered: Supabase, column: str, operator: str, criteria: str, expected: str) -> None:
    """Each operator does what it does in SQL."""
    found = filtered.table("notes").select("title").filter(column, operator, criteria).order("title").execute()
    assert titles_of(found) == list(expected)


@pytest.fixture(scope="module")
def filtered(project: Project) -> Supabase:
    """A user with the notes a, b, c and d."""
    user = project.user()
    rows: list[dict[str, Any]] = [
        {"title": "a", "stars": 0, "tags": ["x"], "data": {"k": 1}, "span": "[1,2)", "price": None},
        {"title": "b", "stars": 1, "tags": ["x", "y"], "data": {"k": 2}, "span": "[3,5)", "price": None},
        {"title": "c", "stars": 2, "tags": ["z"], "data": {}, "span": "[6,9)", "price": None},
        {"title": "d", "stars": 3, "tags": ["w"], "data": {}, "span": None, "price": 2.5},
    ]
    user.table("notes").insert(rows).execute()
    return user


def test_values_that_look_like_syntax(project: Project) -> None:
    """A value may hold whatever the grammar is made of."""
    user = project.user()
    titles = [
        "a,b",
        'q"uote',
        "back\\slash",
        "(paren)",
        "{brace}",
        "per%cent",
        "dot.ted",
        "null",
        "",
        " ",
        "ünï 漢字 👩‍👩‍👧",
    ]
    made(user, *titles)
    for title in titles:
        assert titles_of(user.table("notes").select("title").eq("title", title).execute()) == [title]
    found = user.table("notes").select("title").in_("title", titles[:4]).order("id").execute()
    assert titles_of(found) == titles[:4]
    assert rows_of(user.table("notes").select("title").in_("title", []).execute()) == []


def test_conditions_joined(filtered: Supabase) -> None:
    """Conditions are joined by or, and, not; those beside each other all hold."""
    query = filtered.table("notes").select("title").order("title")
    assert titles_of(query.or_("title.eq.a,and(stars.gte.1,stars.lt.3)").execute()) == ["a", "b", "c"]
    query = filtered.table("notes").select("title").order("title")
    assert titles_of(query.or_('title.eq.a,title.in.(b,"c")').neq("title", "b").execute()) == ["a", "c"]
    query = filtered.table("notes").select("title").order("title")
    assert titles_of(query.not_.in_("stars", [0, 1]).not_.is_("price", "null").execute()) == ["d"]


def test_order_and_pages(filtered: Supabase) -> None:
    """Rows come in order, nulls where they are wanted, and in pages that say where they are."""
    notes = filtered.table("notes")
    assert titles_of(notes.select("title").order("stars", desc=True).execute()) == list("dcba")
    assert titles_of(notes.select("title").order("price", nullsfirst=True).order("title", desc=True).execute()) == list(
        "cbad"
    )
    assert titles_of(notes.select("title").order("title").range(1, 2).execute()) == ["b", "c"]
    counted = notes.select("title", count=CountMethod.exact).order("title").limit(1).offset(3).execute()
    assert (titles_of(counted), counted.count) == (["d"], 4)
    head = notes.select("*", count=CountMethod.exact, head=True).execute()
    assert (head.data, head.count) == ([], 4)


def test_range_header(project: Project, filtered: Supabase) -> None:
    """Pages can be asked for by `Range`; the answer says which it is, and of how many."""

    def page(span: str, *, count: bool = True) -> httpx.Response:
        headers = {"range-unit": "items", "range": span, **({"prefer": "count=exact"} if count else {})}
        path = "/rest/v1/notes?select=title&order=title"
        return project.send("GET", path, token=token(filtered), key=PUBLISHABLE, headers=headers)

    first, rest = page("0-1"), page("2-")
    assert (first.status_code, first.headers["content-range"]) == (206, "0-1/4")
    assert (rest.status_code, rest.headers["content-range"]) == (206, "2-3/4")
    assert (page("0-9").status_code, page("0-9").headers["content-range"]) == (200, "0-3/4")
    assert (page("0-9", count=False).status_code, page("0-9", count=False).headers["content-range"]) == (200, "0-3/*")
    assert page("4-9").headers["content-range"] == "*/4"
    assert (page("5-9").status_code, page("5-9").json()["code"]) == (416, "PGRST103")
    assert (page("2-1").status_code, page("2-1").json()["code"]) == (416, "PGRST103")
    assert (page("bytes=0-1").status_code, page("bytes=0-1").json()["code"]) == (400, "PGRST100")


def test_never_more_than_a_thousand(project: Project) -> None:
    """An answer holds a thousand rows at most, as the hosted service sends."""
    user = project.user()
    user.table("notes").insert(
        [{"title": str(number)} for number in range(1001)], returning=ReturnMethod.minimal
    ).execute()
    everything = user.table("notes").select("id", count=CountMethod.exact).execute()
    assert (len(rows_of(everything)), everything.count) == (1000, 1001)
    assert len(rows_of(user.table("notes").select("id").limit(5000).execute())) == 1000
    assert len(rows_of(project.admin().rpc("numbers", {"up_to": 2000}).execute())) == 1000


def test_single_rows(filtered: Supabase) -> None:
    """One row is an object; none or several are PGRST116."""
    one = filtered.table("notes").select("title").eq("title", "a").single().execute()
    assert one.data == {"title": "a"}
    for query in (filtered.table("notes").select("*"), filtered.table("notes").select("*").eq("title", "none")):
        with pytest.raises(APIError) as caught:
            query.single().execute()
        assert (caught.value.code, caught.value.message) == (
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
        )
    nobody = filtered.table("notes").select("*").eq("title", "none").maybe_single().execute()
    assert nobody is None


def test_insert_returns_what_is_wanted(project: Project) -> None:
    """An insert gives back the rows, or nothing, and says how many they were."""
    user = project.user()
    assert user.table("notes").insert({"title": "quiet"}, returning=ReturnMethod.minimal).execute().data == []
    counted = user.table("notes").insert([{"title": "a"}, {"title": "b"}], count=CountMethod.exact).execute()
    assert (titles_of(counted), counted.count) == (["a", "b"], 2)
    assert rows_of(user.table("notes").insert([]).execute()) == []


def test_columns_that_are_left_out(project: Project) -> None:
    """In a bulk insert a missing column is null, or its default where that is preferred; order is kept."""
    user = project.user()
    rows = [{"title": "a", "tags": ["t"]}, {"title": "b"}, {"title": "c", "tags": ["u"], "stars": 1}]
    with pytest.raises(APIError) as caught:
        user.table("notes").insert(rows).execute()
    assert caught.value.code == "23502"
    kept = rows_of(user.table("notes").insert(rows, default_to_null=False).execute())
    assert [(row["title"], row["tags"], row["stars"]) for row in kept] == [
        ("a", ["t"], None),
        ("b", ["new"], None),
        ("c", ["u"], 1),
    ]
    assert [row["id"] for row in kept] == sorted(row["id"] for row in kept)


def test_empty_rows(project: Project) -> None:
    """Rows without any column take all defaults."""
    admin, title = project.admin(), f"t{uuid4().hex}"
    project.sql(
        f"create table public.{title} (id int generated by default as identity primary key, a text default 'x')"
    )
    project.sql(f"grant all on public.{title} to service_role")
    assert rows_of(admin.table(title).insert({}).execute()) == [{"id": 1, "a": "x"}]
    assert rows_of(admin.table(title).insert([{}, {}]).execute()) == [{"id": 2, "a": "x"}, {"id": 3, "a": "x"}]


def test_upsert(project: Project) -> None:
    """Duplicates are merged by the primary key or by the columns named, or ignored."""
    user = project.user()
    first, second = made(user, "a", "b")
    merged = user.table("notes").upsert({"id": first["id"], "title": "a2", "owner": uid(user)}).execute()
    assert (titles_of(merged), rows_of(merged)[0]["id"]) == (["a2"], first["id"])
    by_title = {"owner": uid(user), "title": "b", "stars": 5}
    merged = user.table("notes").upsert([by_title], on_conflict="owner,title").execute()
    assert (rows_of(merged)[0]["id"], rows_of(merged)[0]["stars"]) == (second["id"], 5)
    ignored = user.table("notes").upsert(
        [{**by_title, "stars": 1}, {"owner": uid(user), "title": "new", "stars": 2}],
        on_conflict="owner,title",
        ignore_duplicates=True,
    )
    assert titles_of(ignored.execute()) == ["new"]
    (unchanged,) = rows_of(user.table("notes").select("stars").eq("title", "b").execute())
    assert unchanged == {"stars": 5}


def test_upsert_by_several_keys(project: Project) -> None:
    """Without on_conflict the whole primary key counts, whatever its columns; defaults fill in what is missing."""
    admin, left = project.admin(), uuid4().int % 2**31
    pairs = [{"left_id": left, "right_id": 1, "note": "one"}, {"left_id": left, "right_id": 2}]
    admin.table("pairs").insert(pairs, default_to_null=False).execute()
    changed = [{"left_id": left, "right_id": 1}, {"left_id": left, "right_id": 2, "note": "two"}]
    admin.table("pairs").upsert(changed, default_to_null=False).execute()
    kept = rows_of(admin.table("pairs").select("right_id,note").eq("left_id", left).order("right_id").execute())
    assert kept == [{"right_id": 1, "note": "none"}, {"right_id": 2, "note": "two"}]
    alone = admin.table("pairs").upsert({"left_id": left, "right_id": 1}, ignore_duplicates=True).execute()
    assert alone.data == []


def test_update_and_delete(project: Project) -> None:
    """Rows that fit the filters are changed or deleted, and come back where they are wanted."""
    user = project.user()
    made(user, "a", "b", "c")
    changed = (
        user.table("notes").update({"stars": 5, "price": None}, count=CountMethod.exact).neq("title", "c").execute()
    )
    assert (sorted(titles_of(changed)), changed.count) == (["a", "b"], 2)
    assert {row["stars"] for row in rows_of(changed)} == {5}
    quiet = user.table("notes").update({"title": "d"}, returning=ReturnMethod.minimal).eq("title", "c").execute()
    assert quiet.data == []
    gone = user.table("notes").delete(count=CountMethod.exact).in_("title", ["a", "d", "no"]).execute()
    assert (sorted(titles_of(gone)), gone.count) == (["a", "d"], 2)
    assert titles_of(user.table("notes").select("title").execute()) == ["b"]
    assert rows_of(user.table("notes").update({}).eq("title", "b").execute()) == []


def test_at_most_so_many(project: Project) -> None:
    """A change of more rows than allowed is undone."""
    user = project.user()
    made(user, "a", "b")
    with pytest.raises(APIError) as caught:
        user.table("notes").delete().gte("stars", 0).max_affected(1).execute()
    assert caught.value.code == "PGRST124"
    assert len(rows_of(user.table("notes").select("id").execute())) == 2
    user.table("notes").delete().gte("stars", 0).max_affected(2).execute()


def test_own_rows_alone(project: Project) -> None:
    """The policies decide: foreign rows are neither read, changed, deleted nor made; the secret key passes them."""
    mine, other = project.user(), project.user()
    (row,) = made(mine, "mine")
    assert rows_of(other.table("notes").select("*").eq("id", row["id"]).execute()) == []
    assert rows_of(other.table("notes").update({"title": "x"}).eq("id", row["id"]).execute()) == []
    assert rows_of(other.table("notes").delete().eq("id", row["id"]).execute()) == []
    with pytest.raises(APIError) as caught:
        other.table("notes").insert({"title": "planted", "owner": uid(mine)}).execute()
    assert caught.value.code == "42501"
    assert titles_of(project.admin().table("notes").select("title").eq("id", row["id"]).execute()) == ["mine"]
    assert rows_of(mine.table("titles").select("title").execute()) == [{"title": "mine"}]


def test_genuine_errors(project: Project) -> None:
    """SQLSTATE, message, details and hint are Postgres's own; the status is what PostgREST makes of them."""
    user = project.user()
    made(user, "taken")
    with pytest.raises(APIError) as caught:
        user.table("notes").insert({"title": "taken"}).execute()
    assert caught.value.code == "23505"
    assert caught.value.message == 'duplicate key value violates unique constraint "notes_owner_title_key"'
    pair = {"left_id": uuid4().int % 2**31, "right_id": 1}
    with pytest.raises(APIError) as caught:
        project.admin().table("pairs").insert([pair, pair]).execute()
    assert caught.value.details == f"Key (left_id, right_id)=({pair['left_id']}, 1) already exists."
    assert code_of(user.table("notes").insert({"title": "x", "stars": 9})) == "23514"
    assert code_of(user.table("notes").insert({"title": None})) == "23502"
    assert code_of(user.table("notes").select("*").eq("stars", "many")) == "22P02"
    assert code_of(user.table("notes").select("nope")) == "42703"
    assert code_of(user.table("notes").insert({"nope": 1})) == "PGRST204"
    assert code_of(user.table("notes").update({"nope": 1}).eq("id", 1)) == "PGRST204"
    assert code_of(user.table("nope").select("*")) == "PGRST205"
    assert code_of(user.table("notes").select("*").like("stars", "1*")) == "42883"
    assert code_of(user.table("hidden").select("*")) == "42501"
    assert code_of(project.client().table("notes").select("*")) == "42501"


def code_of(query: Any) -> str | None:
    """The code of the error that a query ends in."""
    with pytest.raises(APIError) as caught:
        query.execute()
    return caught.value.code


def test_statuses(project: Project) -> None:
    """A denial is 401 for nobody and 403 for somebody; duplicates are 409, missing things 404."""
    user = project.user()

    def status(path: str, **options: Any) -> int:
        return project.send("GET", f"/rest/v1/{path}", **options).status_code

    assert status("hidden", key=PUBLISHABLE) == 401
    assert status("hidden", key=PUBLISHABLE, token=token(user)) == 403
    assert status("hidden") == 403
    assert status("nope") == 404
    assert status("rpc/nope") == 404
    assert status("notes?id=eq.x") == 400
    assert status("notes", headers={"accept": "text/csv"}) == 406
    assert status("notes", headers={"accept-profile": "auth"}) == 406
    body = {"left_id": uuid4().int % 2**31, "right_id": 1}
    assert project.send("POST", "/rest/v1/pairs", json=body).status_code == 201
    assert project.send("POST", "/rest/v1/pairs", json=body).status_code == 409


@pytest.mark.parametrize(
    ("state", "status"),
    [
        *[
            ("P0001", 400),
            ("P0002", 500),
            ("PT402", 402),
            ("PT999", 400),
            ("23505", 409),
            ("23503", 409),
            ("22000", 400),
        ],
        *[
            ("40001", 500),
            ("42501", 403),
            ("53400", 500),
            ("53300", 503),
            ("08000", 503),
            ("42P17", 500),
            ("28000", 403),
        ],
        *[
            ("57014", 500),
            ("57P01", 503),
            ("XX000", 500),
            ("21000", 500),
            ("25006", 405),
            ("42883", 404),
            ("42P01", 404),
        ],
    ],
)
def test_status_of_a_state(project: Project, state: str, status: int) -> None:
    """What a function raises gets the status that PostgREST documents, with all that was raised."""
    response = project.send("POST", "/rest/v1/rpc/raises", json={"state": state})
    assert response.status_code == status
    assert response.json() == {"code": state, "message": "as you like", "details": "some detail", "hint": "some hint"}


def test_functions(project: Project) -> None:
    """Functions take named arguments and defaults, and give back whatever they return."""
    user = project.user()
    made(user, "a", "b")
    assert user.rpc("add", {"a": 1}).execute().data == 11
    assert user.rpc("add", {"b": 5, "a": 1}).execute().data == 6
    assert user.rpc("add", {"a": 1}, get=True).execute().data == 11
    assert user.rpc("nothing").execute().data == []
    assert user.rpc("numbers", {"up_to": 3}).execute().data == [1, 2, 3]
    assert user.rpc("total", {"amounts": [1, 2.5, 3]}).execute().data == 6.5
    assert user.rpc("total", {"amounts": [1, 2]}, get=True).execute().data == 3
    assert user.rpc("echo", {"value": {"deep": [None, True]}}).execute().data == {"deep": [None, True]}
    assert user.rpc("echo", {"value": None}).execute().data is None
    assert user.rpc("first_note").select("title").execute().data == {"title": "a"}


def test_functions_that_return_rows(project: Project) -> None:
    """Rows of a function are chosen from, filtered, ordered, paged and counted like those of a table."""
    user = project.user()
    made(user, "a", "b")
    project.user().table("notes").insert({"title": "foreign"}).execute()
    query = user.rpc("squares", {"up_to": 9}, count=CountMethod.exact).select("square").gt("n", 2).order("n", desc=True)
    found = query.limit(2).execute()
    assert (found.data, found.count) == ([{"square": 81}, {"square": 64}], 7)
    assert user.rpc("squares", {"up_to": 9}).eq("n", 3).single().execute().data == {"n": 3, "square": 9}
    assert titles_of(user.rpc("own_notes").select("title").order("title").execute()) == ["a", "b"]
    found = user.rpc("own_notes", get=True).eq("title", "b").select("title").execute()
    assert titles_of(found) == ["b"]


def test_functions_that_can_not_be_called(project: Project) -> None:
    """No such function, other arguments, no right, or writing in a GET: each has its code."""
    user = project.user()
    assert code_of(user.rpc("nope")) == "PGRST202"
    assert code_of(user.rpc("add", {"a": 1, "c": 2})) == "PGRST202"
    assert code_of(user.rpc("add")) == "PGRST202"
    assert code_of(user.rpc("forbidden")) == "42501"
    assert code_of(project.client().rpc("numbers", {"up_to": 1})) == "42501"
    assert code_of(user.rpc("add", {"a": "x"})) == "22P02"
    twice = project.send("GET", "/rest/v1/rpc/add?a=1&a=2")
    assert (twice.status_code, twice.json()["code"]) == (400, "PGRST100")
    admin = project.admin()
    left = uuid4().int % 2**31
    assert code_of(admin.rpc("put_pair", {"l": left, "r": 1}, get=True)) == "25006"
    assert rows_of(admin.rpc("put_pair", {"l": left, "r": 1}, count=CountMethod.exact).execute()) == [
        {"left_id": left, "right_id": 1, "note": "none"}
    ]


def test_claims_reach_the_database(project: Project) -> None:
    """A policy sees the caller's role and claims; afterwards the connection is nobody's again."""
    user = project.user()
    seen: Any = user.rpc("whoami").execute().data
    assert (seen["role_now"], seen["sub"], seen["aud"]) == ("authenticated", uid(user), "authenticated")
    for _ in range(20):
        assert project.client().rpc("whoami").execute().data == {"role": "anon", "role_now": "anon"}
    assert project.admin().rpc("whoami").execute().data == {"role": "service_role", "role_now": "service_role"}


def test_roles_have_their_settings(project: Project) -> None:
    """A role's own settings hold, as on the hosted service, and functions find what is in `public` and `extensions`."""
    limits = {
        "anon": project.client().rpc("setting", {"name": "statement_timeout"}).execute().data,
        "authenticated": project.user().rpc("setting", {"name": "statement_timeout"}).execute().data,
        "service_role": project.admin().rpc("setting", {"name": "statement_timeout"}).execute().data,
    }
    assert limits == {"anon": "3s", "authenticated": "8s", "service_role": "8s"}
    assert project.admin().rpc("setting", {"name": "search_path"}).execute().data == '"public", "extensions"'
    assert project.admin().rpc("setting", {"name": "transaction_read_only"}, get=True).execute().data == "on"


def test_keys(project: Project) -> None:
    """Without a key of ours, or with a token that is not ours, nobody gets in."""
    http, path = project.http, f"{project.url}/rest/v1/notes"
    assert http.get(path).status_code == 401
    assert http.get(path, headers={"apikey": "sb_secret_guess"}).status_code == 401
    assert http.get(path, headers={"authorization": f"Bearer {SECRET}"}).status_code == 401
    refused = http.get(path, headers={"apikey": PUBLISHABLE, "authorization": f"Bearer {SECRET}"})
    assert (refused.status_code, refused.json()["code"]) == (401, "PGRST301")
    refused = http.get(path, headers={"apikey": SECRET, "authorization": "Bearer nonsense"})
    assert (refused.status_code, refused.json()["code"]) == (401, "PGRST301")
    assert http.get(path, headers={"apikey": SECRET}).status_code == 200
    user = project.user()
    seen = project.send("POST", "/rest/v1/rpc/whoami", key=SECRET, token=token(user)).json()
    assert (seen["role_now"], seen["sub"]) == ("authenticated", uid(user))

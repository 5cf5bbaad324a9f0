"""The dashboard's API over the real gateway and Postgres: who sees what, in which form, and what callers thought."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg.types.json import Jsonb

from lib.data.panels import FILTERS, PANELS, RANGES, arguments, period
from lib.http.table import as_csv
from tests.conftest import ACCESS, OPERATOR_KEY, USER_KEY, Serve
from tests.db.conftest import Session
from tests.db.test_access import vsl_job
from tests.db.test_events import event
from tests.local.supabase.conftest import PASSWORD, SECRET, Project, supabase

OPERATOR = {"authorization": f"Bearer {OPERATOR_KEY}"}
KEY = {"authorization": f"Bearer {USER_KEY}"}


@pytest.fixture
def site(supabase_project: Project, serve: Serve) -> Iterator[httpx.Client]:
    """The site over a project of this test's own."""
    with httpx.Client(base_url=serve({**ACCESS, **supabase(supabase_project.url)})) as client:
        yield client


@pytest.fixture
def supabase_project(request: pytest.FixtureRequest) -> Project:
    """The gateway of tests/api, under a name that does not hide the function that names it."""
    return request.getfixturevalue("supabase")


def record(project: Project, *events: dict[str, Any], rolled_up: bool = True) -> None:
    """Have these events."""
    with project.database.connect() as connection:
        session = Session(connection)
        assert session.call("record_events", events=Jsonb(list(events)))["inserted"] == len(events)
        if rolled_up:
            session.call("rollup_inference")


def signed_up(project: Project, **metadata: object) -> tuple[str, dict[str, str]]:
    """The id of a new user, and the header with its token."""
    auth, email = f"{project.url}/auth/v1", f"{uuid4()}@mail.test"
    key = {"apikey": SECRET, "authorization": f"Bearer {SECRET}"}
    body = {"email": email, "password": PASSWORD, "email_confirm": True, **metadata}
    user = httpx.post(f"{auth}/admin/users", json=body, headers=key).raise_for_status().json()
    given = {"email": email, "password": PASSWORD}
    session = httpx.post(f"{auth}/token?grant_type=password", json=given, headers=key).raise_for_status().json()
    return user["id"], {"authorization": f"Bearer {session['access_token']}"}


def get(site: httpx.Client, panel: str, headers: dict[str, str] = OPERATOR, /, **query: str) -> httpx.Response:
    """Ask for a panel."""
    return site.get(f"/api/dashboard/{panel}", params=query, headers=headers)


def requests_of(site: httpx.Client, headers: dict[str, str], name: str = "1h") -> tuple[str, int]:
    """Whose requests a caller is told of, and how many."""
    body = get(site, "requests", headers, range=name).raise_for_status().json()
    return body["scope"], sum(row["requests"] for row in body["rows"])


@pytest.mark.parametrize("name", ["5m", "24h", "7d"])
def test_operators_see_all_and_others_their_own(site: httpx.Client, supabase_project: Project, name: str) -> None:
    """By key and by token; a token's claim to be an operator counts only where the project made it."""
    caller, now = site.get("/api/session", headers=KEY).json()["id"], datetime.now(UTC)
    ann, as_ann = signed_up(supabase_project)
    _, as_impostor = signed_up(supabase_project, user_metadata={"role": "operator"})
    _, as_operator = signed_up(supabase_project, app_metadata={"role": "operator"})
    record(
        supabase_project,
        event(now, user_id=caller),
        event(now, user_id=ann),
        event(now, user_id=ann, provider="xai"),
        event(now),
    )
    assert requests_of(site, OPERATOR, name) == ("all", 4)
    assert requests_of(site, KEY, name) == ("own", 1)
    assert requests_of(site, as_ann, name) == ("own", 2)
    assert requests_of(site, as_impostor, name) == ("own", 0)
    assert requests_of(site, as_operator, name) == ("all", 4)
    assert requests_of(site, {}, name) == ("own", 0)


def test_the_last_calls_of_a_quiet_site_are_seen(site: httpx.Client, supabase_project: Project) -> None:
    """Also where nobody has called since, who would have had them rolled up."""
    record(supabase_project, event(datetime.now(UTC)), rolled_up=False)
    assert requests_of(site, OPERATOR, "24h") == ("all", 1)


def test_jobs_of_all_and_of_oneself(site: httpx.Client, supabase_project: Project) -> None:
    """Operators by key and by token see every job, others their own, and nobody what it is about."""
    ann, as_ann = signed_up(supabase_project)
    bob, as_bob = signed_up(supabase_project, user_metadata={"role": "operator"})
    _, as_operator = signed_up(supabase_project, app_metadata={"role": "operator"})
    with supabase_project.database.connect() as connection:
        for user in (ann, bob):
            now = dict.fromkeys(("next_at", "created_at", "updated_at"), datetime.now(UTC))
            more = {"request": Jsonb({"product": "secret"}), "cost_microusd": 1_500_000}
            Session(connection).insert("vsl_jobs", **{**vsl_job(UUID(user), 1), **now, **more})

    def jobs_of(headers: dict[str, str]) -> set[str]:
        answer = get(site, "jobs", headers, range="1h").raise_for_status()
        assert "secret" not in answer.text
        rows = answer.json()["rows"]
        assert [(row["status"], row["step"], row["cost_usd"]) for row in rows] == [("queued", "script", 1.5)] * len(
            rows
        )
        return {row["job_id"] for row in rows}

    of_ann, of_bob = ({str(vsl_job(UUID(user), 1)["id"])} for user in (ann, bob))
    assert jobs_of(OPERATOR) == jobs_of(as_operator) == of_ann | of_bob
    assert (jobs_of(as_ann), jobs_of(as_bob), jobs_of(KEY), jobs_of({})) == (of_ann, of_bob, set(), set())


def test_every_panel(site: httpx.Client, supabase_project: Project) -> None:
    """Each answers with the columns that it declares, in JSON and as CSV; nothing was rolled out or filmed."""
    request_id = str(uuid4())
    record(
        supabase_project,
        event(
            datetime.now(UTC),
            request_id=request_id,
            outcome="error",
            error_code="overloaded",
            experiment="x",
            experiment_arm="a",
        ),
        event(
            datetime.now(UTC),
            request_id=request_id,
            attempt=2,
            kind="fallback",
            fallback_from="groq",
            provider="xai",
            ttft_ms=1,
            output_tokens=9,
        ),
    )
    for name, panel in PANELS.items():
        query = {"id": request_id} if name == "request" else {"range": "24h"}
        answer = get(site, name, OPERATOR, **query).raise_for_status()
        body = answer.json()
        assert body["columns"] == list(panel.columns), name
        assert bool(body["rows"]) is (name not in {"rollout", "jobs"}), name
        assert {key for row in body["rows"] for key in row} <= set(panel.columns), name
        written = get(site, name, {**OPERATOR, "accept": "text/csv"}, **query).raise_for_status()
        assert written.headers["content-type"].startswith("text/csv")
        lines = list(csv.reader(io.StringIO(written.text)))
        assert (lines[0], len(lines) - 1) == (list(panel.columns), len(body["rows"]))
    assert get(site, "rollout").json()["rollouts"] == []


def test_unchanged_costs_a_304(site: httpx.Client, supabase_project: Project) -> None:
    """As long as the rows stay what they are; nothing of it may be kept by a proxy."""
    record(supabase_project, event(datetime.now(UTC) - timedelta(minutes=30)))
    first = get(site, "errors", range="30d")
    assert first.headers["cache-control"] == "private, no-cache"
    again = get(site, "errors", {**OPERATOR, "if-none-match": first.headers["etag"]}, range="30d")
    assert (again.status_code, again.content) == (304, b"")
    record(supabase_project, event(datetime.now(UTC) - timedelta(minutes=29), outcome="error"))
    changed = get(site, "errors", {**OPERATOR, "if-none-match": first.headers["etag"]}, range="30d")
    assert (changed.status_code, len(changed.json()["rows"])) == (200, 1)


@pytest.mark.parametrize(
    ("panel", "query", "status", "path"),
    [
        ("nothing", {}, 404, None),
        ("tiles", {"range": "2h"}, 422, "range"),
        ("tiles", {"rnage": "1h"}, 422, "rnage"),
        ("tiles", {"provider": "x" * 201}, 422, "provider"),
        ("tiles", {"model": "a\0b"}, 422, "model"),
        ("request", {"id": "1"}, 422, "id"),
        ("request", {}, 422, "id"),
        ("request", {"id": str(uuid4())}, 404, None),
    ],
)
def test_refusals(site: httpx.Client, panel: str, query: dict[str, str], status: int, path: str | None) -> None:
    """A problem that names what is wrong."""
    answer = get(site, panel, OPERATOR, **query)
    assert answer.status_code == status
    assert [error["path"] for error in answer.json().get("errors", [])] == ([] if path is None else [path])


def test_without_a_database(serve: Serve) -> None:
    """503, naming the variables."""
    answer = httpx.get(f"{serve(ACCESS)}/api/dashboard/tiles", headers=OPERATOR)
    assert answer.status_code == 503
    assert "SUPABASE_URL" in answer.json()["detail"]


HOSTILE = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1")


@pytest.mark.parametrize("text", HOSTILE)
def test_fault_50_formulas_in_csv(text: str) -> None:
    """What a spreadsheet would execute is a text with an apostrophe before it; what breaks out of a cell does not."""
    rows = [{"model": text, "calls": -5, "error": 'a",=1\r\n=2'}]
    (head, line) = list(csv.reader(io.StringIO(as_csv(("model", "calls", "error", "none"), rows), newline="")))
    assert head == ["model", "calls", "error", "none"]
    assert line == [f"'{text}", "-5", 'a",=1\r\n=2', ""]


def test_fault_50_formulas_that_come_from_callers(site: httpx.Client, supabase_project: Project) -> None:
    """All the way through: a model's name that is a formula leaves quoted."""
    record(supabase_project, event(datetime.now(UTC), model="=cmd|' /C calc'!A0", provider="@x"))
    text = get(site, "models", {**OPERATOR, "accept": "text/csv"}, range="1h").text
    (line,) = list(csv.DictReader(io.StringIO(text)))
    assert (line["provider"], line["model"]) == ("'@x", "'=cmd|' /C calc'!A0")


@pytest.mark.parametrize(
    "now",
    [
        datetime(2028, 2, 29, 0, 0, 0, tzinfo=UTC),
        datetime(2028, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # an hour that clocks in Europe do not have
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # and one that they have twice
        datetime(2027, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    ],
)
def test_fault_54_periods_are_whole_steps_of_utc(now: datetime) -> None:
    """Leap day, summer time, the turn of a year: each range ends with the step under way and is as long as it says."""
    for name, chosen in RANGES.items():
        begin, end = period(name, now)
        assert end - begin == chosen.span
        assert end - chosen.step < now <= end
        steps = (end - datetime(2000, 1, 1, tzinfo=UTC)) / chosen.step
        assert steps == int(steps)
        # An offset of a machine's own must not move it.
        assert arguments(name, now.astimezone(), dict.fromkeys(FILTERS), None) == arguments(name, now, {}, None)


def feedback(site: httpx.Client, headers: dict[str, str], **body: object) -> int:
    """Send it; the status."""
    return site.post("/api/feedback", json=body, headers=headers).status_code


def test_feedback(site: httpx.Client, supabase_project: Project) -> None:
    """On one's own requests alone; the last thumb counts and joins the arms."""
    caller, request_id = site.get("/api/session", headers=KEY).json()["id"], str(uuid4())
    record(
        supabase_project,
        event(datetime.now(UTC), request_id=request_id, user_id=caller, experiment="x", experiment_arm="a"),
    )
    assert feedback(site, KEY, request_id=request_id, thumb="up") == 204
    assert feedback(site, KEY, request_id=request_id, thumb="down", comment="wrong <b>river</b>") == 204
    assert feedback(site, OPERATOR, request_id=request_id, thumb="up") == 404
    assert feedback(site, KEY, request_id=str(uuid4()), thumb="up") == 404
    (arm,) = get(site, "arms", range="1h").json()["rows"]
    assert (arm["arm"], arm["thumbs_up"], arm["thumbs_down"]) == ("a", 0, 1)
    with supabase_project.database.connect() as connection:
        query = "select thumb, comment from public.feedback"
        assert connection.execute(query).fetchall() == [(-1, "wrong <b>river</b>")]


@pytest.mark.parametrize(
    "body",
    [
        {"thumb": "up"},
        {"request_id": "1", "thumb": "up"},
        {"request_id": str(uuid4()), "thumb": "sideways"},
        {"request_id": str(uuid4()), "thumb": "up", "comment": "x" * 1001},
        {"request_id": str(uuid4()), "thumb": "up", "more": 1},
    ],
)
def test_feedback_that_does_not_fit(site: httpx.Client, body: dict[str, object]) -> None:
    """Is refused."""
    assert feedback(site, KEY, **body) == 422


def test_feedback_goes_with_its_author(site: httpx.Client, supabase_project: Project) -> None:
    """Whoever leaves takes their words along; the event stays, under nobody's name."""
    caller, request_id = site.get("/api/session", headers=KEY).json()["id"], str(uuid4())
    record(supabase_project, event(datetime.now(UTC), request_id=request_id, user_id=caller))
    assert feedback(site, KEY, request_id=request_id, thumb="down", comment="mine") == 204
    assert site.delete("/api/me", headers=KEY).status_code == 200
    with supabase_project.database.connect() as connection:
        assert connection.execute("select count(*) from public.feedback").fetchone() == (0,)
        assert connection.execute("select count(*) from public.inference_events").fetchone() == (1,)


def test_feedback_across_sites(site: httpx.Client) -> None:
    """Another site's page can't judge in a visitor's name."""
    headers = {"sec-fetch-site": "cross-site", "origin": "https://elsewhere.example"}
    assert feedback(site, headers, request_id=str(uuid4()), thumb="up") == 403

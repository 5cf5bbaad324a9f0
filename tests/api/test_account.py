"""/api/session and who is calling, against the real gateway and Postgres through the running server."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lib.http.auth import GUEST_COOKIE, SESSION_COOKIE
from local.postgres import Postgres
from tests.conftest import ACCESS, KEY_HEADER, USER_KEY, Serve, local_over
from tests.database import copied
from tests.fakes.auth import FakeAuth
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor
from tests.fakes.web import told
from tests.local.supabase.conftest import PASSWORD, PUBLISHABLE, SECRET, Clock, Project, served, supabase

SESSION = "/api/session"


@dataclass(frozen=True)
class Site:
    """The product over a project."""

    url: str
    project: Project

    def browser(self) -> httpx.Client:
        """A browser without cookies."""
        return httpx.Client(base_url=self.url, timeout=30)

    @contextmanager
    def user(self, email: str | None = None) -> Generator[httpx.Client]:
        """A browser whose user has just signed up."""
        with self.browser() as browser:
            assert browser.put(SESSION, json=credentials(email)).status_code == 201
            yield browser

    def account(self) -> dict[str, str]:
        """What a user signs in with who has signed up elsewhere."""
        given = credentials()
        assert httpx.put(f"{self.url}{SESSION}", json=given).status_code == 201
        return given


def credentials(email: str | None = None, password: str = PASSWORD) -> dict[str, str]:
    """What to sign in or up with."""
    return {"email": email or f"{uuid4()}@mail.test", "password": password}


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"account_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


@pytest.fixture
def site(project: Project, serve: Serve) -> Site:
    """The product over the project, where guests are welcome."""
    return Site(serve({**ACCESS, **supabase(project.url)}), project)


@pytest.fixture
def auth(loop: LoopThread) -> Iterator[FakeAuth]:
    """An Auth whose tokens and troubles a test decides on."""
    fake = FakeAuth(loop)
    yield fake
    fake.web.close()


def event_of(site: Site, user_id: str) -> str:
    """Put an event of this guest on record; return its request."""
    request_id = str(uuid4())
    event = {
        "id": str(uuid4()),
        "request_id": request_id,
        "user_id": user_id,
        "caller_kind": "guest",
        "route": "/api/generate",
        "provider": "local",
        "model": "m",
        "outcome": "ok",
        "latency_ms": 1,
        "created_at": "2026-11-22T12:00:00Z",
    }
    answer = site.project.send("POST", "/rest/v1/rpc/record_events", json={"p_events": [event]})
    assert answer.json()["inserted"] == 1
    return request_id


def own_requests(site: Site, browser: httpx.Client) -> list[str]:
    """The requests whose events a browser's user may read, under the policies."""
    token = browser.cookies[SESSION_COOKIE].partition(":")[0]
    rows = site.project.send("GET", "/rest/v1/inference_events?select=request_id", token=token, key=PUBLISHABLE)
    return [row["request_id"] for row in rows.json()]


def test_guest_to_user(site: Site) -> None:
    """A guest who signs up keeps what it did; its anonymous user's id becomes the account's."""
    with site.browser() as browser:
        guest = browser.get(SESSION).json()
        assert guest == {"id": guest["id"], "kind": "guest", "role": "user", "email": None, "accounts": True}
        assert site.project.sql("select 1 from auth.users where id = %s", guest["id"]) == []
        request_id = event_of(site, guest["id"])
        given = credentials()
        answer = browser.put(SESSION, json=given)
        user = answer.json()
        assert (answer.status_code, user["kind"], user["email"]) == (201, "user", given["email"])
        assert browser.get(SESSION).json() == user
        assert own_requests(site, browser) == [request_id]
    rows = site.project.sql("select is_anonymous, email from auth.users where id = %s", user["id"])
    assert rows == [(False, given["email"])]


def test_taken_address_keeps_the_guest(site: Site) -> None:
    """Where the address is somebody's, the guest stays an anonymous user with its rows, and signs up under that id."""
    given = site.account()
    with site.browser() as browser:
        guest = browser.get(SESSION).json()["id"]
        request_id = event_of(site, guest)
        refused = browser.put(SESSION, json=given)
        assert (refused.status_code, refused.json()["code"]) == (409, "email_taken")
        anonymous = browser.get(SESSION).json()
        assert (anonymous["kind"], anonymous["email"]) == ("guest", None)
        assert own_requests(site, browser) == [request_id]
        user = browser.put(SESSION, json=credentials()).json()
        assert (user["kind"], user["id"]) == ("user", anonymous["id"])
        assert own_requests(site, browser) == [request_id]


def test_sign_out_and_in(site: Site) -> None:
    """After signing out the browser's next visitor is somebody else; signing in brings the same user back."""
    given = credentials()
    with site.user(given["email"]) as browser:
        user = browser.get(SESSION).json()
        token = browser.cookies[SESSION_COOKIE].partition(":")[0]
        answer = browser.delete(SESSION)
        assert (answer.status_code, answer.content, list(browser.cookies)) == (204, b"", [])
        # The session itself has ended: a copy of its cookie is good for nothing new.
        assert site.project.send("GET", "/auth/v1/user", token=token).status_code == 403
        guest = browser.get(SESSION).json()
        assert (guest["kind"], guest["id"] == user["id"]) == ("guest", False)
        assert browser.post(SESSION, json=given).json() == user
        assert browser.get(SESSION).json() == user


def test_signing_out_twice(site: Site) -> None:
    """It ends the same way for whoever has nothing to end."""
    with site.user() as browser:
        cookies = dict(browser.cookies)
        assert browser.delete(SESSION).status_code == 204
    answer = httpx.delete(f"{site.url}{SESSION}", cookies=cookies)
    assert (answer.status_code, len(answer.headers.get_list("set-cookie"))) == (204, 2)
    assert httpx.delete(f"{site.url}{SESSION}", headers=KEY_HEADER).status_code == 204


def test_wrong_credentials(site: Site) -> None:
    """An unknown address and a wrong password get the same answer."""
    given = site.account()
    answers = [
        httpx.post(f"{site.url}{SESSION}", json=attempt)
        for attempt in ({**given, "password": "wrong horse"}, credentials())
    ]
    told = [{**answer.json(), "request_id": ""} for answer in answers]
    assert told[0] == told[1]
    assert (told[0]["status"], told[0]["code"]) == (401, "invalid_credentials")
    assert [answer.headers.get_list("set-cookie") for answer in answers] == [[], []]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["email", "password"]),
        ({"email": "a@b.test"}, ["password"]),
        ({"email": "nobody", "password": "x"}, ["email"]),
        ({"email": "a b@c.test", "password": "x"}, ["email"]),
        ({"email": 7, "password": ["x"]}, ["email", "password"]),
        ({"email": "a@b.test", "password": "x" * 1001}, ["password"]),
        ({"email": "a@b.test", "password": "canary", "role": "operator"}, ["role"]),
        ([], [""]),
    ],
)
def test_bad_bodies(site: Site, body: object, paths: list[str]) -> None:
    """What is wrong is named, and never repeated; nobody becomes an operator by asking."""
    for method in ("POST", "PUT"):
        answer = httpx.request(method, f"{site.url}{SESSION}", json=body)
        assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, paths)
        assert "canary" not in answer.text


def test_weak_password(site: Site) -> None:
    """The project's own rule for passwords comes back as a field's fault."""
    answer = httpx.put(f"{site.url}{SESSION}", json=credentials(password="short"))
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "password")


def test_signing_up_while_signed_in(site: Site) -> None:
    """An account does not become another one."""
    with site.user() as browser:
        answer = browser.put(SESSION, json=credentials())
        assert (answer.status_code, answer.json()["code"]) == (409, "signed_in")
    answer = httpx.put(f"{site.url}{SESSION}", json=credentials(), headers=KEY_HEADER)
    assert answer.status_code == 409


def test_bearer(site: Site) -> None:
    """A user's access token counts as a bearer, whatever origin its request says; it is given no cookie."""
    with site.user() as browser:
        user = browser.get(SESSION).json()
        token = browser.cookies[SESSION_COOKIE].partition(":")[0]
    headers = {"authorization": f"Bearer {token}", "origin": "https://elsewhere.example"}
    answer = httpx.get(f"{site.url}{SESSION}", headers=headers)
    assert (answer.json(), answer.headers.get_list("set-cookie")) == (user, [])
    refused = httpx.get(f"{site.url}{SESSION}", headers={"authorization": f"Bearer {token[:-9]}AAAAAAAAA"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_cookie(site: Site) -> None:
    """The session is out of scripts' reach, sent to the whole site, Secure by https, and fits into a cookie."""
    given = site.account()
    for scheme, secure in (("http", ""), ("https", True)):
        answer = httpx.post(f"{site.url}{SESSION}", json=given, headers={"x-forwarded-proto": scheme})
        (header,) = answer.headers.get_list("set-cookie")
        morsel = SimpleCookie(header)[SESSION_COOKIE]
        assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
        assert (morsel["secure"], len(header) < 4096) == (secure, True)
        assert answer.headers["cache-control"] == "private, no-store"


CROSS_SITE = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "null"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_other_sites_pages_change_nothing(site: Site, headers: dict[str, str]) -> None:
    """Neither with a user's cookie nor without one, so that nobody is signed in as somebody else."""
    given = credentials()
    with site.user(given["email"]) as browser:
        before = browser.get(SESSION, headers=headers).json()
        for method in ("POST", "PUT", "DELETE"):
            answer = browser.request(method, SESSION, json=given, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), method
        generate = browser.post("/api/generate", json={"prompt": "Hi"}, headers=headers)
        assert (generate.status_code, generate.json()["code"]) == (403, "cross_site")
        assert browser.get(SESSION).json() == before
    assert httpx.post(f"{site.url}{SESSION}", json=given, headers=headers).status_code == 403


def test_own_pages_may(project: Project, serve: Serve) -> None:
    """The site's own pages, those of allowed origins, and what is no browser."""
    site = Site(serve({**ACCESS, **supabase(project.url), "ALLOWED_ORIGINS": "https://www.example.com"}), project)
    given = site.account()
    for headers in (
        {"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"},
        {"sec-fetch-site": "same-site", "origin": "https://www.example.com"},
        {"origin": site.url},
        {},
    ):
        assert httpx.post(f"{site.url}{SESSION}", json=given, headers=headers).status_code == 200, headers


def test_operators_may_choose(site: Site, vendor: Vendor, serve: Serve) -> None:
    """A user may not name a provider; one whom the server made an operator may."""
    environ = {**local_over(vendor), **supabase(site.project.url)}
    given = credentials()
    with Site(serve(environ), site.project).user(given["email"]) as browser:
        asked = {"prompt": "Hi", "provider": "local", "stream": False}
        assert browser.post("/api/generate", json=asked).status_code == 403
        user_id = browser.get(SESSION).json()["id"]
        changed = site.project.send(
            "PUT", f"/auth/v1/admin/users/{user_id}", json={"app_metadata": {"role": "operator"}}
        )
        assert changed.status_code == 200
        assert browser.post(SESSION, json=given).json()["role"] == "operator"
        assert browser.post("/api/generate", json=asked).status_code == 200


def test_without_supabase(serve: Serve) -> None:
    """There are keys and guests; who wants an account is told which variables it takes."""
    url = serve(ACCESS)
    assert httpx.get(f"{url}{SESSION}").json()["accounts"] is False
    for method in ("POST", "PUT", "DELETE"):
        answer = httpx.request(method, f"{url}{SESSION}", json=credentials())
        assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")
        for name in supabase(""):
            assert name in answer.json()["detail"]
    # A session cookie of other times says nothing here.
    assert httpx.get(f"{url}{SESSION}", cookies={SESSION_COOKIE: "x:y"}).json()["kind"] == "guest"


def test_where_guests_are_not_welcome(project: Project, serve: Serve) -> None:
    """Who is nobody signs up all the same; an anonymous user's token is refused."""
    site = Site(serve(supabase(project.url)), project)
    with site.browser() as browser:
        assert browser.get(SESSION).status_code == 401
        assert browser.put(SESSION, json=credentials()).status_code == 201
        assert browser.get(SESSION).json()["kind"] == "user"
    token = project.send("POST", "/auth/v1/signup", json={}).json()["access_token"]
    assert httpx.get(f"{site.url}{SESSION}", headers={"authorization": f"Bearer {token}"}).status_code == 401


def session_cookie(auth: FakeAuth, lasts_s: float, **claims: Any) -> dict[str, str]:
    """A session whose access token lasts so long."""
    token = auth.token(exp=auth.claims()["iat"] + lasts_s, **claims)
    return {SESSION_COOKIE: f"{token}:refresh-0"}


@pytest.mark.parametrize(("lasts_s", "renewals"), [(3600, 0), (30, 1), (-5000, 1)])
def test_renewal(serve: Serve, auth: FakeAuth, lasts_s: float, renewals: int) -> None:
    """A session that is about to end, or has, is renewed before the answer: the browser gets the new one along."""
    url = serve({**ACCESS, **supabase(auth.url)})
    answer = httpx.get(f"{url}{SESSION}", cookies=session_cookie(auth, lasts_s))
    assert answer.json()["kind"] == "user"
    assert len(auth.asked("/token")) == renewals == len(answer.headers.get_list("set-cookie"))
    if renewals:
        assert SimpleCookie(answer.headers["set-cookie"])[SESSION_COOKIE].value.endswith(":refresh-1")


def test_renewed_once_for_all_requests(serve: Serve, auth: FakeAuth, loop: LoopThread) -> None:
    """A page's requests at once, and one that comes a moment later with the old cookie, take one renewal together."""
    url = serve({**ACCESS, **supabase(auth.url)})
    cookies = session_cookie(auth, 1)

    async def page() -> list[httpx.Response]:
        async with httpx.AsyncClient(cookies=cookies) as browser:
            return await asyncio.gather(*(browser.get(f"{url}{SESSION}") for _ in range(10)))

    answers = [*loop.run(page()), httpx.get(f"{url}{SESSION}", cookies=cookies)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["set-cookie"] for answer in answers}) == 1
    assert len(auth.asked("/token")) == 1


def test_a_session_outlasts_its_key(serve: Serve, auth: FakeAuth) -> None:
    """Where the project has changed its keys, the session goes on with a token by the new one."""
    url = serve({**ACCESS, **supabase(auth.url)})
    cookies = session_cookie(auth, 3600)
    auth.keys = {"key-2": ec.generate_private_key(ec.SECP256R1())}
    assert httpx.get(f"{url}{SESSION}", cookies=cookies).json()["kind"] == "user"
    assert len(auth.asked("/token")) == 1


@pytest.mark.parametrize("value", ["x", "x:y", ":", "a.b.c:refresh-1", "é:x"])
def test_session_that_does_not_hold(serve: Serve, auth: FakeAuth, value: str) -> None:
    """It is refused once and taken back, so that the next request is a guest's; nobody is made a guest unawares."""
    url = serve({**ACCESS, **supabase(auth.url)})
    headers = {b"cookie": f"{SESSION_COOKIE}={value}".encode()}
    answer = httpx.get(f"{url}{SESSION}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_expired")
    morsel = SimpleCookie(answer.headers["set-cookie"])[SESSION_COOKIE]
    assert (morsel.value, morsel["max-age"]) == ("", "0")
    assert auth.asked("/token") == []


def test_session_that_was_ended(serve: Serve, auth: FakeAuth) -> None:
    """Auth no longer knows it: 401, and the cookie goes."""
    url = serve({**ACCESS, **supabase(auth.url)})
    token = auth.token(exp=auth.claims()["iat"])
    answer = httpx.get(f"{url}{SESSION}", cookies={SESSION_COOKIE: f"{token}:gone"})
    assert (answer.status_code, answer.json()["code"]) == (401, "session_expired")
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_auth_out_of_reach(serve: Serve, auth: FakeAuth, vendor: Vendor) -> None:
    """Holders of keys are answered; users are told to come back, and keep their cookie."""
    url = serve({**local_over(vendor), **supabase(auth.url)})
    cookies = session_cookie(auth, 3600)
    auth.web.close()
    asked = {"prompt": "Hi", "stream": False}
    assert httpx.post(f"{url}/api/generate", json=asked, headers=KEY_HEADER).status_code == 200
    bearer = f"Bearer {cookies[SESSION_COOKIE].partition(':')[0]}"
    for headers in ({"cookie": f"{SESSION_COOKIE}={cookies[SESSION_COOKIE]}"}, {"authorization": bearer}):
        answer = httpx.post(f"{url}/api/generate", json=asked, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "auth_unavailable")
        assert answer.headers.get_list("set-cookie") == []
    answer = httpx.put(f"{url}{SESSION}", json=credentials())
    assert (answer.status_code, answer.json()["code"]) == (503, "auth_unavailable")


def test_too_many(serve: Serve, auth: FakeAuth) -> None:
    """Auth's own limit is told with when to come back; it is asked on behalf of the visitor's address."""
    url = serve({**ACCESS, **supabase(auth.url)})
    auth.web.script(told({"code": 429, "error_code": "over_request_rate_limit", "msg": "canary"}, 429, retry_after="7"))
    answer = httpx.post(f"{url}{SESSION}", json=credentials(), headers={"x-forwarded-for": "198.51.100.7"})
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "auth_rate_limited", "7")
    assert "canary" not in answer.text
    (asked,) = auth.asked("/token")
    assert (asked.headers["sb-forwarded-for"], asked.headers["apikey"]) == ("198.51.100.7", SECRET)


def test_wrong_key_of_ours(project: Project, serve: Serve) -> None:
    """A secret key that the project refuses is our trouble, not the visitor's session's."""
    url = serve({**ACCESS, **supabase(project.url), "SUPABASE_SECRET_KEY": "sb_secret_wrong"})
    answer = httpx.post(f"{url}{SESSION}", json=credentials())
    assert (answer.status_code, answer.json()["code"]) == (503, "auth_unavailable")


def test_no_secret_is_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """No answer or log line repeats a key, a token or a password."""
    given = credentials()
    with site.user(given["email"]) as browser:
        session = browser.cookies[SESSION_COOKIE]
        answers = [
            browser.get(SESSION),
            browser.put(SESSION, json=given),
            browser.post(SESSION, json={"email": PASSWORD}),
        ]
    shown = "".join(answer.text for answer in answers) + caplog.text
    for secret in (SECRET, USER_KEY, session, PASSWORD, GUEST_COOKIE + "="):
        assert secret not in shown

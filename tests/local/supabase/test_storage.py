"""Files through supabase-py, unmodified: buckets, policies on objects, ranges and signed URLs."""

from __future__ import annotations

import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from storage3.exceptions import StorageApiError

from tests.local.supabase.conftest import PUBLISHABLE, Project, Supabase, token, uid

TEXT = {"content-type": "text/plain"}


def error_of(action: Callable[[], Any]) -> tuple[str, str]:
    """Status and error of what this ends in."""
    with pytest.raises(StorageApiError) as caught:
        action()
    return str(caught.value.status), caught.value.code


def stored(project: Project) -> set[Path]:
    """The files on the disk."""
    return {path for path in (project.folder / "objects").rglob("*") if path.is_file()}


def names_of(listing: list[dict[str, Any]]) -> list[str]:
    """The names in a listing."""
    return [each["name"] for each in listing]


def mine(client: Supabase, name: str) -> str:
    """A path that belongs to a client's user."""
    return f"{uid(client)}/{name}"


def test_buckets(project: Project) -> None:
    """The secret key makes, finds, lists, empties and deletes buckets."""
    storage, name = project.admin().storage, f"bucket-{uuid4().hex[:8]}"
    made = storage.create_bucket(name, options={"public": True, "file_size_limit": 99, "allowed_mime_types": ["a/b"]})
    assert made == {"name": name}
    bucket = storage.get_bucket(name)
    assert (bucket.id, bucket.name, bucket.public) == (name, name, True)
    assert (bucket.file_size_limit, bucket.allowed_mime_types) == (99, ["a/b"])
    assert name in [each.id for each in storage.list_buckets()]
    assert error_of(lambda: storage.create_bucket(name)) == ("409", "Duplicate")
    assert error_of(lambda: storage.create_bucket("no/slash")) == ("400", "Invalid Input")
    storage.from_(name).upload("x", b"1", {"content-type": "a/b"})
    assert error_of(lambda: storage.delete_bucket(name))[0] == "409"
    before = stored(project)
    assert storage.empty_bucket(name) == {"message": "Successfully emptied"}
    assert len(before - stored(project)) == 1
    assert storage.delete_bucket(name) == {"message": "Successfully deleted"}
    for gone in (storage.get_bucket, storage.delete_bucket, storage.empty_bucket):
        assert error_of(lambda gone=gone: gone(name)) == ("404", "Bucket not found")


def test_buckets_are_not_for_users(project: Project) -> None:
    """Without a policy nobody else sees a bucket, makes one or removes one."""
    for client in (project.user(), project.client()):
        assert client.storage.list_buckets() == []
        assert error_of(lambda client=client: client.storage.get_bucket("own"))[0] == "404"
        assert error_of(lambda client=client: client.storage.create_bucket("mine")) == ("403", "Unauthorized")
        assert error_of(lambda client=client: client.storage.delete_bucket("own"))[0] == "404"
        assert error_of(lambda client=client: client.storage.empty_bucket("own"))[0] == "404"


def test_upload_and_download(project: Project) -> None:
    """A file comes back byte by byte, with the type and the caching that it came with."""
    client = project.user()
    files, content = client.storage.from_("own"), os.urandom(300_000)
    options = {"content-type": "video/mp4", "cache-control": "31536000, immutable", "metadata": {"job": 1}}
    made = files.upload(mine(client, "a/b.mp4"), content, options)
    assert (made.path, made.full_path) == (mine(client, "a/b.mp4"), f"own/{mine(client, 'a/b.mp4')}")
    assert files.download(mine(client, "a/b.mp4")) == content
    path = f"/storage/v1/object/authenticated/own/{mine(client, 'a/b.mp4')}"
    got = project.send("GET", path, token=token(client), key=PUBLISHABLE)
    assert (got.status_code, got.headers["content-type"], got.headers["content-length"]) == (200, "video/mp4", "300000")
    assert got.headers["cache-control"] == "max-age=31536000, immutable"
    assert got.headers["x-content-type-options"] == "nosniff"
    info = files.info(mine(client, "a/b.mp4"))
    assert (info["size"], info["content_type"], info["metadata"]) == (300_000, "video/mp4", {"job": 1})
    assert got.headers["etag"] == info["etag"]
    assert files.exists(mine(client, "a/b.mp4"))
    assert not files.exists(mine(client, "a/c.mp4"))


def test_upload_from_disk_and_empty(project: Project, tmp_path: Path) -> None:
    """A file may be named by its path, and may be empty."""
    client = project.user()
    files, path = client.storage.from_("own"), tmp_path / "in.txt"
    path.write_bytes(b"from disk")
    files.upload(mine(client, "disk"), path, TEXT)
    assert files.download(mine(client, "disk")) == b"from disk"
    files.upload(mine(client, "empty"), b"", TEXT)
    assert files.download(mine(client, "empty")) == b""


def test_upload_as_the_body(project: Project) -> None:
    """A file may be the body itself, with its metadata in headers."""
    client = project.user()
    path = f"/storage/v1/object/own/{mine(client, 'raw')}"
    headers = {
        "content-type": "image/png",
        "cache-control": "max-age=60",
        "x-metadata": b64encode(b'{"a": "b"}').decode(),
    }
    made = project.send("POST", path, token=token(client), key=PUBLISHABLE, content=b"png", headers=headers)
    assert made.json()["Key"] == f"own/{mine(client, 'raw')}"
    info = client.storage.from_("own").info(mine(client, "raw"))
    assert (info["id"], info["content_type"], info["cache_control"]) == (made.json()["Id"], "image/png", "max-age=60")
    assert info["metadata"] == {"a": "b"}


def test_the_policies_decide(project: Project) -> None:
    """Own files alone can be written, read, listed, signed, changed and deleted."""
    owner, other = project.user(), project.user()
    own, foreign = owner.storage.from_("own"), other.storage.from_("own")
    path = mine(owner, "secret.txt")
    own.upload(path, b"secret", TEXT)
    before = stored(project)
    assert error_of(lambda: foreign.upload(mine(owner, "planted"), b"x", TEXT)) == ("403", "Unauthorized")
    assert error_of(lambda: foreign.upload(path, b"x", {**TEXT, "upsert": "true"})) == ("403", "Unauthorized")
    assert error_of(lambda: foreign.update(path, b"x", TEXT)) == ("403", "Unauthorized")
    assert error_of(lambda: foreign.download(path)) == ("404", "not_found")
    assert error_of(lambda: foreign.info(path)) == ("404", "not_found")
    assert error_of(lambda: foreign.create_signed_url(path, 60)) == ("404", "not_found")
    assert error_of(lambda: foreign.create_signed_upload_url(mine(owner, "new"))) == ("403", "Unauthorized")
    assert error_of(lambda: foreign.move(path, mine(other, "moved"))) == ("404", "not_found")
    assert error_of(lambda: foreign.copy(path, mine(other, "copied"))) == ("404", "not_found")
    assert error_of(lambda: own.move(path, mine(other, "given"))) == ("403", "Unauthorized")
    assert error_of(lambda: own.copy(path, mine(other, "given"))) == ("403", "Unauthorized")
    (unseen,) = foreign.create_signed_urls([path], 60)
    assert (unseen["signedURL"], unseen["error"]) == (
        None,
        "Either the object does not exist or you do not have access to it",
    )
    assert foreign.list(uid(owner)) == []
    assert foreign.remove([path]) == []
    assert error_of(lambda: project.client().storage.from_("own").download(path)) == ("404", "not_found")
    assert own.download(path) == b"secret"
    assert stored(project) == before
    assert project.admin().storage.from_("own").download(path) == b"secret"


def test_insert_alone_is_enough_to_upload(project: Project) -> None:
    """Who may only insert can drop a file, but neither see nor replace it."""
    client = project.user()
    files, name = client.storage.from_("drop"), uuid4().hex
    files.upload(name, b"1", TEXT)
    assert error_of(lambda: files.download(name)) == ("404", "not_found")
    assert error_of(lambda: files.upload(name, b"2", {**TEXT, "upsert": "true"})) == ("403", "Unauthorized")
    assert project.admin().storage.from_("drop").download(name) == b"1"


def test_duplicates(project: Project) -> None:
    """A file is replaced only where that is asked for; the old bytes then go."""
    client = project.user()
    files, path = client.storage.from_("own"), mine(client, "a")
    files.upload(path, b"one", TEXT)
    before = stored(project)
    assert error_of(lambda: files.upload(path, b"two", TEXT)) == ("409", "Duplicate")
    assert files.download(path) == b"one"
    assert stored(project) == before
    files.upload(path, b"two", {"content-type": "text/css", "upsert": "true"})
    assert (files.download(path), files.info(path)["content_type"]) == (b"two", "text/css")
    files.update(path, b"three", TEXT)
    assert files.download(path) == b"three"
    assert len(stored(project)) == len(before)


def test_uploads_at_once(project: Project) -> None:
    """Of parallel uploads to one name one stays, whole, and no bytes are left behind."""
    client = project.user()
    path, before = f"/storage/v1/object/own/{mine(client, 'race')}", len(stored(project))
    contents = [bytes([number]) * 50_000 for number in range(8)]
    answers: list[int] = []

    def send(content: bytes) -> None:
        headers = {"x-upsert": "true", "content-type": "text/plain"}
        answer = project.send("POST", path, token=token(client), key=PUBLISHABLE, content=content, headers=headers)
        answers.append(answer.status_code)

    threads = [threading.Thread(target=send, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 8
    assert client.storage.from_("own").download(mine(client, "race")) in contents
    assert len(stored(project)) == before + 1


def test_limits_of_a_bucket(project: Project) -> None:
    """A file too large is 413, a type that isn't listed 415, an unknown bucket 404; nothing is kept of them."""
    client = project.user()
    images, before = client.storage.from_("images"), stored(project)
    images.upload(mine(client, "a.png"), b"x" * 100, {"content-type": "image/png"})
    images.upload(mine(client, "a.mp3"), b"x", {"content-type": "audio/mpeg; codecs=mp3"})
    assert len(stored(project) - before) == 2
    kept = stored(project)
    big = error_of(lambda: images.upload(mine(client, "big"), b"x" * 101, {"content-type": "image/png"}))
    assert big == ("413", "Payload too large")
    for media_type in ("image/gif", "text/html", "image/png2", "video/audio"):
        refused = error_of(
            lambda media_type=media_type: images.upload(mine(client, "b"), b"", {"content-type": media_type})
        )
        assert refused == ("415", "invalid_mime_type")
    assert error_of(lambda: client.storage.from_("none").upload(mine(client, "a"), b"", TEXT)) == (
        "404",
        "Bucket not found",
    )
    huge = error_of(lambda: client.storage.from_("own").upload(mine(client, "huge"), b"x" * 5_000_000, TEXT))
    assert huge == ("413", "Payload too large")
    assert stored(project) == kept


def test_ranges(project: Project) -> None:
    """Parts of a file are 206 with their place in it; a part that is not there is 416."""
    client, content = project.user(), bytes(range(256)) * 40
    client.storage.from_("own").upload(mine(client, "a"), content, {"content-type": "video/mp4"})
    url = client.storage.from_("own").create_signed_url(mine(client, "a"), 60)["signedURL"]

    def part(span: str, **headers: str) -> httpx.Response:
        return project.http.get(url, headers={"range": span, **headers})

    for span, start, end in (("bytes=0-99", 0, 100), ("bytes=100-", 100, 10240), ("bytes=-5", 10235, 10240)):
        got = part(span)
        assert (got.status_code, got.content) == (206, content[start:end])
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/10240"
    assert part("bytes=20000-").status_code == 416
    etag = part("bytes=0-1").headers["etag"]
    assert part("bytes=0-1", **{"if-range": etag}).status_code == 206
    assert part("bytes=0-1", **{"if-range": '"other"'}).status_code == 200
    assert project.http.get(url, headers={"if-none-match": etag}).status_code == 304
    head = project.http.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10240", b"")


def test_listing(project: Project) -> None:
    """A folder shows its folders, then its files, in the order and the pages wanted."""
    client = project.user()
    files = client.storage.from_("own")
    for name in ("b.txt", "a.txt", "A.txt", "sub/x", "sub/deep/y", "other/z", "c%_.txt".replace("%", "")):
        files.upload(mine(client, name), b"12", TEXT)
    listed = files.list(uid(client))
    assert names_of(listed) == ["other", "sub", "A.txt", "a.txt", "b.txt", "c_.txt"]
    assert [each["id"] is None for each in listed] == [True, True, False, False, False, False]
    assert (listed[2]["metadata"]["size"], listed[2]["metadata"]["mimetype"]) == (2, "text/plain")
    assert names_of(files.list(f"{uid(client)}/sub")) == ["deep", "x"]
    assert names_of(files.list(f"{uid(client)}/sub/")) == ["deep", "x"]
    assert names_of(files.list(f"{uid(client)}/su")) == []
    descending = {"sortBy": {"column": "name", "order": "desc"}, "limit": 3, "offset": 1}
    assert names_of(files.list(uid(client), descending)) == ["other", "c_.txt", "b.txt"]
    assert names_of(files.list(uid(client), {"search": "A."})) == ["A.txt", "a.txt"]
    newest = {"sortBy": {"column": "created_at", "order": "desc"}}
    assert names_of(files.list(uid(client), newest)) == ["other", "sub", "c_.txt", "A.txt", "a.txt", "b.txt"]
    assert names_of(files.list()) == [uid(client)]
    for options in (
        {"limit": 0},
        {"offset": -1},
        {"sortBy": {"column": "name; drop"}},
        {"sortBy": {"order": "up"}},
        {"x": 1},
    ):
        assert error_of(lambda options=options: files.list(uid(client), options)) == ("400", "InvalidRequest")


def test_remove(project: Project) -> None:
    """Several files go at once, and their bytes with them; the answer names those that did."""
    client = project.user()
    files, before = client.storage.from_("own"), stored(project)
    for name in ("a", "b", "c"):
        files.upload(mine(client, name), name.encode(), TEXT)
    gone = files.remove([mine(client, "a"), mine(client, "b"), mine(client, "none")])
    assert sorted(names_of(gone)) == [mine(client, "a"), mine(client, "b")]
    assert names_of(files.list(uid(client))) == ["c"]
    assert len(stored(project) - before) == 1
    one = project.send("DELETE", f"/storage/v1/object/own/{mine(client, 'c')}", token=token(client), key=PUBLISHABLE)
    assert one.json() == {"message": "Successfully deleted"}
    assert stored(project) == before


def test_move_and_copy(project: Project) -> None:
    """A moved file is where it was sent alone; a copy outlives its source, and the source its copy."""
    client = project.user()
    files = client.storage.from_("own")
    files.upload(mine(client, "a"), b"content", {"content-type": "text/css", "metadata": {"k": 1}})
    assert files.move(mine(client, "a"), mine(client, "b")) == {"message": "Successfully moved"}
    assert not files.exists(mine(client, "a"))
    assert files.copy(mine(client, "b"), mine(client, "c"))["Key"] == f"own/{mine(client, 'c')}"
    info = files.info(mine(client, "c"))
    assert (info["content_type"], info["metadata"], info["size"]) == ("text/css", {"k": 1}, 7)
    files.remove([mine(client, "b")])
    assert files.download(mine(client, "c")) == b"content"
    assert error_of(lambda: files.move(mine(client, "none"), mine(client, "d"))) == ("404", "not_found")
    assert error_of(lambda: files.copy(mine(client, "none"), mine(client, "d"))) == ("404", "not_found")
    files.upload(mine(client, "e"), b"", TEXT)
    assert error_of(lambda: files.move(mine(client, "e"), mine(client, "c"))) == ("409", "Duplicate")
    before = stored(project)
    assert error_of(lambda: files.copy(mine(client, "e"), mine(client, "c"))) == ("409", "Duplicate")
    assert stored(project) == before


def test_signed_urls(project: Project, clock: Callable[[float], None]) -> None:
    """A signed URL lets anyone read that one file until it expires, under a name where one is wanted."""
    client = project.user()
    files, path = client.storage.from_("own"), mine(client, "a b&c=d+(1).txt")
    files.upload(path, b"signed", TEXT)
    url = files.create_signed_url(path, 60)["signedURL"]
    assert url.startswith(f"{project.url}/storage/v1/object/sign/own/")
    got = project.http.get(url)
    assert (got.content, got.headers["content-type"]) == (b"signed", "text/plain")
    assert "content-disposition" not in got.headers
    saved = project.http.get(files.create_signed_url(path, 60, {"download": True})["signedURL"])
    assert saved.headers["content-disposition"] == "attachment"
    named = project.http.get(files.create_signed_url(path, 60, {"download": 'größe "1";\r\nx: y.mp4'})["signedURL"])
    assert (
        named.headers["content-disposition"]
        == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22%3B%0D%0Ax%3A%20y.mp4"
    )
    clock(59)
    assert project.http.get(url).status_code == 200
    clock(1)
    expired = project.http.get(url)
    assert (expired.status_code, expired.json()["error"]) == (400, "InvalidJWT")


def test_signed_urls_in_bulk(project: Project) -> None:
    """Many files are signed at once; what is not there has an error of its own."""
    client = project.user()
    files = client.storage.from_("own")
    for name in ("a", "b"):
        files.upload(mine(client, name), name.encode(), TEXT)
    signed = files.create_signed_urls([mine(client, name) for name in "axb"], 60, {"download": "n"})
    assert [each["path"] for each in signed] == [mine(client, name) for name in "axb"]
    assert signed[1]["error"] is not None
    for each, content in ((signed[0], b"a"), (signed[2], b"b")):
        got = project.http.get(each["signedURL"])
        assert (got.content, got.headers["content-disposition"]) == (content, "attachment; filename*=UTF-8''n")


def test_signed_urls_tampered(project: Project) -> None:
    """A token counts for its own file and purpose alone, and only as it was made."""
    client = project.user()
    files = client.storage.from_("own")
    files.upload(mine(client, "a"), b"a", TEXT)
    files.upload(mine(client, "b"), b"b", TEXT)
    url: str = files.create_signed_url(mine(client, "a"), 60)["signedURL"]
    upload = files.create_signed_upload_url(mine(client, "c"))
    kept: str = urlsplit(url).query.removeprefix("token=")
    refused = [
        url.replace("/a?", "/b?"),
        url.replace(kept, token(client)),
        url.replace(kept, upload["token"]).replace("/a?", "/c?"),
        url.replace(kept, ""),
        url.partition("?")[0],
        *(
            url.replace(kept, kept[:position] + chr(ord(kept[position]) ^ 1) + kept[position + 1 :])
            for position in range(20, 160, 7)
        ),
    ]
    for each in refused:
        assert project.http.get(each).status_code == 400, each
    put = project.http.put(upload["signed_url"].replace(upload["token"], kept), content=b"x", headers=TEXT)
    assert put.json()["error"] == "InvalidJWT"
    assert project.http.get(url).content == b"a"


def test_signed_uploads(project: Project, clock: Callable[[float], None]) -> None:
    """A signed upload URL lets anyone store that one file, in the name of who made it, for two hours."""
    client = project.user()
    files, path = client.storage.from_("own"), mine(client, "up.mp4")
    signed = files.create_signed_upload_url(path)
    nobody = project.client().storage.from_("own")
    made = nobody.upload_to_signed_url(path, signed["token"], b"video", {"content-type": "video/mp4"})
    assert made.full_path == f"own/{path}"
    assert (files.download(path), files.info(path)["content_type"]) == (b"video", "video/mp4")
    owner = project.sql("select owner::text, owner_id from storage.objects where name = %s", path)
    assert owner == [(uid(client), uid(client))]
    assert error_of(lambda: nobody.upload_to_signed_url(path, signed["token"], b"again", TEXT)) == ("409", "Duplicate")
    assert error_of(lambda: nobody.upload_to_signed_url(mine(client, "x"), signed["token"], b"", TEXT)) == (
        *("400", "InvalidSignature"),
    )
    assert error_of(lambda: files.create_signed_upload_url(path)) == ("409", "Duplicate")
    headers = {"x-upsert": "true"}
    again = project.send(
        "POST", f"/storage/v1/object/upload/sign/own/{path}", token=token(client), key=PUBLISHABLE, headers=headers
    ).json()
    put = project.http.put(
        f"{project.url}/storage/v1{again['url']}", content=b"raw", headers={"content-type": "video/webm"}
    )
    assert put.status_code == 200
    assert (files.download(path), files.info(path)["content_type"]) == (b"raw", "video/webm")
    clock(2 * 3600)
    late = project.http.put(f"{project.url}/storage/v1{again['url']}", content=b"late", headers=TEXT)
    assert late.json()["error"] == "InvalidJWT"


def test_public_buckets(project: Project) -> None:
    """Files of a public bucket are anyone's to read; those of others are not, whatever the path says."""
    admin, client = project.admin().storage, project.user()
    name = uuid4().hex
    admin.from_("open").upload(f"{name}.txt", b"for all", TEXT)
    client.storage.from_("own").upload(mine(client, "a"), b"secret", TEXT)
    assert project.http.get(admin.from_("open").get_public_url(f"{name}.txt")).content == b"for all"
    assert project.http.get(admin.from_("own").get_public_url(mine(client, "a"))).json()["statusCode"] == "404"
    assert project.http.get(admin.from_("none").get_public_url("a")).json()["statusCode"] == "404"
    assert project.http.get(admin.from_("open").get_public_url("none")).json()["statusCode"] == "404"
    for path in (f"open/../own/{mine(client, 'a')}", f"open/%2e%2e/own/{mine(client, 'a')}", "open/..%2fown"):
        raw = httpx.Request("GET", f"{project.url}/storage/v1/object/public/{path}")
        assert project.http.send(raw).content != b"secret"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../etc/passwd",
            "a/../b",
            "..",
            ".",
            "a/./b",
            "/etc/passwd",
            "a%00b",
            "ü",
            "a?b",
            "a%b",
            "a\\b",
            "a\nb",
            "x" * 1025,
        ),
        *("~", "a#b", "a[b]", "a{b}", "a|b", "a^b", "a`b", 'a"b', "a<b>"),
    ],
)
def test_names_never_reach_the_disk(project: Project, name: str) -> None:
    """A name that the hosted service would refuse is refused; any other is only ever a value in a row."""
    path = httpx.URL(f"{project.url}/storage/v1/object/own/").raw_path + quoted(name)
    url = httpx.URL(project.url).copy_with(raw_path=path)
    before = stored(project)
    headers = {"apikey": "sb_secret_for_tests", **TEXT}
    response = project.http.post(url, content=b"x", headers=headers)
    if name.startswith("/"):
        assert response.json()["Key"] == f"own/{name}"
        project.admin().storage.from_("own").remove([name])
    else:
        assert response.status_code in {400, 404}
    assert stored(project) == before


def quoted(name: str) -> bytes:
    """A path in which nothing is left to be resolved on the way."""
    return "".join(f"%{byte:02x}" for byte in name.encode()).encode()


def test_files_are_named_by_us(project: Project) -> None:
    """On the disk there are only versions, and nothing of them says whose they are."""
    client = project.user()
    client.storage.from_("own").upload(mine(client, "name.txt"), b"x", TEXT)
    assert all(len(path.name) == 36 and path.parent.name == path.name[:2] for path in stored(project))
    assert not any(
        "name" in str(path.relative_to(project.folder)) or uid(client) in str(path) for path in stored(project)
    )


def test_a_row_that_is_not_committed_leaves_no_file(project: Project) -> None:
    """Where the row can't be written at the end, its bytes go again."""
    client = project.user()
    before = stored(project)
    project.sql(
        """
        create function storage.fails() returns trigger language plpgsql as $$
        begin
          if new.name like '%%/doomed' and new.version is not null then raise exception 'no'; end if;
          return new;
        end $$
        """
    )
    project.sql("create trigger fails before insert on storage.objects for each row execute function storage.fails()")
    files = client.storage.from_("own")
    assert error_of(lambda: files.upload(mine(client, "doomed"), b"x", TEXT)) == ("500", "DatabaseError")
    files.upload(mine(client, "source"), b"x", TEXT)
    assert error_of(lambda: files.copy(mine(client, "source"), mine(client, "doomed"))) == ("500", "DatabaseError")
    assert len(stored(project) - before) == 1


@pytest.mark.slow  # the file goes a moment after the caller, which a busy machine makes a long one
def test_a_client_that_leaves(project: Project) -> None:
    """Of an upload that breaks off nothing is kept."""
    client = project.user()
    before = stored(project)

    def chunks() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionAbortedError

    path = f"/storage/v1/object/own/{mine(client, 'broken')}"
    with pytest.raises(ConnectionAbortedError):
        project.send("POST", path, token=token(client), key=PUBLISHABLE, content=chunks(), headers=TEXT)
    for _ in range(200):
        if stored(project) == before:
            break
        threading.Event().wait(0.05)
    assert stored(project) == before
    assert not client.storage.from_("own").exists(mine(client, "broken"))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "multipart/form-data"}, b""),
        ({"content-type": "multipart/form-data; boundary=x"}, b""),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nrubbish"),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\ncontent-disposition: form-data; name=""; filename="f"\r\n\r\nhalf',
        ),
        ({"content-type": "nonsense"}, b"x"),
        ({"content-type": "text html/x"}, b"x"),
        ({"content-type": "text/plain", "x-metadata": "!!"}, b"x"),
        ({"content-type": "text/plain", "x-metadata": b64encode(b"[]").decode()}, b"x"),
        ({"content-type": "text/plain", "x-metadata": b64encode(b"{").decode()}, b"x"),
    ],
)
def test_uploads_that_make_no_sense(project: Project, headers: dict[str, str], body: bytes) -> None:
    """A body or a header that can't be read is an error, and leaves nothing."""
    before = stored(project)
    response = project.send("POST", f"/storage/v1/object/open/{uuid4()}", content=body, headers=headers)
    assert (response.status_code, response.json()["statusCode"]) == (400, "400")
    assert stored(project) == before


def test_pages_do_not_run_in_our_name(project: Project) -> None:
    """A page that somebody stored is shown by a browser without its scripts and without our origin."""
    name = f"{uuid4()}.html"
    project.admin().storage.from_("open").upload(name, b"<script>alert(1)</script>", {"content-type": "text/html"})
    got = project.http.get(f"{project.url}/storage/v1/object/public/open/{name}")
    assert (got.headers["content-security-policy"], got.headers["x-content-type-options"]) == ("sandbox", "nosniff")


def test_images_are_not_transformed(project: Project) -> None:
    """A transformation that is asked for is refused, not left out."""
    client = project.user()
    files, path = client.storage.from_("own"), mine(client, "a.png")
    files.upload(path, b"png", {"content-type": "image/png"})
    assert error_of(lambda: files.download(path, {"transform": {"width": 10}}))[0] == "501"
    assert error_of(lambda: files.create_signed_url(path, 60, {"transform": {"width": 10}})) == (
        "400",
        "InvalidRequest",
    )
    url = files.create_signed_url(path, 60)["signedURL"]
    assert project.http.get(f"{url}&width=10").status_code == 501


@pytest.mark.slow
def test_large_files_are_not_held_in_memory(project: Project) -> None:
    """A file of 200 MB passes in both directions with the memory of a few chunks."""
    name, size = uuid4().hex, 200 * 1024 * 1024
    before = resident()
    peak = 0

    def chunks() -> Iterator[bytes]:
        nonlocal peak
        for _ in range(size >> 20):
            peak = max(peak, resident())
            yield bytes(1 << 20)

    made = project.send(
        "POST", f"/storage/v1/object/open/{name}", content=chunks(), headers={"content-type": "video/mp4"}
    )
    assert made.status_code == 200
    received = 0
    with project.http.stream("GET", f"{project.url}/storage/v1/object/public/open/{name}") as response:
        for chunk in response.iter_bytes():
            received += len(chunk)
            peak = max(peak, resident())
    assert received == size
    assert peak - before < 64 * 1024 * 1024


def resident() -> int:
    """The memory of this process, in which the gateway runs too, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""The asynchronous client of supabase-py, as the product uses it: one connection pool, a client per caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from postgrest import APIError
from storage3.exceptions import StorageApiError
from supabase import acreate_client
from supabase.lib.client_options import AsyncClientOptions
from supabase_auth.errors import AuthApiError

from tests.local.supabase.conftest import PASSWORD, PUBLISHABLE, SECRET, Project, Supabase


async def client_of(project: Project, http: httpx.AsyncClient, key: str, access_token: str | None = None) -> Supabase:
    """A client over a shared pool, for the bearer of this token or key."""
    options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    if access_token is not None:
        options.headers["Authorization"] = f"Bearer {access_token}"
    return await acreate_client(project.url, key, options)


def test_everything_once(project: Project) -> None:
    """Rows, functions, users and files, by two callers who share a pool and see only what is theirs."""

    async def scenario() -> None:
        async with httpx.AsyncClient(timeout=30) as http:
            signing = await client_of(project, http, PUBLISHABLE)
            made = await signing.auth.sign_up({"email": f"{uuid4()}@mail.test", "password": PASSWORD})
            user = await client_of(project, http, PUBLISHABLE, made.session.access_token)
            server = await client_of(project, http, SECRET)
            await rows(user, server, made.user.id)
            await files(user, server, made.user.id, http)
            await identity(signing, server, made.user.id)

    asyncio.run(scenario())


async def rows(user: Supabase, server: Supabase, user_id: str) -> None:
    """Rows and functions."""
    notes: list[dict[str, Any]] = [{"title": title, "owner": user_id} for title in "abc"]
    await user.table("notes").insert(notes).execute()
    upsert = user.table("notes").upsert(notes, on_conflict="owner,title", ignore_duplicates=True)
    assert (await upsert.execute()).data == []
    counted = await server.table("notes").select("title", count="exact").eq("owner", user_id).limit(2).execute()
    assert (len(counted.data), counted.count) == (2, 3)
    assert (await user.rpc("add", {"a": 1}).execute()).data == 11
    assert (await user.table("notes").delete().eq("title", "a").execute()).data[0]["title"] == "a"
    refusals = {
        "23505": user.table("notes").insert(notes[1]),
        "42501": user.table("hidden").select("*"),
        "PGRST116": user.table("notes").select("*").single(),
        "PGRST202": user.rpc("nope"),
        "PGRST100": user.table("notes").delete().filter("title", "foo", "b"),
    }
    for code, query in refusals.items():
        with pytest.raises(APIError) as caught:
            await query.execute()
        assert caught.value.code == code


async def files(user: Supabase, server: Supabase, user_id: str, http: httpx.AsyncClient) -> None:
    """Files."""
    own, path = user.storage.from_("own"), f"{user_id}/a.txt"
    await server.storage.from_("own").upload(path, b"by the server", {"content-type": "text/plain"})
    assert await own.download(path) == b"by the server"
    with pytest.raises(StorageApiError) as caught:
        await own.upload(path, b"again", {"content-type": "text/plain"})
    assert str(caught.value.status) == "409"
    signed = await own.create_signed_url(path, 60)
    part = await http.get(signed["signedURL"], headers={"range": "bytes=3-5"})
    assert (part.status_code, part.content) == (206, b"the")
    upload = await server.storage.from_("own").create_signed_upload_url(f"{user_id}/b.txt")
    put = await http.put(upload["signed_url"], content=chunks(), headers={"content-type": "text/plain"})
    assert put.status_code == 200
    assert [each["name"] for each in await own.list(user_id)] == ["a.txt", "b.txt"]
    assert len(await own.remove([path, f"{user_id}/b.txt"])) == 2


async def chunks() -> AsyncGenerator[bytes]:
    """A body whose length nobody knows before its end."""
    for part in (b"in ", b"parts"):
        yield part


async def identity(user: Supabase, server: Supabase, user_id: str) -> None:
    """Users and sessions."""
    assert (await user.auth.get_user()).user.id == user_id
    assert (await user.auth.get_claims())["claims"]["sub"] == user_id
    before = (await user.auth.get_session()).refresh_token
    assert (await user.auth.refresh_session()).session.refresh_token != before
    await server.auth.admin.update_user_by_id(user_id, {"app_metadata": {"role": "operator"}})
    assert (await user.auth.get_user()).user.app_metadata["role"] == "operator"
    await server.auth.admin.delete_user(user_id)
    with pytest.raises(AuthApiError) as caught:
        await user.auth.get_user()
    assert caught.value.code == "user_not_found"


def test_many_at_once(project: Project) -> None:
    """More callers at once than there are connections are all served, each as themselves."""

    async def scenario() -> None:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=40)) as http:
            signing = await client_of(project, http, PUBLISHABLE)
            people = [(await signing.auth.sign_in_anonymously()).session for _ in range(4)]
            clients = [await client_of(project, http, PUBLISHABLE, each.access_token) for each in people]

            async def seen(number: int) -> bool:
                answer = await clients[number % 4].rpc("whoami").execute()
                return answer.data["sub"] == people[number % 4].user.id

            assert all(await asyncio.gather(*map(seen, range(80))))

    asyncio.run(scenario())

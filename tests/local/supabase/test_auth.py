"""Users and sessions through supabase-py, unmodified: GoTrue's claims, errors and rules."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from tests.local.supabase.conftest import PASSWORD, PUBLISHABLE, Project, Supabase, claims_of, token, uid


def address() -> str:
    """An address that nobody has."""
    return f"{uuid4()}@mail.test"


def code_of(action: Callable[[], Any]) -> str | None:
    """The code of the error that this ends in."""
    with pytest.raises(AuthApiError) as caught:
        action()
    return caught.value.code


def signed_in(project: Project, email: str, password: str = PASSWORD) -> Supabase:
    """A client that signs in with a password."""
    client = project.client()
    client.auth.sign_in_with_password({"email": email, "password": password})
    return client


def test_sign_up(project: Project) -> None:
    """Who signs up is signed in at once, with an address in small letters and the data that they gave."""
    email = address()
    made = project.client().auth.sign_up(
        {"email": email.upper(), "password": PASSWORD, "options": {"data": {"name": "Ann", "n": None}}}
    )
    assert (made.user.email, made.user.role, made.user.aud) == (email, "authenticated", "authenticated")
    assert made.user.user_metadata == {"name": "Ann", "n": None}
    assert made.user.app_metadata == {"provider": "email", "providers": ["email"]}
    assert made.user.is_anonymous is False
    assert made.user.email_confirmed_at is not None
    assert [(each.provider, each.identity_data["email"]) for each in made.user.identities] == [("email", email)]
    assert (made.session.token_type, made.session.expires_in) == ("bearer", 3600)
    assert signed_in(project, email).auth.get_user().user.id == made.user.id


def test_claims_are_those_of_the_hosted_service(project: Project) -> None:
    """An access token says who, for whom and by whom; anyone can check it by the JWKS."""
    client = project.client()
    session = client.auth.sign_up({"email": address(), "password": PASSWORD, "options": {"data": {"a": 1}}}).session
    claims = client.auth.get_claims()["claims"]
    assert claims["iss"] == f"{project.url}/auth/v1"
    assert (claims["sub"], claims["aud"], claims["role"], claims["aal"]) == (
        *(uid(client), "authenticated", "authenticated", "aal1"),
    )
    assert claims["exp"] == session.expires_at == claims["iat"] + 3600
    assert (claims["email"], claims["phone"], claims["is_anonymous"]) == (session.user.email, "", False)
    assert (claims["app_metadata"], claims["user_metadata"]) == (session.user.app_metadata, {"a": 1})
    assert UUID(claims["session_id"])
    assert claims["amr"][0]["method"] == "password"


def test_checked_as_the_product_does(project: Project) -> None:
    """PyJWT finds the key by the JWKS and checks signature, audience, issuer and what must be there."""
    keys = jwt.PyJWKClient(f"{project.url}/auth/v1/.well-known/jwks.json", timeout=10)
    client = project.user()
    claims = jwt.decode(
        token(client),
        keys.get_signing_key_from_jwt(token(client)),
        algorithms=["ES256", "RS256"],
        audience="authenticated",
        issuer=f"{project.url}/auth/v1",
        options={"require": ["exp", "sub", "aud", "iss"]},
    )
    assert claims["sub"] == uid(client)
    (key,) = project.http.get(f"{project.url}/auth/v1/.well-known/jwks.json").json()["keys"]
    assert "d" not in key
    assert (key["kty"], key["crv"], key["alg"], key["use"], key["key_ops"]) == (
        "EC",
        "P-256",
        "ES256",
        "sig",
        ["verify"],
    )


def test_the_key_is_kept_for_its_owner_alone(project: Project) -> None:
    """The signing key lies in one file that nobody else may read."""
    assert (project.folder / "signing-key.pem").stat().st_mode & 0o777 == 0o600


def test_sign_up_refused(project: Project) -> None:
    """A taken address, a weak password, no address or a phone number: each has its code."""
    email, auth = address(), project.client().auth
    auth.sign_up({"email": email, "password": PASSWORD})
    assert code_of(lambda: auth.sign_up({"email": email, "password": PASSWORD})) == "user_already_exists"
    assert code_of(lambda: auth.sign_up({"email": "nobody", "password": PASSWORD})) == "validation_failed"
    assert code_of(lambda: auth.sign_up({"phone": "+491", "password": PASSWORD})) == "validation_failed"
    assert code_of(lambda: auth.sign_in_with_otp({"email": email})) == "not_supported"
    with pytest.raises(AuthWeakPasswordError) as caught:
        auth.sign_up({"email": address(), "password": "12345"})
    assert caught.value.reasons == ["length"]


def test_sign_in_refused(project: Project) -> None:
    """A wrong password and an unknown address are told alike."""
    email = address()
    project.client().auth.sign_up({"email": email, "password": PASSWORD})
    for who, password in ((email, "wrong horse"), (address(), PASSWORD), (email, " ")):
        with pytest.raises(AuthApiError) as caught:
            signed_in(project, who, password)
        assert (caught.value.status, caught.value.code, caught.value.message) == (
            *(400, "invalid_credentials", "Invalid login credentials"),
        )


def test_passwords_are_not_kept(project: Project) -> None:
    """What is stored is a salted hash, another one for the same password."""
    one, other = project.user(), project.user()
    hashes = [
        project.sql("select encrypted_password from auth.users where id = %s", uid(each))[0][0] for each in (one, other)
    ]
    assert all(each.startswith("$scrypt$16384$8$1$") for each in hashes)
    assert hashes[0] != hashes[1]
    assert PASSWORD not in "".join(hashes)


def test_a_guest_becomes_a_user(project: Project) -> None:
    """An anonymous user keeps their id, and what is theirs, when they give an address and a password."""
    client = project.client()
    guest = client.auth.sign_in_anonymously({"options": {"data": {"theme": "dark"}}}).user
    assert (guest.is_anonymous, guest.email, guest.user_metadata) == (True, "", {"theme": "dark"})
    assert client.auth.get_claims()["claims"]["is_anonymous"] is True
    client.table("notes").insert({"title": "from before"}).execute()
    with pytest.raises(AuthApiError):
        client.auth.update_user({"password": PASSWORD})
    email = address()
    user = client.auth.update_user({"email": email, "password": PASSWORD}).user
    assert (user.id, user.email, user.is_anonymous) == (guest.id, email, False)
    assert client.auth.refresh_session().user.is_anonymous is False
    assert client.auth.get_claims()["claims"]["is_anonymous"] is False
    again = signed_in(project, email)
    assert again.table("notes").select("title").execute().data == [{"title": "from before"}]
    assert again.auth.get_user().user.user_metadata == {"theme": "dark"}


def test_users_change_what_is_theirs(project: Project) -> None:
    """Metadata are laid over each other, null removes; a new password ends the other sessions."""
    email = address()
    client = project.user(email)
    other = signed_in(project, email)
    client.auth.update_user({"data": {"a": 1, "b": {"c": None}}})
    user = client.auth.update_user({"data": {"a": None, "d": 2}}).user
    assert user.user_metadata == {"b": {"c": None}, "d": 2}
    assert code_of(lambda: client.auth.update_user({"password": PASSWORD})) == "same_password"
    client.auth.update_user({"password": "another horse"})
    assert client.auth.get_user().user.id == user.id
    assert code_of(other.auth.get_user) == "session_not_found"
    assert code_of(other.auth.refresh_session) == "refresh_token_not_found"
    signed_in(project, email, "another horse")
    assert code_of(lambda: client.auth.update_user({"email": address()})) == "not_supported"


def test_nobody_makes_themselves_operator(project: Project) -> None:
    """A user can't write app_metadata, a role or an id of their own: the whole change is refused."""
    client = project.user()
    for body in ({"app_metadata": {"role": "operator"}}, {"role": "service_role"}, {"id": str(uuid4())}):
        response = project.send("PUT", "/auth/v1/user", token=token(client), key=PUBLISHABLE, json=body)
        assert (response.status_code, response.json()["error_code"]) == (400, "validation_failed")
    body = {"email": address(), "password": PASSWORD, "app_metadata": {"role": "operator"}}
    assert project.send("POST", "/auth/v1/signup", key=PUBLISHABLE, json=body).status_code == 400
    assert client.auth.get_user().user.app_metadata == {"provider": "email", "providers": ["email"]}


def test_sessions_go_on(project: Project) -> None:
    """A refresh token is exchanged for another one, and for an access token of the same session."""
    client = project.user()
    before = client.auth.get_session()
    after = client.auth.refresh_session().session
    assert after.refresh_token != before.refresh_token
    assert claims_of(after.access_token)["session_id"] == claims_of(before.access_token)["session_id"]
    assert claims_of(after.access_token)["amr"] == claims_of(before.access_token)["amr"]
    assert code_of(lambda: project.client().auth.refresh_session("no such token")) == "refresh_token_not_found"


def exchange(project: Project, refresh_token: str) -> dict[str, Any]:
    """The answer to a refresh token."""
    path = "/auth/v1/token?grant_type=refresh_token"
    return project.send("POST", path, key=PUBLISHABLE, json={"refresh_token": refresh_token}).json()


def test_an_answer_that_was_lost(project: Project) -> None:
    """Who did not get the answer to an exchange may ask again and gets the same token, however late."""
    first = project.user().auth.get_session().refresh_token
    second = exchange(project, first)["refresh_token"]
    assert exchange(project, first)["refresh_token"] == second
    age(project, first)
    assert exchange(project, first)["refresh_token"] == second


def test_two_tabs_at_once(project: Project) -> None:
    """Parallel exchanges of one token end in the same new one."""
    first = project.user().auth.get_session().refresh_token
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(exchange(project, first)["refresh_token"])) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert answers[0] != first


def test_a_stolen_token_ends_the_session(project: Project) -> None:
    """A token that comes back after its successor was used too has two owners: both are out."""
    client = project.user()
    first = client.auth.get_session().refresh_token
    second = exchange(project, first)["refresh_token"]
    third = exchange(project, second)["refresh_token"]
    age(project, first)
    assert exchange(project, first)["error_code"] == "refresh_token_already_used"
    for known in (first, second, third):
        assert exchange(project, known)["error_code"] == "refresh_token_not_found"
    assert code_of(client.auth.get_user) == "session_not_found"


def age(project: Project, refresh_token: str) -> None:
    """Let the time pass in which a token may be used again."""
    statement = "update auth.refresh_tokens set updated_at = now() - interval '11 seconds' where token = %s"
    project.sql(statement, refresh_token)


@pytest.mark.parametrize(
    ("scope", "this", "others"), [("global", False, False), ("local", False, True), ("others", True, False)]
)
def test_sign_out(project: Project, scope: str, this: bool, others: bool) -> None:  # noqa: FBT001 - a table
    """Signing out ends all sessions, this one, or the others."""
    email = address()
    one = project.user(email)
    other = signed_in(project, email)
    mine, theirs = one.auth.get_session(), other.auth.get_session()
    one.auth.sign_out({"scope": scope})
    assert ("access_token" in exchange(project, mine.refresh_token)) is this
    assert ("access_token" in exchange(project, theirs.refresh_token)) is others


def test_tokens_expire(project: Project, clock: Callable[[float], None]) -> None:
    """An access token counts for an hour, in every service."""
    client = project.user()
    old = token(client)
    clock(3599)
    assert project.send("GET", "/auth/v1/user", token=old, key=PUBLISHABLE).status_code == 200
    clock(1)
    answers = {
        path: project.send("GET", path, token=old, key=PUBLISHABLE)
        for path in ("/auth/v1/user", "/rest/v1/notes", "/storage/v1/bucket")
    }
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/auth/v1/user": 403,
        "/rest/v1/notes": 401,
        "/storage/v1/bucket": 400,
    }
    assert answers["/rest/v1/notes"].json()["code"] == "PGRST303"
    assert answers["/auth/v1/user"].json()["error_code"] == "bad_jwt"
    assert answers["/storage/v1/bucket"].json()["statusCode"] == "403"


def test_administration(project: Project) -> None:
    """The secret key makes, finds, lists, changes and deletes users."""
    admin, email, wanted = project.admin().auth.admin, address(), str(uuid4())
    made = admin.create_user(
        {
            "id": wanted,
            "email": email,
            "password": PASSWORD,
            "email_confirm": True,
            "app_metadata": {"role": "operator"},
            "user_metadata": {"name": "Bo"},
        }
    ).user
    assert (made.id, made.user_metadata) == (wanted, {"name": "Bo"})
    assert made.app_metadata == {"provider": "email", "providers": ["email"], "role": "operator"}
    client = signed_in(project, email)
    assert client.auth.get_claims()["claims"]["app_metadata"]["role"] == "operator"
    assert admin.get_user_by_id(wanted).user.email == email
    assert admin.list_users(page=1, per_page=1)[0].id == wanted
    changed = admin.update_user_by_id(wanted, {"password": "new horse", "app_metadata": {"role": None, "x": 1}}).user
    assert changed.app_metadata == {"provider": "email", "providers": ["email"], "x": 1}
    assert code_of(client.auth.refresh_session) == "refresh_token_not_found"
    signed_in(project, email, "new horse")
    taken = address()
    project.user(taken)
    assert code_of(lambda: admin.update_user_by_id(wanted, {"email": taken})) == "email_exists"
    assert code_of(lambda: admin.create_user({"email": taken})) == "email_exists"
    moved = address()
    assert admin.update_user_by_id(wanted, {"email": moved, "email_confirm": True}).user.email == moved
    signed_in(project, moved, "new horse")
    admin.delete_user(wanted)
    assert code_of(lambda: admin.get_user_by_id(wanted)) == "user_not_found"
    assert code_of(lambda: admin.delete_user(wanted)) == "user_not_found"
    assert code_of(lambda: admin.update_user_by_id(wanted, {"password": PASSWORD})) == "user_not_found"


def test_administration_refused(project: Project) -> None:
    """Nobody else administers; what can't be done is refused by name."""
    for client in (project.client(), project.user()):
        assert code_of(client.auth.admin.list_users) == "not_admin"
        assert code_of(lambda client=client: client.auth.admin.create_user({"email": address()})) == "not_admin"
        assert code_of(lambda client=client: client.auth.admin.delete_user(str(uuid4()))) == "not_admin"
    admin = project.admin().auth.admin
    assert code_of(lambda: admin.create_user({"password": PASSWORD})) == "validation_failed"
    assert code_of(lambda: admin.create_user({"email": address(), "ban_duration": "1h"})) == "validation_failed"
    made = admin.create_user({"email": address(), "password": PASSWORD}).user
    assert made.email_confirmed_at is None
    assert code_of(lambda: signed_in(project, made.email)) == "email_not_confirmed"
    assert code_of(lambda: admin.delete_user(made.id, should_soft_delete=True)) == "validation_failed"
    assert code_of(lambda: admin.create_user({"email": address(), "id": made.id})) == "email_exists"


def test_a_role_that_we_are_not(project: Project) -> None:
    """A user whose role the database does not let us take on is refused by the database."""
    admin, email = project.admin().auth.admin, address()
    admin.create_user({"email": email, "password": PASSWORD, "email_confirm": True, "role": "supabase_admin"})
    client = signed_in(project, email)
    response = project.send("GET", "/rest/v1/notes", token=token(client), key=PUBLISHABLE)
    assert (response.status_code, response.json()["code"]) == (403, "42501")


def test_a_deleted_user_is_out(project: Project) -> None:
    """The access token of a deleted user is no longer theirs to ask with."""
    client = project.user()
    project.admin().auth.admin.delete_user(uid(client))
    assert code_of(client.auth.get_user) == "user_not_found"
    assert code_of(client.auth.refresh_session) == "refresh_token_not_found"


def test_who_is_asking(project: Project) -> None:
    """Without a user's token there is no user, with the secret key neither."""
    assert (
        project.send("GET", "/auth/v1/user", headers={"authorization": ""}).json()["error_code"] == "no_authorization"
    )
    assert project.send("GET", "/auth/v1/user").json()["error_code"] == "bad_jwt"
    assert project.send("GET", "/auth/v1/user", token="nonsense").json()["error_code"] == "bad_jwt"
    assert project.http.post(f"{project.url}/auth/v1/signup").status_code == 401
    assert project.http.get(f"{project.url}/auth/v1/health").json()["name"] == "local/supabase"
    assert project.send("GET", "/auth/v1/settings").json()["external"]["email"] is True


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"email": 1}',
        b'{"email": "a@b.c", "password": "\\u0000abcdef"}',
        b'{"data": []}',
        b"\xff",
    ],
)
def test_bodies_that_are_no_forms(project: Project, body: bytes) -> None:
    """A body of another shape is refused; a password may hold anything."""
    response = project.send("POST", "/auth/v1/signup", content=body)
    assert response.status_code in {200, 400}
    if response.status_code == 400:
        assert response.json()["error_code"] == "validation_failed"

"""Who is calling: keys hold or do not, and a guest's cookie can't be made up."""

from __future__ import annotations

import asyncio
import random
import string
from http.cookies import SimpleCookie
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from lib.errors import InvalidRequest, Unauthorized
from lib.http.auth import GUEST_COOKIE, Auth, Caller
from lib.settings import from_environ

WEB, WEB_BEFORE, OPS = "web-secret-0123456789", "web-secret-before-0123", "ops-secret:with:colons"
KEYS = {"API_KEYS": f"web:user:{WEB_BEFORE}, web:user:{WEB}, ops:operator:{OPS}"}
GUESTS = {"ALLOW_ANONYMOUS": "1", "SESSION_SECRET": "session-secret-0123456789"}


def auth(*environs: dict[str, str]) -> Auth:
    """Access under these variables."""
    return Auth(from_environ({name: value for environ in environs for name, value in environ.items()}))


BOTH = auth(KEYS, GUESTS)


def request(scheme: str = "http", **headers: str | bytes) -> Request:
    """A request with these headers (`x_forwarded_proto` for x-forwarded-proto)."""
    raw = [
        (name.replace("_", "-").encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return Request({"type": "http", "scheme": scheme, "server": ("x.example", 80), "path": "/", "headers": raw})


def identify(who: Auth, request: Request) -> Caller:
    """The caller."""
    return asyncio.run(who.identify(request))


def cookie_of(caller: Caller) -> str:
    """The value of the cookie that the caller is given."""
    assert caller.set_cookie is not None
    return SimpleCookie(caller.set_cookie)[GUEST_COOKIE].value


def test_two_headers_name_nobody() -> None:
    """Neither the first nor the last of two Authorization headers counts, also where they say the same."""
    for second in (WEB, OPS):
        twice = request(authorization=f"Bearer {WEB}")
        twice.scope["headers"] += [(b"authorization", f"Bearer {second}".encode())]
        with pytest.raises(InvalidRequest) as refused:
            identify(BOTH, twice)
        assert (refused.value.status, refused.value.code) == (422, "repeated_header")
        assert second not in refused.value.message


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize(("secret", "role"), [(WEB, "user"), (OPS, "operator")])
def test_key(scheme: str, secret: str, role: str) -> None:
    """The holder of a key is known, by its role, and gets no cookie."""
    caller = identify(BOTH, request(authorization=f"{scheme} {secret} "))
    assert (caller.kind, caller.role, caller.set_cookie) == ("key", role, None)
    assert caller.may_choose_model
    assert str(UUID(caller.id)) == caller.id


def test_rotation() -> None:
    """Two secrets of one name are one caller; another name is another, and it stays so from process to process."""
    ids = [identify(BOTH, request(authorization=f"Bearer {secret}")).id for secret in (WEB_BEFORE, WEB, OPS)]
    assert ids[0] == ids[1] != ids[2]
    assert identify(auth(KEYS), request(authorization=f"Bearer {WEB}")).id == ids[0]
    without_the_old = auth({"API_KEYS": f"web:user:{WEB}"})
    assert identify(without_the_old, request(authorization=f"Bearer {WEB}")).id == ids[0]
    with pytest.raises(Unauthorized):
        identify(without_the_old, request(authorization=f"Bearer {WEB_BEFORE}"))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        f"Bearer {WEB}x",
        f"Bearer {WEB[:-1]}",
        f"Bearer {WEB.upper()}",
        f"Bearer {WEB} {WEB}",
        f"Bearer web:user:{WEB}",
        f"Basic {WEB}",
        f"Token {WEB}",
        WEB,
        f"Bearer:{WEB}",
        f"Bearer {WEB}".encode("utf-16"),
        b"Bearer \xff\xfe\x80",
        "Bearer ключ".encode(),
        f"Bearer {WEB}é",
    ],
)
@pytest.mark.parametrize("who", [BOTH, auth(KEYS), auth(GUESTS), auth()], ids=["both", "keys", "guests", "none"])
def test_wrong_key(who: Auth, authorization: str | bytes) -> None:
    """A key that does not hold is refused, also where guests are welcome, and is not repeated."""
    with pytest.raises(Unauthorized) as caught:
        identify(who, request(authorization=authorization))
    assert caught.value.headers == {"www-authenticate": "Bearer"}
    assert WEB[:5] not in caught.value.message


@given(st.binary(max_size=40))
def test_any_authorization(value: bytes) -> None:
    """No header is a key by chance, and none upsets us."""
    with pytest.raises(Unauthorized):
        identify(BOTH, request(authorization=value))


@pytest.mark.parametrize(
    "environ",
    [{}, KEYS, {"ALLOW_ANONYMOUS": "1"}, {**GUESTS, "ALLOW_ANONYMOUS": "0"}, {**GUESTS, "SESSION_SECRET": "short"}],
    ids=["nothing", "keys", "no secret", "not allowed", "short secret"],
)
def test_nobody_without_a_key(environ: dict[str, str]) -> None:
    """Where guests are not set up, who brings no key is refused, and told what to bring."""
    with pytest.raises(Unauthorized) as caught:
        identify(auth(environ), request())
    assert "Bearer" in caught.value.message


def test_guest_comes_back() -> None:
    """A guest is known by its cookie, and not given another one."""
    first = identify(BOTH, request())
    assert (first.kind, first.role, first.may_choose_model) == ("guest", "user", False)
    again = identify(BOTH, request(cookie=f"theme=dark; {GUEST_COOKIE}={cookie_of(first)}; lang=pt"))
    assert again == Caller(first.id, "guest", "user")
    other_process = identify(auth(GUESTS), request(cookie=f"{GUEST_COOKIE}={cookie_of(first)}"))
    assert other_process.id == first.id


def test_two_guests() -> None:
    """Two who come without a cookie are two."""
    assert identify(BOTH, request()).id != identify(BOTH, request()).id


def test_cookie() -> None:
    """The cookie is out of scripts' reach, sent to the whole site, kept for long, and lets the site be linked to."""
    set_cookie = identify(BOTH, request()).set_cookie
    assert set_cookie is not None
    morsel = SimpleCookie(set_cookie)[GUEST_COOKIE]
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/")
    assert int(morsel["max-age"]) > 30 * 24 * 3600
    assert GUESTS["SESSION_SECRET"] not in set_cookie


@pytest.mark.parametrize(
    ("scheme", "headers", "secure"),
    [
        ("http", {}, False),
        ("https", {}, True),
        ("http", {"x_forwarded_proto": "https"}, True),
        ("https", {"x_forwarded_proto": "http"}, False),
    ],
)
def test_secure_cookie(scheme: str, headers: dict[str, str], *, secure: bool) -> None:
    """The cookie is Secure where the caller came over https, and only there: over http it would be lost."""
    caller = identify(BOTH, request(scheme, **headers))
    assert ("Secure" in (caller.set_cookie or "")) is secure


def test_no_mutation_of_a_cookie_holds() -> None:
    """Of two hundred changed cookies none is believed: each gets a new guest."""
    cookie, chance = cookie_of(identify(BOTH, request())), random.Random(7)  # noqa: S311 - the same mutations each time
    known = cookie.partition(".")[0]
    alphabet = string.ascii_letters + string.digits + "-_."
    mutated: set[str] = {"", ".", known, known + ".", cookie + cookie, cookie[::-1], cookie.upper()}
    while len(mutated) < 200:
        at = chance.randrange(len(cookie))
        mutated.add(cookie[:at] + chance.choice(["", chance.choice(alphabet), cookie[at] * 2]) + cookie[at + 1 :])
    for value in mutated - {cookie}:
        caller = identify(BOTH, request(cookie=f"{GUEST_COOKIE}={value}"))
        assert caller.set_cookie is not None
        assert caller.id != known


def test_signature_of_another_secret() -> None:
    """A cookie that another secret signed is not believed."""
    theirs = identify(auth({**GUESTS, "SESSION_SECRET": "another-secret-0123456789"}), request())
    ours = identify(BOTH, request(cookie=f"{GUEST_COOKIE}={cookie_of(theirs)}"))
    assert ours.id != theirs.id


@given(st.binary(max_size=60))
def test_any_cookie(value: bytes) -> None:
    """No bytes in the cookie upset us, or make a guest that we did not make."""
    assert identify(BOTH, request(cookie=GUEST_COOKIE.encode() + b"=" + value)).set_cookie is not None

"""Access tokens: whose they are, and that nothing else passes for one."""

from __future__ import annotations

import asyncio
import base64
import json
import string
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.app import App
from lib.data.tokens import Identity, Tokens
from lib.errors import AppError, Unauthorized, Unavailable
from lib.settings import SupabaseAccess, from_environ
from tests.fakes.auth import USER_ID, FakeAuth
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Gate
from tests.fakes.web import Told, told

Result = TypeVar("Result")
JWKS = "/.well-known/jwks.json"
SECRET = "a-jwt-secret-of-old-0123456789abcdef"


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


class Checker:
    """The product's check over the fake, on the loop on which its connections live."""

    def __init__(self, auth: FakeAuth, loop: LoopThread, jwt_secret: str | None = None) -> None:
        self.clock = Clock()
        self._app = App(from_environ({}))
        self._loop = loop
        access = SupabaseAccess(auth.url, "sb_secret_x", "sb_publishable_x", jwt_secret)
        self.tokens = Tokens(access, self._app.exchange, self.clock)

    def check(self, token: str) -> Identity:
        """Whom it stands for."""
        return self.run(lambda: self.tokens.identity(token))

    def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do it on the loop."""

        async def done() -> Result:
            return await work()

        return self._loop.run(done())

    def close(self) -> None:
        """Close the connections."""
        self._loop.run(self._app.aclose())


@pytest.fixture
def auth(loop: LoopThread) -> Iterator[FakeAuth]:
    """The project's Auth."""
    fake = FakeAuth(loop)
    yield fake
    fake.web.close()


@pytest.fixture
def checker(auth: FakeAuth, loop: LoopThread) -> Iterator[Checker]:
    """The product's check."""
    made = Checker(auth, loop)
    yield made
    made.close()


def refusal(checker: Checker, token: str) -> AppError:
    """Why it is refused."""
    with pytest.raises(Unauthorized) as caught:
        checker.check(token)
    assert caught.value.headers == {"www-authenticate": "Bearer"}
    return caught.value


def test_user(checker: Checker, auth: FakeAuth) -> None:
    """A user is known by id and address. What users write of themselves makes no operator."""
    found = checker.check(auth.token())
    assert (found.id, found.role, found.email, found.is_anonymous) == (USER_ID, "user", "someone@mail.test", False)


def test_operator(checker: Checker, auth: FakeAuth) -> None:
    """The role is the one that only the server can write."""
    assert checker.check(auth.token(app_metadata={"role": "operator"})).role == "operator"
    for other in ({"role": "admin"}, {"role": ["operator"]}, {}, None, "operator", ["operator"]):
        assert checker.check(auth.token(app_metadata=other)).role == "user"


def test_anonymous(checker: Checker, auth: FakeAuth) -> None:
    """An anonymous user is told by its claim, and has no address."""
    found = checker.check(auth.token(is_anonymous=True, email=""))
    assert (found.is_anonymous, found.email) == (True, None)


def test_rsa(checker: Checker, auth: FakeAuth) -> None:
    """RS256 is as good as ES256."""
    auth.keys["key-2"] = rsa.generate_private_key(65537, 2048)
    assert checker.check(auth.token("key-2")).id == USER_ID


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "anon"},
        {"aud": None},
        {"iss": "https://other.supabase.co/auth/v1"},
        {"iss": None},
        {"exp": None},
        {"sub": None},
        {"sub": "not-a-uuid"},
        {"sub": 7},
        {"role": "service_role"},
        {"role": None},
        {"nbf": 2**40},
        {"exp": "soon"},
        {"exp": [1]},
    ],
    ids=str,
)
def test_claims_that_do_not_hold(checker: Checker, auth: FakeAuth, claims: dict[str, Any]) -> None:
    """Signed as it should be, but for others, by others, or without an end."""
    if isinstance(claims.get("sub"), int):
        token = jwt.api_jws.encode(
            json.dumps(auth.claims(**claims)).encode(), auth.keys["key-1"], "ES256", {"kid": "key-1"}
        )
    else:
        token = auth.token(**claims)
    refusal(checker, token)


def test_expired(checker: Checker, auth: FakeAuth) -> None:
    """A token counts until its end, and a moment longer: clocks differ."""
    token = auth.token(exp=int(checker.clock.now) + 100)
    checker.clock.now += 105
    assert checker.check(token).id == USER_ID
    checker.clock.now += 10
    assert refusal(checker, token).code == "token_expired"


def pieces(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Header and claims of a token, in its encoding."""
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    )


def test_no_algorithm(checker: Checker, auth: FakeAuth) -> None:
    """`alg: none`, in any spelling, with any signature."""
    good = auth.token().rpartition(".")[2]
    for algorithm in ("none", "None", "NONE", "nOnE", "", None, "ES384", "EdDSA", "PS256", ["ES256"]):
        for signature in ("", "AAAA", good):
            refusal(checker, f"{pieces({'alg': algorithm, 'kid': 'key-1', 'typ': 'JWT'}, auth.claims())}.{signature}")


@pytest.mark.parametrize("secret", [None, SECRET])
def test_public_key_as_a_secret(auth: FakeAuth, loop: LoopThread, secret: str | None) -> None:
    """A token signed by HMAC with the public key, in any form of it, is refused: with the old secret set as well."""
    checker = Checker(auth, loop, secret)
    public = auth.keys["key-1"].public_key()
    forms = [
        public.public_bytes(encoding, form)
        for encoding, form in (
            (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
        )
    ]
    forms += [json.dumps(auth.jwks()["keys"][0]).encode(), b"", b"sb_publishable_x"]
    for form in forms:
        signed = pieces({"alg": "HS256", "kid": "key-1", "typ": "JWT"}, auth.claims())
        import hmac  # noqa: PLC0415 - the library itself would refuse to sign with a public key

        signature = base64.urlsafe_b64encode(hmac.digest(form, signed.encode(), "sha256")).rstrip(b"=").decode()
        refusal(checker, f"{signed}.{signature}")
    checker.close()


def test_key_for_another_algorithm(checker: Checker, auth: FakeAuth) -> None:
    """A key counts for the algorithm that it is for alone."""
    auth.keys["key-2"] = rsa.generate_private_key(65537, 2048)
    for kid, algorithm in (("key-1", "RS256"), ("key-2", "ES256")):
        signed = pieces({"alg": algorithm, "kid": kid, "typ": "JWT"}, auth.claims())
        refusal(checker, f"{signed}.{auth.token().rpartition('.')[2]}")


def test_secret_of_old(auth: FakeAuth, loop: LoopThread) -> None:
    """With SUPABASE_JWT_SECRET its HS256 tokens count, beside those of the public keys; without it none does."""
    token = jwt.encode(auth.claims(), SECRET, "HS256")
    checker = Checker(auth, loop, SECRET)
    assert checker.check(token).id == checker.check(auth.token()).id == USER_ID
    refusal(checker, jwt.encode(auth.claims(), SECRET[::-1], "HS256"))
    refusal(checker, jwt.encode(auth.claims(), SECRET * 2, "HS512"))
    without = Checker(auth, loop)
    refusal(without, token)
    checker.close()
    without.close()


def test_no_mutation_passes(checker: Checker, auth: FakeAuth) -> None:
    """Fault row 34: of 200 changed tokens none passes; another spelling of the same signature is one of them."""
    token = auth.token()
    assert checker.check(token).id == USER_ID
    tried: set[str] = set()

    @settings(max_examples=200)
    @given(
        st.integers(0, len(token) - 1),
        st.sampled_from(["", *string.ascii_letters, *string.digits, "-", "_", ".", "=", "é", "\n"]),
        st.sampled_from(["change", "insert", "double"]),
    )
    def mutate(at: int, character: str, how: str) -> None:
        kept = {"change": "", "insert": token[at], "double": token[at] * 2}[how]
        mutated = token[:at] + character + kept + token[at + 1 :]
        if mutated != token:
            tried.add(mutated)
            with pytest.raises(Unauthorized):
                checker.check(mutated)

    mutate()
    last = token[-1]
    for character in set(string.ascii_letters + string.digits + "-_") - {last}:
        tried.add(token[:-1] + character)
        refusal(checker, token[:-1] + character)
    assert len(tried) >= 200


@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    """No text is a token by chance, and none upsets us."""
    tokens = Tokens(SupabaseAccess("http://127.0.0.1:9", "x", "y"), App(from_environ({})).exchange)
    with pytest.raises(Unauthorized):
        asyncio.run(tokens.identity(text))


def test_one_fetch_for_all(checker: Checker, auth: FakeAuth) -> None:
    """A hundred requests at once fetch the keys once, and later ones not at all."""
    gate = Gate()
    auth.web.script(Told(200, json.dumps(auth.jwks()).encode(), gate=gate))

    async def crowd() -> list[Identity]:
        waiting = asyncio.gather(*(checker.tokens.identity(auth.token()) for _ in range(100)))
        await asyncio.to_thread(auth.web.wait_for, 1)
        gate.open()
        return await waiting

    assert len(checker.run(crowd)) == 100
    checker.check(auth.token())
    assert len(auth.asked(JWKS)) == 1


def test_unknown_keys_do_not_hammer(checker: Checker, auth: FakeAuth) -> None:
    """A storm of tokens that name keys nobody knows causes one fetch per half minute, and costs good ones nothing."""
    stranger = FakeAuth.__new__(FakeAuth)
    stranger.keys = {f"strange-{number}": ec.generate_private_key(ec.SECP256R1()) for number in range(20)}
    stranger.web = auth.web
    for kid in stranger.keys:
        refusal(checker, stranger.token(kid))
    assert checker.check(auth.token()).id == USER_ID
    assert len(auth.asked(JWKS)) == 1
    checker.clock.now += 31
    for kid in stranger.keys:
        refusal(checker, stranger.token(kid))
    assert len(auth.asked(JWKS)) == 2


def test_rotation(checker: Checker, auth: FakeAuth) -> None:
    """A new key is believed as soon as it is used, an old one that was taken back no longer than keys are kept."""
    old = auth.token()
    assert checker.check(old).id == USER_ID
    auth.keys["key-2"] = ec.generate_private_key(ec.SECP256R1())
    checker.clock.now += 31
    assert checker.check(auth.token("key-2")).id == USER_ID
    del auth.keys["key-1"]
    assert checker.check(old).id == USER_ID
    checker.clock.now += 601
    assert refusal(checker, old).code == "unknown_key"
    assert len(auth.asked(JWKS)) == 3


@pytest.mark.parametrize(
    "answer",
    [told({}, 500), told({"keys": 7}), told([]), Told(200, b"{"), Told(200, b"x", cut=0), told({"keys": [7]})],
    ids=["500", "number", "list", "broken", "cut", "odd key"],
)
def test_keys_that_cannot_be_had(checker: Checker, auth: FakeAuth, answer: Told) -> None:
    """Whoever brings a token is told to come back, not that it does not hold; a second later it is tried again."""
    auth.web.script(answer)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            checker.check(auth.token())
        assert (caught.value.status, caught.value.code) == (503, "auth_unavailable")
    assert len(auth.asked(JWKS)) == 1
    checker.clock.now += 1
    assert checker.check(auth.token()).id == USER_ID


def test_keys_outlast_an_outage(checker: Checker, auth: FakeAuth) -> None:
    """Known keys count on while Auth is down, for an hour at most."""
    exp = int(checker.clock.now) + 10_000
    token = auth.token(exp=exp)
    checker.check(token)
    auth.web.script(told({}, 500), told({}, 500))
    checker.clock.now += 700
    assert checker.check(token).id == USER_ID
    checker.clock.now += 3000
    with pytest.raises(Unavailable):
        checker.check(token)
    checker.clock.now += 1
    assert checker.check(token).id == USER_ID


def test_a_key_that_is_no_key_costs_only_itself(checker: Checker, auth: FakeAuth) -> None:
    """Others of the same list count."""
    broken = [{"kty": "EC", "kid": "b", "alg": "ES256"}, {"kty": "OKP", "kid": "c"}, {"kty": "EC"}, {}]
    auth.web.script(told({"keys": [*broken, *auth.jwks()["keys"]]}))
    assert checker.check(auth.token()).id == USER_ID

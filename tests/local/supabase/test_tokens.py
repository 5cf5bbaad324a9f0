"""Tokens that are not ours: changed anywhere, signed otherwise, for something else, or past their time."""

from __future__ import annotations

import random
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from local.supabase.tokens import TokenError, Tokens
from tests.local.supabase.conftest import PUBLISHABLE, Project, claims_of, token

ISSUER = "http://project.test/auth/v1"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ %\n\0é"
CLAIMS = {"sub": "11111111-1111-4111-8111-111111111111", "role": "authenticated"}


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """A signer whose clock stands at 1000."""
    return Tokens(tmp_path / "key.pem", ISSUER, lambda: 1000.0)


def mutations(token: str, number: int, seed: int) -> list[str]:
    """Tokens that differ from this one: a character changed, added, gone or exchanged; a part repeated or cut off."""
    dice = random.Random(seed)  # noqa: S311 - a seed to repeat it by
    made: set[str] = set()
    while len(made) < number:
        at, other = dice.randrange(len(token)), dice.choice(ALPHABET)
        made.add(
            dice.choice(
                [
                    token[:at] + other + token[at + 1 :],
                    token[:at] + other + token[at:],
                    token[:at] + token[at + 1 :],
                    token[:at],
                    token[:at] + token[at : at + 2][::-1] + token[at + 2 :],
                    token + other,
                    other + token,
                ]
            )
        )
        made.discard(token)
    return sorted(made)


def last_changed(token: str) -> list[str]:
    """Tokens with another last character, some of whose bits a careless decoder drops."""
    return [token[:-1] + each for each in ALPHABET if each != token[-1]]


def test_no_mutation_of_an_access_token_passes(tokens: Tokens) -> None:
    """Of two thousand changed tokens none counts."""
    genuine, _ = tokens.access_token(CLAIMS)
    assert tokens.claims(genuine)["sub"] == CLAIMS["sub"]
    for mutation in [*mutations(genuine, 2000, seed=1), *last_changed(genuine)]:
        with pytest.raises(TokenError):
            tokens.claims(mutation)


def test_no_mutation_of_a_url_token_passes(tokens: Tokens) -> None:
    """Nor of a signed URL's."""
    genuine = tokens.url_token("download", {"url": "bucket/name"}, 60)
    assert tokens.url_claims("download", genuine)["url"] == "bucket/name"
    for mutation in [*mutations(genuine, 2000, seed=2), *last_changed(genuine)]:
        with pytest.raises(TokenError):
            tokens.url_claims("download", mutation)


def test_no_mutation_passes_over_the_wire(project: Project) -> None:
    """Two hundred changed tokens are refused by the Data API; one that reads as none at all is nobody's."""
    genuine = token(project.user())
    path = "/rest/v1/notes"
    assert project.send("GET", path, token=genuine, key=PUBLISHABLE).status_code == 200
    printable = [each for each in mutations(genuine, 400, seed=3) if each.isascii() and each.isprintable()]
    for mutation in [each for each in printable if each.strip() != genuine][:200]:
        assert project.send("GET", path, token=mutation, key=PUBLISHABLE).status_code == 401, mutation


def part(value: dict[str, Any]) -> str:
    """A part of a token."""
    return urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def test_forged_tokens(tokens: Tokens) -> None:
    """No other algorithm, key, audience, issuer or purpose passes, whatever the header says."""
    genuine, _ = tokens.access_token(CLAIMS)
    header, payload, signature = genuine.split(".")
    known = orjson.loads(urlsafe_b64decode(header + "=="))
    claims = {**CLAIMS, "iss": ISSUER, "aud": "authenticated", "exp": 9999, "iat": 0}
    other = ec.generate_private_key(ec.SECP256R1())
    public = "{x}.{y}".format(**tokens.jwks["keys"][0]).encode()
    forged = [
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        f"{part({**known, 'alg': 'none'})}.{payload}.{signature}",
        f"{part({**known, 'alg': 'ES384'})}.{payload}.{signature}",
        f"{part({**known, 'jwk': tokens.jwks['keys'][0]})}.{payload}.{signature}",
        f"{header}.{part({**claims, 'role': 'service_role'})}.{signature}",
        f"{header}.{payload}.",
        f"{header}..{signature}",
        jwt.encode(claims, other, "ES256", {"kid": known["kid"]}),
        jwt.encode(claims, public, "HS256", {"kid": known["kid"]}),
        jwt.encode(claims, b"x" * 32, "HS256", {"kid": known["kid"]}),
        tokens.url_token("download", claims, 60),
    ]
    for each in forged:
        with pytest.raises(TokenError):
            tokens.claims(each)
    for purpose in ("download", "upload"):
        with pytest.raises(TokenError):
            tokens.url_claims(purpose, genuine)
    with pytest.raises(TokenError):
        tokens.url_claims("upload", tokens.url_token("download", {"url": "a"}, 60))


def test_another_project_is_another_project(tmp_path: Path) -> None:
    """The same key under another address does not count, nor another key under the same one."""
    here = Tokens(tmp_path / "key.pem", ISSUER, lambda: 1000.0)
    genuine, _ = here.access_token(CLAIMS)
    for other in (
        Tokens(tmp_path / "key.pem", "http://other.test/auth/v1", lambda: 1000.0),
        Tokens(tmp_path / "other.pem", ISSUER, lambda: 1000.0),
    ):
        with pytest.raises(TokenError):
            other.claims(genuine)


def test_time(tmp_path: Path) -> None:
    """A token counts until the second it names, and no longer."""
    now = 1000.0
    tokens = Tokens(tmp_path / "key.pem", ISSUER, lambda: now)
    access, expires_at = tokens.access_token(CLAIMS)
    url = tokens.url_token("download", {"url": "a"}, 60)
    assert expires_at == 4600
    now = 1059.9
    assert tokens.url_claims("download", url)["exp"] == 1060
    now = 1060.0
    with pytest.raises(TokenError) as caught:
        tokens.url_claims("download", url)
    assert caught.value.expired
    now = 4599.9
    tokens.claims(access)
    now = 4600.0
    with pytest.raises(TokenError) as caught:
        tokens.claims(access)
    assert caught.value.expired


def test_a_key_made_at_once(tmp_path: Path) -> None:
    """Of processes that make the key at the same time all end up with the same one."""
    made: list[str] = []

    def make() -> None:
        made.append(str(Tokens(tmp_path / "new" / "key.pem", ISSUER, lambda: 0.0).jwks["keys"][0]["x"]))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["key.pem"]
    assert (tmp_path / "new" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_survives_its_process(project: Project, clock: Callable[[float], None]) -> None:
    """Whoever starts again on the folder takes the tokens of before, and makes such that count."""
    clock(0)
    again = Tokens(project.folder / "signing-key.pem", f"{project.url}/auth/v1", project.clock)
    genuine = token(project.user())
    assert again.claims(genuine) == claims_of(genuine)
    answer = project.send("GET", "/auth/v1/user", token=again.access_token(claims_of(genuine))[0], key=PUBLISHABLE)
    assert answer.status_code == 200

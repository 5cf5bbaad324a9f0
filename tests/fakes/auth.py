"""Supabase Auth at the network's edge, with keys that a test may change: its JWKS, and tokens signed by them."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.fakes.loop import LoopThread
from tests.fakes.web import Asked, Told, Web, told

USER_ID = "6f1f9a52-6a3d-4c6e-9d0e-6a0c3b1f0a11"
Signing = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class FakeAuth:
    """A project's Auth service: `/.well-known/jwks.json`, and `/token`, which goes on with a session."""

    def __init__(self, loop: LoopThread) -> None:
        self.web = Web(loop, self._answer)
        self.keys: dict[str, Signing] = {"key-1": ec.generate_private_key(ec.SECP256R1())}
        self.refreshed = 0

    @property
    def url(self) -> str:
        """The project's."""
        return self.web.url

    def asked(self, path: str) -> list[Asked]:
        """The requests for a path of Auth so far."""
        return [asked for asked in self.web.asked if asked.path == f"/auth/v1{path}"]

    def token(self, kid: str = "key-1", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """An access token; claims that are None are left out."""
        key = self.keys[kid]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(self.claims(**claims), key, algorithm, {"kid": kid, **(header or {})})

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What a token of a user says."""
        now = int(time.time())
        claims = {
            "sub": USER_ID,
            "aud": "authenticated",
            "role": "authenticated",
            "iss": f"{self.url}/auth/v1",
            "iat": now,
            "exp": now + 3600,
            "email": "someone@mail.test",
            "app_metadata": {"provider": "email"},
            "user_metadata": {"role": "operator"},
            "is_anonymous": False,
            "session_id": str(uuid4()),
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def jwks(self) -> dict[str, Any]:
        """The public keys."""
        return {"keys": [_jwk(kid, key) for kid, key in self.keys.items()]}

    def _answer(self, asked: Asked) -> Told:
        if asked.path == "/auth/v1/.well-known/jwks.json":
            return told(self.jwks())
        if asked.path == "/auth/v1/token" and asked.query == {"grant_type": ["refresh_token"]}:
            if not asked.json()["refresh_token"].startswith("refresh-"):
                return told({"code": 400, "error_code": "refresh_token_not_found", "msg": "no"}, 400)
            self.refreshed += 1
            kid = next(reversed(self.keys))
            return told({"access_token": self.token(kid), "refresh_token": f"refresh-{self.refreshed}"})
        return told({"msg": "not found"}, 404)


def _jwk(kid: str, key: Signing) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "RS256", "use": "sig"}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "ES256", "use": "sig"}

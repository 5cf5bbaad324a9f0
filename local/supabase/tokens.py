"""Keys and tokens: who somebody is (ES256, checked by anyone through the JWKS), and what a signed URL allows (HS256).

One key is made once and kept in a file for its owner alone. Access tokens are signed with it; the secret of signed URLs
is derived from it, so that neither can pass for the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
AUDIENCE = "authenticated"
ACCESS_TOKEN_S = 3600

Clock = Callable[[], float]
"""Seconds since the epoch."""


class TokenError(Exception):
    """A token that is not ours, was tampered with, is for something else, or has expired."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.expired = expired


class Tokens:
    """Makes and checks tokens with the key of one file."""

    def __init__(self, key_file: Path, issuer: str, clock: Clock) -> None:
        """`issuer` is the base URL of the auth service."""
        self._issuer = issuer
        self._clock = clock
        self._key = _kept_key(key_file)
        private = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self._url_secret = hmac.digest(private, b"signed URLs", "sha256")
        jwk: dict[str, Any] = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        # RFC 7638: what identifies a key is the hash of its required members, in this order.
        thumbprint = '{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}'.format(**jwk)
        self._kid = hashlib.sha256(thumbprint.encode()).hexdigest()[:32]
        self.jwks = {
            "keys": [{**jwk, "kid": self._kid, "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": True}]
        }
        """The public key, as `.well-known/jwks.json` serves it."""
        self._headers = {
            "ES256": jwt.encode({}, self._key, "ES256", {"kid": self._kid}).partition(".")[0],
            "HS256": jwt.encode({}, self._url_secret, "HS256").partition(".")[0],
        }

    def access_token(self, claims: dict[str, Any]) -> tuple[str, int]:
        """A token with these claims, and when it expires."""
        now = int(self._clock())
        standard = {"iss": self._issuer, "aud": AUDIENCE, "iat": now, "exp": now + ACCESS_TOKEN_S}
        return jwt.encode({**claims, **standard}, self._key, "ES256", {"kid": self._kid}), now + ACCESS_TOKEN_S

    def claims(self, access_token: str) -> dict[str, Any]:
        """The claims of an access token. Raises TokenError."""
        return self._decoded(access_token, self._key.public_key(), "ES256", AUDIENCE, self._issuer)

    def url_token(self, purpose: Literal["download", "upload"], claims: dict[str, Any], seconds: int) -> str:
        """A token for a signed URL."""
        now = int(self._clock())
        return jwt.encode({**claims, "aud": purpose, "iat": now, "exp": now + seconds}, self._url_secret, "HS256")

    def url_claims(self, purpose: Literal["download", "upload"], token: str) -> dict[str, Any]:
        """The claims of a token made by `url_token`. Raises TokenError."""
        return self._decoded(token, self._url_secret, "HS256", purpose, None)

    def _decoded(
        self, token: str, key: ec.EllipticCurvePublicKey | bytes, algorithm: str, audience: str, issuer: str | None
    ) -> dict[str, Any]:
        # All tokens of a kind begin alike. So whatever names another algorithm or key is refused before it is parsed.
        if not TOKEN.fullmatch(token) or token.partition(".")[0] != self._headers[algorithm]:
            raise TokenError("No suitable key was found to decode the JWT")
        try:
            # The library reads the machine's clock: it is told to leave the expiry to us.
            claims = jwt.decode(
                token,
                key,
                [algorithm],
                {"verify_exp": False, "verify_iat": False, "verify_nbf": False},
                audience=audience,
                issuer=issuer,
            )
        except jwt.PyJWTError as error:
            raise TokenError("JWSError JWSInvalidSignature") from error
        if claims["exp"] <= self._clock():
            raise TokenError("JWT expired", expired=True)
        return claims


def _kept_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """The key of a file, made where it is missing; of two that make it at once, one wins and both take that one."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = ec.generate_private_key(ec.SECP256R1())
        new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        new.touch(mode=0o600, exist_ok=False)
        new.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with suppress(FileExistsError):
            file.hardlink_to(new)
        new.unlink()
    key = load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{file} holds no key for ES256")
    return key

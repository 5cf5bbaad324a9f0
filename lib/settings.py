"""The environment, read once and checked: the only place that knows the names of the variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from lib.providers.catalog import EMBEDDING_ROWS, ROWS, EmbeddingRow, Row

Kind = Literal["secret", "url", "flag", "list", "text"]
Role = Literal["user", "operator"]
MIN_SECRET_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable: what it is for, and how its value is checked."""

    name: str
    kind: Kind
    help: str
    part: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One entry of API_KEYS: who calls, with which role, by which secret."""

    name: str
    role: Role
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class VendorAccess:
    """How to reach a vendor that is on."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the product: on, or off with the variables that would turn it on. Names only, never a value."""

    name: str
    on: bool
    needs: tuple[str, ...] = ()
    note: str = ""


PRODUCT_VARIABLES: tuple[Variable, ...] = (
    Variable(
        "API_KEYS",
        "secret",
        "Who may call with a bearer key: comma-separated name:role:secret, role user or operator, secrets of at least "
        f"{MIN_SECRET_CHARACTERS} characters. The same name twice means rotation: both secrets are valid.",
        "access",
        "web:user:change-me-to-32-random-characters",
    ),
    Variable(
        "ALLOW_ANONYMOUS",
        "flag",
        "1 lets guests call /api/generate, each known by a signed cookie. `make run` sets it.",
        "access",
        "1",
    ),
    Variable(
        "SESSION_SECRET",
        "secret",
        f"Signs the guests' cookies; at least {MIN_SECRET_CHARACTERS} characters. `make run` makes one.",
        "access",
    ),
    Variable(
        "ALLOWED_ORIGINS",
        "list",
        "Origins of other sites whose pages may call, comma-separated (CORS).",
        "access",
        "https://www.example.com",
    ),
    Variable(
        "FEATURE_AI_PROVIDER",
        "text",
        "Which provider answers first: a provider's name, or provider/model. Unset: the first that is on.",
        "text",
        "groq/openai/gpt-oss-120b",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, checked. A malformed variable counts as unset and is named in `malformed`."""

    vendors: Mapping[str, VendorAccess]
    parts: tuple[Part, ...]
    malformed: Mapping[str, str]
    embedders: Mapping[str, VendorAccess] = field(default_factory=dict[str, VendorAccess])
    exposed: tuple[str, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    allow_anonymous: bool = False
    session_secret: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    provider_flag: str | None = None
    region: str | None = None
    deployment: str | None = None


def variables(
    rows: tuple[Row, ...] = ROWS, embedding_rows: tuple[EmbeddingRow, ...] = EMBEDDING_ROWS
) -> tuple[Variable, ...]:
    """Every variable the product reads: the vendors' from the catalogue, then our own."""
    vendors: dict[str, Variable] = {}
    for row in (*rows, *embedding_rows):
        if row.key_var is not None:
            key = Variable(row.key_var, "secret", f"Key for {row.label}: turns it on.", row.name)
            vendors.setdefault(key.name, key)
        default = f"; default {row.base_url}" if row.base_url else ": turns it on. `make run` starts one and sets it"
        url = Variable(row.base_url_var, "url", f"Base URL for {row.label}{default}.", row.name)
        vendors.setdefault(url.name, url)
    return (*vendors.values(), *PRODUCT_VARIABLES)


def load() -> Settings:
    """The settings of this process."""
    return from_environ(os.environ)  # noqa: TID251 - the one place


def from_environ(
    environ: Mapping[str, str],
    rows: tuple[Row, ...] = ROWS,
    embedding_rows: tuple[EmbeddingRow, ...] = EMBEDDING_ROWS,
) -> Settings:
    """Read and check every variable; never raises, since a part that is off must not stop the others."""
    reader = _Reader(environ)
    vendors: dict[str, VendorAccess] = {}
    parts: list[Part] = []
    for row in rows:
        access = reader.vendor(row)
        if access is not None:
            vendors[row.name] = access
        parts.append(
            Part(
                row.name,
                access is not None,
                _needs(row),
                f"{row.label}, spare while a vendor is on" if row.demo else row.label,
            )
        )
    embedders = {row.name: access for row in embedding_rows if (access := reader.vendor(row)) is not None}
    parts.append(_embeddings(embedding_rows, embedders))
    api_keys = reader.api_keys("API_KEYS")
    session_secret = reader.secret("SESSION_SECRET", at_least=MIN_SECRET_CHARACTERS)
    guests = reader.flag("ALLOW_ANONYMOUS") and session_secret is not None
    parts.append(Part("api keys", bool(api_keys), ("API_KEYS",), "callers with a bearer key"))
    parts.append(Part("guests", guests, ("ALLOW_ANONYMOUS", "SESSION_SECRET"), "callers without one"))
    return Settings(
        vendors=vendors,
        embedders=embedders,
        parts=tuple(parts),
        api_keys=api_keys,
        allow_anonymous=guests,
        session_secret=session_secret,
        allowed_origins=reader.origins("ALLOWED_ORIGINS"),
        provider_flag=reader.provider("FEATURE_AI_PROVIDER", rows),
        region=reader.text("VERCEL_REGION"),
        deployment=reader.text("VERCEL_DEPLOYMENT_ID"),
        malformed=reader.malformed,
        exposed=_exposed(environ, variables(rows, embedding_rows), {key.secret for key in api_keys}),
    )


def _embeddings(rows: tuple[EmbeddingRow, ...], on: Mapping[str, VendorAccess]) -> Part:
    """The part that its hosted vendors turn on, and on one machine the embedded model."""
    labels = [row.label for row in rows if row.name in on] or [row.label for row in rows]
    return Part("embeddings", bool(on), _needs(rows[0]), f"vectors: {', '.join(labels)}")


def _needs(row: Row | EmbeddingRow) -> tuple[str, ...]:
    """The variables that turn a vendor on."""
    url = () if row.base_url else (row.base_url_var,)
    return (row.key_var, *url) if row.key_var else url


class _Reader:
    """Reads one variable at a time and remembers which were malformed, and why (never with the value)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.malformed: dict[str, str] = {}

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def secret(self, name: str, *, at_least: int = 1) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        if re.search(r"[^\x21-\x7e]", value):
            return self._reject(name, "holds white space or characters outside ASCII")
        if len(value) < at_least:
            return self._reject(name, f"is shorter than {at_least} characters")
        return value

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        if not _is_url(value):
            return self._reject(name, "is not an http or https URL without credentials")
        return value.rstrip("/")

    def flag(self, name: str) -> bool:
        value = (self.text(name) or "0").lower()
        if value not in {"0", "1", "true", "false"}:
            self._reject(name, "is neither 1 nor 0: write 1")
        return value in {"1", "true"}

    def vendor(self, row: Row | EmbeddingRow) -> VendorAccess | None:
        base_url = self.url(row.base_url_var)
        api_key = self.secret(row.key_var) if row.key_var else None
        if base_url is None and row.base_url_var not in self.malformed:
            base_url = row.base_url
        is_on = base_url is not None and (row.key_var is None or api_key is not None)
        return VendorAccess(base_url, api_key) if base_url is not None and is_on else None

    def api_keys(self, name: str) -> tuple[ApiKey, ...]:
        keys: list[ApiKey] = []
        for number, entry in enumerate(self._entries(name), start=1):
            match = re.fullmatch(r"([A-Za-z0-9_.-]{1,64}):(user|operator):([\x21-\x7e]+)", entry)
            if match is None:
                self._reject(name, f"entry {number} is not name:role:secret with role user or operator")
            elif len(match[3]) < MIN_SECRET_CHARACTERS:
                self._reject(name, f"entry {number} has a secret shorter than {MIN_SECRET_CHARACTERS} characters")
            else:
                keys.append(ApiKey(match[1], "operator" if match[2] == "operator" else "user", match[3]))
        return tuple(keys)

    def origins(self, name: str) -> tuple[str, ...]:
        origins: list[str] = []
        for entry in self._entries(name):
            origin = entry.rstrip("/").lower()
            if _is_url(origin) and origin == "{0.scheme}://{0.netloc}".format(urlsplit(origin)):
                origins.append(origin)
            else:
                self._reject(name, "holds an entry that is not scheme://host[:port]")
        return tuple(origins)

    def provider(self, name: str, rows: tuple[Row, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value.partition("/")[0] not in {row.name for row in rows}:
            return self._reject(name, f"does not begin with one of {', '.join(row.name for row in rows)}")
        return value

    def _entries(self, name: str) -> list[str]:
        return [entry.strip() for entry in (self.text(name) or "").split(",") if entry.strip()]

    def _reject(self, name: str, why: str) -> None:
        self.malformed[name] = why


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    plain = re.fullmatch(r"[\x21-\x7e]+", value) is not None
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


def _exposed(environ: Mapping[str, str], known: tuple[Variable, ...], more: set[str]) -> tuple[str, ...]:
    """Variables that Next.js would put into the browser's bundle although they hold one of our secrets."""
    secrets = {variable.name for variable in known if variable.kind == "secret"}
    values = more | {environ[name] for name in secrets if environ.get(name)}
    return tuple(
        name
        for name, value in sorted(environ.items())
        if name.startswith("NEXT_PUBLIC_") and (name.removeprefix("NEXT_PUBLIC_") in secrets or value in values)
    )

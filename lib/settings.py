"""The environment, read once and checked: the only place that knows the names of the variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from lib.providers.catalog import (
    EMBEDDING_ROWS,
    IMAGE_ROWS,
    ROWS,
    SPEECH_ROWS,
    AnyRow,
    EmbeddingRow,
    ImageRow,
    Row,
    SpeechRow,
)

Kind = Literal["secret", "connection", "url", "flag", "number", "name", "list", "text", "public"]
Role = Literal["user", "operator"]
MIN_SECRET_CHARACTERS = 16
DEFAULT_FRESHNESS_S = 10.0


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
class StoreAccess:
    """How to read an Edge Config: its id, the URL below which its paths lie, and a token for reading."""

    id: str
    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SupabaseAccess:
    """How to reach a Supabase project. `jwt_secret` is for projects whose tokens are still signed with it (HS256)."""

    url: str
    secret_key: str = field(repr=False)
    publishable_key: str = field(repr=False)
    jwt_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the product: on, or off with the variables that would turn it on. Names only, never a value.

    All of `needs` together do, or any one of `or_one_of`.
    """

    name: str
    on: bool
    needs: tuple[str, ...] = ()
    note: str = ""
    or_one_of: tuple[str, ...] = ()


VERCEL_API_URL = "https://api.vercel.com"
STATSIG_API_URL = "https://statsigapi.net"
STATSIG_CDN_URL = "https://api.statsigcdn.com"
GITHUB_API_URL = "https://api.github.com"
GITHUB_VARIABLES = ("GITHUB_TOKEN", "GITHUB_REPOSITORY")
SUPABASE_VARIABLES = ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_PUBLISHABLE_KEY")
LEGACY_NAMES = {"SUPABASE_SECRET_KEY": "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_PUBLISHABLE_KEY": "SUPABASE_ANON_KEY"}
"""Supabase's keys of old, by the names of those that take their place: accepted, with a warning."""
TIERS = {"production": "production", "preview": "staging"}
"""Vercel's environments by the names that Statsig gives them."""

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
        "Which provider answers first where no flag decides: a provider's name, or provider/model. Unset: the first "
        "that is on.",
        "text",
        "groq/openai/gpt-oss-120b",
    ),
    Variable(
        "EDGE_CONFIG",
        "connection",
        "Connection string of the Edge Config that holds flags and parameters. Vercel sets it where a store is "
        "connected; `make run` serves one of its own.",
        "edge config",
        "https://edge-config.vercel.com/ecfg_x?token=y",
    ),
    Variable("GLOBAL_CONFIG", "connection", "The newer name of EDGE_CONFIG; wins over it.", "edge config"),
    Variable(
        "EXPERIMENTATION_CONFIG",
        "connection",
        "Connection string of the Edge Config that Statsig's or Hypertune's Vercel integration writes; it sets it.",
        "edge config",
    ),
    Variable(
        "EXPERIMENTATION_CONFIG_ITEM_KEY",
        "name",
        "The item that the integration writes. Unset, it is known by its shape.",
        "edge config",
        "statsig-5FSfBpWM9kUPqeKRlZPkod",
    ),
    Variable(
        "EDGE_CONFIG_FRESHNESS",
        "number",
        f"Seconds for which a process uses what it has read; default {DEFAULT_FRESHNESS_S:.0f}. An edit is followed "
        "that much later; each read counts on Vercel's bill.",
        "edge config",
        "30",
    ),
    Variable(
        "VERCEL_TOKEN",
        "secret",
        "A token of Vercel's REST API: changes items of the Edge Config, and reads the log of a build that failed.",
        "edge config",
    ),
    Variable("VERCEL_TEAM_ID", "name", "The team that the Edge Config belongs to.", "edge config", "team_abc"),
    Variable("VERCEL_API_URL", "url", f"Vercel's REST API; default {VERCEL_API_URL}.", "edge config"),
    Variable(
        "STATSIG_SERVER_SECRET",
        "secret",
        "Server secret of a Statsig project: calls and exposures are reported there, and flags come from there where "
        "no Edge Config holds them.",
        "statsig",
    ),
    Variable("STATSIG_API_URL", "url", f"Statsig's API, for events; default {STATSIG_API_URL}.", "statsig"),
    Variable("STATSIG_CDN_URL", "url", f"Statsig's CDN, for flags; default {STATSIG_CDN_URL}.", "statsig"),
    Variable(
        "STATSIG_CONSOLE_KEY",
        "secret",
        "A Console API key of the Statsig project, with write access: a rollout moves its gate's share there.",
        "statsig console",
    ),
    Variable(
        "STATSIG_CONSOLE_URL",
        "url",
        f"Statsig's Console API; default {STATSIG_API_URL}.",
        "statsig console",
    ),
    Variable(
        "SUPABASE_URL",
        "url",
        "The Supabase project: accounts, rows and files. With its two keys it takes the embedded one's place.",
        "supabase",
        "https://abcdefghijklmnopqrst.supabase.co",
    ),
    Variable(
        "SUPABASE_SECRET_KEY",
        "secret",
        "The project's secret key, sb_secret_…: the server's own, past every policy.",
        "supabase",
    ),
    Variable(
        "SUPABASE_PUBLISHABLE_KEY",
        "public",
        "The project's publishable key, sb_publishable_…: users read with it and their own token, under the policies.",
        "supabase",
    ),
    Variable(
        "SUPABASE_SERVICE_ROLE_KEY",
        "secret",
        "The legacy form of SUPABASE_SECRET_KEY; used where that is not set.",
        "supabase",
    ),
    Variable(
        "SUPABASE_ANON_KEY",
        "public",
        "The legacy form of SUPABASE_PUBLISHABLE_KEY; used where that is not set.",
        "supabase",
    ),
    Variable(
        "SUPABASE_JWT_SECRET",
        "secret",
        "Only for projects whose access tokens are still signed with it (HS256). Others are checked by public keys.",
        "supabase",
    ),
    Variable(
        "CRON_SECRET",
        "secret",
        f"What Vercel's cron sends as a bearer to GET /api/health?run=1; at least {MIN_SECRET_CHARACTERS} characters.",
        "cron",
    ),
    Variable(
        "SITE_URL",
        "url",
        "Where this deployment is reached, for the cron's call of /api/vsl/worker. Unset: the production domain, else "
        "the deployment's own, as Vercel names them; `make run` sets it.",
        "cron",
        "https://www.example.com",
    ),
    Variable(
        "VERCEL_WEBHOOK_SECRET",
        "secret",
        "The secret of the account webhook in Vercel that sends deployment events to /api/deploy_webhook; at least "
        f"{MIN_SECRET_CHARACTERS} characters. Two, comma-separated, are both valid, for rotation.",
        "deploy webhook",
    ),
    Variable(
        "GITHUB_WEBHOOK_SECRET",
        "secret",
        "The same for a webhook of GitHub that sends deployment statuses there: for plans without account webhooks.",
        "deploy webhook",
    ),
    Variable(
        "GITHUB_TOKEN",
        "secret",
        "A fine-grained token with Issues: read and write for GITHUB_REPOSITORY: failures become issues there.",
        "incidents",
    ),
    Variable("GITHUB_REPOSITORY", "name", "The repository for issues, as owner/name.", "incidents", "acme/web"),
    Variable("GITHUB_API_URL", "url", f"GitHub's REST API; default {GITHUB_API_URL}.", "incidents"),
)


@dataclass(frozen=True, slots=True)
class GitHubAccess:
    """Where issues are kept: a repository as owner/name, the API's URL, and a token that may write them."""

    repository: str
    api_url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, checked. A malformed variable counts as unset and is named in `malformed`."""

    vendors: Mapping[str, VendorAccess]
    parts: tuple[Part, ...]
    malformed: Mapping[str, str]
    embedders: Mapping[str, VendorAccess] = field(default_factory=dict[str, VendorAccess])
    speakers: Mapping[str, VendorAccess] = field(default_factory=dict[str, VendorAccess])
    painters: Mapping[str, VendorAccess] = field(default_factory=dict[str, VendorAccess])
    exposed: tuple[str, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    allow_anonymous: bool = False
    session_secret: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    provider_flag: str | None = None
    stores: tuple[StoreAccess, ...] = ()
    experimentation_item: str | None = None
    freshness_s: float = DEFAULT_FRESHNESS_S
    vercel_token: str | None = field(default=None, repr=False)
    vercel_team: str | None = None
    vercel_api_url: str = VERCEL_API_URL
    statsig_secret: str | None = field(default=None, repr=False)
    statsig_api_url: str = STATSIG_API_URL
    statsig_cdn_url: str = STATSIG_CDN_URL
    statsig_console_key: str | None = field(default=None, repr=False)
    statsig_console_url: str = STATSIG_API_URL
    supabase: SupabaseAccess | None = None
    cron_secret: str | None = field(default=None, repr=False)
    site_url: str | None = None
    vercel_webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    github_webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    github: GitHubAccess | None = None
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """All values that nobody may see, to take them out of texts."""
    legacy: tuple[str, ...] = ()
    """Variables in use that Supabase is about to retire."""
    tier: str = "development"
    environment: str = "development"
    """Vercel's word for it: production, preview or development."""
    region: str | None = None
    deployment: str | None = None


def variables(
    rows: tuple[Row, ...] = ROWS,
    embedding_rows: tuple[EmbeddingRow, ...] = EMBEDDING_ROWS,
    speech_rows: tuple[SpeechRow, ...] = SPEECH_ROWS,
    image_rows: tuple[ImageRow, ...] = IMAGE_ROWS,
) -> tuple[Variable, ...]:
    """Every variable the product reads: the vendors' from the catalogue, then our own."""
    vendors: dict[str, Variable] = {}
    for row in (*rows, *embedding_rows, *speech_rows, *image_rows):
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
    speech_rows: tuple[SpeechRow, ...] = SPEECH_ROWS,
    image_rows: tuple[ImageRow, ...] = IMAGE_ROWS,
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
    embedders, speakers, painters = map(reader.vendors, (embedding_rows, speech_rows, image_rows))
    parts.append(_media("embeddings", "vectors", embedding_rows, embedders))
    parts.append(_media("speech", "voices", speech_rows, speakers))
    parts.append(_media("images", "pictures", image_rows, painters))
    api_keys = reader.api_keys("API_KEYS")
    session_secret = reader.secret("SESSION_SECRET", at_least=MIN_SECRET_CHARACTERS)
    guests = reader.flag("ALLOW_ANONYMOUS") and session_secret is not None
    parts.append(Part("api keys", bool(api_keys), ("API_KEYS",), "callers with a bearer key"))
    parts.append(Part("guests", guests, ("ALLOW_ANONYMOUS", "SESSION_SECRET"), "callers without one"))
    stores = reader.stores(("GLOBAL_CONFIG", "EDGE_CONFIG"), ("EXPERIMENTATION_CONFIG",))
    parts.append(Part("edge config", bool(stores), ("EDGE_CONFIG",), "flags and parameters without a redeploy"))
    statsig_secret = reader.secret("STATSIG_SERVER_SECRET")
    parts.append(Part("statsig", statsig_secret is not None, ("STATSIG_SERVER_SECRET",), "events and exposures"))
    console_key = reader.secret("STATSIG_CONSOLE_KEY")
    parts.append(
        Part("statsig console", console_key is not None, ("STATSIG_CONSOLE_KEY",), "rollouts move shares there")
    )
    supabase, legacy = reader.supabase()
    parts.append(Part("supabase", supabase is not None, SUPABASE_VARIABLES, "accounts, rows and files"))
    cron_secret = reader.secret("CRON_SECRET", at_least=MIN_SECRET_CHARACTERS)
    parts.append(Part("cron", cron_secret is not None, ("CRON_SECRET",), "upkeep once a day"))
    vercel_webhook_secrets = reader.secrets("VERCEL_WEBHOOK_SECRET")
    github_webhook_secrets = reader.secrets("GITHUB_WEBHOOK_SECRET")
    receives = bool(vercel_webhook_secrets or github_webhook_secrets)
    parts.append(Part("deploy webhook", receives, ("VERCEL_WEBHOOK_SECRET",), "failed deployments become incidents"))
    github = reader.github()
    parts.append(Part("github", github is not None, GITHUB_VARIABLES, "an issue for each failure"))
    known = variables(rows, embedding_rows, speech_rows, image_rows)
    return Settings(
        vendors=vendors,
        embedders=embedders,
        speakers=speakers,
        painters=painters,
        parts=tuple(parts),
        api_keys=api_keys,
        allow_anonymous=guests,
        session_secret=session_secret,
        allowed_origins=reader.origins("ALLOWED_ORIGINS"),
        provider_flag=reader.provider("FEATURE_AI_PROVIDER", rows),
        stores=stores,
        experimentation_item=reader.name("EXPERIMENTATION_CONFIG_ITEM_KEY"),
        freshness_s=reader.number("EDGE_CONFIG_FRESHNESS", 1, 3600) or DEFAULT_FRESHNESS_S,
        vercel_token=reader.secret("VERCEL_TOKEN"),
        vercel_team=reader.name("VERCEL_TEAM_ID"),
        vercel_api_url=reader.url("VERCEL_API_URL") or VERCEL_API_URL,
        statsig_secret=statsig_secret,
        statsig_api_url=reader.url("STATSIG_API_URL") or STATSIG_API_URL,
        statsig_cdn_url=reader.url("STATSIG_CDN_URL") or STATSIG_CDN_URL,
        statsig_console_key=console_key,
        statsig_console_url=reader.url("STATSIG_CONSOLE_URL") or STATSIG_API_URL,
        supabase=supabase,
        cron_secret=cron_secret,
        site_url=reader.site_url("SITE_URL"),
        vercel_webhook_secrets=vercel_webhook_secrets,
        github_webhook_secrets=github_webhook_secrets,
        github=github,
        secrets=frozenset(_secrets(environ, known) | {key.secret for key in api_keys}),
        legacy=legacy,
        tier=TIERS.get(reader.text("VERCEL_ENV") or "", "development"),
        environment=reader.text("VERCEL_ENV") or "development",
        region=reader.text("VERCEL_REGION"),
        deployment=reader.text("VERCEL_DEPLOYMENT_ID"),
        malformed=reader.malformed,
        exposed=_exposed(environ, known, {key.secret for key in api_keys}),
    )


def _media(name: str, what: str, rows: Sequence[AnyRow], on: Mapping[str, VendorAccess]) -> Part:
    """The part that its hosted vendors turn on, and on one machine the embedded stand-in."""
    labels = [row.label for row in rows if row.name in on] or [row.label for row in rows]
    others = tuple(name for row in rows[1:] if len(_needs(row)) == 1 for name in _needs(row))
    return Part(name, bool(on), _needs(rows[0]), f"{what}: {', '.join(labels)}", others)


def _needs(row: AnyRow) -> tuple[str, ...]:
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

    def site_url(self, name: str) -> str | None:
        """The one that is set, or Vercel's: the domain of production first, which no protection stands before."""
        is_production = self.text("VERCEL_ENV") == "production"
        production = self.text("VERCEL_PROJECT_PRODUCTION_URL") if is_production else None
        host = production or self.text("VERCEL_URL")
        return self.url(name) or (f"https://{host}" if host is not None else None)

    def flag(self, name: str) -> bool:
        value = (self.text(name) or "0").lower()
        if value not in {"0", "1", "true", "false"}:
            self._reject(name, "is neither 1 nor 0: write 1")
        return value in {"1", "true"}

    def vendors(self, rows: Sequence[AnyRow]) -> dict[str, VendorAccess]:
        return {row.name: access for row in rows if (access := self.vendor(row)) is not None}

    def vendor(self, row: AnyRow) -> VendorAccess | None:
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

    def name(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and re.fullmatch(r"[\w-]{1,256}", value, re.ASCII) is None:
            return self._reject(name, "holds other characters than letters, digits, - and _")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        value = self.text(name)
        if value is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) is None or not least <= float(value) <= most:
            return self._reject(name, f"is not a number from {least:g} to {most:g}")
        return float(value)

    def stores(self, *names: tuple[str, ...]) -> tuple[StoreAccess, ...]:
        """The stores of these variables, of each tuple the first that is set; the same store is not read twice."""
        stores: dict[str, StoreAccess] = {}
        for alternatives in names:
            found = [store for name in alternatives if (store := self._store(name)) is not None]
            if found:
                stores.setdefault(found[0].url, found[0])
        return tuple(stores.values())

    def secrets(self, name: str) -> tuple[str, ...]:
        """All that are valid at once. One that is too short makes the variable malformed and counts for nothing."""
        found: list[str] = []
        for entry in self._entries(name):
            if re.fullmatch(r"[\x21-\x7e]+", entry) is None:
                self._reject(name, "holds white space or characters outside ASCII")
            elif len(entry) < MIN_SECRET_CHARACTERS:
                self._reject(name, f"holds a secret shorter than {MIN_SECRET_CHARACTERS} characters")
            else:
                found.append(entry)
        return tuple(found)

    def github(self) -> GitHubAccess | None:
        """The repository for issues, where it is named and there is a token."""
        token = self.secret("GITHUB_TOKEN")
        api_url = self.url("GITHUB_API_URL") or GITHUB_API_URL
        repository = self.text("GITHUB_REPOSITORY")
        if repository is not None and re.fullmatch(r"[\w.-]{1,100}/[\w.-]{1,100}", repository, re.ASCII) is None:
            repository = self._reject("GITHUB_REPOSITORY", "is not owner/name")
        return None if token is None or repository is None else GitHubAccess(repository, api_url, token)

    def supabase(self) -> tuple[SupabaseAccess | None, tuple[str, ...]]:
        """The project, where all of it is set; and the legacy names by which a key of it was found."""
        url = self.url("SUPABASE_URL")
        keys: list[str] = []
        legacy: list[str] = []
        for name, old in LEGACY_NAMES.items():
            key = self.secret(name)
            if key is None and name not in self.malformed and (key := self.secret(old)) is not None:
                legacy.append(old)
            keys += [key] if key is not None else []
        jwt_secret = self.secret("SUPABASE_JWT_SECRET", at_least=MIN_SECRET_CHARACTERS)
        if url is None or len(keys) < len(LEGACY_NAMES):
            return None, tuple(legacy)
        return SupabaseAccess(url, keys[0], keys[1], jwt_secret), tuple(legacy)

    def _store(self, name: str) -> StoreAccess | None:
        value = self.text(name)
        store = _connection(value) if value is not None else None
        if value is not None and store is None:
            self._reject(name, "is not a connection string: https://edge-config.vercel.com/ecfg_…?token=…")
        return store

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


def _connection(value: str) -> StoreAccess | None:
    """A connection string of Vercel's, in the forms that its own client takes; None where it is none."""
    if value.startswith("edge-config:"):
        given = parse_qs(value.removeprefix("edge-config:"))
        value = f"https://edge-config.vercel.com/{given.get('id', [''])[0]}?token={given.get('token', [''])[0]}"
    if not _is_url(value):
        return None
    parts = urlsplit(value)
    given = parse_qs(parts.query)
    store_id, token = given.get("id", [parts.path.strip("/").split("/")[0]])[0], given.get("token", [""])[0]
    if re.fullmatch(r"[\w-]{1,64}", store_id, re.ASCII) is None or re.fullmatch(r"[\x21-\x7e]+", token) is None:
        return None
    return StoreAccess(store_id, f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"), token)


def _secrets(environ: Mapping[str, str], known: tuple[Variable, ...]) -> set[str]:
    """The values of all variables that hold one, each part of those that hold several by itself too."""
    values = {environ[each.name] for each in known if each.kind in {"secret", "connection"} and environ.get(each.name)}
    parts = {part.strip() for value in values for part in value.split(",")}
    tokens = {token for value in values for token in re.findall(r"[?&]token=([\x21-\x25\x27-\x7e]+)", value)}
    return values | parts | tokens


def _exposed(environ: Mapping[str, str], known: tuple[Variable, ...], more: set[str]) -> tuple[str, ...]:
    """Variables that Next.js would put into the browser's bundle although they hold one of our secrets."""
    secrets = {variable.name for variable in known if variable.kind in {"secret", "connection"}}
    values = more | {environ[name] for name in secrets if environ.get(name)}
    return tuple(
        name
        for name, value in sorted(environ.items())
        if name.startswith("NEXT_PUBLIC_") and (name.removeprefix("NEXT_PUBLIC_") in secrets or value in values)
    )

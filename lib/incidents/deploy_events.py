"""Webhooks about deployments: whether a signature holds, and what an event says. Pure.

Vercel signs the body's bytes with HMAC-SHA1 in `x-vercel-signature` and sends `{id, type, createdAt, payload}`; account
webhooks take a paid plan. GitHub's `deployment_status`, which Vercel's GitHub app causes on every plan, is signed with
HMAC-SHA256 in `x-hub-signature-256`. Neither signature has a time in it: what is replayed is known by its id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import orjson

from lib.incidents.incidents import Failure
from lib.incidents.safe_text import visible

Source = Literal["vercel", "github"]
Ending = Literal["error", "canceled", "ready"]

MAX_NAME = 120
WHERE_TO_LOOK = "The build log says why; with `VERCEL_TOKEN` set its failing lines would stand here."
YEAR_3000_S = 32_503_680_000
_VERCEL: Mapping[str, Ending] = {
    "deployment.error": "error",
    "deployment.canceled": "canceled",
    "deployment.succeeded": "ready",
    "deployment.promoted": "ready",
}
_GITHUB: Mapping[str, Ending] = {"error": "error", "failure": "error", "success": "ready"}


@dataclass(frozen=True, slots=True)
class DeployEvent:
    """How a deployment ended; `at` is when, in seconds since the epoch, by the sender's clock."""

    ending: Ending
    at: float
    project: str
    target: str
    deployment: str = ""
    name: str = ""
    commit: str = ""
    ref: str = ""
    url: str = ""

    @property
    def subject(self) -> str:
        """What a later deployment that goes well shows to be well."""
        return f"deploy:{self.project}:{self.target}"

    @property
    def time(self) -> datetime:
        """When it ended."""
        return datetime.fromtimestamp(self.at, UTC)

    def facts(self) -> dict[str, Any]:
        """As JSON, for the delivery's row."""
        return asdict(self)

    def failure(self, errors: Sequence[str] = (), code: str = "") -> Failure:
        """The failure that it is; `errors` are the failing lines of its log, `code` is the platform's word for it."""
        verb = "failed" if self.ending == "error" else "was canceled"
        return Failure(
            kind="deploy",
            subject=self.subject,
            title=f"{self.target.capitalize()} deployment of {self.name or self.project} {verb}",
            cause=(self.ending, code, errors[0] if errors else ""),
            facts={
                "deployment": self.deployment,
                "commit": self.commit,
                "ref": self.ref,
                "url": self.url,
                "error code": code,
            },
            text="\n".join(errors),
            hint=WHERE_TO_LOOK if self.ending == "error" and not errors else "",
        )


def _at(seconds: float) -> float:
    """A moment of this millennium. Raises ValueError."""
    if not 0 <= seconds < YEAR_3000_S:
        raise ValueError("this is no time of a deployment")
    return seconds


def event_of(facts: Mapping[str, Any]) -> DeployEvent:
    """The event of a delivery's row."""
    return DeployEvent(**facts)


def signed(body: bytes, given: str, secrets: Sequence[str], algorithm: Literal["sha1", "sha256"]) -> bool:
    """Whether `given` is the lower-case hexadecimal HMAC of these very bytes by one of the secrets.

    Every secret is compared, in constant time.
    """
    told = given.encode("utf-8", "surrogateescape")
    holds = [hmac.compare_digest(signature(body, secret, algorithm).encode(), told) for secret in secrets]
    return any(holds)


def signature(body: bytes, secret: str, algorithm: Literal["sha1", "sha256"]) -> str:
    """The signature that a sender makes."""
    return hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()


def vercel_event(body: Mapping[str, Any]) -> DeployEvent | None:
    """What one of Vercel's events says; None for one that is not about how a deployment ended. Raises ValueError."""
    ending = _VERCEL.get(str(body.get("type")))
    if ending is None:
        return None
    payload = _object(body, "payload")
    deployment = _object(payload, "deployment")
    meta = _object(deployment, "meta")
    links = _object(payload, "links")
    project = _name(_object(payload, "project").get("id")) or _name(payload.get("projectId"))
    created_at: Any = body.get("createdAt")
    is_number = isinstance(created_at, int | float) and not isinstance(created_at, bool)
    if not project or not is_number:
        raise ValueError("project.id or createdAt is missing")
    is_promoted = body["type"] == "deployment.promoted"
    return DeployEvent(
        ending=ending,
        at=_at(created_at / 1000),
        project=project,
        target="production" if is_promoted else _name(payload.get("target")) or "preview",
        deployment=_name(deployment.get("id")),
        name=_name(deployment.get("name")),
        commit=_name(meta.get("githubCommitSha") or meta.get("gitlabCommitSha") or meta.get("bitbucketCommitSha")),
        ref=_name(meta.get("githubCommitRef") or meta.get("gitlabCommitRef") or meta.get("bitbucketCommitRef")),
        url=_name(links.get("deployment")),
    )


def github_event(body: Mapping[str, Any]) -> DeployEvent | None:
    """What a `deployment_status` says; None for one that ends nothing. Raises ValueError."""
    status = _object(body, "deployment_status")
    ending = _GITHUB.get(str(status.get("state")))
    if ending is None:
        return None
    deployment = _object(body, "deployment")
    repository = _name(_object(body, "repository").get("full_name"))
    created_at = status.get("created_at")
    if not repository or not isinstance(created_at, str):
        raise ValueError("repository.full_name or deployment_status.created_at is missing")
    # Vercel names its environments "Preview", or with a dash and the project's name behind it.
    environment = _name(status.get("environment") or deployment.get("environment"))
    word, _, rest = environment.partition(" ")
    name = rest.strip(" \u2013-")
    return DeployEvent(
        ending=ending,
        at=_at(datetime.fromisoformat(created_at).timestamp()),
        project=f"{repository} {name}".strip(),
        target=word.lower() or "production",
        deployment=_name(deployment.get("id")),
        name=name or repository.partition("/")[2],
        commit=_name(deployment.get("sha")),
        ref=_name(deployment.get("ref")),
        url=_name(status.get("log_url") or status.get("target_url")),
    )


def sample(now: datetime) -> bytes:
    """The body of a failed deployment, as Vercel sends it, for trying the way that it takes."""
    body = {
        "type": "deployment.error",
        "id": f"sample-{now:%Y%m%dT%H%M%SZ}",
        "createdAt": round(now.timestamp() * 1000),
        "region": None,
        "payload": {
            "team": {"id": "team_sample"},
            "user": {"id": "user_sample"},
            "deployment": {
                "id": "dpl_sample",
                "url": "sample-abc123.vercel.app",
                "name": "sample",
                "meta": {"githubCommitSha": "0123456789abcdef0123456789abcdef01234567", "githubCommitRef": "main"},
            },
            "links": {"deployment": "https://vercel.com/sample/sample/abc123", "project": "https://vercel.com/sample"},
            "target": "production",
            "project": {"id": "prj_sample"},
            "plan": "pro",
            "regions": ["iad1"],
        },
    }
    return orjson.dumps(body)


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _name(value: object) -> str:
    """A string or number of the payload, on one line."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return ""
    return re.sub(r"\s+", " ", visible(str(value))).strip()[:MAX_NAME]

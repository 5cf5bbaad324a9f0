"""What the tests of incidents share: deliveries as Vercel and GitHub send them, and the time of the database."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.fakes.github import GitHub
from tests.local.supabase.conftest import Project

SECRET = "webhook-secret-0123456789"
OLD_SECRET = "webhook-secret-9876543210"
GITHUB_SECRET = "github-secret-0123456789"
SIGNING = {"VERCEL_WEBHOOK_SECRET": f"{SECRET},{OLD_SECRET}", "GITHUB_WEBHOOK_SECRET": GITHUB_SECRET}


def delivery(
    id_: str = "evt_1",
    kind: str = "deployment.error",
    *,
    at: float | None = None,
    deployment: str = "dpl_1",
    target: str | None = "production",
    project: str = "prj_1",
) -> bytes:
    """The body of one of Vercel's events; `at` is in seconds since the epoch."""
    payload: dict[str, Any] = {
        "team": {"id": "team_1"},
        "user": {"id": "user_1"},
        "deployment": {
            "id": deployment,
            "url": f"{deployment}.vercel.app",
            "name": "web",
            "meta": {"githubCommitSha": "0a1b2c3d" * 5, "githubCommitRef": "main"},
        },
        "links": {"deployment": "https://vercel.com/acme/web/1", "project": "https://vercel.com/acme/web"},
        "target": target,
        "project": {"id": project},
        "plan": "pro",
        "regions": ["iad1"],
    }
    created_at = round((time.time() if at is None else at) * 1000)
    return json.dumps({"id": id_, "type": kind, "createdAt": created_at, "region": None, "payload": payload}).encode()


def signature(body: bytes, secret: str = SECRET) -> str:
    """As Vercel signs."""
    return hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()


def send(url: str, body: bytes, given: str | None = None, **headers: str) -> httpx.Response:
    """Deliver it, signed."""
    named = {"x-vercel-signature": signature(body) if given is None else given, "content-type": "application/json"}
    return httpx.post(f"{url}/api/deploy_webhook", content=body, headers={**named, **headers}, timeout=30)


def status(id_: int, state: str = "failure", *, at: float = 0.0, environment: str = "Production") -> bytes:
    """The body of GitHub's `deployment_status`; `at` is in seconds from now."""
    created_at = f"{datetime.fromtimestamp(time.time() + at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    body = {
        "deployment_status": {
            "id": id_,
            "state": state,
            "environment": environment,
            "created_at": created_at,
            "log_url": "",
        },
        "deployment": {"id": 7, "sha": "0a1b2c3d" * 5, "ref": "main", "environment": environment},
        "repository": {"full_name": "acme/web"},
    }
    return json.dumps(body).encode()


def send_status(url: str, body: bytes, id_: str, event: str = "deployment_status") -> httpx.Response:
    """Deliver it as GitHub does, signed."""
    headers = {
        "x-hub-signature-256": "sha256=" + hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest(),
        "x-github-event": event,
        "x-github-delivery": id_,
        "content-type": "application/json",
    }
    return httpx.post(f"{url}/api/deploy_webhook", content=body, headers=headers, timeout=30)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it does: what follows an answer is done a moment later."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never did"
        time.sleep(0.01)


def rows(project: Project) -> list[dict[str, Any]]:
    """The incidents, oldest first."""
    return [row for (row,) in project.sql("select to_jsonb(i) from public.incidents i order by id")]


def deliveries(project: Project) -> list[tuple[str, str | None]]:
    """Each delivery and what became of it."""
    return [
        (id_, outcome)
        for id_, outcome in project.sql(
            "select delivery_id, outcome from public.webhook_deliveries order by received_at"
        )
    ]


def later(project: Project, seconds: float) -> None:
    """From now on the database's clock is ahead by this much."""
    project.sql(
        "create or replace function private.now() returns timestamptz language sql volatile set search_path = '' "
        f"as $$ select clock_timestamp() + interval '{seconds} seconds' $$"
    )


def fingerprints(github: GitHub) -> list[str]:
    """The label of each open issue by which it is found again."""
    return [
        label["name"]
        for issue in github.issues
        if issue["state"] == "open"
        for label in issue["labels"]
        if label["name"].startswith("fp:")
    ]

"""GitHub's issues at the network's edge: one repository, by its published description, with its faults.

What it gets is checked against GitHub's own OpenAPI description, and so is what it answers. It can answer late and
wrongly: lists that lag, a failure after the work is done, secondary limits, issues that are switched off.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from tests.fakes.loop import LoopThread
from tests.fakes.openapi import component_violations, example, request_violations
from tests.fakes.vendor import Gate
from tests.fakes.web import Asked, Told, Web, told

SPEC = "github-issues.openapi.json"
TOKEN = "github_pat_0123456789abcdefghij"
REPOSITORY = "acme/web"
BASE = f"/repos/{REPOSITORY}"
TEMPLATE = "/repos/{owner}/{repo}"
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What happens to a write: `done` says whether it is carried out all the same. `cut`: nothing is answered."""

    status: int = 502
    done: bool = False
    message: str = "Server Error"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cut: bool = False


LOST = Fault(502, done=True)
LIMITED = Fault(403, message=SECONDARY, headers={"retry-after": "3600"})


class Repository:
    """The issues themselves. `clock` is seconds since the epoch; lists show what was so `lag_s` ago."""

    def __init__(self, clock: Callable[[], float] = time.time, url: str = "https://api.github.test") -> None:
        self.url = url
        self.lag_s = 0.0
        self.comments: list[tuple[int, str]] = []
        self.lock = threading.RLock()
        self._clock = clock
        self._issues: dict[int, list[tuple[float, Json]]] = {}

    @property
    def issues(self) -> list[Json]:
        """All issues as they stand."""
        with self.lock:
            return [deepcopy(versions[-1][1]) for _, versions in sorted(self._issues.items())]

    @property
    def open(self) -> list[int]:
        """The numbers of those that are open."""
        return [issue["number"] for issue in self.issues if issue["state"] == "open"]

    def get(self, number: int) -> Json | None:
        """One issue as it stands."""
        return self._issues[number][-1][1] if number in self._issues else None

    def listed(self, labels: set[str], state: str = "open", since: str = "") -> list[Json]:
        """A list, the newest first."""
        horizon = self._clock() - self.lag_s
        seen = [
            next((issue for at, issue in reversed(versions) if at <= horizon), None)
            for versions in self._issues.values()
        ]
        found = [
            issue
            for issue in seen
            if issue is not None
            and labels <= {label["name"] for label in issue["labels"]}
            and state in {"all", issue["state"]}
            and issue["updated_at"] >= since
        ]
        return sorted(found, key=lambda issue: -issue["number"])[:100]

    def create(self, title: str = "By hand", body: str = "", labels: Sequence[str] = ()) -> int:
        """Make an issue; its number."""
        with self.lock:
            number = max(self._issues, default=0) + 1
            issue = example("issue", SPEC) | {
                "number": number,
                "title": title,
                "body": body,
                "state": "open",
                "state_reason": None,
                "labels": [_label(name) for name in labels],
                "url": f"{self.url}{BASE}/issues/{number}",
                "repository_url": f"{self.url}{BASE}",
                "html_url": f"https://github.com/{REPOSITORY}/issues/{number}",
                "closed_at": None,
                "created_at": self._now(),
                "updated_at": self._now(),
            }
            self._issues[number] = [(self._clock(), issue)]
            return number

    def change(self, number: int, **changes: Any) -> Json:
        """Change an issue, as a request or a person does; `labels` are names."""
        with self.lock:
            issue = deepcopy(self._issues[number][-1][1]) | {"updated_at": self._now()}
            if "labels" in changes:
                changes["labels"] = [_label(name) for name in changes["labels"]]
            if "state" in changes:
                changes["closed_at"] = self._now() if changes["state"] == "closed" else None
                changes.setdefault("state_reason", "completed" if changes["state"] == "closed" else "reopened")
            issue |= changes
            self._issues[number].append((self._clock(), issue))
            return issue

    def label(self, number: int, *names: str) -> Json:
        """Add labels."""
        known = [label["name"] for label in self._issues[number][-1][1]["labels"]]
        return self.change(number, labels=[*known, *names])

    def delete(self, number: int) -> None:
        """A person deletes an issue."""
        with self.lock:
            del self._issues[number]

    def _now(self) -> str:
        return f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%dT%H:%M:%SZ}"


class GitHub:
    """The API of one repository. `violations` collects what its genuine counterpart would not understand."""

    def __init__(self, loop: LoopThread, clock: Callable[[], float] = time.time) -> None:
        self.violations: list[str] = []
        self.faults: list[Fault | None] = []
        """For the next writes, one each."""
        self.has_issues = True
        self.may_write = True
        self.scopes: str | None = None
        """Of a classic token; a fine-grained one has none."""
        self.gate: Gate | None = None
        """What every write waits for."""
        self.web = Web(loop, self._answer)
        self.repository = Repository(clock, self.web.url)

    @property
    def environ(self) -> dict[str, str]:
        """The environment in which issues go here."""
        return {"GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_API_URL": self.web.url}

    @property
    def issues(self) -> list[Json]:
        """All issues as they stand."""
        return self.repository.issues

    @property
    def open(self) -> list[int]:
        """The numbers of those that are open."""
        return self.repository.open

    def calls(self, method: str | None = None) -> list[str]:
        """The requests so far, as `METHOD /issues/…`."""
        return [
            f"{asked.method} {asked.path.removeprefix(BASE)}"
            for asked in list(self.web.asked)
            if method in {None, asked.method}
        ]

    def close(self) -> None:
        """Stop listening."""
        self.web.close()

    def _answer(self, asked: Asked) -> Told:
        with self.repository.lock:
            answer = self._checked(asked)
        status, body = answer.status, json.loads(answer.body or b"null")
        component = {f"{BASE}/issues": "issue"}.get(asked.path)
        answered = cast("list[Any]", body if isinstance(body, list) else [body])
        if component and status < 300:
            self.violations += [fault for each in answered for fault in component_violations(component, each, SPEC)]
        return answer

    def _checked(self, asked: Asked) -> Told:
        if asked.headers.get("authorization") not in {f"token {TOKEN}", f"Bearer {TOKEN}"}:
            return _problem(401, "Bad credentials")
        if not asked.path.startswith(BASE):
            return _problem(404, "Not Found")
        path = asked.path.removeprefix(BASE)
        if asked.method in {"POST", "PATCH", "PUT"}:
            template = TEMPLATE + re.sub(r"\d+", "{issue_number}", path)
            self.violations += request_violations(asked.method, template, asked.json(), SPEC)
        if path == "":
            answer = told(self._repository())
            scopes = {} if self.scopes is None else {"x-oauth-scopes": self.scopes}
            return Told(answer.status, answer.body, {**answer.headers, **scopes})
        if not self.has_issues:
            return _problem(410, "Issues are disabled for this repo")
        if asked.method == "GET":
            return self._read(asked, path)
        return self._write(asked, path)

    def _repository(self) -> Json:
        rights = {"admin": False, "maintain": False, "push": self.may_write, "triage": self.may_write, "pull": True}
        ours: Json = {
            "full_name": REPOSITORY,
            "url": f"{self.web.url}{BASE}",
            "has_issues": self.has_issues,
            "archived": False,
            "permissions": rights,
        }
        return example("full-repository", SPEC) | ours

    def _read(self, asked: Asked, path: str) -> Told:
        if path != "/issues":
            issue = self.repository.get(int(path.removeprefix("/issues/")))
            return _problem(404, "Not Found") if issue is None else told(issue)
        labels = set(filter(None, asked.query.get("labels", [""])[0].split(",")))
        state, since = asked.query.get("state", ["open"])[0], asked.query.get("since", [""])[0]
        return told(self.repository.listed(labels, state, since))

    def _write(self, asked: Asked, path: str) -> Told:
        fault = self.faults.pop(0) if self.faults else None
        if not self.may_write:
            fault = Fault(403, message="Resource not accessible by personal access token")
        answer = Told() if fault is not None and not fault.done else self._done(asked, path)
        if fault is not None:
            answer = _problem(fault.status, fault.message, fault.headers)
            answer = Told(answer.status, answer.body, answer.headers, self.gate, 0 if fault.cut else None)
        return Told(answer.status, answer.body, answer.headers, self.gate, answer.cut)

    def _done(self, asked: Asked, path: str) -> Told:
        body, repository = asked.json(), self.repository
        if path == "/issues":
            number = repository.create(body["title"], body.get("body", ""), body.get("labels", ()))
            return told(repository.get(number), 201)
        number, _, what = path.removeprefix("/issues/").partition("/")
        if repository.get(int(number)) is None:
            return _problem(404, "Not Found")
        if what == "comments":
            repository.comments.append((int(number), body["body"]))
            return told(example("issue-comment", SPEC) | {"body": body["body"]}, 201)
        if what == "labels":
            names = cast("list[str]", body["labels"] if isinstance(body, dict) else body)
            return told(repository.label(int(number), *names)["labels"])
        return told(repository.change(int(number), **body))


def _label(name: str) -> Json:
    return {"id": 1, "node_id": "x", "url": "https://x.test", "name": name, "color": "ededed", "default": False}


def _problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Told:
    answer = told({"message": message, "documentation_url": "https://docs.github.com/rest"}, status)
    return Told(answer.status, answer.body, {**answer.headers, **(headers or {})})

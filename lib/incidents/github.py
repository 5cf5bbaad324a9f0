"""Issues of one GitHub repository, by PyGithub: with its retries off, in a thread, imported on first use.

Its default retries make four issues out of one creation that is answered 502, and sleep until a rate limit ends.
Here every call is sent once, takes ten seconds at most, and what goes wrong is named by its status.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from github import Github
    from github.Issue import Issue as TheirIssue
    from github.Repository import Repository

TIMEOUT_S = 10
"""GitHub itself gives up after that; who gives up sooner does not know what came of it."""
MAX_LISTED = 300
"""Issues that one look takes in: three pages."""
RATE_LIMIT_REST_S = 60.0
LONGEST_REST_S = 3600.0

Result = TypeVar("Result")
Reason = Literal["completed", "not_planned", "duplicate"]

FIXES: Mapping[str, str] = {
    "unauthorized": "GITHUB_TOKEN is not valid (any more): make a new one",
    "forbidden": "GITHUB_TOKEN may not write issues here: give it Issues: read and write for GITHUB_REPOSITORY",
    "not_found": "GITHUB_REPOSITORY names no repository that GITHUB_TOKEN can see: check both",
    "issues_off": "GITHUB_REPOSITORY has its issues switched off: switch them on in its settings",
    "archived": "GITHUB_REPOSITORY is archived: name another",
}
"""What to do about a failure that does not go away by itself, by its code."""


class TrackerFailed(Exception):
    """GitHub did not do what it was asked; `code` says why in a word, never with what GitHub wrote.

    `is_sure`: it has surely not been done. `retry_after_s`: when to try again.
    """

    def __init__(self, code: str, *, is_sure: bool, retry_after_s: float = 60.0) -> None:
        super().__init__(code)
        self.code = code
        self.is_sure = is_sure
        self.retry_after_s = retry_after_s

    @property
    def fix(self) -> str | None:
        """What to do about it, where it does not go away by itself."""
        return FIXES.get(self.code)


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue as it stands on GitHub."""

    number: int
    state: Literal["open", "closed"]
    reason: str | None
    labels: frozenset[str]
    body: str


class Tracker(Protocol):
    """Where issues are kept. Everything raises TrackerFailed."""

    async def create(self, title: str, body: str, labels: Sequence[str]) -> int:
        """Make an issue; its number."""
        ...

    async def get(self, number: int) -> Issue:
        """One issue."""
        ...

    async def labelled(self, label: str, since: datetime | None = None) -> Sequence[Issue]:
        """The issues with a label, open and closed, by number; those that changed since then."""
        ...

    async def comment(self, number: int, text: str) -> None:
        """Add a comment."""
        ...

    async def close(self, number: int, reason: Reason) -> None:
        """Close it."""
        ...

    async def reopen(self, number: int) -> None:
        """Open it again."""
        ...

    async def label(self, number: int, label: str) -> None:
        """Add a label."""
        ...

    async def check(self) -> str | None:
        """The code of what keeps issues from being written, as far as reading tells; None where nothing does."""
        ...


class GitHub:
    """A Tracker over one repository."""

    def __init__(self, *, token: str, repository: str, api_url: str) -> None:
        """`repository` is owner/name."""
        self._token = token
        self._name = repository
        self._api_url = api_url
        self._opened_here = threading.local()

    async def create(self, title: str, body: str, labels: Sequence[str]) -> int:
        """See Tracker."""
        issue = await self._do(lambda it: it.create_issue(title, body, labels=list(labels)), writes=True)
        return issue.number

    async def get(self, number: int) -> Issue:
        """See Tracker."""
        return await self._do(lambda it: _issue(_complete(it.get_issue(number))))

    async def labelled(self, label: str, since: datetime | None = None) -> Sequence[Issue]:
        """See Tracker."""
        more: dict[str, Any] = {} if since is None else {"since": since}

        def look(it: Repository) -> list[Issue]:
            found = it.get_issues(state="all", labels=[label], sort="created", direction="desc", **more)
            return [_issue(issue) for _, issue in zip(range(MAX_LISTED), found, strict=False)]

        return sorted(await self._do(look), key=lambda issue: issue.number)

    async def comment(self, number: int, text: str) -> None:
        """See Tracker."""
        await self._do(lambda it: it.get_issue(number).create_comment(text), writes=True)

    async def close(self, number: int, reason: Reason) -> None:
        """See Tracker."""
        await self._do(lambda it: it.get_issue(number).edit(state="closed", state_reason=reason), writes=True)

    async def reopen(self, number: int) -> None:
        """See Tracker."""
        await self._do(lambda it: it.get_issue(number).edit(state="open", state_reason="reopened"), writes=True)

    async def label(self, number: int, label: str) -> None:
        """See Tracker."""
        await self._do(lambda it: it.get_issue(number).add_to_labels(label), writes=True)

    async def check(self) -> str | None:
        """See Tracker."""

        def look(it: Repository) -> str | None:
            it.update()
            if it.archived:
                return "archived"
            if not it.has_issues:
                return "issues_off"
            rights = it.permissions
            if not (rights.push or rights.triage or rights.maintain or rights.admin):
                return "forbidden"
            scopes = it.requester.oauth_scopes
            # A classic token says what it may; a fine-grained one does not, so its reading has to do.
            if scopes is not None and not {"repo", "public_repo"} & set(scopes):
                return "forbidden"
            it.get_issues(state="all").get_page(0)
            return None

        try:
            return await self._do(look)
        except TrackerFailed as error:
            return error.code

    async def _do(self, work: Callable[[Repository], Result], *, writes: bool = False) -> Result:
        return await asyncio.to_thread(partial(self._sent, work, writes=writes))

    def _sent(self, work: Callable[[Repository], Result], *, writes: bool) -> Result:
        """In a thread: PyGithub blocks. What it raises becomes a TrackerFailed."""
        import github  # noqa: PLC0415 - 0.5 s of CPU, for who has an incident to tell of
        import requests  # noqa: PLC0415 - comes with it

        try:
            return work(self._opened())
        except github.RateLimitExceededException as error:
            raise TrackerFailed("rate_limited", is_sure=True, retry_after_s=_rest_s(error.headers or {})) from None
        except github.GithubException as error:
            raise _named(error.status, error.headers or {}, writes=writes) from None
        except requests.ConnectTimeout:
            raise TrackerFailed("timeout", is_sure=True) from None
        except requests.Timeout:
            raise TrackerFailed("timeout", is_sure=not writes) from None
        except (requests.RequestException, OSError, ValueError, AssertionError):
            raise TrackerFailed("connection_failed", is_sure=not writes) from None

    def _opened(self) -> Repository:
        """Each thread has connections of its own: PyGithub's are not made to be shared."""
        if not hasattr(self._opened_here, "repository"):
            self._opened_here.repository = client(self._token, self._api_url).get_repo(self._name)
        return self._opened_here.repository


def client(token: str, api_url: str) -> Github:
    """PyGithub without what it does by itself: no retry, no waiting, no request to find out what it was told."""
    from github import Auth, Github  # noqa: PLC0415

    return Github(
        base_url=api_url,
        auth=Auth.Token(token),
        timeout=TIMEOUT_S,
        retry=0,
        seconds_between_requests=None,
        seconds_between_writes=None,
        lazy=True,
        per_page=100,
    )


def _complete(issue: TheirIssue) -> TheirIssue:
    issue.complete()
    return issue


def _issue(theirs: TheirIssue) -> Issue:
    return Issue(
        number=theirs.number,
        state="open" if theirs.state == "open" else "closed",
        reason=theirs.state_reason,
        labels=frozenset(label.name for label in theirs.labels),
        body=theirs.body or "",
    )


def _named(status: int, headers: Mapping[str, str | int], *, writes: bool) -> TrackerFailed:
    lower = {name.lower(): value for name, value in headers.items()}
    if status in {403, 429} and ("retry-after" in lower or str(lower.get("x-ratelimit-remaining")) == "0"):
        return TrackerFailed("rate_limited", is_sure=True, retry_after_s=_rest_s(lower))
    codes = {401: "unauthorized", 403: "forbidden", 404: "not_found", 410: "issues_off", 422: "rejected"}
    if status in codes:
        return TrackerFailed(codes[status], is_sure=True, retry_after_s=300.0)
    # Anything else that answers may have done it before it failed.
    return TrackerFailed(f"http_{status}", is_sure=not writes)


def _rest_s(headers: Mapping[str, str | int]) -> float:
    """How long GitHub wants to be left alone: its Retry-After, else a minute, as it asks for without one."""
    told = str({name.lower(): value for name, value in headers.items()}.get("retry-after", ""))
    if re.fullmatch(r"[0-9]{1,6}", told):
        return min(float(told), LONGEST_REST_S)
    return RATE_LIMIT_REST_S

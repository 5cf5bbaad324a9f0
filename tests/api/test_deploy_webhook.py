"""POST /api/deploy_webhook: from a delivery to an issue, and what does not get that far."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.conftest import over
from tests.conftest import ACCESS, Serve
from tests.fakes.github import GitHub
from tests.fakes.loop import LoopThread
from tests.incidents import SIGNING, deliveries, delivery, rows, send
from tests.local.supabase.conftest import Project


@pytest.fixture
def github(loop: LoopThread) -> Iterator[GitHub]:
    """A repository."""
    github = GitHub(loop)
    yield github
    github.close()
    assert github.violations == []


@pytest.fixture
def url(serve: Serve, supabase: Project, github: GitHub) -> str:
    """The site with all that the webhook takes."""
    return serve({**ACCESS, **over(supabase), **SIGNING, **github.environ})


def test_a_failed_deployment_becomes_an_issue_and_the_next_good_one_closes_it(
    url: str, supabase: Project, github: GitHub
) -> None:
    """The whole way: delivery, row, issue; then a success of the same project and target."""
    assert (send(url, delivery()).status_code, send(url, delivery()).json()) == (202, {"duplicate": True})
    github.web.wait_for(1)
    assert send(url, delivery("evt_2", "deployment.succeeded", deployment="dpl_2")).status_code == 202
    github.web.wait_for(4)
    (row,) = rows(supabase)
    assert (row["state"], row["resolution"], row["occurrences"], row["issue_number"]) == ("resolved", "recovered", 1, 1)
    (issue,) = github.issues
    assert (issue["title"], issue["state"]) == ("Production deployment of web failed", "closed")
    assert deliveries(supabase) == [("evt_1", "opened"), ("evt_2", "recovery")]
    assert [call.split("/")[-1] for call in github.calls()] == ["issues", "1", "1", "comments"]

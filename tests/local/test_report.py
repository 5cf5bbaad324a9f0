"""`make doctor`: what it says of an environment."""

from __future__ import annotations

import pytest

from lib.settings import from_environ
from local.report import doctor
from tests.conftest import ACCESS
from tests.fakes.github import GitHub
from tests.fakes.loop import LoopThread

SECRET = "canary-0123456789"


def test_nothing_set(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty environment is no mistake; what it means for a deployment is said."""
    assert doctor(from_environ({})) == 0
    output = capsys.readouterr().out
    assert "set GROQ_API_KEY" in output
    assert "set DEEPINFRA_API_KEY or LOCAL_EMBEDDINGS_BASE_URL" in output
    assert "set ALLOW_ANONYMOUS and SESSION_SECRET" in output
    assert "nobody may call" in output
    assert "no provider is on" in output


def test_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """With a vendor and somebody who may call, all is well."""
    assert doctor(from_environ({**ACCESS, "GROQ_API_KEY": SECRET})) == 0
    output = capsys.readouterr().out
    assert "Ready to deploy." in output
    assert SECRET not in output


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"GROQ_API_KEY": f"{SECRET} {SECRET}"}, "GROQ_API_KEY"),
        ({"API_KEYS": f"web:admin:{SECRET}"}, "API_KEYS"),
        ({"NEXT_PUBLIC_GROQ_API_KEY": SECRET}, "NEXT_PUBLIC_GROQ_API_KEY"),
        ({"XAI_API_KEY": SECRET, "NEXT_PUBLIC_TOKEN": SECRET}, "NEXT_PUBLIC_TOKEN"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], environ: dict[str, str], name: str) -> None:
    """A malformed variable, or a secret under a public name, is named without its value, and fails the command."""
    assert doctor(from_environ(environ)) == 1
    output = capsys.readouterr().out
    assert f"bad  {name}" in output
    assert SECRET not in output


STORE = "https://edge-config.vercel.com/ecfg_x?token=canary-0123456789"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"EDGE_CONFIG": STORE}, "up to 324,000 reads a month"),
        ({"EDGE_CONFIG": STORE}, "(33 s would do)"),
        ({"EDGE_CONFIG": STORE, "EDGE_CONFIG_FRESHNESS": "32"}, "up to 101,250 reads a month"),
        ({"EDGE_CONFIG": STORE, "EDGE_CONFIG_FRESHNESS": "33"}, None),
        (
            {
                "EDGE_CONFIG": STORE,
                "EXPERIMENTATION_CONFIG": STORE.replace("_x", "_y"),
                "EDGE_CONFIG_FRESHNESS": "33",
            },
            "up to 196,364 reads",
        ),
        ({"EDGE_CONFIG": "http://127.0.0.1:8000/ecfg_x?token=t", "EDGE_CONFIG_FRESHNESS": "1"}, None),
        ({}, None),
    ],
)
def test_reads_of_the_edge_config(
    capsys: pytest.CaptureFixture[str], environ: dict[str, str], told: str | None
) -> None:
    """Where Vercel counts reads, more than a Hobby plan includes are told of, with what would be enough; no failure."""
    assert doctor(from_environ(environ)) == 0
    output = capsys.readouterr().out
    assert told in output if told else "EDGE_CONFIG_FRESHNESS" not in output
    assert SECRET not in output


def test_weak_secrets_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that somebody could guess is named by its variable, never shown; a random one is not."""
    good, weak = "q7Zr2LxV9mTbW4nK", "a" * 32
    environ = {
        "VERCEL_WEBHOOK_SECRET": f"{good},{weak}",
        "CRON_SECRET": good,
        "SESSION_SECRET": "change-me-to-something",
        "API_KEYS": f"a:user:{good}",
    }
    assert doctor(from_environ(environ)) == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  weak")] == [
        "VERCEL_WEBHOOK_SECRET",
        "SESSION_SECRET",
    ]
    assert weak not in out


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (None, "on   github"),
        ("unauthorized", "GITHUB_TOKEN is not valid"),
        ("not_found", "GITHUB_REPOSITORY names no repository"),
        ("issues_off", "has its issues switched off"),
        ("forbidden", "may not write issues"),
        ("scopes", "may not write issues"),
        ("down", "GitHub gives no answer (connection_failed)"),
    ],
)
def test_issues_can_be_written(
    loop: LoopThread, capsys: pytest.CaptureFixture[str], trouble: str | None, says: str
) -> None:
    """Asked of GitHub: the token, its scopes and rights, the repository, whether it takes issues."""
    github = GitHub(loop)
    environ = dict(github.environ)
    if trouble in {"unauthorized", "not_found", "down"}:
        name = {"unauthorized": "GITHUB_TOKEN", "not_found": "GITHUB_REPOSITORY", "down": "GITHUB_API_URL"}[trouble]
        environ[name] = {"GITHUB_REPOSITORY": "a/b", "GITHUB_API_URL": "http://127.0.0.1:9"}.get(name, "another-token")
    github.has_issues, github.may_write = trouble != "issues_off", trouble != "forbidden"
    github.scopes = "gist, read:org" if trouble == "scopes" else None
    assert doctor(from_environ(environ)) == (trouble is not None)
    assert says in capsys.readouterr().out
    github.close()
    assert github.calls("POST") == []

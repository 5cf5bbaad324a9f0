"""`make doctor`: what it says of an environment."""

from __future__ import annotations

import pytest

from lib.settings import from_environ
from local.report import doctor
from tests.conftest import ACCESS

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

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

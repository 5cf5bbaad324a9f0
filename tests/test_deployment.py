"""What Vercel makes of this tree: which functions it finds, what goes into them, what they import when they start."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT, require

CONFIGURATION: dict[str, Any] = json.loads((ROOT / "vercel.json").read_text())
FILES = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("api/**/*.py"))
FUNCTIONS = {
    *("/api/account", "/api/assets", "/api/dashboard", "/api/deploy_webhook", "/api/flags", "/api/generate"),
    *("/api/health", "/api/rollout", "/api/voices", "/api/vsl"),
}
LATE_IMPORTS = {
    *("openai", "groq", "elevenlabs", "fal_client", "supabase", "github", "statsig", "statsig_python_core"),
    *("httpx", "httpx2", "aiohttp", "genai_prices", "jwt"),
}
"""Each costs a cold start 40 to 1000 ms, so whoever first needs it imports it."""
TOOL_MISSING = 2
"""How scripts/vercel_build.py ends where there is no Node or no Python 3.12."""


def test_functions() -> None:
    """Vercel finds the functions that there should be: what it does not take for one it passes over in silence."""
    assert {f"/{file.removesuffix('.py')}" for file in FILES if is_function(file)} == FUNCTIONS


@pytest.mark.parametrize("file", FILES)
def test_start_imports_no_sdk(file: str) -> None:
    """A function starts without the packages that only some requests need."""
    module = file.removesuffix(".py").replace("/", ".")
    program = f"import sys, {module}; print(*sys.modules)"
    started = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert LATE_IMPORTS.intersection(started.stdout.split()) == set()


def test_no_framework() -> None:
    """With a framework Vercel would look for one entry point and leave api/ alone."""
    assert CONFIGURATION["framework"] is None


@pytest.mark.parametrize("pattern", CONFIGURATION["functions"])
def test_settings_of_functions(pattern: str) -> None:
    """Of all patterns only the first that matches counts for a function, so each one says everything."""
    assert CONFIGURATION["functions"][pattern]["supportsCancellation"] is True
    assert CONFIGURATION["functions"][pattern]["excludeFiles"]


@pytest.mark.parametrize("pattern", CONFIGURATION["functions"])
def test_bundles_hold_what_is_named_and_no_more(pattern: str) -> None:
    """What to leave out is said by naming what stays: api, lib and perhaps a few more of the root's folders.

    A list of what goes would miss the next new folder, and with `.*` among its alternatives it would match the root
    itself, which empties the bundle. Vercel takes 256 characters.
    """
    glob = CONFIGURATION["functions"][pattern]["excludeFiles"]
    assert re.fullmatch(r"@\(!\(api\|lib(\|[\w-]+)*\)\)/\*\*", glob)
    assert len(glob) <= 256


@pytest.mark.parametrize("pattern", CONFIGURATION["functions"])
def test_ffmpeg_goes_into_one_function(pattern: str) -> None:
    """The build puts ffmpeg under vendor/, which api/vsl.py alone may keep; as a requirement all would carry it."""
    assert CONFIGURATION["buildCommand"] == "sh scripts/vendor_ffmpeg"
    assert ("vendor" in CONFIGURATION["functions"][pattern]["excludeFiles"]) is (pattern == "api/vsl.py")
    assert "imageio" not in (ROOT / "requirements.txt").read_text()


def test_root() -> None:
    """Without public/ Vercel publishes the sources; with a pyproject.toml it does not read requirements.txt."""
    assert (ROOT / "public" / "index.html").is_file()
    assert not (ROOT / "pyproject.toml").exists()
    assert (ROOT / ".python-version").read_text().strip() == "3.12"


@pytest.mark.slow
def test_build() -> None:
    """Vercel's own build makes these functions, and one of them streams from what was built."""
    build = [sys.executable, "scripts/vercel_build.py"]
    done = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == TOOL_MISSING:
        require("REQUIRE_NODE", done.stdout)
    assert done.returncode == 0, done.stdout


def is_function(file: str) -> bool:
    """Whether Vercel's build takes a file below api/ for a function, judging as it does: by the source alone."""
    if any(part.startswith(("_", ".")) for part in file.split("/")):
        return False
    return any(defines_app(statement) for statement in ast.parse((ROOT / file).read_text()).body)


def defines_app(statement: ast.stmt) -> bool:
    """Whether a statement at the top level of a module makes `app` or `application`, or a class `handler`."""
    match statement:
        case ast.Assign(targets=targets):
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            names = [name]
        case ast.ImportFrom(names=aliases):
            names = [alias.asname or alias.name for alias in aliases]
        case ast.ClassDef(name=name):
            return name.lower() == "handler"
        case _:
            return False
    return not {"app", "application"}.isdisjoint(names)

"""Who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "lib").rglob("*.py"), *(ROOT / "api").rglob("*.py")])
SDKS = {
    *("openai", "groq", "httpx", "httpx2", "httpx_aiohttp", "aiohttp", "genai_prices", "fal_client", "elevenlabs"),
    *("supabase", "github", "statsig", "statsig_python_core", "re2", "jwt", "requests"),
}
LATE = {"jsonschema", "referencing"}
"""What only some requests need: loaded together with the module of ours that uses it, on first use."""
CLOCKS_AND_CHANCE = {"asyncio", "time", "datetime", "random", "secrets", "os", "socket", "threading", "logging"}

# A folder or module, and all that it may import of ours besides itself. The longest name decides.
ARROWS: dict[str, set[str]] = {
    "api": {"lib"},
    "lib": {"lib"},
    "lib.errors": set(),
    "lib.ids": set(),
    "lib.outbound": set(),
    "lib.settings": {"lib.providers.catalog"},
    "lib.providers": {"lib.errors", "lib.outbound"},
    "lib.router": {"lib.errors", "lib.providers.base", "lib.providers.catalog", "lib.providers.embeddings"},
    "lib.exchange": {"lib.errors", "lib.outbound"},
    "lib.control": {"lib.errors", "lib.exchange", "lib.router.plan", "lib.settings"},
    "lib.control.shares": {"lib.control", "lib.data.circuit", "lib.errors"},
    "lib.telemetry": {
        "lib.errors",
        "lib.exchange",
        "lib.ids",
        "lib.providers.base",
        "lib.router.attempt",
        "lib.router.length",
        "lib.router.plan",
    },
    "lib.data": {"lib.errors", "lib.exchange", "lib.ids", "lib.outbound", "lib.settings"},
    "lib.media": {
        "lib.data",
        "lib.errors",
        "lib.providers",
        "lib.router",
        "lib.telemetry.cost",
        "lib.telemetry.events",
    },
    "lib.vsl": {"lib.data", "lib.errors", "lib.ids", "lib.media", "lib.providers", "lib.router", "lib.telemetry"},
    "lib.cron": {"lib.data.circuit", "lib.data.rollups", "lib.errors", "lib.exchange"},
    "lib.incidents": {
        "lib.cron",
        "lib.data.circuit",
        "lib.errors",
        "lib.exchange",
        "lib.providers.catalog",
        "lib.settings",
        "lib.telemetry.events",
    },
    "lib.http": {"lib"},
}
PURE = [
    "lib/router/plan.py",
    "lib/router/attempt.py",
    *(f"lib/control/expressions/{name}.py" for name in ("values", "operators", "compiler", "javascript", "regex")),
    *(
        f"lib/control/{name}.py"
        for name in (
            "statistics",
            "anytime",
            "experiments",
            "design",
            "guardrails",
            "rollout",
            "rollout_words",
            "forecast",
        )
    ),
    "lib/control/design.py",
    "lib/router/affinity.py",
    "lib/router/length.py",
    "lib/router/told.py",
    "lib/router/hedge.py",
    "lib/providers/sse.py",
    "lib/router/tool_calls.py",
    "lib/router/told.py",
    "lib/providers/catalog.py",
    "lib/providers/embeddings.py",
    "lib/providers/images.py",
    "lib/providers/speech.py",
    "lib/errors.py",
    "lib/media/audio.py",
    "lib/media/plan.py",
    "lib/media/styles.py",
    *(
        f"lib/vsl/{name}.py"
        for name in ("timeline", "captions", "subtitles", "ass", "documents", "beats", "wording", "storyboard")
    ),
    *(f"lib/incidents/{name}.py" for name in ("fingerprint", "safe_text")),
]


def name_of(file: Path) -> str:
    """The module's name."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that these statements import; `from a import b` counts as a.b where that is a module of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            for alias in node.names:
                below = ROOT.joinpath(*module.split("."), alias.name)
                yield f"{module}.{alias.name}" if below.is_dir() or below.with_suffix(".py").exists() else module


def run_on_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported; what is for type checkers alone is left out."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        statement = todo.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            todo.extend(statement.orelse)
            continue
        below = [child for child in ast.walk(statement) if child is not statement and isinstance(child, ast.stmt)]
        if below:
            todo.extend(child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt))
        else:
            yield statement


def within(module: str, names: set[str]) -> bool:
    """Whether a module is one of these, or lies below one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def parsed(file: Path) -> ast.Module:
    """The source as a tree."""
    return ast.parse(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=map(name_of, FILES))
def test_arrows(file: Path) -> None:
    """Imports go one way: a provider knows nothing of the router, the router nothing of HTTP, lib nothing of api."""
    name = name_of(file)
    house = max((each for each in ARROWS if within(name, {each})), key=len)
    ours = {module for module in imported(parsed(file)) if module.split(".")[0] in {"lib", "api", "local", "tests"}}
    own = {house} if house != "api" else set[str]()
    assert {module for module in ours if not within(module, ARROWS[house] | own)} == set()


@pytest.mark.parametrize("file", FILES, ids=map(name_of, FILES))
def test_sdks_are_imported_on_first_use(file: Path) -> None:
    """No vendor's SDK is imported at the top of a module."""
    top = {module.split(".")[0] for statement in run_on_import(parsed(file)) for module in imported(statement)}
    assert top & SDKS == set()


def test_importing_the_functions_loads_no_sdk() -> None:
    """Importing every function, as a cold start does, loads none of the SDKs."""
    names = [f"api.{file.stem}" for file in (ROOT / "api").glob("*.py")]
    code = f"import sys, {', '.join(names)}; print(*sorted({SDKS | LATE!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("file", FILES, ids=map(name_of, FILES))
def test_environment_is_read_in_one_place(file: Path) -> None:
    """Only the settings read the environment."""
    tree = parsed(file)
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    reads = attributes & {"os.environ", "os.getenv", "os.environb"} | names & {"environ", "getenv", "environb"}
    assert bool(reads) is (name_of(file) == "lib.settings")


@pytest.mark.parametrize("path", PURE)
def test_pure_parts_neither_wait_nor_look_at_a_clock(path: str) -> None:
    """What is decided without I/O imports nothing that waits, sends, reads a clock or rolls dice."""
    assert {module.split(".")[0] for module in imported(parsed(ROOT / path))} & CLOCKS_AND_CHANCE == set()

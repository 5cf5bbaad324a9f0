"""Writes what can be generated: .env.example and the README's tables. `--check` only says what is stale."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lib.providers.catalog import EMBEDDING_ROWS, ROWS  # noqa: E402 - after the path
from lib.settings import variables  # noqa: E402

USES = {"requirements.in": "functions", "requirements-local.in": "`make run`", "requirements-dev.in": "tests"}


def env_example() -> str:
    """Every variable with its help text, unset."""
    blocks = ["# Copy to .env for `make run`; on Vercel these are the project's environment variables. All optional."]
    for variable in variables():
        example = f"\n# Example: {variable.example}" if variable.example else ""
        blocks.append(f"# {variable.help}{example}\n{variable.name}=")
    return "\n\n".join(blocks) + "\n"


def environment_table() -> str:
    """The variables as a Markdown table."""
    rows = [f"| `{variable.name}` | {variable.help} |" for variable in variables()]
    return "\n".join(["| Variable | What it is for |", "| --- | --- |", *rows])


def provider_table() -> str:
    """The catalogue as a Markdown table."""
    head = ["| Provider | On when | `fast` | `strong` | Other models |", "| --- | --- | --- | --- | --- |"]
    rows: list[str] = []
    for row in ROWS:
        others = ", ".join(f"`{model.id}`" for model in row.models if model.id not in {row.fast, row.strong})
        on = f"`{row.key_var or row.base_url_var}` is set"
        rows.append(f"| `{row.name}` ({row.label}) | {on} | `{row.fast}` | `{row.strong}` | {others} |")
    return "\n".join([*head, *rows])


def embedding_table() -> str:
    """The catalogue's embeddings as a Markdown table."""
    head = [
        "| Model | Provider | On when | Dimensions | Longest text | Texts a call |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows: list[str] = []
    for row in EMBEDDING_ROWS:
        on = f"`{row.key_var or row.base_url_var}` is set"
        for model in row.models:
            fewest = f"{model.min_dimensions} to " if model.min_dimensions else ""
            size = f"{fewest}{model.dimensions} | {model.context_tokens} tokens | {model.max_inputs}"
            rows.append(f"| `{model.id}` | `{row.name}` ({row.label}) | {on} | {size} |")
    return "\n".join([*head, *rows])


def package_table() -> str:
    """requirements*.in as a Markdown table: the reason for each package stands beside it there."""
    rows: list[str] = []
    for name, use in USES.items():
        packages = re.findall(r"^([a-z0-9-]+)[^#\n]*# (.*)$", (ROOT / name).read_text(), flags=re.MULTILINE)
        rows += [f"| {package} | {use} | {why} |" for package, why in packages]
    return "\n".join(["| Package | For | Why |", "| --- | --- | --- |", *rows])


def filled(readme: str) -> str:
    """The README with its generated tables, each between a pair of comments."""
    tables = {
        "environment": environment_table(),
        "providers": provider_table(),
        "embeddings": embedding_table(),
        "packages": package_table(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name}: generated -->\n", "<!-- end -->"
        before, found, rest = readme.partition(begin)
        if not found:
            raise SystemExit(f"README.md has no place for the {name} table")
        readme = f"{before}{begin}{table}\n{rest[rest.index(end) :]}"
    return readme


def main() -> int:
    """Write, or with --check compare; return 1 when something is stale."""
    stale = 0
    readme = ROOT / "README.md"
    for file, text in ((ROOT / ".env.example", env_example()), (readme, filled(readme.read_text()))):
        if file.exists() and file.read_text() == text:
            continue
        if "--check" in sys.argv:
            print(f"{file.name} is stale: run make generate", file=sys.stderr)
            stale = 1
        else:
            file.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())

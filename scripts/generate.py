"""Writes what can be generated: .env.example, docs/parameters.md and the README's tables. `--check`: what is stale."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lib.control import parameters  # noqa: E402 - after the path
from lib.providers.catalog import EMBEDDING_ROWS, ROWS  # noqa: E402
from lib.settings import variables  # noqa: E402

PARAMETERS = """# Runtime parameters

<!-- Written by scripts/generate.py from lib/control/parameters.py. -->

They steer answers and are changed without a redeploy. For each one the first of these that has a fit value counts:

1. the request, where callers may set it;
2. the field of that name in Hypertune's item, for this caller: `top_p` may be spelled `topP` there;
3. the field of that name in the Edge Config item `ai_config`;
4. the default.

A value of another type or out of range is passed over for its own parameter alone; a line in the log names it, once per
version of the items, and it is counted. `null` is no value. A change counts from the first request that sees the new
items (`EDGE_CONFIG_FRESHNESS`), and never breaks one.

```json
{"temperature": 0.4, "max_tokens": 800, "fallback_order": ["deepinfra", "xai"], "hedge": "auto"}
```

is a whole `ai_config`. `make run` reads it from `local/items/ai_config.json`.

TABLE

\\* shown to browsers by `GET /api/flags`. The one for captions stands ready for the part that will read it.

## Hypertune

Where Hypertune's Vercel integration keeps an item in the store (`EXPERIMENTATION_CONFIG_ITEM_KEY` names it; it is known
by its `commitId` anyway), its rules and splits are evaluated here, without its SDK and without a call: values, hashes
and fallbacks are those of its TypeScript SDK 2.10.1. Rules may ask for

```graphql
context { environment  user { id kind role } }
```

`environment` is Vercel's: `production`, `preview` or `development`; `kind` is `user`, `key` or `guest`, `role`
is `user` or `operator`. A field that asks for anything else has no value.

Not supported, so that the field falls back and a line in the log says why, once per version: splits by a model, split
mappings that are not discrete, kinds of expressions that the SDK of today does not know, regular expressions with look-
around, back-references or `(?:`, or by lines (`m`) where a text has other ends than a line feed, and the compressed
form (`jsonito`) of the item. Regular expressions run on RE2, in linear time. Evaluating a field has a budget of steps
and of depth: data that would take for ever falls back too. A mistake in a branch that is not taken does no harm, while
the SDK falls back. Exposures are not reported to Hypertune."""
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


def parameters_page() -> str:
    """docs/parameters.md: how the parameters are set, and the table of them."""
    defaults = parameters.Parameters()
    lines = ["| Parameter | Values | Default | In a request | What it steers |", "| --- | --- | --- | --- | --- |"]
    for name, row in parameters.ROWS.items():
        default = getattr(defaults, name)
        shown = "none" if default in (None, ()) else f"`{orjson.dumps(default).decode().strip(chr(34))}`"
        mark = "\\*" if row.public else ""
        caller = "yes" if row.caller == row.range else row.caller.words if row.caller else ""
        lines.append(f"| `{name}`{mark} | {row.range.words} | {shown} | {caller} | {row.help} |")
    return PARAMETERS.replace("TABLE", "\n".join(lines))


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
    migrations = [file.name.partition("_")[0] for file in sorted((ROOT / "supabase" / "migrations").glob("*.sql"))]
    page = ROOT / "docs" / "parameters.md"
    files = (
        (ROOT / ".env.example", env_example()),
        (page, parameters_page()),
        (readme, filled(readme.read_text())),
        (
            ROOT / "lib" / "data" / "migrations.json",
            orjson.dumps(migrations, option=orjson.OPT_INDENT_2).decode() + "\n",
        ),
    )
    for file, text in files:
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

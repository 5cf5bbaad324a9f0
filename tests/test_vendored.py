"""What of others' code public/vendor holds, and how much the pages weigh."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PUBLIC = ROOT / "public"
VENDOR = PUBLIC / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())
KB = 1024
REFERENCE = re.compile(r"""(?:from\s+|import\s*\(?|src=|href=)["']([^"':]+\.(?:js|css|svg))["']""")


def test_every_file_is_the_one_that_was_written_down() -> None:
    """By its hash; none is there without a line, and each package has a version and a licence whose text is there."""
    files = {file.name for file in VENDOR.iterdir()} - {"manifest.json", "LICENSES.txt"}
    assert files == MANIFEST["files"].keys()
    licences = (VENDOR / "LICENSES.txt").read_text()
    for name, told in MANIFEST["files"].items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == told["sha256"], name
        for package in told["packages"]:
            assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
            assert package["licence"] in {"MIT", "ISC", "Apache-2.0", "BSD-3-Clause"}
            assert package["name"] in licences


def loaded(name: str) -> Iterator[Path]:
    """A file and all that it names, and they name: each once."""
    waiting, seen = [PUBLIC / name], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in seen or not file.exists():
            continue
        seen.add(file)
        yield file
        if file.parent != VENDOR and file.suffix in {".html", ".js"}:
            for found in REFERENCE.findall(file.read_text()):
                base = PUBLIC if found.startswith("/") else file.parent
                waiting.append((base / found.lstrip("/")).resolve())


def weight_kb(files: Iterator[Path]) -> float:
    """What goes over the wire, compressed as servers do."""
    return sum(len(gzip.compress(file.read_bytes(), 6)) for file in files) / KB


def test_pages_are_light() -> None:
    """The dashboard within 150 kB, the playground within 30, and without any of what is vendored."""
    assert {file.name for file in loaded("dashboard.html")} >= {"plot.js", "preact.js", "charts.js", "style.css"}
    assert weight_kb(loaded("dashboard.html")) <= 150
    playground = list(loaded("index.html"))
    assert {"app.js", "control.js", "account.js"} <= {file.name for file in playground}
    assert not any(file.parent == VENDOR for file in playground)
    assert weight_kb(iter(playground)) <= 30

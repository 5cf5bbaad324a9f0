"""`make vsl` finds the server that has the clone's database."""

from __future__ import annotations

from pathlib import Path

from local.letter import running
from tests.conftest import Serve


def test_what_runs_is_used(serve: Serve, tmp_path: Path) -> None:
    """The database is one server's at a time: beside `make run`, another would have no place for a letter."""
    assert running(tmp_path) is None
    (tmp_path / "url").write_text(serve({}))
    assert running(tmp_path) == (tmp_path / "url").read_text()


def test_what_has_died_is_not(tmp_path: Path) -> None:
    """Whatever it left behind."""
    for left in ("http://localhost:1", "", "nonsense"):
        (tmp_path / "url").write_text(left)
        assert running(tmp_path) is None

"""The queries for Studio, over a day of events: each runs as it is written, and finds something."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.database import ROOT, copied
from tests.db.conftest import Session
from tests.generated import generated

SNIPPETS = sorted((ROOT / "supabase" / "snippets").glob("*.sql"))
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def filled(postgres: Any) -> Iterator[Session]:
    """Events up to now, since the snippets count back from the server's clock, rolled up."""
    now = datetime.now(UTC)
    events = [*generated(8, 400, now - 0.9 * DAY, now), *generated(9, 200, now - timedelta(minutes=50), now)]
    with copied(postgres, "snippets") as database, database.connect() as connection:
        session = Session(connection)
        for start in range(0, len(events), 500):
            assert session.call("record_events", events=Jsonb(events[start : start + 500]))["rejected"] == []
        assert session.call("rollup_inference", windows=1000)["left"] == 0
        yield session


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda path: path.stem)
def test_a_snippet_returns_rows(filled: Session, snippet: Any) -> None:
    """Named columns, none of them empty in all rows: jsonb_to_recordset makes nulls of a name that no panel tells."""
    with filled.connection.cursor() as cursor:
        cursor.execute(snippet.read_bytes())
        rows = cursor.fetchall()
        names = [column.name for column in cursor.description or ()]
    assert rows
    assert [name for name, *values in zip(names, *rows, strict=True) if all(value is None for value in values)] == []


def test_there_are_snippets() -> None:
    """A folder that moved would leave the test above with nothing to do."""
    assert len(SNIPPETS) >= len(("tiles", "latency", "cost", "errors"))

"""Shares in the database, laid over specs: what was set holds until somebody sets the specs themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from lib.control.flags import GATE
from lib.control.shares import DatabaseStore, Overlaid, laid_over
from lib.control.sources import Specs
from lib.control.specs import share_of, with_share
from lib.errors import DataFailed, ServiceFailed
from tests.rollouts import SPECS


class Given:
    """A source with one version of the specs."""

    part = "edge config"

    def __init__(self, share: float) -> None:
        self.error: str | None = None
        self.age_s: float | None = 3.0
        self.given: Specs | None = Specs(with_share(SPECS, GATE, share), f"at-{share:g}")

    async def specs(self) -> Specs | None:
        """See Source."""
        return self.given

    async def renew(self) -> None:
        """See Source."""


class Table:
    """The table flag_shares, as its functions show it."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self.down = False
        self.loses_writes = False

    async def __call__(self, function: str, arguments: Mapping[str, Any], *, timeout_s: float = 2.0) -> Any:
        """See Rpc."""
        assert timeout_s > 0
        if self.down:
            raise DataFailed("connection_failed")
        if function == "flag_shares":
            return {gate: dict(row) for gate, row in self.rows.items()}
        row = self.rows.get(arguments["p_gate"])
        held = row["share"] if row and row["over"] == arguments["p_over"] else arguments["p_over"]
        if arguments["p_expected"] is not None and held != arguments["p_expected"]:
            return False
        if not self.loses_writes:
            self.rows[arguments["p_gate"]] = {"share": arguments["p_share"], "over": arguments["p_over"]}
        return True


def shares_of(source: Overlaid) -> float | None:
    """The gate's share in the specs of this source."""
    specs = asyncio.run(source.specs())
    return None if specs is None else share_of(specs.document, GATE)


def test_what_was_set_holds_until_the_specs_say_something_else() -> None:
    """A row counts over the share it was written over, and over no other."""
    table, given = Table(), Given(0.0)
    store = DatabaseStore([given], table)
    asyncio.run(store.set_share(GATE, 0.25, expected=0.0))
    assert asyncio.run(store.share(GATE)) == 0.25
    assert shares_of(Overlaid(given, table, freshness_s=10)) == 0.25
    given.given = Given(0.4).given
    assert asyncio.run(store.share(GATE)) == 0.4
    assert shares_of(Overlaid(given, table, freshness_s=10)) == 0.4
    asyncio.run(store.set_share(GATE, 0.5, expected=0.4))
    assert asyncio.run(store.share(GATE)) == 0.5


def test_versions() -> None:
    """Other shares make other versions; without any the specs stay the very same."""
    specs = Given(0.0).given
    assert specs is not None
    one, other = (laid_over(specs, {GATE: {"share": share, "over": 0.0}}) for share in (0.1, 0.2))
    assert len({specs.version, one.version, other.version}) == 3
    assert laid_over(specs, {}) is specs
    assert laid_over(specs, {"no_such_gate": {"share": 0.1, "over": 0.0}}) is specs
    assert share_of(specs.document, GATE) == 0.0


def test_same_object_until_something_changes() -> None:
    """An engine is made anew for each object, which takes a while."""
    table, given = Table(), Given(0.0)
    table.rows[GATE] = {"share": 0.1, "over": 0.0}
    source = Overlaid(given, table, freshness_s=10)

    async def both() -> tuple[Specs | None, Specs | None]:
        return await source.specs(), await source.specs()

    one, other = asyncio.run(both())
    assert one is other


def test_as_old_as_the_older() -> None:
    """While the rows were never read, nothing is known to be current."""
    table, given = Table(), Given(0.0)
    table.down = True
    source = Overlaid(given, table, freshness_s=10)
    assert (shares_of(source), source.age_s, source.error) == (0.0, None, "DataFailed")
    table.down = False
    source = Overlaid(given, table, freshness_s=10)
    assert shares_of(source) == 0.0
    assert source.age_s == 3.0


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ("database", "connection_failed"),
        ("specs", "timeout"),
        ("no specs", "specs_missing"),
        ("no gate", "gate_missing"),
        ("expected", "changed_meanwhile"),
        ("lost", "not_as_written"),
    ],
)
def test_what_can_go_wrong(trouble: str, code: str) -> None:
    """Each by its name, and nothing is guessed."""
    table, given = Table(), Given(0.0)
    store = DatabaseStore([given], table)
    table.down, table.loses_writes = trouble == "database", trouble == "lost"
    given.error = "timeout" if trouble == "specs" else None
    if trouble == "no specs":
        given.given = None
    gate = "no_such_gate" if trouble == "no gate" else GATE
    with pytest.raises(ServiceFailed) as failed:
        asyncio.run(store.set_share(gate, 0.1, expected=0.3 if trouble == "expected" else 0.0))
    assert failed.value.code == code

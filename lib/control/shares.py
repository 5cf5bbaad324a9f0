"""Gates' shares in the database, laid over the flags' specs: a rollout without a token for anybody's flags.

A row says what share a gate has, and over what: the share that the specs themselves had when it was written. Once they
have another, somebody has set the gate by hand, and the row counts no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from lib.control.flag_stores import AtVersion, Still, allowed
from lib.control.kept import Kept
from lib.control.sources import Source, Specs
from lib.control.specs import same_share, share_of, with_share
from lib.data.circuit import Rpc
from lib.errors import DataFailed, ServiceFailed

Rows: TypeAlias = Mapping[str, Mapping[str, float]]
"""`{gate: {share, over}}`."""
TIMEOUT_S = 2.0
NONE: Rows = MappingProxyType({})


class Overlaid:
    """A source of specs with the database's shares laid over it. See Source."""

    def __init__(self, source: Source, rpc: Rpc, *, freshness_s: float) -> None:
        self.source = source
        self.part = source.part
        self._rpc = rpc
        self._kept: Kept[Rows] = Kept("the table flag_shares", self._read, freshness_s=freshness_s)
        self._laid: tuple[Specs | None, Rows | None, Specs | None] = (None, None, None)

    @property
    def error(self) -> str | None:
        """See Source."""
        return self.source.error or self._kept.error

    @property
    def age_s(self) -> float | None:
        """See Source: the older of both."""
        ages = (self.source.age_s, self._kept.age_s)
        return None if None in ages else max(cast("tuple[float, float]", ages))

    async def specs(self) -> Specs | None:
        """See Source. The version changes with the shares too."""
        specs, rows = await self.source.specs(), await self._kept.current()
        if specs is not self._laid[0] or rows is not self._laid[1]:
            self._laid = (specs, rows, None if specs is None else laid_over(specs, rows or NONE))
        return self._laid[2]

    async def renew(self) -> None:
        """See Source."""
        await self.source.renew()
        await self._kept.renew()

    async def _read(self, held: Rows | None) -> Rows:
        rows: Rows = await self._rpc("flag_shares", {}, timeout_s=TIMEOUT_S)
        return held if held is not None and rows == held else rows


def laid_over(specs: Specs, rows: Rows) -> Specs:
    """The specs with the shares of those rows whose `over` is what the specs say."""
    document, laid = specs.document, dict[str, float]()
    for gate, row in rows.items():
        try:
            own = share_of(document, gate)
            if own is not None and same_share(own, row["over"]) and not same_share(own, row["share"]):
                document = with_share(document, gate, row["share"])
                laid[gate] = row["share"]
        except ServiceFailed:
            continue  # the rollout meets the same, and says so
    if not laid:
        return specs
    suffix = ",".join(f"{gate}={share:g}" for gate, share in sorted(laid.items()))
    return Specs(document, f"{specs.version}+{suffix}")


class DatabaseStore:
    """The shares of a table. See FlagStore."""

    name = "database"

    def __init__(self, sources: Sequence[Source], rpc: Rpc) -> None:
        """`sources` are those of the specs without anything laid over them; the first that has specs counts."""
        self._sources = sources
        self._rpc = rpc

    async def share(self, gate: str) -> float:
        """See FlagStore."""
        own = await self._own(gate)
        rows: Rows = await self._call("flag_shares", {})
        row = rows.get(gate)
        return own if row is None or not same_share(own, row["over"]) else row["share"]

    async def set_share(
        self, gate: str, share: float, *, expected: float | None = None, still: Still | None = None
    ) -> None:
        """See FlagStore. All conditions and the write are one statement, where `still` is of this database's row."""
        version = still.version if isinstance(still, AtVersion) else None
        if version is None:
            await allowed(still)
        own = await self._own(gate)
        given = {"p_gate": gate, "p_share": share, "p_over": own, "p_expected": expected, "p_version": version}
        if not await self._call("set_flag_share", given):
            raise ServiceFailed("changed_meanwhile")
        if not same_share(await self.share(gate), share):
            raise ServiceFailed("not_as_written")

    async def _own(self, gate: str) -> float:
        for source in self._sources:
            specs = await source.specs()
            if source.error is not None:
                raise ServiceFailed(source.error)
            if specs is not None:
                own = share_of(specs.document, gate)
                if own is None:
                    raise ServiceFailed("gate_missing")
                return own
        raise ServiceFailed("specs_missing")

    async def _call(self, function: str, arguments: Mapping[str, object]) -> Any:
        try:
            return await self._rpc(function, arguments, timeout_s=TIMEOUT_S)
        except DataFailed as error:
            raise ServiceFailed(error.reason) from error

"""What a measurement hands back: a table, the goals that it was held to, and what has to be known about both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Cell: TypeAlias = str | float | None


@dataclass(frozen=True)
class Goal:
    """What a value ought to be."""

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        bound = f"{'≥' if self.at_least else '≤'} {number(self.limit)}{self.unit}"
        return f"{'met' if self.met else 'MISSED'}: {self.what} {bound}, measured {number(self.value)}{self.unit}"


@dataclass
class Section:
    """One question, measured side by side in one run."""

    title: str
    method: str
    header: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list[Sequence[Cell]])
    goals: list[Goal] = field(default_factory=list[Goal])
    notes: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        """As Markdown that can be read in a terminal too."""
        cells = [[_text(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = [_line(row, widths) for row in cells]
        lines.insert(1, _line(["-" * max(width, 3) for width in widths], widths))
        points = [f"- {line}" for line in (*map(str, self.goals), *self.notes)]
        return "\n".join([f"## {self.title}", "", self.method, "", *lines, *(["", *points] if points else [])])


def number(value: float) -> str:
    """Three digits that matter, thousands grouped."""
    if value >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004


def _text(cell: Cell) -> str:
    return "-" if cell is None else cell if isinstance(cell, str) else number(cell)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if not index else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"| {' | '.join([first, *others])} |"

"""What a report is made of, whatever shows it. A block is one of these classes, or a sentence as a str."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from .charts import Figure

__all__ = ["Block", "Contents", "Drawn", "Fact", "Fold", "Lines", "Marked", "Meters", "Section", "Table", "pairs"]


@dataclass(frozen=True)
class Fact:
    """A figure that a page opens with."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells; columns from ``numbers`` on, without those in ``texts``, are figures.

    Without a ``head`` the rows say what something is, as in name and value. ``tight`` saves a terminal the outer edges.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    numbers: int = 1
    texts: Sequence[int] = ()
    tight: bool = False
    kind: ClassVar = "table"

    def is_number(self, column: int) -> bool:
        """Whether a column holds figures."""
        return column >= self.numbers and column not in self.texts


@dataclass(frozen=True)
class Meters:
    """Rows of name, share 0..1 and what to write beside it."""

    rows: Sequence[tuple[str, float, str]]
    caption: str = ""
    kind: ClassVar = "meters"


@dataclass(frozen=True)
class Lines:
    """Sentences that each stand alone; not in a page."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Marked:
    """One text for a terminal, in pieces with marks: a strength 0..1, or ``title``, ``special``, ``cut`` or nothing."""

    pieces: Sequence[tuple[str, float | str]]


@dataclass(frozen=True)
class Drawn:
    """A chart, what is said below it, and what it shows, for those who don't see it."""

    figure: Figure
    caption: str
    summary: str
    kind: ClassVar = "chart"


@dataclass(frozen=True)
class Fold:
    """Blocks that open on a click."""

    title: str
    blocks: Sequence[Block]
    kind: ClassVar = "fold"


Block: TypeAlias = str | Table | Meters | Lines | Marked | Drawn | Fold


@dataclass(frozen=True)
class Section:
    """Blocks below a title, and the name of its anchor in a page."""

    title: str
    blocks: Sequence[Block]
    name: str = ""


@dataclass(frozen=True)
class Contents:
    """A page: its title, whether all is well and why (None where nothing is judged), its figures and sections."""

    title: str
    verdict: tuple[bool, str] | None
    facts: Sequence[Fact]
    sections: Sequence[Section]


def pairs(rows: Iterable[tuple[str, Any]]) -> Table:
    """Names and what stands behind each."""
    return Table((), [*rows], numbers=2)

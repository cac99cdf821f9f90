"""The columns in which two models are compared, in every table of every medium; and how points are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .parts import Table

__all__ = ["COMPARED", "Column", "compared", "interval", "lost", "plain", "points", "typeset", "values", "whole_alone"]

Row = tuple[Sequence[str], Mapping[str, Any]]
"""What a row begins with, and the part of a report that it shows."""

_NONE = "\N{EN DASH}"


def points(value: float | None) -> str:
    """How good a model is; a dash where there is no number, as in all of these."""
    return _NONE if value is None else f"{value:.2f}"


def lost(value: float | None) -> str:
    """A difference in points with its sign."""
    return _NONE if value is None else f"{value:+.2f}"


def interval(ends: Sequence[float | None]) -> str:
    """From one difference to another."""
    return _NONE if None in ends else " to ".join(map(lost, ends))


def typeset(figures: str) -> str:
    """Figures as a page shows them, where a minus is no hyphen."""
    return figures.replace("-", "\N{MINUS SIGN}")


def plain(value: Any) -> str:
    """A value as a reader would write it."""
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or _NONE
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


@dataclass(frozen=True)
class Column:
    """A column of the tables that compare two models.

    Attributes:
        key: of what it shows, in a part of a report as `evaluation.compare` makes it.
        name: its heading.
        write: from a value to a cell; where there is none, the cell has a dash.
        short: the heading where room is scarce.
        said: the name in a sentence, where a value of all texts stands outside a table.
    """

    key: str
    name: str
    write: Callable[[Any], str] = plain
    short: str = ""
    said: str = ""

    def cell(self, part: Mapping[str, Any]) -> str:
        """What a part of a report has in this column."""
        value = part[self.key]
        return _NONE if value is None else self.write(value)


COMPARED: tuple[Column, ...] = (
    Column("dense", "dense", points),
    Column("compressed", "compressed", points),
    Column("drop", "points lost", lost, short="lost"),
    Column("drop_interval_95", "95 % interval", interval, said="95 % interval of what is lost"),
)
"""Every column there is. One that not all rows of a table have, as slices have no interval, isn't in that table."""


def compared(
    head: Sequence[str],
    rows: Iterable[Row],
    caption: str = "",
    *,
    more: Sequence[Column] = (),
    dense: str = "dense",
    short: bool = False,
    page: bool = False,
    **look: Any,
) -> Table:
    """The table of two models; ``look`` are fields of :class:`Table`.

    Args:
        head: headings of what each row begins with.
        more: columns behind the usual ones.
        dense: the heading of the first model.
        short: whether headings are short.
        page: whether figures are written as a page does.
    """
    rows = list(rows)
    columns = [column for column in (*COMPARED, *more) if all(column.key in part for _, part in rows)]
    names = [(column.short if short else "") or column.name for column in columns]
    titles = [dense if column.key == "dense" else name for column, name in zip(columns, names, strict=True)]
    written = [(first, [column.cell(part) for column in columns]) for first, part in rows]
    cells = [[*first, *(map(typeset, figures) if page else figures)] for first, figures in written]
    return Table([*head, *titles], cells, caption, **look)


def whole_alone(whole: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences of what is known of all texts but not of their slices, so that no table of both shows it."""
    return [
        f"{column.said or column.name} on all texts: {column.cell(whole)}"
        for column in COMPARED
        if column.key in whole and any(column.key not in part for part in slices)
    ]


def values(part: Mapping[str, Any]) -> dict[str, Any]:
    """The columns as plain values, where there is room for neither headings nor intervals."""
    return {each.key: part[each.key] for each in COMPARED if each.key in part and not isinstance(part[each.key], list)}

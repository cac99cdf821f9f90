"""Sections as what rich prints in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from .parts import Block, Drawn, Fold, Lines, Marked, Meters, Section, Table

__all__ = ["rendered"]

_NO_BREAK = "\N{NO-BREAK SPACE}"
_STYLES = {"": "", "title": "bold", "special": "dim", "cut": "strike grey46"}
# From what is dropped at once to what is never dropped.
_STRENGTHS = ("grey46", "grey62", "none", "bold", "bold green")


def rendered(sections: Iterable[Section]) -> Iterator[RenderableType]:
    """Each section below its title and a blank line, with what a terminal can show of it."""
    for section in sections:
        yield Text(f"\n{section.title}" if section.title else "", style="bold")
        for block in section.blocks:
            yield from _block(block)


def _block(block: Block) -> Iterator[RenderableType]:
    if isinstance(block, str):
        yield Text(block)
    elif isinstance(block, Lines):
        yield from map(Text, block.lines)
    elif isinstance(block, Table):
        yield _table(block)
    elif isinstance(block, Meters):
        yield _inline(block)
    elif isinstance(block, Marked):
        yield Text.assemble(*((text, _style(mark)) for text, mark in block.pieces))
    else:
        assert isinstance(block, (Drawn, Fold))  # which need a page


def _table(table: Table) -> Grid:
    look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1), "pad_edge": not table.tight}
    grid = Grid(**look if table.head else {"box": None, "show_header": False, "padding": (0, 2, 0, 1)})
    for column, name in enumerate(table.head or [""] * max(map(len, table.rows), default=0)):
        number, named = table.is_number(column), column == 0 and not table.head
        grid.add_column(
            name,
            style="cyan" if named else None,
            justify="right" if number else "left",
            no_wrap=number and not table.head,
            overflow="ellipsis" if named else "fold",
            # A number in two lines is none; a long name may be.
            min_width=5 if number and table.tight else None,
        )
    for row in table.rows:
        grid.add_row(*map(_cell, row))
    return grid


def _cell(value: Any) -> Text:
    return _inline(value) if isinstance(value, Meters) else Text(str(value))


def _inline(meters: Meters) -> Text:
    text = Text()
    for name, _, said in meters.rows:
        text.append(f"{name}:", style="cyan")
        text.append(f" {said}".replace(" ", _NO_BREAK) + "  ")
    return text


def _style(mark: float | str) -> str:
    return _STYLES[mark] if isinstance(mark, str) else _STRENGTHS[int(mark * (len(_STRENGTHS) - 1))]

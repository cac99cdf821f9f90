"""What every table in the terminal is printed with."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.text import Text

from ..distributed import is_main

__all__ = ["heading", "show"]


def show(*parts: RenderableType) -> None:
    """Print on stdout, in the first process of several, with no markup in what is printed."""
    console = Console(highlight=False, markup=False, emoji=False, quiet=not is_main())
    for part in parts:
        console.print(part)


def heading(text: str) -> Text:
    """A line above a table."""
    return Text(f"\n{text}", style="bold")

"""What everything in the terminal is printed with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ..system.printable import printable
from ..system.processes import is_main

__all__ = ["PlainConsole", "heading", "show"]


class PlainConsole(Console):
    """A console on which text is text: it has no markup, and no character of it acts on the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes through here, as segments; what rich itself tells the terminal is marked."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


def show(*parts: RenderableType) -> None:
    """Print on stdout, in the first process of several."""
    console = PlainConsole(quiet=not is_main())
    for part in parts:
        console.print(part)


def heading(text: str) -> Text:
    """A line above a table."""
    return Text(f"\n{text}", style="bold")

"""What everything in the terminal is printed with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from wordelim.system.printable import printable
from wordelim.system.processes import is_main

if TYPE_CHECKING:
    from wordelim.report.parts import Section

__all__ = ["PlainConsole", "print_report"]


class PlainConsole(Console):
    """A console on which text is text: it has no markup, and no character of it acts on the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed comes through here, as segments; what rich itself tells the terminal is marked."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


def print_report(sections: Iterable[Section]) -> None:
    """Print what a report says on stdout, in the first process of several."""
    from wordelim.report.terminal import rendered

    console = PlainConsole(quiet=not is_main())
    for part in rendered(sections):
        console.print(part)

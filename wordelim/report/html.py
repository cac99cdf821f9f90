"""The report of a run as one HTML page, or as Markdown where no page can be made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import WordelimError
from .kinds import page_of
from .markdown import render_markdown
from .pages import page
from .parts import Drawn

__all__ = ["READABLE", "makes_pages", "readable", "render_html", "require_pages"]

READABLE = ("report.html", "report.md")
"""What the report for people is called: a page, or Markdown where plotly isn't installed."""

_DRAW = Path(__file__).with_name("templates") / "draw.js"


def makes_pages() -> bool:
    """Whether plotly, which draws the charts, is installed."""
    return find_spec("plotly") is not None


def require_pages() -> None:
    """Raise WordelimError, with the install line, unless pages can be made."""
    if not makes_pages():
        raise WordelimError("A report as a page needs plotly: pip install 'wordelim[report]'.")


def render_html(report: Mapping[str, Any]) -> str:
    """A self-contained page of the report of a compression, a check or a benchmark.

    It loads nothing, follows the reader's light or dark setting, shows texts as text, and runs plotly's charts alone.

    Args:
        report: what ``compress``, ``check`` or ``bench`` gives, or ``wordelim_report.json``.

    Raises:
        WordelimError: plotly isn't installed.
    """
    require_pages()
    whole = page_of(report)
    drawn = any(isinstance(block, Drawn) for section in whole.sections for block in section.blocks)
    return page("report.html", whole.title, whole=whole, scripts=_scripts() if drawn else ())


def readable(report: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the content of the report of a compression, for people, in the best form that can be made here."""
    return (READABLE[0], render_html(report)) if makes_pages() else (READABLE[1], render_markdown(report))


@cache
def _scripts() -> tuple[str, str]:
    """plotly.js as a whole, and what draws a page's charts with it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs(), _DRAW.read_text(encoding="utf-8")

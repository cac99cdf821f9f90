"""The report of a run as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import WordelimError
from .blocks import Drawn
from .contents import contents
from .pages import page

__all__ = ["makes_pages", "render_html", "require_pages"]

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
    whole = contents(report)
    drawn = any(isinstance(block, Drawn) for section in whole.sections for block in section.blocks)
    return page("report.html", whole.title, whole=whole, scripts=_scripts() if drawn else ())


@cache
def _scripts() -> tuple[str, str]:
    """plotly.js as a whole, and what draws a page's charts with it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs(), _DRAW.read_text(encoding="utf-8")

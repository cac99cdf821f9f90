"""Self-contained HTML pages: they load nothing, run no script, and follow the reader's light or dark setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from .._version import __version__

__all__ = ["page"]

_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)


def page(template: str, title: str, **values: Any) -> str:
    """One of the templates in ``templates/`` as HTML; every value is escaped."""
    return _PAGES.get_template(template).render(title=title, version=__version__, **values)

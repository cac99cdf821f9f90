"""Self-contained HTML pages: they load nothing, and follow the reader's light or dark setting."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from .._version import __version__
from ..system.printable import printable

__all__ = ["page"]

_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    # Scripts and charts are no plain str: they stay as they are.
    finalize=lambda value: printable(value) if type(value) is str else value,
    trim_blocks=True,
)


def page(template: str, title: str, *, scripts: Sequence[str] = (), **values: Any) -> str:
    """One of the templates in ``templates/`` as HTML; every value is escaped, but for ``scripts``.

    The page's content security policy names the scripts by their hashes: no other would run.
    """
    policy = " ".join(f"'{_digest(script)}'" for script in scripts) or "'none'"
    return _PAGES.get_template(template).render(
        title=title, version=__version__, scripts=scripts, policy=policy, **values
    )


@cache
def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"

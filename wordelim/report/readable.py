"""The report that a person reads, in the best form that can be made here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .html import makes_pages, render_html
from .markdown import render_markdown

__all__ = ["READABLE", "readable"]

READABLE = ("report.html", "report.md")
"""What it is called: a page, or Markdown where plotly isn't installed."""


def readable(report: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the content of the report of a compression, for people."""
    return (READABLE[0], render_html(report)) if makes_pages() else (READABLE[1], render_markdown(report))

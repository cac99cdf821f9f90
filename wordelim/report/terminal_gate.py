"""A check's verdict in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .check import gate_facts
from .console import heading, show
from .points import interval, lost, points

__all__ = ["print_check"]


def print_check(report: Mapping[str, Any]) -> None:
    """Points of both models, all texts first, then by length and by label; what changed."""
    result = report["result"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("texts", overflow="fold")
    for column in ("count", "base", "compressed", "lost"):
        # A number in two lines is none; the long name may be.
        table.add_column(column, justify="right", overflow="fold", min_width=5)
    for part in ({"slice": "all", **result}, *result["slices"]):
        table.add_row(
            Text(part["slice"]),
            str(part["examples"]),
            points(part["dense"]),
            points(part["compressed"]),
            lost(part["drop"]),
        )
    by_label = ", recall for each label" if any(part["by"] == "label" for part in result["slices"]) else ""
    show(heading(f"{report['metric']}{by_label}, in points"), table)
    show(Text(f"95 % interval of what is lost on all texts: {interval(result['drop_interval_95'])}"))
    show(*(Text(fact) for fact in gate_facts(report)))

"""A probe's findings in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .console import heading, show
from .points import interval, lost
from .terminal import _pairs

__all__ = ["print_probe"]


def print_probe(report: Mapping[str, Any]) -> None:
    """Verdict, lengths, what packing gives, and what dropping word vectors saves and costs at several speeds."""
    lengths, padding, packing = report["lengths"], report["padding"], report["packing"]
    show(Text.assemble("\n", (f"{report['verdict'].capitalize()}: ", "bold"), f"{report['because']}."))
    threads = report["machine"]["threads"]
    rows = [
        (
            "lengths",
            f"{lengths['mean']} tokens on average, median {lengths['median']}, 95 % up to {lengths['p95']}, longest "
            f"{lengths['max']} ({report['data']['examples']} texts, {report['data']['truncated']} cut)",
        ),
        (
            "padding",
            f"{padding['dynamic']:.2f} tokens computed for each real one in random batches of "
            f"{report['settings']['batch_size']}, {padding['fixed']:.2f} where all are padded to the longest",
        ),
        (
            "packing",
            f"{packing['speedup']:.2f}x measured with nothing dropped; {packing['flops_ratio']:.2f}x fewer FLOPs than "
            "the dense model without padding",
        ),
    ]
    show(heading("Your texts"), _pairs(rows))
    if report["headroom"]:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for column in ("FLOPs ratio", "measured", "points lost", "95 % interval"):
            table.add_column(column, justify="right", overflow="fold")
        for point in report["headroom"]:
            table.add_row(
                f"{point['flops_ratio']:.2f}x",
                f"{point['speedup']:.2f}x",
                lost(point["drop"]),
                interval(point["drop_interval_95"]),
            )
        show(heading(f"Dropping word vectors, without retraining ({report['metric']} {report['dense']:.2f})"), table)
    said = "1 thread" if threads == 1 else f"{threads} threads"
    show(
        Text(
            f"Measured against the dense model in batches padded to their longest text ({said}); points on "
            f"{report['data']['measured']} texts. Retraining, which wordelim compress does, wins much of the loss back."
        )
    )

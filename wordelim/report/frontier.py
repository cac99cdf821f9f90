"""What could be had: points lost against FLOPs saved, of all that a compression tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import Series, line_chart
from .columns import lost, typeset
from .parts import Block, Drawn, Fold, Section, Table

__all__ = ["frontier"]

# Points lost beyond this much more than allowed say only "too much", and would press the rest flat.
_SHOWN_BEYOND = 10.0


def frontier(report: Mapping[str, Any]) -> Section:
    """As a chart, step by step, and what the search had found before."""
    return Section("What could be had", [*_chart(report), *_sure(report), *_steps(report), *_found(report)], "frontier")


def _chart(report: Mapping[str, Any]) -> list[Block]:
    allowed = (report.get("settings") or {}).get("max_drop")
    limit = (allowed or 0.0) + _SHOWN_BEYOND
    groups: dict[str, dict[str, tuple[float, float, str]]] = {}
    tried = report.get("tried") or []
    shown = [row for row in tried if row["drop"] <= limit]
    for row in shown:
        keeps = _keeps(row["keep"])
        title = f"{row['flops_ratio']:.2f}×, {typeset(lost(row['drop']))} points; keeps {keeps}"
        groups.setdefault(_kind(row["stage"]), {})[keeps] = (row["flops_ratio"], row["drop"], title)
    series = []
    for name, of_kind in groups.items():
        points = sorted(of_kind.values())
        series.append(Series(name, [p[:2] for p in points], [p[2] for p in points]))
    end = (report["validation"]["flops_ratio"], report["validation"]["drop"])
    signed = typeset(lost(end[1]))
    series.append(Series("chosen, as it is written", [end], [f"{end[0]:.2f}×, {signed} points"], ring=True))
    chart = line_chart(series, "FLOPs ratio, dense over compressed", "points lost on validation", bound=allowed)
    if chart is None:
        return []
    left_out = len(tried) - len(shown)
    more = f" Not shown: {left_out} that lost more than {limit:g} points." if left_out else ""
    return [
        Drawn(
            chart,
            f"What was tried, on the validation texts; the dashed line is what may be lost.{more}",
            f"points lost against FLOPs saved; chosen: {end[0]:.2f} times fewer FLOPs for {signed} points",
        )
    ]


def _sure(report: Mapping[str, Any]) -> list[Block]:
    """How sure it is that what was chosen holds."""
    choice = report.get("choice")
    if not choice:
        return []
    said = (
        f"{typeset(lost(choice['drop']))} points are lost on the {choice['texts']} validation texts; "
        f"with {choice['confidence']:.0%} confidence at most {typeset(lost(choice['bound']))} on texts like them."
    )
    measured = choice["fastest_as_measured"]
    if measured is not None and choice["confidence"] > 0.5:
        said += f" The fastest within bounds as measured: {measured['flops_ratio']:.2f}×, with no such confidence."
    return [said]


def _steps(report: Mapping[str, Any]) -> list[Block]:
    rows = [
        [_stage(row["stage"]), f"{row['flops_ratio']:.2f}×", typeset(lost(row["drop"])), _keeps(row["keep"])]
        for row in report.get("tried") or []
    ]
    head = ["when", "FLOPs ratio", "points lost", "kept after each layer"]
    walked = Table(head, rows, "On validation texts.", texts=(3,))
    return [Fold("What was tried, step by step", [walked])] if rows else []


def _found(report: Mapping[str, Any]) -> list[Block]:
    rows = [
        [
            f"{row['flops_ratio']:.2f}×",
            "–" if row.get("divergence") is None else f"{row['divergence']:.4f}",
            _keeps(row["retention"]["keep"]),
        ]
        for row in report.get("frontier", [])
    ]
    found = Table(
        ["FLOPs ratio", "divergence", "kept after each layer"],
        rows,
        "On training texts; the divergence of the logits from the dense ones is the one before retraining.",
        numbers=0,
        texts=(2,),
    )
    return [Fold("What the search found", [found])] if rows else []


def _keeps(keep: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in keep)


def _kind(stage: str) -> str:
    """What the points of a chart have in common."""
    if stage in ("found", "retrain: all speeds"):
        return _stage(stage)
    return "after retraining one alone" if stage.startswith("retrain:") else _stage(stage)


def _stage(name: str) -> str:
    return "as found, before retraining" if name == "found" else name.replace("retrain", "after retraining", 1)

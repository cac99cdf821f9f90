"""What a compression came to, and what it would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import speed
from .columns import compared, interval, lost, typeset
from .frontier import frontier
from .parts import Contents, Fact, Section, Table, pairs
from .sections import (
    changes,
    comparison,
    environment,
    flipped,
    kept,
    lengths,
    model_name,
    slices,
    training,
)

__all__ = ["brief", "page", "parts_of", "plan"]


def parts_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was compared, by the name of its texts; those that count most last."""
    return {name: report[name] for name in ("validation", "test") if name in report}


def brief(report: Mapping[str, Any]) -> list[Section]:
    """Points before and after, FLOPs, measured speed, word vectors kept."""
    parts = parts_of(report)
    table = compared(["texts"], [([f"{name} ({part['examples']})"], part) for name, part in parts.items()], short=True)
    changed = [f"{name}: {changes(part['flips'])}" for name, part in parts.items() if part["flips"] is not None]
    fewer = [
        (f"{part['flops_ratio']:.2f}x", f"fewer FLOPs in the encoder, {name} texts without padding")
        for name, part in parts.items()
    ]
    measured = speed.rows(report["speed"]) if report.get("speed") else []
    later = []
    if measured:
        later = speed.slower(min(report["speed"][name] for name in ("dynamic", "unpadded")), report["machine"])
    sections = [
        Section(f"{report['metric']}, in points", [table, *changed]),
        Section("Speed, compressed against dense", [pairs([*fewer, *measured]), *later]),
        kept(report, short=True),
    ]
    if report.get("speeds"):
        sections.append(Section("The same weights at each speed", [_served(report["speeds"])]))
    seconds = ", ".join(f"{name} {taken:.0f} s" for name, taken in report["seconds"].items())
    return [*sections, Section("", [f"Time: {seconds}"])]


def _served(speeds: Mapping[str, Any]) -> Table:
    """Points lost at each of the speeds that one set of weights serves."""
    names = list(parts_of(next(iter(speeds.values()))))
    rows = [
        [asked, *(lost(part[name]["drop"]) for name in names), f"{part[names[-1]]['flops_ratio']:.2f}x"]
        for asked, part in speeds.items()
    ]
    return Table(["speed", *(f"lost, {name}" for name in names), "FLOPs ratio"], rows, numbers=0)


def plan(planned: Mapping[str, Any]) -> list[Section]:
    """What a compression would do."""
    return [Section("This would be done (nothing is run or written)", [pairs(planned.items())])]


def page(report: Mapping[str, Any]) -> Contents:
    """All of it; of one whose speed is out of reach, so that nothing was retrained and measured, the fastest."""
    title = f"{model_name(report.get('model'))}, "
    if "best" in report:
        best = report["best"]
        fact = Fact(f"{best['flops_ratio']:.2f}×", "fewer FLOPs at most", "with what is left below in each layer")
        verdict = (False, f"Not met: {report['unmet']}")
        return Contents(f"{title}not compressed", verdict, [fact], [kept(best), environment(report)])
    parts, metric, measured = parts_of(report), report["metric"], report.get("speed")
    name, part = list(parts.items())[-1]
    drop, between = typeset(lost(part["drop"])), typeset(interval(part["drop_interval_95"]))
    facts = [
        Fact(drop, "points lost", f"{metric}, {name}; 95 %: {between}"),
        Fact(f"{part['flops_ratio']:.2f}×", "fewer FLOPs", "in the encoder, without padding"),
        *(speed.fact(measured, protocol) for protocol in ("dynamic", "unpadded") if measured),
    ]
    verdict = (True, "Within the bounds that were set.") if report["met"] else (False, f"Not met: {report['unmet']}.")
    sections = [
        comparison(metric, parts),
        frontier(report),
        kept(report),
        speed.section(measured),
        lengths(parts),
        slices(parts),
        flipped(parts),
        training(report.get("training", [])),
        environment(report),
    ]
    return Contents(f"{title}compressed", verdict, facts, sections)

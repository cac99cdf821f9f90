"""What the report of a run says, whatever form it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from .blocks import (
    Drawn,
    Fact,
    Fold,
    Section,
    Table,
    between,
    compared,
    environment,
    flipped,
    kept,
    lengths,
    signed,
    slices,
    training,
)
from .charts import Series, line_chart

__all__ = ["Contents", "contents"]

# Points lost beyond this much more than allowed say only "too much", and would press the rest flat.
_SHOWN_BEYOND = 10.0


@dataclass(frozen=True)
class Contents:
    """A report: its title, whether all is well and why (None where nothing is judged), its figures and sections."""

    title: str
    verdict: tuple[bool, str] | None
    facts: Sequence[Fact]
    sections: Sequence[Section]


_Parts = tuple[str, tuple[bool, str] | None, list[Fact], list[Section | None]]


def contents(report: Mapping[str, Any]) -> Contents:
    """What the report of a compression, a check or a benchmark says; what it lacks is left out."""
    if "wordelim_bench" in report:
        title, verdict, facts, sections = _bench(report)
    elif "wordelim_check" in report:
        title, verdict, facts, sections = _check(report)
    elif "best" in report:
        title, verdict, facts, sections = _unreached(report)
    else:
        title, verdict, facts, sections = _compression(report)
    return Contents(title, verdict, facts, [section for section in sections if section is not None and section.blocks])


def _compression(report: Mapping[str, Any]) -> _Parts:
    parts = {name: report[name] for name in ("validation", "test") if name in report}
    name, part = list(parts.items())[-1]
    speed = report.get("speed")
    facts = [
        Fact(
            signed(part["drop"]),
            "points lost",
            f"{report['metric']}, {name}; 95 %: {between(part['drop_interval_95'])}",
        ),
        Fact(f"{part['flops_ratio']:.2f}×", "fewer FLOPs", "in the encoder, without padding"),
    ]
    if speed:
        facts += [
            Fact(f"{speed['dynamic']:.2f}×", "faster, measured", "in batches padded to their longest text"),
            Fact(f"{speed['unpadded']:.2f}×", "faster, measured", "where neither computes padding"),
        ]
    verdict = (True, "Within the bounds that were set.") if report["met"] else (False, f"Not met: {report['unmet']}.")
    sections = [
        compared(report["metric"], parts),
        _frontier(report),
        kept(report["retention"], bool(report.get("last_layer_cut_to_first_token"))),
        _speed(speed) if speed else None,
        lengths(parts),
        slices(parts),
        flipped(parts),
        training(report.get("training", []), report["metric"]),
        environment(report),
    ]
    return f"{_name(report.get('model'))}, compressed", verdict, facts, sections


def _unreached(report: Mapping[str, Any]) -> _Parts:
    """Of a compression whose speed is out of reach, so that nothing was retrained and measured."""
    best = report["best"]
    facts = [Fact(f"{best['flops_ratio']:.2f}×", "fewer FLOPs at most", "with what is left below in each layer")]
    sections: list[Section | None] = [kept(best["retention"], False), environment(report)]
    return f"{_name(report.get('model'))}, not compressed", (False, f"Not met: {report['unmet']}"), facts, sections


def _check(report: Mapping[str, Any]) -> _Parts:
    result, metric, speed = report["result"], report["metric"], report.get("speed")
    parts = {"checked": result}
    facts = [
        Fact(signed(result["drop"]), "points lost", f"{metric}; 95 %: {between(result['drop_interval_95'])}"),
        Fact(f"{result['examples']:,}", "examples", "the same through both models"),
    ]
    if result.get("flops_ratio"):
        facts.append(Fact(f"{result['flops_ratio']:.2f}×", "fewer FLOPs", "in the encoder, without padding"))
    if speed:
        facts.append(Fact(f"{speed['dynamic']:.2f}×", "faster, measured", "in batches padded to their longest text"))
    failures = "; ".join(report["failures"].values())
    verdict = (True, "Passed.") if report["passed"] else (False, f"Failed: {failures}.")
    lost = compared(metric, parts)
    models = f"{_name(report['compressed'])} against {_name(report['base'])}."
    lost = Section(
        lost.name,
        lost.title,
        lost.blocks,
        [models, *(f"Warning: {warning}." for warning in report["warnings"]), *lost.intro],
    )
    sections = [
        lost,
        slices(parts),
        flipped(parts),
        _speed(speed) if speed else None,
        lengths(parts),
        environment({**report, "seconds": {"whole check": report["seconds"]}}),
    ]
    return f"Check of {_name(report['compressed'])}", verdict, facts, sections


_BASELINES = {
    "fixed": "dense, padded to the longest length (the paper's protocol)",
    "dynamic": "dense, random batches padded to their longest text (as pipelines do)",
    "unpadded": "dense, no padding computed",
    "keep-all": "the rewritten model that drops nothing",
}


def _bench(report: Mapping[str, Any]) -> _Parts:
    judged = report.get("compressed") or report.get("base")
    first = report["measurements"][0]
    facts = [
        Fact(
            f"{against['speedup']['median']:.2f}×", f"faster than {name}", f"{part}, {first['dtype']}, {first['mode']}"
        )
        for part in ("throughput", "latency")
        for name, against in first.get(part, {}).get("against", {}).items()
        if name in ("dynamic", "unpadded", "fixed")
    ]
    sections: list[Section | None] = []
    for number, one in enumerate(report["measurements"], start=1):
        blocks = [block for part in ("throughput", "latency") if part in one for block in _timed(part, one[part])]
        sections.append(Section(f"run-{number}", f"{one['dtype']}, {one['mode']}", blocks))
    if report.get("retention"):
        sections.append(kept(report["retention"], bool(report.get("last_layer_cut_to_first_token"))))
    sections += [lengths({"timed": report["data"]}), environment(report)]
    return f"Speed of {_name(judged)}", None, facts, sections


def _timed(part: str, timed: Mapping[str, Any]) -> list[Any]:
    """One measurement: against each baseline, then the absolute figures."""
    rows = []
    for name, against in timed["against"].items():
        speedup, factors = against["speedup"], against.get("factors") or {}
        share = against.get("padding_share")
        rows.append(
            [
                _BASELINES.get(name, name),
                f"{speedup['median']:.2f}×",
                f"{speedup['low']:.2f} to {speedup['high']:.2f}",
                f"{against['flops_ratio']:.2f}×",
                f"{100 * against['efficiency']:.0f} %",
                " · ".join(f"{what.replace('_', ' ')} {factor:.2f}" for what, factor in factors.items()) or "–",
                "–" if share is None else f"{100 * share:.0f} %",
            ]
        )
    head = ["against", "speed-up", "quartiles", "FLOPs ratio", "efficiency", "made of", "share of padding"]
    size = "one text at a time" if part == "latency" else "batches"
    caption = (
        f"{part.capitalize()}, {size}, {timed['texts']} texts. Efficiency is the speed-up over the FLOPs ratio; the "
        "factors multiply to the speed-up."
    )
    rates = [
        [name, *(f"{rate[key]:,.1f}" for key in ("median", "low", "high"))]
        for name, rate in timed.get("texts_per_second", {}).items()
    ]
    absolute = Table(["run", "texts a second", "lower quartile", "upper quartile"], rates)
    times = [
        [name, *(f"{value:,.2f}" for value in taken.values())] for name, taken in timed.get("milliseconds", {}).items()
    ]
    blocks: list[Any] = [Table(head, rows, caption), Fold("Texts a second", [absolute])]
    if times:
        names = next(iter(timed["milliseconds"].values()))
        blocks.append(Fold("Milliseconds a text", [Table(["run", *names], times)]))
    return blocks


def _name(model: Any) -> str:
    """A model by its last name: a report that is sent around shouldn't say where a directory stands."""
    return "A model in memory" if model is None else PurePath(str(model)).name or str(model)


def _frontier(report: Mapping[str, Any]) -> Section | None:
    """Points lost against FLOPs saved, of all that was tried."""
    allowed = (report.get("settings") or {}).get("max_drop")
    limit = (allowed or 0.0) + _SHOWN_BEYOND
    tried, left_out = report.get("tried") or [], 0
    groups: dict[str, dict[str, tuple[float, float, str]]] = {}
    for row in tried:
        if row["drop"] > limit:
            left_out += 1
            continue
        keeps = _keeps(row["keep"])
        title = f"{row['flops_ratio']:.2f}×, {signed(row['drop'])} points; keeps {keeps}"
        groups.setdefault(_kind(row["stage"]), {})[keeps] = (row["flops_ratio"], row["drop"], title)
    chosen = report["validation"]
    series = []
    for name, of_kind in groups.items():
        points = sorted(of_kind.values())
        series.append(Series(name, [p[:2] for p in points], [p[2] for p in points]))
    end = (chosen["flops_ratio"], chosen["drop"])
    series.append(Series("chosen, as it is written", [end], [f"{end[0]:.2f}×, {signed(end[1])} points"], ring=True))
    chart = line_chart(
        series,
        "FLOPs ratio, dense over compressed",
        "points lost on validation",
        bound=allowed,
    )
    blocks: list[Any] = []
    if chart is not None:
        more = f" Not shown: {left_out} that lost more than {limit:g} points." if left_out else ""
        blocks.append(
            Drawn(
                chart,
                f"What was tried, on the validation texts; the dashed line is what may be lost.{more}",
                f"points lost against FLOPs saved; chosen: {end[0]:.2f} times fewer FLOPs for {signed(end[1])} points",
            )
        )
    steps = [
        [_stage(row["stage"]), f"{row['flops_ratio']:.2f}×", signed(row["drop"]), _keeps(row["keep"])] for row in tried
    ]
    walked = Table(
        ["when", "FLOPs ratio", "points lost", "kept after each layer"], steps, "On validation texts.", texts=(3,)
    )
    blocks += [Fold("What was tried, step by step", [walked])] if steps else []
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
    blocks += [Fold("What the search found", [found])] if rows else []
    return Section("frontier", "What could be had", blocks)


def _keeps(keep: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in keep)


def _kind(stage: str) -> str:
    """What the points of a chart have in common."""
    if stage in ("found", "retrain: all speeds"):
        return _stage(stage)
    return "after retraining one alone" if stage.startswith("retrain:") else _stage(stage)


def _stage(name: str) -> str:
    return "as found, before retraining" if name == "found" else name.replace("retrain", "after retraining", 1)


def _speed(speed: Mapping[str, Any]) -> Section:
    threads = "1 thread" if speed["threads"] == 1 else f"{speed['threads']} threads"
    rows = [
        ["dynamic", f"{speed['dynamic']:.2f}×", "both in random batches padded to their longest text, as pipelines do"],
        [
            "unpadded",
            f"{speed['unpadded']:.2f}×",
            "both in batches of nearly equal length, so that neither computes padding",
        ],
        [
            "fixed",
            f"{speed['fixed']:.2f}×",
            f"the dense model padded to {speed['max_length']} tokens, the paper's protocol",
        ],
    ]
    caption = (
        f"Compressed against the dense model under SDPA, measured side by side in one run: {speed['texts']} texts, "
        f"batches of {speed['batch_size']}, {threads}, {speed['dtype']}, median of {speed['rounds']} rounds."
    )
    return Section(
        "speed", "How much faster", [Table(["protocol", "speed-up", "what runs"], rows, caption, texts=(2,))]
    )

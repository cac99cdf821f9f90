"""The section of docs/benchmarks.md on what wordelim probe foretells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr


def probe_section(results: Path) -> str | None:
    """Every probe that is kept, beside what compress reached; None where there is none."""
    runs = [json.loads(path.read_text()) for path in sorted(results.glob("probe-*.json"))]
    if not runs:
        return None
    lines = [
        "## What probe foretells",
        "",
        "`wordelim probe` trains nothing. Left what it says on the validation texts, right what `wordelim compress` "
        'then reached on the test texts (the runs of "Real models, real texts").',
        "",
        "| task | verdict | tokens | packing alone | as it is | in reach, it says | reached | points lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        probe, kept = run["probe"], results / f"real-{run['key']}.json"
        reached, lost = "-", "-"
        if kept.exists():
            test = json.loads(kept.read_text())["test"]
            reached, lost = f"{test['flops_ratio']:.2f}x", f"{test['drop']:+.2f}"
        lines.append(
            f"| {run['task']} | {probe['verdict']} | {probe['lengths']['mean']} | {probe['packing']['speedup']:.2f}x "
            f"| {_ratio(probe['as_it_is'])} | {_ratio(probe['in_reach'])} | {reached} | {lost} |"
        )
    lines += ["", "Packing is measured speed in random batches; the other ratios are of FLOPs, without padding."]
    for run in runs:
        lines += ["", f"### Probe: {run['task']}", "", *_ranking(run)]
        lines += [f"The probe took {run['probe']['seconds']:.0f} seconds.", "", "```sh", run["command"], "```"]
    return "\n".join(lines) + "\n"


def _ratio(point: dict[str, Any] | None) -> str:
    return "-" if point is None else f"{point['flops_ratio']:.2f}x ({point['drop']:+.2f})"


def _ranking(run: dict[str, Any]) -> list[str]:
    """Points lost without retraining, as probe has them, beside those lost after it."""
    compressed, points = run["compressed"], run["probe"]["headroom"]
    if not compressed:
        return []
    foretold = np.interp(
        [found["flops_ratio"] for found in compressed],
        [point["flops_ratio"] for point in points],
        [point["drop"] for point in points],
    )
    lines = [
        f"Compressed to each speed with one pass over {run['examples']} training texts; points lost on the validation "
        "texts:",
        "",
        "| FLOPs ratio | foretold, without retraining | after retraining |",
        "|---|---|---|",
    ]
    for before, found in zip(foretold, compressed, strict=True):
        low, high = found["drop_interval_95"]
        lines.append(
            f"| {found['flops_ratio']:.2f}x | {before:+.2f} | {found['drop']:+.2f} ({low:+.2f} to {high:+.2f}) |"
        )
    rank = spearmanr(foretold, [found["drop"] for found in compressed]).statistic
    return [*lines, "", f"Rank correlation (Spearman): {rank:.2f}.", ""]

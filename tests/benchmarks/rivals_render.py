"""What docs/benchmarks.md says of elimination's rivals: a section, and a plot for each task and model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from engine_render import drawing, wrapped
from results import Row

__all__ = ["plot_rivals", "rivals_section"]

_NAMES = {
    "elimination": "elimination",
    "distilbert": "DistilBERT",
    "pkd": "BERT-PKD",
    "head_prune": "Head-Prune",
    "lat": "LAT",
    "ltp": "LTP",
    "tome": "ToMe",
    "random": "random",
    "first": "first",
}
_MARKERS = "osD^vPX*<"


class _Point(NamedTuple):
    """A rival at a strength: how fast it is, and the points that it loses; means over seeds."""

    speed: float
    lost: float


def rivals_section(rows: Sequence[Row]) -> str:
    """The section of the page; nothing where no rival was run."""
    groups = _groups(rows)
    if not groups:
        return ""
    about = (
        "Points lost on test texts, by measured speed without padding, with one fine-tuned model, the same texts, "
        "batches, rates, teacher and epochs (a search counts). The rivals are re-implemented in "
        "`tests/benchmarks/rivals/`, where each file says what its paper does otherwise. What drops or merges "
        "word vectors has the exact cut of the last "
        "layer; of the others a second line shows what it gives them. "
        f"`{min(row['command'] for row in rows if row['kind'] == 'rival')}` makes a run."
    )
    pictures = " ".join(f"![{task}, {model}](benchmarks/{_name(task, model)})" for task, model in groups)
    wins = wrapped(" ".join(_wins(*named, curves) for named, curves in groups.items()))
    return f"\n### Its rivals\n\n{wrapped(about)}\n\n{pictures}\n\n{wins}\n"


def plot_rivals(rows: Sequence[Row], folder: Path) -> bool:
    """Draw what each rival loses by how fast it is; False where matplotlib is missing."""
    groups = _groups(rows)
    plt = drawing() if groups else None
    for (task, model), curves in groups.items() if plt else ():
        figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
        for number, (rival, name) in enumerate(_NAMES.items()):
            own = rival == "elimination"
            style = {
                "marker": _MARKERS[number],
                "color": "black" if own else f"C{number - 1}",
                "linewidth": 2.6 if own else 1.2,
                "markersize": 6 if own else 4,
                "zorder": 3 if own else 2,
            }
            for kind, line in (("", "-"), (" cut", ":")):
                points = curves.get(rival + kind, [])
                if points:
                    label = f"{name}, last layer cut" if kind else name
                    axis.plot(*zip(*points, strict=True), linestyle=line, label=label, **style)
        axis.axhline(1, color="grey", linewidth=0.8, linestyle="--")
        axis.set(xlabel="measured speed-up, no padding", ylabel="points lost on test texts", title=f"{task}, {model}")
        axis.grid(alpha=0.3)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(folder / _name(task, model), metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return plt is not None or not groups


def _groups(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, list[_Point]]]:
    """Of each task and model, the curve of each rival, from slow to fast; also with the last layer cut."""
    found: dict[tuple[str, str], dict[str, dict[float, list[_Point]]]] = {}
    for row in rows:
        if row["kind"] != "rival":
            continue
        curves = found.setdefault((row["task"], row["model"]), {})
        for kind, speed in (("", row["speed"]), (" cut", row.get("cut", {}).get("speed"))):
            if speed is not None:
                seeds = curves.setdefault(row["part"] + kind, {}).setdefault(row["asked"], [])
                seeds.append(_Point(speed["unpadded"], row["test"]["drop"]))
    return {
        named: {
            rival: sorted(_Point(*map(fmean, zip(*seeds, strict=True))) for seeds in strengths.values())
            for rival, strengths in curves.items()
        }
        for named, curves in sorted(found.items())
    }


def _wins(task: str, model: str, curves: dict[str, list[_Point]]) -> str:
    """Where a rival loses less than elimination at its speed, between the dense model and elimination's fastest."""
    own = [_Point(1.0, 0.0), *curves.get("elimination", [])]
    speeds, lost = zip(*sorted(own), strict=True)
    told = []
    for rival, points in curves.items():
        name, _, cut = rival.partition(" ")
        for point in points if name != "elimination" else ():
            other = float(np.interp(point.speed, speeds, lost))
            if speeds[0] <= point.speed <= speeds[-1] and point.lost < other:
                with_cut = " with the cut" if cut else ""
                told.append(f"{_NAMES[name]}{with_cut} at {point.speed:.2f}x ({point.lost:+.2f}, not {other:+.2f})")
    seen = f"On {task} ({model}), up to {speeds[-1]:.2f}x, elimination's fastest here,"
    if not told:
        return f"{seen} none loses less than elimination at its speed."
    return f"{seen} less than elimination lose, at their speed: {', '.join(told)}."


def _name(task: str, model: str) -> str:
    return f"rivals-{re.sub(r'[^a-z0-9]+', '-', f'{task} {model}'.lower())}.svg"

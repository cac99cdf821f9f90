"""Sections that several kinds of reports have; without blocks where a report has nothing to say there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from .charts import Series, histogram, line_chart
from .columns import compared, plain
from .parts import Drawn, Fold, Meters, Section, Table

__all__ = [
    "changes",
    "comparison",
    "environment",
    "flipped",
    "kept",
    "lengths",
    "meters",
    "model_name",
    "slices",
    "spread",
    "training",
]

Parts = Mapping[str, Mapping[str, Any]]
"""What was compared, by the name of its texts."""


def model_name(model: Any) -> str:
    """A model by its last name: a report that is sent around shouldn't say where a directory stands."""
    return "A model in memory" if model is None else PurePath(str(model)).name or str(model)


def changes(flips: Mapping[str, int], joint: str = ", ") -> str:
    """How many answers changed, and how."""
    return (
        f"{flips['changed']} of {flips['total']} answers changed, {flips['broken']} to wrong{joint}{flips['fixed']} to "
        "right"
    )


def comparison(metric: str, parts: Parts, before: Sequence[str] = ()) -> Section:
    """Both models on the same examples, below the sentences ``before``."""
    rows = [([name, f"{part['examples']:,}"], part) for name, part in parts.items()]
    caption = f"{metric}, in points; the interval is a paired bootstrap over examples."
    changed = []
    for name, part in parts.items():
        if part.get("flips"):
            test = "" if part.get("mcnemar_p") is None else f" (McNemar: p = {part['mcnemar_p']:.3g})"
            changed.append(f"{name}: {changes(part['flips'], ' and ')}{test}.")
    table = compared(["texts", "examples"], rows, caption, page=True)
    return Section("What is lost", [*before, *changed, table], "accuracy")


def slices(parts: Parts) -> Section:
    """Where it is lost: by length and by label."""
    tables = []
    for name, part in parts.items():
        rows = [
            ([f"{row['by']}: {row['slice']}", f"{row['examples']:,}", row["metric"]], row)
            for row in part.get("slices", ())
        ]
        if rows:
            caption = f"The {name} texts by length and by label."
            tables.append(compared(["slice", "examples", "metric"], rows, caption, page=True))
    return Section("Where it is lost", tables, "slices")


def flipped(parts: Parts) -> Section:
    """The texts whose answers moved most to the wrong."""
    blocks = []
    for name, part in parts.items():
        rows = part.get("worst_flips")
        if not rows:
            continue
        classes = bool(part.get("flips"))
        said = ["label", "dense", "compressed"]
        moved = (f"{row['before']:.2f} to {row['after']:.2f}" for row in rows)
        cells = [
            [str(row["row"]), "\n\n".join(row["texts"]), *(row[who] for who in said), last]
            for row, last in zip(rows, moved, strict=True)
        ]
        table = Table(
            ["row", "text", *said, "its probability" if classes else "distance"],
            cells,
            "Right before and wrong now, where most was lost first." if classes else "Where the score moved away most.",
            numbers=5,
            texts=(1,),
        )
        blocks.append(Fold(f"{len(rows)} of the {name} texts", [table]))
    return Section("Worst changes", blocks, "flips")


def spread(lengths: Mapping[str, Any]) -> str:
    """How long texts are, in a sentence."""
    return (
        f"{lengths['mean']} tokens on average, median {lengths['median']}, 95 % up to {lengths['p95']}, longest "
        f"{lengths['max']}"
    )


def lengths(parts: Parts) -> Section:
    """How long the texts are."""
    rows, drawn = [], []
    for name, part in parts.items():
        found = part.get("lengths")
        if not found:
            continue
        rows.append([name, *(f"{found[key]:g}" for key in ("mean", "median", "p95", "max"))])
        bins = found.get("histogram")
        chart = histogram(bins["edges"], bins["counts"], "tokens", "texts") if bins else None
        if chart:
            summary = f"{name} texts by length: {found['median']:g} tokens in the middle, {found['max']:g} at most"
            drawn.append(Drawn(chart, f"{name} texts by length, in tokens", summary))
    head = ["texts", "mean", "median", "95th percentile", "longest"]
    tables = [Table(head, rows, "Tokens of a text as the model reads it.")] if rows else []
    return Section("How long the texts are", [*drawn[:1], *tables], "lengths")


def meters(report: Mapping[str, Any], *, short: bool = False) -> Meters:
    """What each layer keeps, beside bars; or in a few words where there is room for no more."""
    retention = report["retention"]
    fractions, values = retention["kind"] == "fraction", retention["keep"]
    rows = [
        (
            f"{layer}" if short else f"layer {layer}",
            value if fractions else value / max(1, *values),
            f"{100 * value:.3g} %" if fractions else f"{value:g}",
        )
        for layer, value in enumerate(values, start=1)
    ]
    if report.get("last_layer_cut_to_first_token"):
        said = "the first" if short else "the first alone, which is all that the head reads"
        rows[-1] = (rows[-1][0], 0.0, said)
    return Meters(rows, "Share of each text's own word vectors." if fractions else "Word vectors of each text.")


def kept(report: Mapping[str, Any], *, short: bool = False) -> Section:
    """The same as a section."""
    return Section("Word vectors kept after each layer", [meters(report, short=short)], "keep")


def training(history: Sequence[Mapping[str, Any]]) -> Section:
    """Loss over the steps of each stage of retraining."""
    stages: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        if entry.get("loss") is not None and "step" in entry:
            stages.setdefault(entry.get("stage", "retrain"), []).append((entry["step"], entry["loss"]))
    chart = line_chart([Series(stage, points) for stage, points in stages.items()], "step", "loss")
    drawn = [Drawn(chart, "loss while retraining", "loss over the steps of retraining")] if chart else []
    return Section("Retraining", drawn, "training")


def environment(report: Mapping[str, Any]) -> Section:
    """Settings, data, versions: what it takes to do it again."""
    blocks = [
        Fold(title, [Table(["name", "value"], rows, numbers=9, texts=(1,))])
        for title, key in (
            ("Settings", "settings"),
            ("Data", "data"),
            ("Machine", "machine"),
            ("Versions", "versions"),
            ("Seconds taken", "seconds"),
            ("Peak memory, GiB", "peak_memory_gib"),
        )
        if (rows := list(_flat(report.get(key))))
    ]
    return Section("How to get this again", blocks, "settings")


def _flat(values: Any, above: str = "") -> Iterable[list[str]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _flat(value, f"{above} {name}".strip().replace("_", " "))
    elif above:
        yield [above, plain(values)]

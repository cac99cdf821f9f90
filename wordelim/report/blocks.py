"""What report pages are made of, and the parts that several of them have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .charts import Figure, Series, histogram, line_chart
from .points import interval, lost, points

__all__ = [
    "Drawn",
    "Fact",
    "Fold",
    "Meters",
    "Section",
    "Table",
    "between",
    "compared",
    "environment",
    "flipped",
    "kept",
    "lengths",
    "plain",
    "signed",
    "slices",
    "training",
]


@dataclass(frozen=True)
class Fact:
    """A figure that the page opens with."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of strings; columns from ``numbers`` on, without those in ``texts``, are figures."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numbers: int = 1
    texts: Sequence[int] = ()
    kind: ClassVar = "table"


@dataclass(frozen=True)
class Meters:
    """Rows of name, share 0..1 and what to write beside it."""

    rows: Sequence[tuple[str, float, str]]
    caption: str = ""
    kind: ClassVar = "meters"


@dataclass(frozen=True)
class Drawn:
    """A chart, what is said below it, and what it shows, for those who don't see it."""

    figure: Figure
    caption: str
    summary: str
    kind: ClassVar = "chart"


@dataclass(frozen=True)
class Fold:
    """Blocks that open on a click."""

    title: str
    blocks: Sequence[Any]
    kind: ClassVar = "fold"


@dataclass(frozen=True)
class Section:
    """A part of a page, with an anchor of its own."""

    name: str
    title: str
    blocks: Sequence[Any]
    intro: Sequence[str] = ()


def signed(difference: float | None) -> str:
    """A difference in points with its sign, a dash where there is none."""
    return lost(difference).replace("-", "\N{MINUS SIGN}")


def between(ends: Sequence[float | None]) -> str:
    """The same of an interval."""
    return interval(ends).replace("-", "\N{MINUS SIGN}")


def compared(metric: str, parts: Mapping[str, Mapping[str, Any]]) -> Section:
    """Both models on the same examples."""
    rows, changes = [], []
    for name, part in parts.items():
        rows.append(
            [
                name,
                f"{part['examples']:,}",
                points(part["dense"]),
                points(part["compressed"]),
                signed(part["drop"]),
                between(part["drop_interval_95"]),
            ]
        )
        flips = part.get("flips")
        if flips:
            test = "" if part.get("mcnemar_p") is None else f" (McNemar: p = {part['mcnemar_p']:.3g})"
            changes.append(
                f"{name}: {flips['changed']} of {flips['total']} answers changed, {flips['broken']} to wrong and "
                f"{flips['fixed']} to right{test}."
            )
    head = ["texts", "examples", "dense", "compressed", "points lost", "95 % interval"]
    table = Table(head, rows, f"{metric}, in points; the interval is a paired bootstrap over examples.")
    return Section("accuracy", "What is lost", [table], changes)


def slices(parts: Mapping[str, Mapping[str, Any]]) -> Section | None:
    """Where it is lost: by length and by label."""
    tables = [
        Table(
            ["slice", "examples", "metric", "dense", "compressed", "points lost"],
            [
                [
                    f"{row['by']}: {row['slice']}",
                    f"{row['examples']:,}",
                    row["metric"],
                    points(row["dense"]),
                    points(row["compressed"]),
                    signed(row["drop"]),
                ]
                for row in part["slices"]
            ],
            f"The {name} texts by length and by label.",
        )
        for name, part in parts.items()
        if part.get("slices")
    ]
    return Section("slices", "Where it is lost", tables) if tables else None


def flipped(parts: Mapping[str, Mapping[str, Any]]) -> Section | None:
    """The texts whose answers moved most to the wrong."""
    blocks = []
    for name, part in parts.items():
        rows = part.get("worst_flips")
        if not rows:
            continue
        classes = bool(part.get("flips"))
        table = Table(
            ["row", "text", "label", "dense", "compressed", "its probability" if classes else "distance"],
            [
                [
                    str(row["row"]),
                    "\n\n".join(row["texts"]),
                    row["label"],
                    row["dense"],
                    row["compressed"],
                    f"{row['before']:.2f} to {row['after']:.2f}",
                ]
                for row in rows
            ],
            "Right before and wrong now, where most was lost first." if classes else "Where the score moved away most.",
            numbers=5,
            texts=(1,),
        )
        blocks.append(Fold(f"{len(rows)} of the {name} texts", [table]))
    return Section("flips", "Worst changes", blocks) if blocks else None


def lengths(parts: Mapping[str, Mapping[str, Any]]) -> Section | None:
    """How long the texts are."""
    rows, drawn = [], []
    for name, part in parts.items():
        spread = part.get("lengths")
        if not spread:
            continue
        rows.append([name, *(f"{spread[key]:g}" for key in ("mean", "median", "p95", "max"))])
        bins = spread.get("histogram")
        if bins:
            chart = histogram(
                bins["edges"],
                bins["counts"],
                "tokens",
                "texts",
            )
            summary = f"{name} texts by length: {spread['median']:g} tokens in the middle, {spread['max']:g} at most"
            drawn += [Drawn(chart, f"{name} texts by length, in tokens", summary)] if chart else []
    if not rows:
        return None
    table = Table(
        ["texts", "mean", "median", "95th percentile", "longest"], rows, "Tokens of a text as the model reads it."
    )
    return Section("lengths", "How long the texts are", [*drawn[:1], table])


def kept(retention: Mapping[str, Any], first_token: bool) -> Section:
    """What leaves each layer."""
    fractions, rows = retention["kind"] == "fraction", []
    for layer, value in enumerate(retention["keep"], start=1):
        share = value if fractions else value / max(1, *retention["keep"])
        said = f"{100 * value:.3g} %" if fractions else f"{value:g}"
        if first_token and layer == len(retention["keep"]):
            share, said = 0.0, "the first alone, which is all that the head reads"
        rows.append((f"layer {layer}", share, said))
    caption = "Share of each text's own word vectors." if fractions else "Word vectors of each text."
    return Section("keep", "Word vectors kept after each layer", [Meters(rows, caption)])


def training(history: Sequence[Mapping[str, Any]], metric: str) -> Section | None:
    """Loss and points over the steps of each stage of retraining."""
    blocks = []
    for key, label in (("loss", "loss"), ("eval_points", f"{metric}, validation")):
        stages: dict[str, list[tuple[float, float]]] = {}
        for entry in history:
            if entry.get(key) is not None and "step" in entry:
                stages.setdefault(entry.get("stage", "retrain"), []).append((entry["step"], entry[key]))
        curves = [Series(stage, points) for stage, points in stages.items()]
        chart = line_chart(curves, "step", label)
        blocks += [Drawn(chart, f"{label} while retraining", f"{label} over the steps of retraining")] if chart else []
    return Section("training", "Retraining", blocks) if blocks else None


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
        )
        if (rows := list(_flat(report.get(key))))
    ]
    return Section("settings", "How to get this again", blocks)


def _flat(values: Any, above: str = "") -> Iterable[list[str]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _flat(value, f"{above} {name}".strip().replace("_", " "))
    elif above:
        yield [above, plain(values)]


def plain(value: Any) -> str:
    """A value as a reader would write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "–"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)

"""Tables and plot of docs/benchmarks-engine.md: the engine and exported programs, of the runs that are shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results import ENGINE, Row

__all__ = ["DTYPES", "drawing", "engine_tables", "export_tables", "plot", "table", "wrapped"]

DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_TASKS = {"sst2": "SST-2", "mrpc": "MRPC", "imdb": "IMDB"}
# Key of a ratio of exported programs, its title, and the two that it compares.
_EXPORTED = (
    ("fp32", "fp32", "dense-fp32", "compressed-fp32"),
    ("int8", "int8", "dense-int8", "compressed-int8"),
    ("compressed_int8_over_dense_fp32", "int8 over dense fp32", "dense-fp32", "compressed-int8"),
)


def table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (columns, ["---"] * len(columns), *rows))


def wrapped(text: str) -> str:
    """A paragraph as wide as the page's others."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def engine_tables(rows: Sequence[Row]) -> dict[str, str]:
    """The engine's tables, by their places in engine_page.md."""
    runs = {row["part"]: row for row in rows if row["kind"] == "engine"}
    cells = {part: runs[part]["rows"] if part in runs else [] for part in ENGINE}
    return {
        "keep_all": _kept(cells["keep-all"]),
        "unpadded": _pivot(
            "texts, and their padded over their real tokens",
            (
                (
                    f"{_texts(row)}: {row['padding']:.2f}",
                    DTYPES[row["dtype"]],
                    "{:.2f}x ({:.2f}x)".format(*(row["speedup"][name] for name in ("uncut", "cut"))),
                )
                for row in cells["unpadded"]
            ),
        ),
        "dropped": _pivot(
            "",
            (
                cell
                for row in (*cells["batch1"], *cells["rte"])
                for name, ratio in (
                    ("FLOPs", "flops_ratio"),
                    (f"{DTYPES[row['dtype']]}, batch {row['batch']}", "speedup"),
                )
                for cell in [(name, f"{row['tokens']} tokens", f"{row[ratio]['compressed']:.2f}x")]
            ),
        ),
        "families": _families(cells["families"]),
        "paper": _paper(cells["paper"]),
        "training": _pivot(
            "texts", ((_texts(row), f"batches {row['batches']}", f"{row['speedup']:.2f}x") for row in cells["training"])
        ),
    }


def _kept(rows: Sequence[dict[str, Any]]) -> str:
    """The time of the rewritten model that drops nothing over the dense one's, and with the last layer cut."""
    times = [sorted(1 / row["speedup"][name] for row in rows) or [1.0] for name in ("uncut", "cut")]
    return " (".join(f"{of[0]:.2f} to {of[-1]:.2f}" for of in times) + ")"


def _texts(row: dict[str, Any]) -> str:
    return f"{_TASKS[row['task']]}, {row['max_length']} tokens"


def _pivot(corner: str, cells: Iterable[tuple[str, str, str]]) -> str:
    """A table of cells that are each given with the name of their row and of their column."""
    found: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row, column, cell in cells:
        found.setdefault(row, {})[column] = cell
        columns[column] = None
    return table((corner, *columns), ((row, *(of.get(name, "-") for name in columns)) for row, of in found.items()))


def _families(rows: Sequence[dict[str, Any]]) -> str:
    """What families of base size gain; nothing where it wasn't measured."""
    if not rows:
        return ""
    rounds = sorted(row["rounds"] for row in rows)
    about = (
        "The same of families of base size, as the search leaves them (linear maps, packages), fp32, batches of 8: "
        f"measured, of the FLOPs ratio; medians of {rounds[0]} to {rounds[-1]} rounds, so few that chance shows."
    )
    cells = (
        (
            f"{row['tokens']} tokens",
            row["shape"],
            f"{row['speedup']['mapped']:.2f}x of {row['flops_ratio']['mapped']:.2f}x",
        )
        for row in rows
    )
    return f"\n\n{wrapped(about)}\n\n{_pivot('', cells)}"


def _paper(rows: Sequence[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        fixed, dynamic, kept = (row["against"][name] for name in ("fixed", "dynamic", "keep-all"))
        factors = fixed["factors"]
        cells.append(
            (
                f"{_TASKS[row['task']]}, padded to {row['fixed_length']}",
                ", ".join(f"{value:.3g}" for value in row["retention"]["keep"]),
                f"{fixed['speedup']['median']:.2f}x",
                f"{factors['padding']:.2f} × {factors['last_layer']:.2f} × {factors['dropping']:.2f}",
                f"{dynamic['speedup']['median']:.2f}x",
                f"{kept['speedup']['median']:.2f}x ({kept['flops_ratio']:.2f}x)",
            )
        )
    columns = ("task", "kept", "fixed", "= no padding × last layer cut × dropping", "dynamic", "dropping alone (FLOPs)")
    return table(columns, cells)


def export_tables(rows: Sequence[Row]) -> dict[str, str]:
    """The table of exported programs and what is said around it, by their places in engine_page.md."""
    runs = [row for row in rows if row["kind"] == "export"]
    cells: list[tuple[str, ...]] = []
    for row in runs:
        timed = {f"batch {found['batch']}, {found['tokens']} tokens": found for found in row.get("rows", ())}
        timed |= {name.replace("_", " "): row[name] for name in ("batches_of_8", "one_by_one") if name in row}
        for texts, found in timed.items():
            cells.append((row["task"], texts, *(f"{found[key]:.2f}x" for key, *_ in _EXPORTED)))
        if accuracy := row.get("accuracy"):
            lost = (f"{accuracy[slow] - accuracy[fast]:+.2f}" for *_, slow, fast in _EXPORTED)
            cells.append((row["task"], f"points lost, {row['examples']} texts", *lost))
    return {
        "export": table(("model", "texts", *(title for _, title, *_ in _EXPORTED)), cells),
        "export_about": wrapped(
            " ".join(
                (
                    *(f"{row['task']}: {row['note']}" for row in runs if row.get("note")),
                    min((row["about"] for row in runs), key=len, default=""),
                )
            )
        ),
    }


def drawing() -> Any:
    """matplotlib's pyplot, set up so that the same plot gives the same file; None where it is missing."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "wordelim", "svg.fonttype": "none", "font.size": 9})
    return plt


def plot(rows: Sequence[Row], path: Path) -> bool:
    """Draw how time grows; False where matplotlib is missing."""
    plt = drawing()
    if plt is None:
        return False
    cells = [cell for row in rows if row["kind"] == "engine" and row["part"] == "growth" for cell in row["rows"]]
    by = {sweep: [cell for cell in cells if cell["sweep"] == sweep] for sweep in ("length", "batch", "elimination")}
    if not all(by.values()):
        return True
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    names = {"dense": "dense, SDPA", "cut": "nothing dropped", "compressed": "compressed"}
    for axis, sweep, key in ((axes[0], "length", "tokens"), (axes[1], "batch", "batch")):
        rows = by[sweep]
        for name, label in names.items():
            texts = [row["milliseconds"][name] / row["batch"] for row in rows]
            axis.plot([row[key] for row in rows], texts, marker="o", markersize=3, label=label)
        axis.set(xscale="log", yscale="log", ylabel="ms per text")
        axis.set_xticks([row[key] for row in rows], [str(row[key]) for row in rows])
        axis.minorticks_off()
    axes[0].set(xlabel=f"tokens (batch {by['length'][0]['batch']})")
    axes[1].set(xlabel=f"batch ({by['batch'][0]['tokens']} tokens)")
    axes[0].legend(frameon=False)
    rows = by["elimination"]
    flops, speedups = ([row[name]["compressed"] for row in rows] for name in ("flops_ratio", "speedup"))
    axes[2].plot(flops, speedups, marker="o", markersize=3)
    axes[2].plot([1, max(flops)], [1, max(flops)], linestyle=":", color="grey", label="as fast as the FLOPs say")
    axes[2].set(xlabel="FLOPs ratio", ylabel="measured speed-up")
    axes[2].legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return True

"""The engine's part of docs/benchmarks.md: tables and plots from docs/benchmarks/engine-PART.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["engine_section"]

_TASKS = {"sst2": "SST-2", "mrpc": "MRPC", "imdb": "IMDB"}
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def engine_section(results: Path) -> str:
    """Every part whose result lies in ``results``, in Markdown; plots are written beside the results."""
    tables = {
        "keep-all": _keep_all,
        "unpadded": _unpadded,
        "rte": _rte,
        "batch1": _rte,
        "gpu": _rte,
        "training": _training,
        "memory": _memory,
        "paper": _paper,
        "growth": _growth,
    }
    lines: list[str] = []
    for part, table in tables.items():
        path = results / f"engine-{part}.json"
        if path.exists():
            result = json.loads(path.read_text())
            lines += ["", *table(result, results), "", _about(result), "", "```sh", result["command"], "```"]
    return "\n".join(["## The engine", *lines]) + "\n" if lines else ""


def _about(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    speeds = ", ".join(f"{_DTYPES[name]} {speed:g} GFLOP/s" for name, speed in result["gflops"].items())
    bf16 = "" if result["bf16_is_native"] or "bfloat16" not in result["gflops"] else "; bf16 is emulated here"
    return (
        f"{machine.get('card', machine['device'])}, {machine['threads']} threads, {machine['processor']}"
        + (f" (matrix products: {speeds}{bf16})" if speeds else "")
        + f"; torch {versions['torch']}, transformers {versions['transformers']}."
        + (f" {result['note']}" if "note" in result else "")
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]


def _shape(name: str) -> str:
    return {"bert-base": "BERT-base", "bert-large": "BERT-large", "minilm-l6": "MiniLM-L6"}.get(name, name)


def _measured(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("rounds", 1)]


def _keep_all(result: dict[str, Any], results: Path) -> list[str]:
    rows = [
        (
            _shape(row["shape"]),
            row["batch"],
            row["tokens"],
            _DTYPES[row["dtype"]],
            f"{1 / row['speedup']['uncut']:.3f}",
            f"{1 / row['speedup']['cut']:.3f}",
            row["rounds"],
        )
        for row in _measured(result["rows"])
    ]
    columns = ("model", "batch", "tokens", "dtype", "time over dense", "the same with the last layer cut", "rounds")
    return [
        "### Nothing dropped costs nothing",
        "",
        "Time of the rewritten model that keeps everything over the dense model under SDPA, no padding, random "
        "weights; first without, then with the exact cut of the last layer to the first token.",
        "",
        *_table(columns, rows),
    ]


def _unpadded(result: dict[str, Any], results: Path) -> list[str]:
    rows = [
        (
            f"{_TASKS[row['task']]}, {row['max_length']} tokens",
            _DTYPES[row["dtype"]],
            f"{row['padding']:.2f}",
            f"{row['speedup']['uncut']:.2f}x",
            f"{row['speedup']['uncut'] / row['padding']:.2f}",
            f"{row['speedup']['cut']:.2f}x",
            f"{row['difference']:.0e}",
            row["rounds"],
        )
        for row in _measured(result["rows"])
    ]
    columns = (
        "texts",
        "dtype",
        "padded / real tokens",
        "speed-up",
        "of it",
        "with the last layer cut",
        "largest difference of logits",
        "rounds",
    )
    return [
        "### Padding costs nothing",
        "",
        "Random batches of 32 real texts through a BERT-base with random weights: the packed layout, with nothing "
        "dropped, over the dense model that pads each batch to its longest text.",
        "",
        *_table(columns, rows),
    ]


def _rte(result: dict[str, Any], results: Path) -> list[str]:
    title = {
        "rte": "Dropped word vectors show on the clock",
        "batch1": "One text at a time",
        "gpu": f"On a card: {result['machine'].get('card', result['machine']['device'])}",
    }[result["part"]]
    rows = []
    for row in _measured(result["rows"]):
        speedup, flops = row["speedup"]["compressed"], row["flops_ratio"]["compressed"]
        layout = f", {row['layout']}" if "layout" in row else ""
        rows.append(
            (
                f"{_shape(row['shape'])}{layout}",
                row["batch"],
                row["tokens"],
                _DTYPES[row["dtype"]],
                f"{row['milliseconds']['dense']:.1f}",
                f"{row['milliseconds']['compressed']:.1f}",
                f"{speedup:.2f}x",
                f"{flops:.2f}x",
                f"{speedup / flops:.2f}",
                row["rounds"],
            )
        )
    columns = (
        "model",
        "batch",
        "tokens",
        "dtype",
        "dense, ms",
        "compressed, ms",
        "speed-up",
        "FLOPs ratio",
        "measured / FLOPs",
        "rounds",
    )
    return [
        f"### {title}",
        "",
        "The paper's retention for RTE (153, 125, 111, 105, 85, 80, 72, 48, 35, 27, 22, 5 of 256, as fractions; "
        "stretched over the layers of BERT-large), random weights, texts of equal length: no padding on either side.",
        "",
        *_table(columns, rows),
    ]


def _training(result: dict[str, Any], results: Path) -> list[str]:
    rows = [
        (
            f"{_TASKS[row['task']]}, {row['max_length']} tokens",
            row["batches"],
            f"{row['padding']:.2f}",
            f"{row['speedup']:.2f}x",
            row["rounds"],
        )
        for row in result["rows"]
    ]
    return [
        "### Training",
        "",
        "Forward and backward of MiniLM-L6's shape in fp32, with the paper's retention for RTE, in batches of 32 real "
        "texts: the packed layout over the padded one.",
        "",
        *_table(("texts", "batches", "padded / real tokens", "speed-up", "rounds"), rows),
    ]


def _memory(result: dict[str, Any], results: Path) -> list[str]:
    rows = []
    for row in result["rows"]:
        peaks = [row[name]["inputs"] + row[name]["more"] for name in ("sdpa", "eliminating")]
        rows.append(
            (
                row["batch"],
                row["tokens"],
                *(f"{peak:.0f}" for peak in peaks),
                f"{peaks[1] / peaks[0]:.2f}",
                f"{row['batch'] * 12 * row['tokens'] ** 2 * 4 / 1e6:.0f}",
            )
        )
    columns = ("batch", "tokens", "SDPA, MB", "eliminating, MB", "ratio", "all attention probabilities would be, MB")
    return [
        "### Memory of attention",
        "",
        "Peak of one attention of BERT-base, fp32, query, key and value included: one that keeps everything under "
        f"SDPA, and one that scores and keeps {100 * result['rows'][0]['keep']:.0f} %.",
        "",
        *_table(columns, rows),
    ]


def _paper(result: dict[str, Any], results: Path) -> list[str]:
    rows = []
    for row in result["rows"]:
        fixed, dynamic, kept = (row["against"][name] for name in ("fixed", "dynamic", "keep-all"))
        factors = fixed["factors"]
        rows.append(
            (
                _TASKS[row["task"]],
                row["fixed_length"],
                row["texts"],
                f"{fixed['speedup']['median']:.2f}x",
                f"{factors['padding']:.2f} × {factors['last_layer']:.2f} × {factors['dropping']:.2f}",
                f"{100 * fixed['padding_share']:.0f} %",
                f"{dynamic['speedup']['median']:.2f}x",
                f"{kept['speedup']['median']:.2f}x ({kept['flops_ratio']:.2f}x)",
                row["rounds"],
            )
        )
    columns = (
        "task",
        "padded to",
        "batch",
        "speed-up",
        "= no padding × last layer cut × dropping",
        "share of padding",
        "over dynamic padding",
        "by dropping alone (FLOPs)",
        "rounds",
    )
    notes = [
        f"{_TASKS[row['task']]}: {row['about']} ({', '.join(f'{value:.3g}' for value in row['retention']['keep'])})."
        for row in result["rows"]
    ]
    return [
        "### The paper's protocol",
        "",
        "MiniLM-L6, fp32, one batch: the compressed model over the dense one that pads every text to a fixed length, "
        f"and what that is made of. Retention: {' '.join(notes)}",
        "",
        *_table(columns, rows),
    ]


def _growth(result: dict[str, Any], results: Path) -> list[str]:
    rows = _measured(result["rows"])
    by = {sweep: [row for row in rows if row["sweep"] == sweep] for sweep in ("length", "batch", "elimination")}
    _plot(by, results / "engine-growth.svg")
    table = [
        (
            row["batch"],
            row["tokens"],
            *(f"{row['milliseconds'][name]:.1f}" for name in ("dense", "cut", "compressed")),
            f"{row['speedup']['compressed']:.2f}x",
            row["rounds"],
        )
        for row in (*by["length"], *by["batch"])
    ]
    curve = [
        (f"{row['factor']:g}", f"{row['flops_ratio']['compressed']:.2f}x", f"{row['speedup']['compressed']:.2f}x")
        for row in by["elimination"]
    ]
    return [
        "### How time grows",
        "",
        f"{_shape(rows[0]['shape'])} with random weights, fp32, no padding: with the length, with the batch, and with "
        "what is dropped. Compressed: RTE's fractions of the paper.",
        "",
        "![How time grows with length, batch and elimination](benchmarks/engine-growth.svg)",
        "",
        *_table(("batch", "tokens", "dense, ms", "nothing dropped, ms", "compressed, ms", "speed-up", "rounds"), table),
        "",
        *_table(("each layer keeps, of what enters it", "FLOPs ratio", "speed-up"), curve),
    ]


def _plot(by: dict[str, list[dict[str, Any]]], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("No plot: pip install -e '.[benchmarks]' for matplotlib.", file=sys.stderr)
        return
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "wordelim", "svg.fonttype": "none", "font.size": 9})
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

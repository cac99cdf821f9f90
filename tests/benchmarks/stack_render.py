"""What docs/benchmarks.md says of fewer layers, elimination and int8 on top of each other."""

from __future__ import annotations

from collections.abc import Sequence

from engine_render import table, wrapped
from results import Row

__all__ = ["stack_section"]

_ENGINES = {"torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
_PRECISIONS = ("fp32", "int8")


def stack_section(rows: Sequence[Row]) -> str:
    """The section of the page; nothing where no stack was measured."""
    runs = [row for row in rows if row["kind"] == "stack"]
    if not runs:
        return ""
    cells = [
        (
            run["task"],
            _name(run, name),
            *(_cell(run, engine, f"{name} {of}") for engine in _ENGINES for of in _PRECISIONS),
        )
        for run in runs
        for name in run["layers"]
    ]
    columns = (f"{title} {of}" for title in _ENGINES.values() for of in _PRECISIONS)
    others = [
        row["kept_otherwise"]
        for run in runs
        for models in run["engines"].values()
        for name, row in models.items()
        if name.endswith(_PRECISIONS[1]) and "kept_otherwise" in row
    ]
    about = (
        "Over the dense model in fp32 in the same engine, in batches of texts of one length, and in brackets the "
        "points that are lost on all test texts: "
        + "; ".join(
            f"{run['task']} ({run['metric']}, {run['model']}, {run['tokens']:.0f} tokens on average, batches of "
            f"{run['batch_size']}, {run['threads']} threads)"
            for run in runs
        )
        + ". *distilled* has fewer layers, *eliminated* drops word vectors, *both* is the compressed student."
    )
    if others:
        least, most = (f"{100 * of:.1f}" for of in (min(others), max(others)))
        about += f" In int8 {least} to {most} % of the word vectors that are kept in fp32 give way to others."
    made = wrapped(f"`{runs[0]['command']}` makes it.")
    shown = table(("task", "model", *columns), cells)
    return f"\n## On top of fewer layers and int8\n\n{wrapped(about)}\n\n{shown}\n\n{made}\n"


def _name(run: Row, name: str) -> str:
    """A model, with its layers and what it drops."""
    ratio = run["flops_ratio"].get(name)
    return f"{name}, {run['layers'][name]} layers" + (f", FLOPs {ratio:.2f}x" if ratio else "")


def _cell(run: Row, engine: str, name: str) -> str:
    row = run["engines"].get(engine, {}).get(name)
    return "-" if row is None else f"{row['speed']:.2f}x ({row['drop']:+.2f})"

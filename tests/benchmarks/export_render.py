"""The section of docs/benchmarks.md on exported programs, from what export.py leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["export_section"]

# Key of a ratio, its title, and the two programs that it compares.
_RATIOS = (
    ("fp32", "fp32", "dense-fp32", "compressed-fp32"),
    ("int8", "int8", "dense-int8", "compressed-int8"),
    ("dense_int8_over_fp32", "dense: int8 over fp32", "dense-fp32", "dense-int8"),
    ("compressed_int8_over_dense_fp32", "compressed int8 over dense fp32", "dense-fp32", "compressed-int8"),
)


def export_section(results: Path) -> str | None:
    """Tables of what export.json holds, or None where there is none."""
    path = results / "export.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    lines = [
        "## Exported to ONNX Runtime",
        "",
        "How many times faster than the dense model, exported and run in the same way: both with ONNX Runtime's own "
        "operators for attention (where nothing is dropped), normalisation and GELU.",
    ]
    if "shape" in result:
        shape = result["shape"]
        lines += ["", shape["about"], "", *_table(("batch", "tokens"), shape["rows"])]
        lines += ["", "```sh", "python tests/benchmarks/export.py --work WORK", "```"]
    for name, real in result.get("real", {}).items():
        lengths, note = real["lengths"], f"{real['note']} ".lstrip()
        rows = [
            {"texts": f"batches of {size}" if size > 1 else "one by one", **real[part]}
            for part, size in (("batches_of_8", 8), ("one_by_one", 1))
        ]
        lines += [
            "",
            f"### {name}, exported",
            "",
            f"{real['about']} Texts have {lengths['mean']} tokens on average, {lengths['max']} at most; batches are "
            f"random and padded to their longest text. {note}Accuracy, in points, is of {real['examples']} texts.",
            "",
            *_table(("texts",), rows),
            _lost(real["accuracy"]),
            "",
            "```sh",
            f"python tests/benchmarks/export.py --work WORK --model {name}=DENSE:COMPRESSED:DATA"
            + (f' --note "{real["note"]}"' if real["note"] else ""),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _table(keys: tuple[str, ...], rows: list[dict[str, Any]]) -> list[str]:
    titles = (*keys, *(title for _, title, *_ in _RATIOS), "dense fp32, ms a batch")
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        dense = row["milliseconds"]["dense-fp32"]
        cells = [*(str(row[key]) for key in keys), *(f"{row[key]:.2f}x" for key, *_ in _RATIOS), f"{dense:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _lost(accuracy: dict[str, float]) -> str:
    """The table's last row: points of accuracy lost by each comparison."""
    cells = [f"{accuracy[slow] - accuracy[fast]:+.2f}" for *_, slow, fast in _RATIOS]
    return f"| accuracy lost | {' | '.join(cells)} | dense fp32: {accuracy['dense-fp32']:.2f} |"

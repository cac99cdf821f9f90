"""What an export came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parts import Section, pairs

__all__ = ["brief"]


def brief(report: Mapping[str, Any]) -> list[Section]:
    """What was exported, how far it is from its model, and how fast it is where that was measured."""
    parity, precision = report["parity"], "int8" if report["int8"] else "fp32"
    rows = [
        ("program", f"{report['format']}, {precision}, opset {report['opset']}, {report['megabytes']:.1f} MB"),
        ("compared", f"{parity['examples']} texts through the model and the program"),
        ("logits", f"differ by {parity['largest_difference']:.1e} at most"),
    ]
    if parity["kept"]:
        rows.append(("kept", f"{parity['kept_otherwise']} of {parity['kept']} word vectors otherwise"))
    for part, name in (("latency", "one text at a time"), ("batches_of_8", "batches of 8")):
        for dense, ratio in report.get("speed", {}).get(part, {}).items():
            rows.append((f"{ratio:.2f}x", f"faster than the dense model in {dense[-4:]}, {name}"))
    return [Section("Exported", [pairs(rows)])]

"""What is found in a model's directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .columns import plain
from .parts import Section, pairs
from .sections import meters

__all__ = ["brief"]


def brief(found: Mapping[str, Any]) -> list[Section]:
    """Whether and where a model can be served."""
    rows: dict[str, Any] = {name.replace("_", " "): plain(value) for name, value in found.items()}
    compressed = found["retention"] is not None
    rows["retention"] = meters(found, short=True) if compressed else "everything (not compressed)"
    rows["splices"] = "\n".join(f"{layer}: {place}" for layer, place in enumerate(found["splices"], start=1))
    ratios = found["flops_ratio"].items()
    rows["flops ratio"] = ", ".join(f"{ratio:.2f}x at {length} tokens" for length, ratio in ratios)
    names = {"retention": "kept after each layer", "splices": "drops after the attention of layer"}
    return [Section("wordelim inspect", [pairs((names.get(name, name), value) for name, value in rows.items())])]

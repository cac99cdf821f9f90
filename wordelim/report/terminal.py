"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..explain import Explanation

__all__ = ["print_inspection", "print_plan", "print_result", "print_survival"]


def _pairs(title: str, rows: Mapping[str, Any]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    Console().print(table)


def print_result(report: Mapping[str, Any]) -> None:
    """What a compression came to: points before and after, FLOPs, measured speed, word vectors kept."""
    table = Table(title="wordelim", title_justify="left")
    for column in ("texts", "examples", "dense", "compressed", "lost (95 % interval)", "FLOPs ratio"):
        table.add_column(column, justify="left" if column == "texts" else "right")
    for name in ("validation", "test"):
        if name in report:
            part = report[name]
            low, high = part["drop_interval_95"]
            table.add_row(
                f"{name} ({report['metric']})",
                str(part["examples"]),
                f"{part['dense']:.2f}",
                f"{part['compressed']:.2f}",
                f"{part['drop']:+.2f} ({low:+.2f} to {high:+.2f})",
                f"{part['flops_ratio']:.2f}x",
            )
    Console().print(table)
    retention = report["retention"]
    rows = {"kept after each layer": "  ".join(f"{value:g}" for value in retention["keep"])}
    speed = report.get("speed")
    if speed:
        protocol = f"batch {speed['batch_size']}, {speed['threads']} threads, {speed['dtype']}, {speed['texts']} texts"
        rows[f"speed-up ({protocol})"] = (
            f"{speed['unpadded']:.2f}x in batches of equal length, {speed['dynamic']:.2f}x padded to the longest text, "
            f"{speed['fixed']:.2f}x over a dense model padded to {speed['max_length']}"
        )
    rows["time"] = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report["seconds"].items())
    _pairs("", rows)


def print_plan(plan: Mapping[str, Any]) -> None:
    """What a compression would do."""
    _pairs("nothing is written: this is what would be done", plan)


def print_inspection(found: Mapping[str, Any]) -> None:
    """Whether and where a model can be served."""
    rows = dict(found)
    rows["splices"] = "\n".join(f"layer {layer}: {place}" for layer, place in enumerate(found["splices"]))
    rows["flops_ratio"] = ", ".join(f"{ratio}x at {length} tokens" for length, ratio in found["flops_ratio"].items())
    _pairs("wordelim inspect", {name.replace("_", " "): value for name, value in rows.items()})


def print_survival(explanation: Explanation) -> None:
    """One text, each token as strong as the number of layers that it survives."""
    styles = ("grey46", "grey62", "none", "bold", "bold green")
    text = Text()
    for token, depth in zip(explanation.tokens, explanation.depth, strict=True):
        joined = token.startswith("##")
        text.append(token.removeprefix("##") if joined else f" {token}", styles[_step(depth, explanation, styles)])
    Console().print(Text("Which words survive (the stronger, the deeper):", style="bold"), text)
    table = Table(title_justify="left", show_header=False)
    for layer in range(explanation.layers):
        left = [token for token, depth in zip(explanation.tokens, explanation.depth, strict=True) if depth > layer]
        shown = " ".join(left[:12]) + (" ..." if len(left) > 12 else "")
        table.add_row(f"after layer {layer}", str(len(left)), Text(shown))
    Console().print(table, Text(f"The model says: {explanation.label}"))


def _step(depth: int, explanation: Explanation, styles: tuple[str, ...]) -> int:
    return depth * (len(styles) - 1) // max(1, explanation.layers)

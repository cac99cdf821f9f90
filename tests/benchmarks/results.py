"""The runs that the docs show: one line each in docs/benchmarks/results.jsonl, made of what the scripts leave."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ENGINE", "RESULTS", "ROOT", "SHOWN", "Row", "identity", "lines", "merged", "read_rows"]

Row = dict[str, Any]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmark-results"
"""Where the scripts leave their files unless told otherwise; git ignores it."""
SHOWN = ROOT / "docs" / "benchmarks" / "results.jsonl"

ENGINE = ("keep-all", "unpadded", "rte", "batch1", "families", "paper", "training", "growth")
"""The engine's parts that are shown, in the page's order."""


def read_rows() -> list[Row]:
    """The runs that are shown now."""
    return [json.loads(line) for line in SHOWN.read_text(encoding="utf-8").splitlines()]


def lines(rows: Sequence[Row]) -> str:
    """The runs as the file holds them."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def identity(row: Row) -> tuple[Any, ...]:
    """What one run has for itself: of two with the same, the later replaces the earlier.

    ``part`` says both the method that chose the counts and what decides which word vectors stay.
    """
    return tuple(row.get(name) for name in ("kind", "task", "model", "part", "asked", "seed"))


def merged(rows: Sequence[Row], folder: Path) -> list[Row]:
    """``rows`` with what lies in ``folder`` added, or put in place of the same run; sorted.

    Raises:
        SystemExit: nothing in ``folder`` can be shown, a run there isn't timed yet, or two files hold the same run.
    """
    found: dict[tuple[Any, ...], tuple[Row, str]] = {}
    for path in sorted(folder.glob("*.json")):
        for row in _rows(path.stem, json.loads(path.read_text(encoding="utf-8"))):
            _, other = found.setdefault(identity(row), (row, path.name))
            if other != path.name:
                raise SystemExit(f"{path.name} and {other} in {folder} hold the same run: take one of them away.")
    if not found:
        raise SystemExit(f"{folder} holds no run that the docs can show: name a folder that the scripts wrote to.")
    kept = [row for row in rows if identity(row) not in found]
    return sorted([*kept, *(row for row, _ in found.values())], key=_order)


def _order(row: Row) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in identity(row))


def _rows(name: str, result: dict[str, Any]) -> list[Row]:
    """What the docs need of a file; [] of one that they don't show."""
    kind, _, part = name.partition("-")
    if kind in ("glue", "head"):
        if "speed" not in result:
            raise SystemExit(f"{name}.json isn't timed yet: call its script with --time-only.")
        return [_run(kind, result)]
    if kind == "rival":
        return [_rival(result)]
    if kind == "stack":
        names = ("task", "model", "metric", "layers", "tokens", "examples", "flops_ratio", "batch_size", "threads")
        names += ("rounds", "engines", "note", "command")
        told = ("torch", "transformers", "onnxruntime", "openvino")
        versions = {name: result["versions"][name] for name in told if name in result["versions"]}
        return [{"kind": kind, **{name: result[name] for name in names if name in result}, "versions": versions}]
    if kind == "engine" and part in ENGINE:
        versions = {name: result["versions"][name] for name in ("torch", "transformers")}
        more = {name: result[name] for name in ("gflops", "machine", "note") if name in result}
        cells = [
            {name: value for name, value in row.items() if name != "texts_per_second"}
            for row in result["rows"]
            if row.get("rounds", 1)  # 0 where one would have taken too long
        ]
        return [{"kind": kind, "part": part, "command": result["command"], **more, "versions": versions, "rows": cells}]
    if name == "export":
        shape = {"BERT-base": result["shape"]} if "shape" in result else {}
        return [{"kind": name, "task": task, **_slim(row)} for task, row in {**shape, **result.get("real", {})}.items()]
    return []


def _run(kind: str, result: dict[str, Any]) -> Row:
    """One model that was compressed."""
    test, settings, speed = result["test"], result["settings"], result["speed"]
    told = re.search(r" --target-speedup (\S+)", result["command"])  # with given counts it is no setting
    names = ("examples", "dense", "drop", "drop_interval_95", "flops_ratio")
    return {
        "kind": kind,
        **{name: result[name] for name in ("task", "model", "part")},
        "asked": settings["target_speedup"] or (float(told[1]) if told else None),
        "seed": settings["seed"],
        **{name: result[name] for name in ("metric", "paper", "met")},
        "keep": result["retention"]["keep"],
        "validation": {"drop": result["validation"]["drop"]},
        "test": {name: test[name] for name in names} | {"tokens": test["lengths"]["mean"]},
        "speed": speed,
        "seconds": {name: result["seconds"].get(name, 0) for name in ("search", "choose and retrain")},
        "versions": {name: result["versions"][name] for name in ("torch", "transformers")},
        **({"card": card} if (card := result.get("machine", {}).get("card")) else {}),
        **({"note": result["note"]} if "note" in result else {}),
        "command": result["command"],
    }


def _rival(result: dict[str, Any]) -> Row:
    """One model that was made in a rival's way; ``asked`` is its strength."""
    names = ("metric", "speed", "cut", "cpu_seconds", "note")
    return {
        "kind": "rival",
        **{name: result[name] for name in ("task", "model")},
        "part": result["rival"],
        "asked": result["strength"],
        "seed": result["seed"],
        "validation": {"drop": result["validation"]["drop"]},
        "test": {name: value for name, value in result["test"].items() if name != "compressed"},
        **{name: result[name] for name in names if name in result},
        "versions": {name: result["versions"][name] for name in ("torch", "transformers")},
        "command": result["command"],
    }


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    """An exported model's row without the histogram of its texts."""
    lengths = {name: row["lengths"][name] for name in ("mean", "max")} if "lengths" in row else None
    return {**row, **({"lengths": lengths} if lengths else {})}

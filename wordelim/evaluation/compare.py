"""Compare two models' answers to the same examples: what is lost, how sure that is, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from ..tasks import Task
from ..tasks.metrics import Metric
from .statistics import flips, mcnemar, paired_bootstrap

__all__ = ["compare"]

Array = npt.NDArray[Any]


def compare(
    task: Task, metric: Metric, dense: Array, compressed: Array | None, encoded: datasets.Dataset, *, seed: int = 0
) -> dict[str, Any]:
    """What it costs to answer `compressed` instead of `dense`, as plain data for a report; points throughout.

    Args:
        task: what the models are asked.
        metric: what to compare by.
        dense, compressed: answers as `task.answers` gives them, a row for each unit. No `compressed` ones, because
            they were NaN: then what would be made of them is None.
        encoded: the examples.
        seed: of the bootstrap. The same arguments give the same result.

    Returns:
        `examples`, `dense`, `compressed`, `drop`, `drop_interval_95` (paired bootstrap), `flips` and `mcnemar_p` (None
        where answers are scores), and `slices`: the same points by quartile of length and by label. Points of a slice
        on which the metric is undefined, and the ends of an interval that there isn't, are None.
    """
    judged, labels, lengths = metric.of_answers(), task.truth(encoded), task.unit_lengths(encoded)
    if compressed is None:
        unknown = dict.fromkeys(("compressed", "drop", "flips", "mcnemar_p"))
        points = round(judged(dense, labels), 3)
        return {"examples": len(labels), "dense": points, **unknown, "drop_interval_95": [None, None], "slices": []}
    interval = paired_bootstrap(judged, dense, compressed, labels, seed=seed, clusters=task.clusters(encoded))
    decided = [task.decided(metric, answers) for answers in (dense, compressed)]
    changed = flips(decided[0], decided[1], labels, right=metric.right)
    return {
        "examples": len(labels),
        "dense": round(judged(dense, labels), 3),
        "compressed": round(judged(compressed, labels), 3),
        "drop": round(interval.drop, 3),
        "drop_interval_95": interval.ends,
        "flips": None if changed is None else asdict(changed),
        "mcnemar_p": None if changed is None else round(mcnemar(changed), 6),
        "slices": [
            *_by_length(judged, dense, compressed, labels, np.asarray(lengths)),
            *_by_label(task, decided[0], decided[1], labels),
        ],
    }


def _by_length(
    metric: Metric, dense: Array, compressed: Array, labels: Array, tokens: Array
) -> Iterator[dict[str, Any]]:
    """The metric on each quarter of the texts by length; fewer parts where many texts are equally long."""
    edges = np.unique(np.quantile(tokens, [0.25, 0.5, 0.75], method="inverted_cdf"))
    parts = np.searchsorted(edges, tokens)
    for part in np.unique(parts):
        rows = parts == part
        first, last = tokens[rows].min(), tokens[rows].max()
        name = f"{first} tokens" if first == last else f"{first} to {last} tokens"
        before, after = (metric.on_part(answers[rows], labels[rows]) for answers in (dense, compressed))
        yield _slice("length", name, int(rows.sum()), metric.name, before, after)


def _by_label(task: Task, dense: Array, compressed: Array, labels: Array) -> Iterator[dict[str, Any]]:
    """Of the texts (or words) that have a label, the share that gets it (recall), for each label that occurs."""
    for index, name in enumerate(task.names):
        if task.kind == "multi_label_classification":
            rows = labels[:, index] == 1
            answers = [found[rows, index] == 1 for found in (dense, compressed)]
        else:
            rows = labels == index
            answers = [found[rows] == index for found in (dense, compressed)]
        if rows.any():
            before, after = (100 * float(right.mean()) for right in answers)
            yield _slice("label", name, int(rows.sum()), "recall", before, after)


def _slice(by: str, name: str, examples: int, metric: str, before: float, after: float) -> dict[str, Any]:
    points = {"dense": before, "compressed": after, "drop": before - after}
    known = {part: round(value, 3) if np.isfinite(value) else None for part, value in points.items()}
    return {"by": by, "slice": name, "examples": examples, "metric": metric, **known}

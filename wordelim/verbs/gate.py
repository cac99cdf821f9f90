"""The verdict of a check: is what was lost within its bound?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.compare import compare
from ..evaluation.examples import Examples
from ..evaluation.statistics import paired_bootstrap
from .settings import CheckSettings

__all__ = ["Judged", "judge", "suspicions"]


@dataclass(frozen=True)
class Judged:
    """What is lost, as :func:`wordelim.evaluation.compare.compare` says it; the drop that counts; what it fails by."""

    result: Mapping[str, Any]
    drop: float | None
    failure: str | None = None


def judge(
    examples: Examples,
    before: NDArray[Any],
    after: NDArray[Any] | None,
    settings: CheckSettings,
) -> Judged:
    """Whether answers after compression stay within their bound.

    Args:
        before, after: as the task gives them; None where the compressed model gave none, which isn't judged.
    """
    metric, task, encoded = examples.metric, examples.task, examples.dataset
    seed, confidence, most = settings.seed, settings.confidence, settings.max_drop
    result = compare(task, metric, before, after, encoded, seed=seed)
    drop, what = result["drop"], "the drop"
    if after is None:
        return Judged(result, drop)
    if settings.strict:
        interval = f"the {100 * confidence:g} % interval"
        judged, truth, groups = metric.of_answers(), task.truth(encoded), task.clusters(encoded)
        drawn = paired_bootstrap(judged, before, after, truth, seed=seed, confidence=confidence, clusters=groups)
        drop, what = drawn.ends[1], f"the upper end of {interval}"
        if drop is None:
            why = f"{interval} has no upper end, for {metric.name} is undefined on too many resamples"
            return Judged(result, drop, why)
    if drop <= most + 1e-9:
        return Judged(result, drop)
    return Judged(result, drop, f"{what} is {drop:.2f} points of {metric.name}, more than {most:g}")


def suspicions(examples: Examples, base: NDArray[Any]) -> list[str]:
    """What a reader should know of the examples before believing a verdict on them, by the base's answers."""
    found: list[str] = []
    labels, encoded = examples.task.truth(examples.dataset), examples.encoded
    if examples.metric.is_mean and labels.ndim == 1:
        _, counts = np.unique(labels, return_counts=True)
        commonest, right = 100 * counts.max() / len(labels), 100 * float((base == labels).mean())
        if len(counts) > 1 and right <= commonest:
            found.append(
                f"the base model is right on {right:.1f} %, no more than the commonest label alone would be "
                f"({commonest:.1f} %): see that this data is of its task"
            )
    if encoded.truncated:
        found.append(
            f"{encoded.truncated} of {len(labels)} texts were longer than {max(encoded.lengths)} tokens and were cut"
        )
    return found

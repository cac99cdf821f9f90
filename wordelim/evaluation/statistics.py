"""Paired statistics: what compression cost, and how sure that is. Both models see the same examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from ..errors import WordelimError
from ..tasks.metrics import Metric, agreeing

__all__ = ["Flips", "Interval", "flips", "mcnemar", "paired_bootstrap"]

Array = npt.NDArray[Any]

# The share of resamples that a metric must be defined on for them to give an interval.
_DEFINED = 0.9


@dataclass(frozen=True)
class Interval:
    """A drop in points, dense minus compressed: above 0 the compressed model is worse. And its interval.

    The ends are NaN where there is none: see :func:`paired_bootstrap`.
    """

    drop: float
    low: float
    high: float

    @property
    def ends(self) -> list[float | None]:
        """Both ends of the interval for a report, None where there are none."""
        return [round(end, 3) if np.isfinite(end) else None for end in (self.low, self.high)]


@dataclass(frozen=True)
class Flips:
    """How many of `total` examples are decided otherwise.

    `fixed` ones were wrong and are right now, `broken` ones the other way round; `changed` counts these and the ones
    that went from one wrong class to another.
    """

    total: int
    changed: int
    fixed: int
    broken: int


def paired_bootstrap(
    metric: Metric,
    dense_logits: npt.ArrayLike,
    compressed_logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    clusters: npt.ArrayLike | None = None,
) -> Interval:
    """The drop from dense to compressed in points, with a percentile bootstrap interval over examples.

    Each resample draws as many examples as there are, with replacement, the same for both models (Efron and
    Tibshirani 1993, chapter 13). The same arguments give the same interval.

    A metric of the user's own may be undefined on a resample, as where only one class was drawn. The interval is then
    over those on which it is defined; where these are fewer than nine in ten, they say too little, and there is none.

    Args:
        metric: what to compare by; one that isn't made of sums is computed anew on each resample.
        dense_logits: [n, num_labels] or [n].
        compressed_logits: the same shape.
        labels: [n] or [n, num_labels].
        resamples: how many times to draw.
        seed: of the draws.
        confidence: the share of resamples inside the interval.
        clusters: [n] ids of what examples belong to, such as documents, of a metric that is made of parts: these are
            drawn then, each with all that belongs to it, for examples of one cluster aren't independent.

    Raises:
        WordelimError: the arrays are empty or don't fit each other, the metric is no number on all examples,
            `confidence` is not between 0 and 1, or `resamples` is below 1.
    """
    if not 0 < confidence < 1:
        raise WordelimError(f"A confidence of {confidence} is not between 0 and 1; use one such as 0.95.")
    if resamples < 1:
        raise WordelimError(f"A bootstrap of {resamples} resamples is none; use at least 1, better 1,000 or more.")
    dense, compressed, truth = np.asarray(dense_logits), np.asarray(compressed_logits), np.asarray(labels)
    drop = metric(dense, truth) - metric(compressed, truth)
    random = np.random.default_rng(seed)
    if metric.is_mean:
        # An example costs 1, 0 or -1, and the drop is the mean: only how often each of the three is drawn matters.
        costs = agreeing(metric.decide(dense), truth).astype(int) - agreeing(metric.decide(compressed), truth)
        values, counts = np.unique(costs, return_counts=True)
        drawn = random.multinomial(len(truth), counts / len(truth), size=resamples)
        drops = 100 * (drawn @ values) / len(truth)
    elif metric.parts is not None and metric.finish is not None:
        sides = [metric.parts(truth, metric.decide(answers)) for answers in (dense, compressed)]
        if clusters is not None:
            _, of = np.unique(np.asarray(clusters), return_inverse=True)
            sides = [np.stack([np.bincount(of, column) for column in side.T], axis=1) for side in sides]
        finish, evenly = metric.finish, np.full(len(sides[0]), 1 / len(sides[0]))

        def resampled(draws: int) -> Array:
            drawn = random.multinomial(len(evenly), evenly, size=draws)
            before, after = (finish(drawn @ side) for side in sides)
            return 100 * (before - after)

        # A hundred at a time, for a draw takes a number for each example.
        drops = np.concatenate([resampled(min(100, resamples - done)) for done in range(0, resamples, 100)])
    else:
        drops = np.empty(resamples)
        for index in range(resamples):
            rows = random.integers(len(truth), size=len(truth))
            before, after = (metric.on_part(answers[rows], truth[rows]) for answers in (dense, compressed))
            drops[index] = before - after if np.isfinite([before, after]).all() else np.nan
    defined = drops[np.isfinite(drops)]
    if len(defined) < _DEFINED * resamples:
        return Interval(drop, float("nan"), float("nan"))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Interval(drop=drop, low=float(low), high=float(high))


def flips(
    dense_predictions: npt.ArrayLike,
    compressed_predictions: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    right: Callable[[Array, Array], Array] | None = None,
) -> Flips | None:
    """Counts the examples that the two models decide differently.

    Predictions and labels are [n] class ids, or [n, num_labels] 0/1 vectors, where an example is right if all its
    labels are. Scores (predictions of a floating type) decide nothing: None.

    Args:
        right: from labels and predictions to which examples are right, where equality doesn't say it.

    Raises:
        WordelimError: the arrays differ in shape.
    """
    before, after, truth = (np.asarray(x) for x in (dense_predictions, compressed_predictions, labels))
    if not before.shape == after.shape == truth.shape:
        raise WordelimError(
            "Flips need predictions and labels of one shape; they have "
            f"{before.shape}, {after.shape} and {truth.shape}."
        )
    if np.issubdtype(before.dtype, np.floating) or np.issubdtype(after.dtype, np.floating):
        return None
    was_right, is_right = (
        right(truth, answers) if right is not None else agreeing(answers, truth) for answers in (before, after)
    )
    return Flips(
        total=len(truth),
        changed=int((~agreeing(before, after)).sum()),
        fixed=int((~was_right & is_right).sum()),
        broken=int((was_right & ~is_right).sum()),
    )


def mcnemar(counts: Flips) -> float:
    """The p-value of McNemar's exact test, two-sided: how likely broken and fixed differ so much by chance alone."""
    decided_otherwise = counts.broken + counts.fixed
    return float(binomtest(counts.broken, decided_otherwise).pvalue) if decided_otherwise else 1.0

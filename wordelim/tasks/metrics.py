"""Metrics in points: 0 to 100, correlations -100 to 100; higher is better in each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from transformers import EvalPrediction

from ..data.problem import outputs_of, problem_type
from ..errors import AnswersError, WordelimError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = [
    "ComputeMetrics",
    "Metric",
    "agreeing",
    "f1_micro",
    "mean",
    "metrics_of",
    "name_of",
    "predictions",
]

Array = npt.NDArray[Any]
ComputeMetrics: TypeAlias = Callable[[EvalPrediction], Mapping[str, float]]
"""As transformers' Trainer takes it: from logits and labels to numbers by name."""


@dataclass(frozen=True)
class Metric:
    """How good logits are: the mean of being right, made of sums over examples, or of all of them at once.

    Attributes:
        name: what the command line and the reports call it.
        decide: from logits [n, num_labels] (or [n] for a score) to predictions, see `predictions`; answers that are
            decided already stay as they are.
        whole: from labels and predictions of one shape to -1..1; of the others None.
        is_mean: whether it is the mean over examples of being right in all labels.
        parts: from labels and predictions to numbers [n, k] whose sums over examples decide it, and ``finish`` from
            such sums [..., k] to -1..1: what makes a bootstrap fast.
        of_logits: whether predictions are the logits as they are, of any shape, which ``whole`` decides by itself.
        right: from labels and predictions to which examples are right [n]; None where that is plain from their values.
    """

    name: str
    decide: Callable[[Array], Array] = np.asarray
    whole: Callable[[Array, Array], float] | None = None
    is_mean: bool = False
    parts: Callable[[Array, Array], Array] | None = None
    finish: Callable[[Array], Array] | None = None
    right: Callable[[Array, Array], Array] | None = None
    of_logits: bool = False

    @classmethod
    def computed(cls, compute_metrics: ComputeMetrics) -> Metric:
        """The first value of what a ``compute_metrics`` of transformers' Trainer says, as a share of 1."""

        def score(truth: Array, logits: Array) -> float:
            values = compute_metrics(EvalPrediction(logits, truth))
            try:
                return float(next(iter(values.values())))
            except (AttributeError, StopIteration, TypeError, ValueError):
                raise WordelimError(
                    f"The metric {name} gave {values!r}: it must return a dictionary of numbers."
                ) from None

        name = str(name_of(compute_metrics))
        return cls(name, whole=score, of_logits=True)

    def score(self, truth: Array, predicted: Array) -> float:
        """From labels and predictions to -1..1, or NaN."""
        if self.is_mean:
            return float(agreeing(predicted, truth).mean())
        if self.parts is not None and self.finish is not None:
            return float(self.finish(self.parts(truth, predicted).sum(0)))
        assert self.whole is not None
        return float(self.whole(truth, predicted))

    def __call__(self, logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
        """Points of `logits` against `labels` ([n], or [n, num_labels] for multi-label and for several scores).

        Raises:
            WordelimError: there are no examples, the labels' shape is not the predictions', a logit is not a number, or
                what the metric gives isn't one.
        """
        points = self.on_part(logits, labels)
        if not math.isfinite(points):
            raise WordelimError(
                f"The metric {self.name} gave {points:g} for {len(np.asarray(labels))} examples: use one that is a "
                "number on them, or give other examples."
            )
        return points

    def on_part(self, logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
        """The same of a part or a resample of the examples, where a metric may be undefined: NaN then.

        A metric of the user's own may be, as where all examples are of one class.
        """
        predicted, truth = self.decide(np.asarray(logits)), np.asarray(labels)
        if not len(truth) or (predicted.shape != truth.shape and not self.of_logits):
            raise WordelimError(
                f"The metric {self.name} needs labels of the same shape as the predictions, and at least one: the "
                f"labels have the shape {truth.shape}, the predictions {predicted.shape}."
            )
        with warnings.catch_warnings():  # one of the user's own may warn of samples with a single class
            warnings.simplefilter("ignore", UserWarning)
            return 100 * self.score(truth, predicted)

    def of_answers(self) -> Metric:
        """The same metric over answers that are decided already, instead of logits."""
        return replace(self, decide=np.asarray)


def name_of(metric: str | ComputeMetrics | None) -> str | None:
    """What a report calls a metric that was asked for."""
    return metric if metric is None or isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)


def predictions(logits: npt.ArrayLike, config: PreTrainedConfig) -> Array:
    """What the model says: class ids [n], 0/1 vectors [n, num_labels] (probability above 0.5), or scores [n].

    A regression head with several outputs gives scores [n, num_labels].

    Raises:
        AnswersError: a logit is NaN or infinite.
    """
    outputs, kind = np.asarray(logits), problem_type(config)
    bad = ~np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    if bad.any():
        raise AnswersError.counted("The model", int(bad.sum()), len(outputs), int(bad.argmax()) + 1)
    if kind == "regression":
        return outputs.astype(np.float64).reshape(len(outputs) if outputs_of(config) == 1 else outputs.shape)
    if kind == "multi_label_classification":
        return (outputs > 0).astype(np.int64)  # the sigmoid of 0 is 0.5
    return np.asarray(outputs.argmax(axis=-1))


def metrics_of(kind: str, outputs: int, decide: Callable[[Array], Array]) -> dict[str, Metric]:
    """Every metric by its name, the usual one first, of a kind of problem.

    Args:
        outputs: of the model, for each text.
        decide: makes predictions of logits.
    """
    counts = partial(_counts, outputs=outputs)
    return {
        name: Metric(name, decide, parts=counts if "finish" in row else None, **row)
        for name, row in _METRICS[kind].items()
    }


def agreeing(predicted: Array, truth: Array) -> npt.NDArray[np.bool_]:
    """Which examples agree in all their labels, [n]."""
    same: npt.NDArray[np.bool_] = (predicted == truth).all(axis=tuple(range(1, truth.ndim)))
    return same


def _pearson(labels: Array, scores: Array, *, ranked: bool = False) -> float:
    """The mean over outputs of the correlation, which is 0 where a side is constant: that predicts nothing.

    scipy.stats has it too, but takes several times as long for what isn't asked, and a bootstrap asks a thousand times.

    Args:
        ranked: correlate ranks, as Spearman's does.
    """
    sides = [side.reshape(len(side), -1).astype(np.float64) for side in (labels, scores)]
    varied = np.all([np.ptp(side, axis=0) != 0 for side in sides], axis=0)
    if ranked:
        sides = [np.stack([_ranks(column) for column in side.T], axis=1) for side in sides]
    x, y = (side - side.mean(axis=0) for side in sides)
    x, y = (side / np.where(varied, np.abs(side).max(axis=0), 1.0) for side in (x, y))  # squares may be out of range
    found = (x * y).sum(axis=0) / np.sqrt(np.where(varied, (x * x).sum(axis=0) * (y * y).sum(axis=0), 1.0))
    return float(np.where(varied, np.clip(found, -1.0, 1.0), 0.0).mean())


def _ranks(values: Array) -> Array:
    """Of each value, its rank; of equal ones the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.where(np.isnan(values), np.nan, (np.cumsum(counts) - (counts - 1) / 2)[which])


def _counts(truth: Array, predicted: Array, *, outputs: int) -> Array:
    """Of each example and class: whether it is rightly predicted, predicted, and true, [n, 3 * outputs]."""
    ids = np.arange(outputs)
    true, said = (each == 1 if each.ndim > 1 else each[:, None] == ids for each in (truth, predicted))
    return np.concatenate([true & said, said, true], axis=1).astype(np.int64)


def _by_class(sums: Array) -> tuple[Array, Array, Array]:
    right, said, true = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    return right, said, true


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def mean(sums: Array, column: int = 0) -> Array:
    """Of sums [..., k] one, over how many there are, which is the last; 0 where there are none."""
    return np.asarray(sums[..., column] / np.maximum(sums[..., -1], 1))


def f1_micro(sums: Array) -> Array:
    """Over all classes together, of sums of :func:`_counts`; of what else is counted so, all in one."""
    right, said, true = (each.sum(-1) for each in _by_class(sums))
    return _share(2 * right, said + true)


def _f1(sums: Array) -> Array:
    """Of class 1 where there are two classes, else over classes."""
    right, said, true = _by_class(sums)
    return _share(2 * right, said + true)[..., 1] if right.shape[-1] == 2 else _f1_of_classes(sums)


def _f1_of_labels(sums: Array) -> Array:
    right, said, true = _by_class(sums)
    return np.asarray(_share(2 * right, said + true).mean(-1))


def _f1_of_classes(sums: Array) -> Array:
    """Over those classes that are true or predicted somewhere."""
    right, said, true = _by_class(sums)
    return _share(_share(2 * right, said + true).sum(-1), (said + true > 0).sum(-1).astype(np.float64))


def _mcc(sums: Array) -> Array:
    """Gorodkin's R_K for any number of classes; 0 where a side is constant."""
    right, said, true = _by_class(sums)
    count = true.sum(-1)
    spread = (count**2 - (said**2).sum(-1)) * (count**2 - (true**2).sum(-1))
    return _share(right.sum(-1) * count - (said * true).sum(-1), np.sqrt(np.maximum(spread, 0)))


_MEAN: dict[str, Any] = {"is_mean": True}
_METRICS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "single_label_classification": {
        "accuracy": _MEAN,
        "f1": {"finish": _f1},
        "f1_macro": {"finish": _f1_of_classes},
        "f1_micro": {"finish": f1_micro},
        "mcc": {"finish": _mcc},
    },
    "multi_label_classification": {
        "f1": {"finish": f1_micro},
        "f1_micro": {"finish": f1_micro},
        "f1_macro": {"finish": _f1_of_labels},
        "accuracy": _MEAN,
    },
    "regression": {
        "spearman": {"whole": partial(_pearson, ranked=True)},
        "pearson": {"whole": _pearson},
    },
}
"""Fields of every metric of texts' labels, by the kind of problem, the usual one first; ``finish`` takes the sums of
``_counts``. Other heads have theirs beside them.
"""

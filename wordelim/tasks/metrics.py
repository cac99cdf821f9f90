"""Metrics in points: 0 to 100, correlations -100 to 100; higher is better in each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import EvalPrediction

from ..data.labels import outputs_of, problem_type
from ..errors import AnswersError, WordelimError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["ComputeMetrics", "Metric", "metric_for", "name_of", "named", "predictions", "scores_of"]

Array = npt.NDArray[Any]
T = TypeVar("T")
ComputeMetrics: TypeAlias = Callable[[EvalPrediction], Mapping[str, float]]
"""As transformers' Trainer takes it: from logits and labels to numbers by name."""


@dataclass(frozen=True)
class Metric:
    """How good logits are.

    Attributes:
        name: what the command line and the reports call it.
        decide: from logits [n, num_labels] (or [n] for a score) to predictions, see `predictions`.
        score: from labels and predictions of one shape to -1..1; where there are ``parts``, ``score`` is made of them.
        is_mean: whether `score` is the mean over examples of being right in all labels.
        parts: from labels and predictions to numbers [n, k] whose sums over examples decide the score, and ``finish``
            from such sums [..., k] to the score: what makes a bootstrap fast.
        of_logits: whether predictions are the logits as they are, of any shape, which ``score`` decides by itself.
        right: from labels and predictions to which examples are right [n]; None where that is plain from their values.
    """

    name: str
    decide: Callable[[Array], Array]
    score: Callable[[Array, Array], float]
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
        return cls(name, np.asarray, score, of_logits=True)

    @classmethod
    def of_parts(
        cls,
        name: str,
        parts: Callable[[Array, Array], Array],
        finish: Callable[[Array], Array],
        right: Callable[[Array, Array], Array] | None = None,
    ) -> Metric:
        """A metric over answers that are decided already, made of sums over examples."""

        def score(truth: Array, answers: Array) -> float:
            return float(finish(parts(truth, answers).sum(0)))

        return cls(name, np.asarray, score, parts=parts, finish=finish, right=right)

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
        with warnings.catch_warnings():  # scikit-learn warns of samples with a single class, as resamples may be
            warnings.simplefilter("ignore", UserWarning)
            return 100 * float(self.score(truth, predicted))

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


def metric_for(config: PreTrainedConfig, name: str | None = None) -> Metric:
    """The metric `name` for the model's problem, or the usual one for it.

    Single-label: accuracy (usual), f1 (of class 1 where there are two classes, else f1_macro), f1_macro (over the
    classes that are true or predicted somewhere), f1_micro, mcc. Multi-label: f1 (usual, the same as f1_micro),
    f1_micro, f1_macro, accuracy (all labels of an example right). Regression: spearman (usual), pearson; 0 where one
    side is constant, their mean over the outputs where there are several.

    Raises:
        WordelimError: there is no such metric for the problem.
    """
    kind, outputs = problem_type(config), outputs_of(config)
    name, score = named(scores_of(kind, outputs), name, kind.replace("_", " "))
    finish = _FINISHES.get(kind, {}).get(name)
    if name == "f1" and kind == "single_label_classification" and outputs == 2:
        finish = _f1_of_second
    parts = None if finish is None else partial(_counts, outputs=outputs)
    decide = partial(predictions, config=config)
    return Metric(name, decide, score, is_mean=name == "accuracy", parts=parts, finish=finish)


def named(known: Mapping[str, T], name: str | None, task: str) -> tuple[str, T]:
    """The metric of this name, or the first one; WordelimError where a task has none of this name."""
    name = next(iter(known)) if name is None else name
    if name not in known:
        raise WordelimError(f"There is no metric {name!r} for {task}; choose one of {', '.join(known)}.")
    return name, known[name]


def scores_of(kind: str, outputs: int) -> dict[str, Callable[[Array, Array], float]]:
    """Every metric for a kind of problem, the usual one first."""
    if kind == "regression":
        return {"spearman": partial(_correlate, spearmanr), "pearson": partial(_correlate, pearsonr)}
    binary, macro, micro = (
        partial(f1_score, average=average, zero_division=0.0) for average in ("binary", "macro", "micro")
    )
    if kind == "multi_label_classification":
        if outputs == 1:  # scikit-learn takes one column for two classes, not for one label
            macro = micro = binary
        return {"f1": micro, "f1_micro": micro, "f1_macro": macro, "accuracy": accuracy_score}
    f1 = binary if outputs == 2 else macro
    return {"accuracy": accuracy_score, "f1": f1, "f1_macro": macro, "f1_micro": micro, "mcc": matthews_corrcoef}


def _correlate(correlation: Callable[[Array, Array], Any], labels: Array, scores: Array) -> float:
    """The mean over outputs of the correlation, which is 0 where a side is constant: that predicts nothing."""
    columns = zip(labels.reshape(len(labels), -1).T, scores.reshape(len(scores), -1).T, strict=True)
    return float(np.mean([correlation(x, y)[0] if np.ptp(x) and np.ptp(y) else 0.0 for x, y in columns]))


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


def _f1_micro(sums: Array) -> Array:
    right, said, true = (each.sum(-1) for each in _by_class(sums))
    return _share(2 * right, said + true)


def _f1_of_second(sums: Array) -> Array:
    right, said, true = (each[..., 1] for each in _by_class(sums))
    return _share(2 * right, said + true)


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


# The scores whose bootstrap is made of sums; scikit-learn's, which are the scores, would take seconds for a thousand.
_FINISHES: Mapping[str, Mapping[str, Callable[[Array], Array]]] = {
    "single_label_classification": {
        "f1": _f1_of_classes,
        "f1_macro": _f1_of_classes,
        "f1_micro": _f1_micro,
        "mcc": _mcc,
    },
    "multi_label_classification": {"f1": _f1_micro, "f1_micro": _f1_micro, "f1_macro": _f1_of_labels},
}

"""What compression may have cost, where few labels tell: a bound that also uses what both models make of a text.

Whether a classifier loses is decided on the few texts that the two models decide differently, and each of these counts
as one whole text, right or wrong. Here the labels of those are replaced by the odds of each class, from a logistic
regression on what both models say, which all labelled texts fit. So the estimate of the drop varies less from one draw
of texts to the next. Model-assisted estimates are known from surveys (Särndal, Swensson and Wretman 1992, "Model
Assisted Survey Sampling", chapter 6).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from ..tasks.metrics import Metric

__all__ = ["smoothed_bound"]

Array = npt.NDArray[Any]

# The regression's coefficients before it has seen a text, and their standard deviations: half of what is known comes
# from either model, and on texts that they decide differently the odds may be off by some tenths of a logit.
_PRIOR = np.array([0.5, 0.5, 0.0])
_DEVIATIONS = np.array([0.5, 0.5, 0.4])
# Of the dense model's logits, as a logarithm.
_SCALES = (-5.0, 5.0)
# Chances that are held at once, about.
_NUMBERS = 2_000_000


class _Odds(NamedTuple):
    """A logistic regression of classes.

    Args:
        features: [texts, classes, coefficients].
        mean, covariance: of the coefficients.
    """

    features: Array
    mean: Array
    covariance: Array


def smoothed_bound(
    metric: Metric,
    dense_logits: npt.ArrayLike,
    compressed_logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    confidence: float,
    seed: int = 0,
    resamples: int = 400,
) -> float:
    """Points that are lost at most on texts like these, with some confidence; below 0 where points are won.

    Each resample draws texts with replacement, and coefficients as the labels leave them open.

    Args:
        metric: of classes, the mean of being right or made of sums.
        dense_logits, compressed_logits: [n, classes].
        labels: [n] class ids.
        confidence: the share of resamples within the bound.
        seed: of the draws.
        resamples: how many times to draw.
    """
    dense, compressed, truth = np.asarray(dense_logits), np.asarray(compressed_logits), np.asarray(labels)
    decided = [each.argmax(-1) for each in (dense, compressed)]
    same = decided[0] == decided[1]
    if same.all():
        return 0.0
    random, classes, texts = np.random.default_rng(seed), np.eye(dense.shape[-1]), len(truth)
    drawn, odds = _draws(random, resamples, texts), _fit(dense, compressed, truth)
    coefficients = random.multivariate_normal(odds.mean, odds.covariance, size=resamples)
    agreed, often, features = drawn[:, same], drawn[:, ~same], odds.features[~same]
    known = [agreed @ _counts(classes[truth[same]], classes[side[same]]) for side in decided]
    said = [classes[side[~same]] for side in decided]
    points = []
    for first in range(0, resamples, step := max(1, _NUMBERS // said[0].size)):
        part = slice(first, first + step)
        chances = softmax(np.einsum("nkc,dc->dnk", features, coefficients[part]), axis=-1) * often[part, :, None]
        before, after = (
            _score(metric, by_label[part] + _expected(chances, each, often[part]), texts)
            for by_label, each in zip(known, said, strict=True)
        )
        points.append(100 * (before - after))
    return float(np.percentile(np.concatenate(points), 100 * confidence))


def _draws(random: np.random.Generator, resamples: int, texts: int) -> Array:
    """How often each text is drawn, [resamples, texts]."""
    rows = random.integers(texts, size=(resamples, texts)) + texts * np.arange(resamples)[:, None]
    return np.bincount(rows.ravel(), minlength=rows.size).reshape(rows.shape).astype(float)


def _counts(true: Array, said: Array) -> Array:
    """Of each text and class, [n, classes] each, whether it is rightly said, said, and true: [n, 3 * classes]."""
    return np.concatenate([true * said, said, true], axis=-1)


def _expected(chances: Array, said: Array, often: Array) -> Array:
    """The sums of such counts, [draws, 3 * classes], that chances leave to be expected.

    Args:
        chances: [draws, n, classes], of each class to be true, times how often a text was drawn.
        said: [n, classes], 0 or 1.
        often: [draws, n].
    """
    return np.concatenate([(chances * said).sum(1), often @ said, chances.sum(1)], axis=-1)


def _score(metric: Metric, counts: Array, texts: int) -> Array:
    """From sums of such counts, [..., 3 * classes], to -1..1."""
    if metric.finish is not None:
        return metric.finish(counts)
    return np.asarray(counts[..., : counts.shape[-1] // 3].sum(-1) / texts)


def _fit(dense: Array, compressed: Array, truth: Array) -> _Odds:
    """Fit the odds of each text's class."""
    rows = np.arange(len(truth))
    sides = [each - each.mean(-1, keepdims=True) for each in (dense.astype(float), compressed.astype(float))]

    def surprise(scale: float) -> float:
        return float(-log_softmax(np.exp(scale) * sides[0], axis=-1)[rows, truth].sum())

    scale = np.exp(minimize_scalar(surprise, bounds=_SCALES, method="bounded").x)
    decided_apart = np.zeros_like(sides[0])
    decided_apart[rows, dense.argmax(-1)] += 0.5
    decided_apart[rows, compressed.argmax(-1)] -= 0.5
    features = np.stack([scale * sides[0], scale * sides[1], decided_apart], axis=-1)
    flat, precision = features.reshape(-1, len(_PRIOR)), _DEVIATIONS**-2

    def loss(coefficients: Array) -> tuple[float, Array]:
        log_chances = log_softmax(features @ coefficients, axis=-1)
        off, residuals = coefficients - _PRIOR, np.exp(log_chances)
        residuals[rows, truth] -= 1
        value = -log_chances[rows, truth].sum() + (precision * off**2).sum() / 2
        return value, residuals.ravel() @ flat + precision * off

    def curvature(coefficients: Array) -> Array:
        chances = softmax(features @ coefficients, axis=-1)
        means = (chances[:, None] @ features)[:, 0]
        return np.asarray((chances.reshape(-1, 1) * flat).T @ flat - means.T @ means + np.diag(precision))

    found = minimize(loss, _PRIOR, jac=True, hess=curvature, method="trust-exact").x
    return _Odds(features, found, np.linalg.inv(curvature(found)))

"""How far two models' answers are apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["divergence"]

# Lengths, and so FLOPs, are those of the whole sample; divergence is measured on its first texts.
_NOWHERE = -1e4  # the logit of a position that isn't there


def divergence(dense: NDArray[np.float32], other: NDArray[np.float32], kind: str) -> float:
    """How far ``other`` logits are from ``dense`` ones, both [examples, outputs], averaged over examples.

    Kullback-Leibler divergence in nats of the class distributions, or of each label's where labels are independent; for
    a regression the squared difference over the variance of the dense scores.

    Of heads that answer for each token, [examples, tokens, outputs] with NaN for padding: of each token's classes,
    averaged over tokens (``"tokens"``), or of where the answer starts and ends, summed (``"spans"``).

    Args:
        kind: of the task.
    """
    a, b = torch.from_numpy(dense).double(), torch.from_numpy(other).double()
    if kind == "regression":
        return float(((a - b) ** 2).mean() / a.var().clamp_min(1e-12))
    if kind == "multi_label_classification":
        p = a.sigmoid()
        return float((_binary_entropy(p, b) - _binary_entropy(p, a)).sum(-1).mean())
    if kind in ("tokens", "spans"):
        width = min(a.shape[1], b.shape[1])  # behind it there is padding alone
        a, b = a[:, :width], b[:, :width]
    if kind == "tokens":
        real = ~a[..., 0].isnan()
        a, b = a[real], b[real]
    elif kind == "spans":
        a, b = (of.nan_to_num(nan=-torch.inf).clamp_min(_NOWHERE).transpose(1, 2) for of in (a, b))
        return float(functional.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="sum") / len(a))
    return float(functional.kl_div(b.log_softmax(-1), a.log_softmax(-1), log_target=True, reduction="batchmean"))


def _binary_entropy(probability: Tensor, logits: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, probability, reduction="none")

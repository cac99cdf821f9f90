"""How many word vectors leave a layer, for compilers and exporters."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..retention import Retention

__all__ = ["LONGEST", "CountRule"]

LONGEST = 8192
"""Tokens of a text up to which :class:`CountRule` counts as :meth:`Retention.count` does."""


class CountRule(NamedTuple):
    """How many word vectors leave a layer, in small whole numbers alone, so that every runtime counts the same.

    Of ``n`` word vectors that entered the encoder ``min(n, max(ceil(numerator * n / denominator), least))`` are left:
    keep never grows with depth, so the layers before never leave fewer.

    Args:
        drops: false when this layer drops nothing that the layer before has left, at any length.
    """

    numerator: int
    denominator: int
    least: int
    drops: bool

    @classmethod
    def of(cls, retention: Retention, layer: int) -> CountRule | None:
        """The rule of one layer, or None where no fraction of small whole numbers rounds as keep does."""
        keep = retention.keep[layer]
        least = retention.count(layer, 0, LONGEST)
        before = retention.keep[layer - 1] if layer else None
        if retention.kind == "count":
            return cls(0, 1, least, keep != before)
        fraction = _whole_fraction(keep, least)
        return fraction and cls(*fraction, least, keep != (1.0 if before is None else before))

    def counts(self, lengths: Tensor) -> Tensor:
        """Word vectors that are left of texts of these lengths, [batch] whole numbers both."""
        # Of numbers that aren't negative, for which runtimes have an operator of their own.
        wanted = torch.div(lengths * self.numerator + (self.denominator - 1), self.denominator, rounding_mode="trunc")
        return wanted.clamp(min=self.least).minimum(lengths)

    def width(self, tokens: int) -> int:
        """The same for one text, whose length may be symbolic."""
        if self.numerator == self.denominator:
            return tokens
        wanted = (tokens * self.numerator + (self.denominator - 1)) // self.denominator
        return torch.sym_min(tokens, torch.sym_max(wanted, self.least))  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=4096)
def _whole_fraction(keep: float, least: int) -> tuple[int, int] | None:
    """Whole p and q such that p * n / q, rounded up, is how many of n word vectors ``keep`` stands for."""
    lengths = np.arange(1, LONGEST + 1)
    # The rule of Retention.count, for all lengths at once.
    wanted = np.maximum(np.ceil(keep * lengths - 1e-9).astype(np.int64), least)
    # A fraction above the lowest of these ratios wants too many somewhere.
    lowest = int(np.argmin(wanted / lengths))
    p, q = (int(wanted[lowest]), int(lengths[lowest])) if keep else (0, 1)
    same = np.maximum((lengths * p + q - 1) // q, least) == wanted
    return (p, q) if same.all() else None

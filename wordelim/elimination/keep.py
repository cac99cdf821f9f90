"""Which word vectors are kept, and how many, for compilers and exporters."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..retention import Retention

__all__ = ["LONGEST", "CountRule", "highest", "never_dropped", "ranking", "shares_of"]

LONGEST = 8192
"""Tokens of a text up to which :class:`CountRule` counts as :meth:`Retention.count` does."""


def highest(
    significance: Tensor,
    most: int,
    protected_first: int,
    *,
    limit: Tensor | None = None,
    mask: Tensor | None = None,
    protected: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Choose each text's most significant word vectors, in text order; of equals the earlier.

    Args:
        significance: [batch, tokens].
        most: how many a text keeps at most.
        protected_first: how many of the first real rows are kept whatever their significance.
        limit: [batch], how many each text keeps, none more than ``most`` or than it has; None when all keep ``most``.
        mask: [batch, tokens] bool, true on real rows, or None when all are.
        protected: [batch, tokens] bool, true on further rows that are kept whatever their significance, or None.

    Returns:
        The kept rows [batch, most], and with ``limit`` which of them count, [batch, most] bool: those beyond a text's
        own count point at its row 0.
    """
    ranked = ranking(significance, never_dropped(significance, protected_first, mask, protected), mask, most)
    if limit is None:
        return ranked.sort(dim=1).values, None
    alive = torch.arange(most, device=ranked.device) < limit[:, None]
    rows = ranked.masked_fill(~alive, significance.shape[1]).sort(dim=1).values
    return rows.masked_fill(~alive, 0), alive


def ranking(significance: Tensor, first: Tensor, mask: Tensor | None, most: int) -> Tensor:
    """The ``most`` first rows, from the one to keep first to the one to drop first; of equals the earlier first.

    Args:
        significance: [batch, tokens].
        first: [batch, tokens] bool or what broadcasts to it, true on rows that precede all others.
        mask: [batch, tokens] bool, false on rows that come last, or None.
    """
    order = significance.masked_fill(first, float("inf"))
    if mask is not None:
        order = order.masked_fill(~mask, float("-inf"))
    if torch.compiler.is_exporting():
        # ONNX's TopK puts the earlier of two equals first; torch's own promises nothing.
        return order.topk(most).indices
    return order.sort(dim=1, descending=True, stable=True).indices[:, :most]


def never_dropped(significance: Tensor, first: int, mask: Tensor | None, protected: Tensor | None) -> Tensor:
    """Which rows are kept whatever their significance, [batch, tokens] bool or [tokens] for every text alike.

    Args:
        significance: [batch, tokens].
        first: how many of the first real rows are kept.
        mask, protected: as in :func:`highest`.
    """
    if mask is None or first == 1:  # position 0 is always real
        found = torch.arange(significance.shape[1], device=significance.device) < first
    else:
        found = mask & (mask.cumsum(1) <= first)
    return found if protected is None else found | protected


def shares_of(
    significance: Tensor, rows: Tensor, alive: Tensor | None, mask: Tensor | None, *, log: bool = False
) -> Tensor:
    """What each row of a text is of its package: its share in the significance of all rows that aren't kept.

    Args:
        significance: [batch, tokens].
        log: whether that is on a logarithmic scale, so that shares are the softmax of it.
        rows, alive: as :func:`highest` returns them.
        mask: [batch, tokens] bool, true on real rows, or None when all are.

    Returns:
        [batch, tokens] fp32; 0 on kept rows, and throughout where all are kept.
    """
    batch, tokens = significance.shape
    rows = rows if alive is None else rows.masked_fill(~alive, tokens)
    spare = torch.zeros(batch, tokens + 1, dtype=torch.bool, device=rows.device)
    kept = spare.scatter(1, rows, torch.ones_like(rows, dtype=torch.bool))[:, :tokens]
    out = kept if mask is None else kept | ~mask
    if log:
        # Of these rows alone, for beside others all of them may be too little to be told from 0.
        return significance.masked_fill(out, torch.finfo(significance.dtype).min).softmax(1).masked_fill(out, 0.0)
    rest = significance.masked_fill(out, 0.0)
    return rest / rest.sum(1, keepdim=True).clamp(min=torch.finfo(rest.dtype).tiny)


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

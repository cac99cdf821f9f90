"""Dropped word vectors that come back at the exit, for heads that read every position."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import Tokens

__all__ = ["fill_with_mean", "put_aside", "put_back"]


def put_aside(aside: Tensor | None, stream: Tensor, tokens: Tokens, rows: Tensor | None) -> Tensor | None:
    """Note the value that each word vector has where some are about to be dropped.

    Those that stay are noted too, and are overwritten later: that is cheaper than to find out which are dropped.

    Args:
        aside: what was noted before, [batch * tokens + 1, width], or None; it is changed in place. Its last row takes
            what is not real.
        stream: hidden states that enter the layer, padded [batch, rows, width] or packed [1, rows, width].
        tokens: what is alive there.
        rows: which rows are kept; None when all are, and then there is nothing to note.
    """
    if rows is None:
        return aside
    return _write(aside, stream, tokens)


def put_back(aside: Tensor | None, hidden_states: Tensor, tokens: Tokens) -> Tensor:
    """The encoder's exit: every word vector of the batch as [batch, tokens, width], padding as zeros.

    What is alive has its last value, what was dropped the value that it had when it was dropped.
    """
    return _write(aside, hidden_states, tokens)[:-1].view(*tokens.entered[:2], -1)


def fill_with_mean(hidden_states: Tensor, tokens: Tokens) -> Tensor:
    """The encoder's exit for a mean over all word vectors: [batch, tokens, width], so that it is that of those alive.

    Where a word vector was dropped, and where there is padding, the mean of those that are alive stands.
    """
    mean, (batch, width) = tokens.mean(hidden_states), tokens.entered[:2]
    filled = mean[:, None].expand(batch, width, mean.shape[-1]).flatten(0, 1)
    return _write(torch.cat([filled, mean[:1]]), hidden_states, tokens)[:-1].view(batch, width, -1)


def _write(aside: Tensor | None, values: Tensor, tokens: Tokens) -> Tensor:
    assert tokens.origin is not None
    values = values.flatten(0, 1)
    if aside is None:
        batch, width = tokens.entered[:2]
        aside = values.new_zeros(batch * width + 1, values.shape[-1])
    return aside.index_copy_(0, tokens.origin.flatten(), values.to(aside.dtype))

"""Dropped word vectors that come back at the exit, for heads that read every position."""

from __future__ import annotations

from torch import Tensor

from .tokens import Tokens

__all__ = ["put_aside", "put_back"]


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
    assert tokens.entered is not None
    return _write(aside, hidden_states, tokens)[:-1].view(*tokens.entered, -1)


def _write(aside: Tensor | None, values: Tensor, tokens: Tokens) -> Tensor:
    assert tokens.origin is not None and tokens.entered is not None
    values = values.flatten(0, 1)
    if aside is None:
        batch, width = tokens.entered
        aside = values.new_zeros(batch * width + 1, values.shape[-1])
    return aside.index_copy_(0, tokens.origin.flatten(), values.to(aside.dtype))

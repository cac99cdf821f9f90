"""Plain attention over word vectors that are alive, and what is to be known of a layer's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["Attention", "Position", "attend", "merge_heads", "split_heads"]

Position: TypeAlias = Callable[..., tuple[Tensor, Tensor, Tensor | None]]
"""What positions do to scores. Called with query [batch, heads, rows, head size], key [batch, heads, tokens, head
size], the positions of both ([batch, rows] and [batch, tokens]) and the tensors that the family adds; returns query and
key, turned by their positions, and what is added to the scaled scores, [batch, heads, rows, tokens] or what broadcasts
to it."""


class Attention(NamedTuple):
    """How one layer attends.

    Args:
        scaling: factor of the scores before the softmax.
        dropout: probability of dropping an attention probability, in training.
        position: what positions do to scores; None where they do nothing.
    """

    scaling: float
    dropout: float
    position: Position | None = None

    def in_mode(self, training: bool) -> Attention:
        """The same without dropout, unless in training."""
        return self if training or not self.dropout else self._replace(dropout=0.0)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float) -> Tensor:
    """Attention of ``query`` rows [batch, heads, rows, head size] over all alive ``key`` and ``value`` rows.

    Args:
        mask: [batch, tokens] bool, true on real key rows, or None when all are.
        scaling: factor of the scores before the softmax.
        dropout: probability of dropping an attention probability; 0 outside training.

    Returns:
        [batch, heads, rows, head size].
    """
    if mask is not None:
        mask = mask[:, None, None, :].expand(-1, 1, query.shape[2], -1)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)


def merge_heads(context: Tensor) -> Tensor:
    """[batch, heads, rows, head size] to [batch, rows, heads * head size]."""
    return context.transpose(1, 2).flatten(2)


def split_heads(values: Tensor, like: Tensor) -> Tensor:
    """[batch, rows, width] to [batch, heads, rows, head size], with the heads of ``like`` [batch, heads, ...]."""
    return torch.unflatten(values, 2, (like.shape[1], -1)).transpose(1, 2)

"""The modules that stand in a rewritten graph where attention stood."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..retention import Retention
from .attention import attend, merge_heads
from .significance import keep_highest, received_attention
from .tokens import Tokens, gather

__all__ = ["Extracted", "FirstToken", "HardExtract"]


class Extracted(NamedTuple):
    """What leaves an eliminating attention.

    Args:
        context: attention output of the kept rows, [batch, kept, width].
        rows: which rows were kept, [batch, kept], or None when all were.
        tokens: what is alive after.
    """

    context: Tensor
    rows: Tensor | None
    tokens: Tokens


class HardExtract(nn.Module):
    """Attention that drops the word vectors of least significance (PoWER-BERT, section 3.3).

    Context is made for the kept rows alone; queries of dropped rows serve only to score. Has no parameters.

    Args:
        retention: how many word vectors each layer keeps.
        layer: the layer that this is.
        scaling: factor of the scores before the softmax.
        dropout: attention dropout of the layer, used in training.
    """

    def __init__(self, retention: Retention, layer: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.retention = retention
        self.layer = layer
        self.scaling = scaling
        self.dropout = dropout

    def extra_repr(self) -> str:
        return f"layer={self.layer}, keep={self.retention.keep[self.layer]}"

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        """``query``, ``key``, ``value``: [batch, heads, tokens, head size]."""
        dropout = self.dropout if self.training else 0.0
        counts = tuple(
            self.retention.count(self.layer, length, entered)
            for length, entered in zip(tokens.lengths, tokens.counts, strict=True)
        )
        if counts == tokens.counts:
            context = attend(query, key, value, tokens.mask, self.scaling, dropout)
            return Extracted(merge_heads(context), None, tokens)
        significance = received_attention(query, key, tokens.mask, self.scaling)
        index, alive = keep_highest(significance, tokens, counts, self.retention.protected_first)
        rows = gather(query.transpose(1, 2), index).transpose(1, 2)
        context = attend(rows, key, value, tokens.mask, self.scaling, dropout)
        return Extracted(merge_heads(context), index, alive)


class FirstToken(nn.Module):
    """The last layer's attention where the head reads the first token alone: one query row, and nothing is lost.

    Args:
        scaling: factor of the scores before the softmax.
        dropout: attention dropout of the layer, used in training.
    """

    def __init__(self, scaling: float, dropout: float) -> None:
        super().__init__()
        self.scaling = scaling
        self.dropout = dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens) -> Extracted:
        """``query``: [batch, heads, 1 or tokens, head size]; ``key``, ``value``: [batch, heads, tokens, head size]."""
        dropout = self.dropout if self.training else 0.0
        context = attend(query[:, :, :1], key, value, tokens.mask, self.scaling, dropout)
        index = torch.zeros(query.shape[0], 1, dtype=torch.long, device=query.device)
        alive = Tokens(None, tokens.lengths, (1,) * len(tokens.lengths))
        return Extracted(merge_heads(context), index, alive)

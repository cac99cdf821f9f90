"""The modules that stand in a rewritten graph where attention stood."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .attention import Attention
from .kernels import kernel_for
from .rows import Kept, Tokens

__all__ = ["Extracted", "FirstToken", "HardExtract"]


class Extracted(NamedTuple):
    """What leaves an eliminating attention.

    Args:
        context: attention output of the kept rows, padded [batch, kept, width] or packed [1, kept, width].
        rows: which rows were kept, padded [batch, kept] or packed [kept], or these with packages; None when all were.
        tokens: what is alive after.
    """

    context: Tensor
    rows: Tensor | Kept | None
    tokens: Tokens


class HardExtract(nn.Module):
    """Attention that drops the word vectors of least significance (PoWER-BERT, section 3.3).

    Context is made for the kept rows alone; queries of dropped rows serve only to score. Has no parameters. How many
    word vectors it keeps comes with each batch, in its tokens.

    Args:
        layer: the layer that this is.
        attention: how it attends.
    """

    def __init__(self, layer: int, attention: Attention) -> None:
        super().__init__()
        self.layer = layer
        self.attention = attention

    def extra_repr(self) -> str:
        return f"layer={self.layer}"

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, *extras: Tensor) -> Extracted:
        """All three: padded [batch, heads, tokens, head size] or packed [1, heads, rows, head size].

        ``extras`` go to the attention's ``position``.
        """
        attention, left = self.attention.in_mode(self.training), tokens.left(self.layer)
        kernel = kernel_for(query, tokens, attention, None if left is None else tokens.entered.map_of(self.layer))
        context, rows, alive = kernel.extract(query, key, value, tokens, left, attention, *extras)
        return Extracted(context, rows, tokens.take(rows, left, alive))


class FirstToken(nn.Module):
    """The last layer's attention where the head reads the first token alone: one query row, and nothing is lost.

    Args:
        attention: how it attends.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, query: Tensor, key: Tensor, value: Tensor, tokens: Tokens, *extras: Tensor) -> Extracted:
        """Attention of each text's first row.

        Args:
            query: these rows' queries, padded [batch, heads, 1, head size] or packed [1, heads, batch, head size].
            key, value: padded [batch, heads, tokens, head size] or packed [1, heads, rows, head size].
            extras: go to the attention's ``position``.
        """
        attention = self.attention.in_mode(self.training)
        context = kernel_for(query, tokens, attention).first(query, key, value, tokens, attention, *extras)
        return Extracted(context, tokens.starts(query.device), tokens.cut())

"""Plain tensor operations: significance, then attention from the kept rows. Every other way is held to this one."""

from __future__ import annotations

from torch import Tensor

from ..attention import Attention, attend, merge_heads
from ..rows import Padded, gather

__all__ = ["extract", "first"]


def extract(
    query: Tensor, key: Tensor, value: Tensor, tokens: Padded, left: tuple[int, ...] | None, attention: Attention
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Serves everything but positions; gradients flow through the context."""
    rows = alive = None
    if left is not None:
        significance = tokens.entered.selector(query, key, tokens.mask, attention.scaling)
        rows, alive = tokens.keep(significance, left)
        query = gather(query.transpose(1, 2), rows).transpose(1, 2)
    return first(query, key, value, tokens, attention), rows, alive


def first(query: Tensor, key: Tensor, value: Tensor, tokens: Padded, attention: Attention) -> Tensor:
    """Context of whatever rows ``query`` has."""
    return merge_heads(attend(query, key, value, tokens.mask, attention.scaling, attention.dropout))

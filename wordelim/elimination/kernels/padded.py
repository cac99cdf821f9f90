"""Plain tensor operations: significance, then attention from the kept rows. Every other way is held to this one."""

from __future__ import annotations

from torch import Tensor

from ..attention import Attention, attend, merge_heads
from ..padded import Packaged, Padded
from ..rows import gather

__all__ = ["extract", "first"]


def extract(
    query: Tensor, key: Tensor, value: Tensor, tokens: Padded, left: tuple[int, ...] | None, attention: Attention
) -> tuple[Tensor, Tensor | Packaged | None, Tensor | None]:
    """Serves everything but positions; gradients flow through the context."""
    if left is None:
        return first(query, key, value, tokens, attention), None, None
    significance = tokens.entered.selector(query, key, tokens.mask, attention.scaling)
    rows, alive = tokens.keep(significance, left)
    if isinstance(rows, Tensor):
        query = gather(query.transpose(1, 2), rows).transpose(1, 2)
        return first(query, key, value, tokens, attention), rows, alive
    return gather(first(query, key, value, tokens, attention), rows), rows, alive


def first(query: Tensor, key: Tensor, value: Tensor, tokens: Padded, attention: Attention) -> Tensor:
    """Context of whatever rows ``query`` has."""
    return merge_heads(attend(query, key, value, tokens.mask, attention.scaling, attention.dropout))

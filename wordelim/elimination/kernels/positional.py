"""Attention whose scores depend on where two word vectors stood in the text, padded or traced.

Positions are those at which word vectors entered, however many between them have been dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..attention import Attention, merge_heads
from ..rows import Packaged, Padded, Traced, gather
from ..significance import by_map

__all__ = ["extract", "first", "turned"]


def extract(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Padded | Traced,
    left: Any,
    attention: Attention,
    *extras: Tensor,
    numbers: Tensor | None = None,
) -> tuple[Tensor, Tensor | Packaged | None, Tensor | None]:
    """From the same probabilities that score.

    Args:
        extras: go to the attention's ``position``.
        numbers: of the linear map that decides; None where attention or a selector does.
    """
    rows = alive = weights = None
    query, key, bias = turned(query, key, tokens, attention, extras)
    probabilities = _probabilities(query, key, bias, tokens.mask, attention.scaling)
    if left is not None:
        if numbers is not None:
            significance = by_map(value, numbers, tokens.mask)
            weights = significance.softmax(1)
        elif tokens.entered.by_attention:
            received = probabilities.detach()
            voting = received if tokens.mask is None else received * tokens.mask[:, None, :, None]
            significance = voting.sum((1, 2))
        else:
            significance = tokens.entered.selector(query, key, tokens.mask, attention.scaling)
        rows, alive = tokens.keep(significance, left, weights)
        # [batch, tokens, heads, tokens], so that rows can be gathered.
        probabilities = gather(probabilities.transpose(1, 2), rows).transpose(1, 2)
    return _context(probabilities, value, attention.dropout), rows, alive


def first(
    query: Tensor, key: Tensor, value: Tensor, tokens: Padded | Traced, attention: Attention, *extras: Tensor
) -> Tensor:
    """As :func:`extract`."""
    query, key, bias = turned(query, key, tokens, attention, extras, first=True)
    return _context(_probabilities(query, key, bias, tokens.mask, attention.scaling), value, attention.dropout)


def turned(
    query: Tensor,
    key: Tensor,
    tokens: Padded | Traced,
    attention: Attention,
    extras: tuple[Tensor, ...],
    *,
    first: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Query and key turned by their positions, and what is added to the scaled scores; as they are without positions.

    Args:
        first: whether ``query`` has each text's first row alone.
    """
    if attention.position is None:
        return query, key, None
    positions = tokens.positions()
    return attention.position(query, key, positions[:, :1] if first else positions, positions, *extras)


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None, mask: Tensor | None, scaling: float) -> Tensor:
    scores = query @ key.transpose(-1, -2) * scaling
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        mask = mask[:, None, None, :]
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1, dtype=torch.float32)


def _context(probabilities: Tensor, value: Tensor, dropout: float) -> Tensor:
    return merge_heads(functional.dropout(probabilities.to(value.dtype), dropout) @ value)

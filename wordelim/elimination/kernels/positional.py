"""Attention whose scores depend on where two word vectors stood in the text, padded or traced.

Positions are those at which word vectors entered, however many between them have been dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..attention import Attention, merge_heads
from ..rows import Padded, Traced, gather

__all__ = ["extract", "first"]


def extract(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Padded | Traced,
    left: Any,
    attention: Attention,
    *extras: Tensor,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """From the same probabilities that score; ``extras`` go to the attention's ``position``."""
    positions, rows, alive = tokens.positions(), None, None
    query, key, bias = _turned(query, key, positions, positions, attention, extras)
    probabilities = _probabilities(query, key, bias, tokens.mask, attention.scaling)
    if left is not None:
        if tokens.entered.by_attention:
            received = probabilities.detach()
            voting = received if tokens.mask is None else received * tokens.mask[:, None, :, None]
            significance = voting.sum((1, 2))
        else:
            significance = tokens.entered.selector(query, key, tokens.mask, attention.scaling)
        rows, alive = tokens.keep(significance, left)
        # [batch, tokens, heads, tokens], so that rows can be gathered.
        probabilities = gather(probabilities.transpose(1, 2), rows).transpose(1, 2)
    return _context(probabilities, value, attention.dropout), rows, alive


def first(
    query: Tensor, key: Tensor, value: Tensor, tokens: Padded | Traced, attention: Attention, *extras: Tensor
) -> Tensor:
    """As :func:`extract`."""
    positions = tokens.positions()
    query, key, bias = _turned(query, key, positions[:, :1], positions, attention, extras)
    return _context(_probabilities(query, key, bias, tokens.mask, attention.scaling), value, attention.dropout)


def _turned(
    query: Tensor, key: Tensor, rows: Tensor, columns: Tensor, attention: Attention, extras: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor | None]:
    assert attention.position is not None
    return attention.position(query, key, rows, columns, *extras)


def _probabilities(query: Tensor, key: Tensor, bias: Tensor | None, mask: Tensor | None, scaling: float) -> Tensor:
    scores = query @ key.transpose(-1, -2) * scaling
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    return scores.softmax(-1, dtype=torch.float32)


def _context(probabilities: Tensor, value: Tensor, dropout: float) -> Tensor:
    return merge_heads(functional.dropout(probabilities.to(value.dtype), dropout) @ value)

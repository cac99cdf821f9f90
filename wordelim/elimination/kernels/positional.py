"""Attention whose scores depend on where two word vectors stood in the text, padded or traced.

Positions are those at which word vectors entered, however many between them have been dropped. A package stands at the
first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

from ..attention import Attention, merge_heads
from ..padded import Packaged, Padded
from ..rows import gather, text_rows
from ..traced import Traced

__all__ = ["attend_from", "extract", "first", "stand", "turned"]


def extract(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Padded | Traced,
    left: Any,
    attention: Attention,
    *extras: Tensor,
) -> tuple[Tensor, Tensor | Packaged | None, Tensor | None]:
    """From the same probabilities that score.

    Args:
        extras: go to the attention's ``position``.
    """
    if left is None:
        return attend_from(None, query, key, value, tokens, attention, *extras), None, None
    query, key, bias = turned(query, key, tokens, attention, extras)
    scores = query @ key.transpose(-1, -2) * attention.scaling
    bias = _masked(bias, tokens.mask, scores.dtype)
    probabilities = (scores if bias is None else scores + bias).softmax(-1, dtype=torch.float32)
    if tokens.entered.by_attention:
        received = probabilities.detach()
        voting = received if tokens.mask is None else received * tokens.mask[:, None, :, None]
        significance = voting.sum((1, 2))
    else:
        significance = tokens.entered.selector(query, key, tokens.mask, attention.scaling)
    rows, alive = tokens.keep(significance, left)
    # [batch, tokens, heads, tokens], so that rows can be gathered.
    probabilities = gather(probabilities.transpose(1, 2), rows).transpose(1, 2).to(value.dtype)
    return merge_heads(functional.dropout(probabilities, attention.dropout) @ value), rows, alive


def first(
    query: Tensor, key: Tensor, value: Tensor, tokens: Padded | Traced, attention: Attention, *extras: Tensor
) -> Tensor:
    """As :func:`extract`."""
    return attend_from(tokens.positions()[:, :1], query, key, value, tokens, attention, *extras)


def attend_from(
    stand: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Padded | Traced,
    attention: Attention,
    *extras: Tensor,
) -> Tensor:
    """Context [batch, rows, heads * head size] of whatever rows ``query`` has.

    Args:
        stand: [batch, rows], where these stood in their text; None where it has all of them.
        extras: go to the attention's ``position``.
    """
    query, key, bias = turned(query, key, tokens, attention, extras, stand)
    bias = _masked(bias, tokens.mask, query.dtype)
    return merge_heads(
        scaled_dot_product_attention(query, key, value, bias, attention.dropout, scale=attention.scaling)
    )


def stand(tokens: Padded | Traced, rows: Tensor | Packaged) -> Tensor:
    """Where rows that are kept stood in their text, [batch, rows]; and packages, at the first."""
    positions = tokens.positions().gather(1, text_rows(rows))
    return functional.pad(positions, (0, 1)) if isinstance(rows, Packaged) else positions


def turned(
    query: Tensor,
    key: Tensor,
    tokens: Padded | Traced,
    attention: Attention,
    extras: tuple[Tensor, ...],
    stand: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Query and key turned by their positions, and what is added to the scaled scores; as they are without positions.

    Args:
        stand: where the rows of ``query`` stood; None where it has all of them.
    """
    if attention.position is None:
        return query, key, None
    positions = tokens.positions()
    return attention.position(query, key, positions if stand is None else stand, positions, *extras)


def _masked(bias: Tensor | None, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What is added to scores so that nobody attends to padding either."""
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))
        mask = mask[:, None, None, :]
        bias = mask if bias is None else bias + mask
    return bias if bias is None else bias.to(dtype)

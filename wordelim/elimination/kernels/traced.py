"""Elimination for compilers and exporters: shapes follow the padded width, and nothing is read from the device.

It is the padded layout with tensors where :mod:`.extract` has numbers on the host. What leaves a layer is as wide as a
text that fills the whole width would be; shorter texts are masked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..keep import CountRule
from ..rows import Tokens

__all__ = ["bias", "keep_highest", "scored_attention"]


def scored_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """Attention of all rows, and the significance of each word vector.

    Context is made of all rows, from the same probabilities that score them, and the kept ones are taken afterwards:
    runtimes other than PyTorch are slower with the scores of the kept rows made a second time.

    Args:
        query, key, value: [batch, heads, tokens, head size].
        mask: [batch, tokens] bool, true on real rows.
        scaling: factor of the scores before the softmax.
        dropout: probability of dropping an attention probability; 0 outside training.

    Returns:
        Context [batch, heads, tokens, head size], and significance [batch, tokens] fp32 as
        :func:`.significance.received_attention` gives it.
    """
    scores = (query * scaling) @ key.transpose(-1, -2) + bias(mask, query.dtype)
    probabilities = scores.softmax(-1, dtype=torch.float32)
    voters = mask[:, None, None, :].to(torch.float32)
    significance = (voters @ probabilities.detach()).sum((1, 2))
    return nn.functional.dropout(probabilities, dropout).to(value.dtype) @ value, significance


def bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores so that nobody attends to padding, [batch, 1, 1, tokens]."""
    return torch.where(mask, 0.0, float("-inf")).to(dtype)[:, None, None, :]


def keep_highest(significance: Tensor, tokens: Tokens, rule: CountRule, protected_first: int) -> tuple[Tensor, Tokens]:
    """Choose each example's most significant word vectors, in text order, as :func:`.significance.keep_highest` does.

    Args:
        significance: [batch, tokens].
        tokens: what is alive now.
        rule: how many each example keeps.
        protected_first: how many of the first rows are kept whatever their significance.

    Returns:
        Index of the kept rows [batch, kept] (rows beyond an example's own count point at its row 0 and are masked), and
        what is alive after.
    """
    assert tokens.symbolic is not None and tokens.mask is not None
    lengths, longest, _ = tokens.symbolic
    width, kept, device = significance.shape[1], rule.width(longest), significance.device
    first = torch.arange(width, device=device) < protected_first
    order = significance.masked_fill(first, float("inf")).masked_fill(~tokens.mask, float("-inf"))
    if torch.compiler.is_exporting():
        # ONNX's TopK puts the earlier of two equals first; torch's own promises nothing.
        ranked = order.topk(kept).indices
    else:
        ranked = order.sort(dim=1, descending=True, stable=True).indices[:, :kept]
    alive = torch.arange(kept, device=device) < rule.counts(lengths)[:, None]
    rows = ranked.masked_fill(~alive, width).sort(dim=1).values.masked_fill(~alive, 0)
    return rows, tokens._replace(mask=alive)

"""For compilers and exporters: tensor operations alone, and nothing is read from the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention

from ..attention import Attention, merge_heads
from ..keep import CountRule
from ..padded import Packaged
from ..rows import gather
from ..traced import Traced

__all__ = ["extract", "first"]


def extract(
    query: Tensor, key: Tensor, value: Tensor, tokens: Traced, left: CountRule | None, attention: Attention
) -> tuple[Tensor, Tensor | Packaged | None, Tensor | None]:
    """Context is made of all rows, from the same probabilities that score them, and the kept ones are taken afterwards:
    runtimes other than PyTorch are slower with the scores of the kept rows made a second time."""
    if left is None:
        return first(query, key, value, tokens, attention), None, None
    scores = (query * attention.scaling) @ key.transpose(-1, -2) + _bias(tokens.mask, query.dtype)
    probabilities = scores.softmax(-1, dtype=torch.float32)
    voters = tokens.mask[:, None, None, :].to(torch.float32)
    rows, alive = tokens.keep((voters @ probabilities.detach()).sum((1, 2)), left)
    context = dropout(probabilities, attention.dropout).to(value.dtype) @ value
    return gather(merge_heads(context), rows), rows, alive


def first(query: Tensor, key: Tensor, value: Tensor, tokens: Traced, attention: Attention) -> Tensor:
    """Context of whatever rows ``query`` has."""
    bias = _bias(tokens.mask, query.dtype)
    return merge_heads(
        scaled_dot_product_attention(query, key, value, bias, attention.dropout, scale=attention.scaling)
    )


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores so that nobody attends to padding, [batch, 1, 1, tokens]."""
    return torch.where(mask, 0.0, float("-inf")).to(dtype)[:, None, None, :]

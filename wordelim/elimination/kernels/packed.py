"""Attention of the kept rows alone, from the very probabilities that decide which rows are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...system.machine import has_fast_bf16

__all__ = ["scored_attention"]

# So many probabilities are made at a time: they are still in a core's own cache when they are summed.
_BLOCK = 3 << 17


def scored_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Score examples of equal length, keep rows, and attend from these: the scores are made once.

    A few examples at a time, so that probabilities never exist for more than one long example or some short ones. For
    inference on a CPU: no gradient flows, and there is no dropout. In fp16, and in bf16 where the CPU has no units for
    it, it computes in fp32.

    Args:
        query, key, value: [examples, heads, tokens, head size]; views into packed rows are taken as they lie.
        scaling: factor of the scores before the softmax.
        choose: from significance [examples, tokens] fp32, as :func:`.significance.received_attention` gives it, to the
            rows to keep [examples, kept].

    Returns:
        Context of the kept rows [examples * kept, heads * head size], and these rows [examples, kept].
    """
    examples, heads, tokens, _ = query.shape
    step = max(1, _BLOCK // (heads * tokens * tokens))
    blocks = []
    for first in range(0, examples, step):
        if min(step, examples - first) == 1:
            blocks.append(_one(query[first], key[first], value[first], scaling, choose))
        else:
            part = slice(first, first + step)
            blocks.append(_several(query[part], key[part], value[part], scaling, choose))
    if len(blocks) == 1:
        return blocks[0]
    contexts, rows = zip(*blocks, strict=True)
    return torch.cat(contexts), torch.cat(rows)


def _one(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """One example, [heads, tokens, head size] each; a few heads at a time."""
    dtype = query.dtype
    query, key, value = (_computable(part) for part in (query, key, value))
    heads, tokens, size = query.shape
    probabilities = query.new_empty(heads, tokens, tokens, dtype=_summable(query.dtype))
    step = max(1, _BLOCK // (tokens * tokens))
    significance = None
    for first in range(0, heads, step):
        part = slice(first, first + step)
        _probabilities(query[part], key[part], scaling, out=probabilities[part])
        received = probabilities[part].sum((0, 1))
        significance = received if significance is None else significance.add_(received)
    assert significance is not None
    rows = choose(significance[None].float())
    context = value.new_empty(rows.shape[1], heads, size)
    for first in range(0, heads, step):
        part = slice(first, first + step)
        kept = probabilities[part].index_select(1, rows[0]).to(value.dtype)
        torch.bmm(kept, value[part], out=context.transpose(0, 1)[part])
    return context.flatten(1).to(dtype), rows


def _several(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Several short examples at once, [examples, heads, tokens, head size] each."""
    dtype = query.dtype
    examples, heads, tokens, size = query.shape
    query, key, value = (_computable(part).flatten(0, 1) for part in (query, key, value))
    probabilities = query.new_empty(examples * heads, tokens, tokens, dtype=_summable(query.dtype))
    _probabilities(query, key, scaling, out=probabilities)
    rows = choose(probabilities.view(examples, heads * tokens, tokens).sum(1).float())
    first = torch.arange(0, examples * heads * tokens, tokens).view(examples, heads, 1)
    kept = probabilities.flatten(0, 1).index_select(0, (first + rows[:, None]).flatten())
    context = torch.bmm(kept.view(examples * heads, -1, tokens).to(value.dtype), value)
    context = context.view(examples, heads, -1, size).transpose(1, 2).flatten(2).flatten(0, 1)
    return context.to(dtype), rows


def _probabilities(query: Tensor, key: Tensor, scaling: float, out: Tensor) -> None:
    if out.dtype == query.dtype:
        torch.baddbmm(out, query, key.transpose(1, 2), beta=0, alpha=scaling, out=out)
        torch.softmax(out, -1, out=out)
    else:
        scores = torch.bmm(query, key.transpose(1, 2))
        torch.softmax(out.copy_(scores).mul_(scaling), -1, out=out)


def _computable(values: Tensor) -> Tensor:
    native = values.dtype == torch.bfloat16 and has_fast_bf16("cpu")
    return values if native or values.dtype in (torch.float32, torch.float64) else values.float()


def _summable(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32

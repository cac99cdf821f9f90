"""On a CPU, attention of the kept rows alone, from the very probabilities that decide which rows are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from ...system.machine import has_fast_bf16
from ..attention import Attention
from ..padded import Packaged, Padded
from ..rows import text_rows
from . import padded, positional

__all__ = ["extract", "first"]

Choose: TypeAlias = Callable[[Tensor], tuple[Tensor | Packaged, Tensor | None]]

# So many probabilities are made at a time: they are still in a core's own cache when they are summed.
_BLOCK = 3 << 17


def extract(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Padded,
    left: tuple[int, ...] | None,
    attention: Attention,
    *extras: Tensor,
) -> tuple[Tensor, Tensor | Packaged | None, None]:
    """Score texts of equal length, keep rows, and attend from these: the scores are made once.

    A few texts at a time, so that probabilities never exist for more than one long text or some short ones. For
    inference on a CPU: no gradient flows, and there is no dropout. In fp16, and in bf16 where the CPU has no units for
    it, it computes in fp32. Views into packed rows are taken as they lie.
    """
    if left is None:
        if attention.position is None:
            return padded.first(query, key, value, tokens, attention), None, None
        return positional.attend_from(None, query, key, value, tokens, attention, *extras), None, None
    examples, heads, length, _ = query.shape
    step = max(1, _BLOCK // (heads * length * length))
    blocks = []
    for start in range(0, examples, step):
        part = slice(start, start + step)
        flags = (tokens.protected, tokens.origin)
        protected, origin = (None if flag is None else flag[part] for flag in flags)
        own = tokens._replace(protected=protected, origin=origin)
        asking, asked, bias = positional.turned(query[part], key[part], own, attention, extras)
        compute = _one if len(asking) == 1 else _several
        choose = partial(own.keep, left=left[part])
        blocks.append(compute(asking, asked, value[part], attention.scaling, bias, choose))
    if len(blocks) == 1:
        return *blocks[0], None
    contexts, kept = zip(*blocks, strict=True)
    if isinstance(kept[0], Packaged):
        return torch.cat(contexts), Packaged(*map(torch.cat, zip(*kept, strict=True))), None
    return torch.cat(contexts), torch.cat(kept), None


def first(query: Tensor, key: Tensor, value: Tensor, tokens: Padded, attention: Attention, *extras: Tensor) -> Tensor:
    """As the plain ways."""
    if attention.position is None:
        return padded.first(query, key, value, tokens, attention)
    return positional.first(query, key, value, tokens, attention, *extras)


def _one(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, bias: Tensor | None, choose: Choose
) -> tuple[Tensor, Tensor | Packaged]:
    """One example, [1, heads, tokens, head size] each; a few heads at a time."""
    dtype = query.dtype
    query, key, value = (_computable(part)[0] for part in (query, key, value))
    heads, tokens, size = query.shape
    probabilities = query.new_empty(heads, tokens, tokens, dtype=_summable(query.dtype))
    step = max(1, _BLOCK // (tokens * tokens))
    significance = None
    for start in range(0, heads, step):
        part = slice(start, start + step)
        added = bias if bias is None or bias.shape[1] == 1 else bias[:, part]
        _probabilities(query[part], key[part], scaling, added, out=probabilities[part])
        received = probabilities[part].sum((0, 1))
        significance = received if significance is None else significance.add_(received)
    assert significance is not None
    rows, _ = choose(significance[None].float())
    index, package = text_rows(rows)[0], isinstance(rows, Packaged)
    context = value.new_empty(len(index) + package, heads, size)
    for start in range(0, heads, step):
        part = slice(start, start + step)
        kept = probabilities[part].index_select(1, index)
        if isinstance(rows, Packaged):
            kept = torch.cat([kept, rows.shares.to(kept.dtype) @ probabilities[part]], 1)
        torch.bmm(kept.to(value.dtype), value[part], out=context.transpose(0, 1)[part])
    return context.flatten(1).to(dtype)[None], rows


def _several(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, bias: Tensor | None, choose: Choose
) -> tuple[Tensor, Tensor | Packaged]:
    """Several short examples at once, [examples, heads, tokens, head size] each."""
    dtype = query.dtype
    examples, heads, tokens, size = query.shape
    query, key, value = (_computable(part).flatten(0, 1) for part in (query, key, value))
    probabilities = query.new_empty(examples * heads, tokens, tokens, dtype=_summable(query.dtype))
    _probabilities(query, key, scaling, bias, out=probabilities)
    rows, _ = choose(probabilities.view(examples, heads * tokens, tokens).sum(1).float())
    starts = torch.arange(0, examples * heads * tokens, tokens).view(examples, heads, 1)
    kept = probabilities.flatten(0, 1).index_select(0, (starts + text_rows(rows)[:, None]).flatten())
    kept = kept.view(examples * heads, -1, tokens)
    if isinstance(rows, Packaged):
        shares = rows.shares.to(kept.dtype).repeat_interleave(heads, 0)[:, None]
        kept = torch.cat([kept, shares @ probabilities], 1)
    context = torch.bmm(kept.to(value.dtype), value)
    context = context.view(examples, heads, -1, size).transpose(1, 2).flatten(2)
    return context.to(dtype), rows


def _probabilities(query: Tensor, key: Tensor, scaling: float, bias: Tensor | None, out: Tensor) -> None:
    """Into [examples * heads, tokens, tokens]; the bias is [examples, heads or 1, tokens, tokens]."""
    if out.dtype == query.dtype:
        torch.baddbmm(out, query, key.transpose(1, 2), beta=0, alpha=scaling, out=out)
    else:
        out.copy_(torch.bmm(query, key.transpose(1, 2))).mul_(scaling)
    if bias is not None:
        out.unflatten(0, (len(bias), -1)).add_(bias)
    torch.softmax(out, -1, out=out)


def _computable(values: Tensor) -> Tensor:
    native = values.dtype == torch.bfloat16 and has_fast_bf16("cpu")
    return values if native or values.dtype in (torch.float32, torch.float64) else values.float()


def _summable(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32

"""What :mod:`.kernels` computes, text by text in plain tensor operations: what it is held to, on any device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from ..keep import highest, shares_of
from .level import Level
from .plan import BLOCK

__all__ = ["add_norm", "attend", "attend_kept", "choose", "score", "take", "weigh"]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, scaling: float, asked: Level, level: Level) -> Tensor:
    """As :func:`.kernels.attend`."""
    context = torch.empty_like(query, memory_format=torch.contiguous_format)
    for (rows, _), (own, _) in zip(_texts(asked), _texts(level), strict=True):
        q, k, v = (part.unflatten(1, (heads, -1)).transpose(0, 1) for part in (query[rows], key[own], value[own]))
        context[rows] = scaled_dot_product_attention(q, k, v, scale=scaling).transpose(0, 1).flatten(1)
    return context


def score(query: Tensor, key: Tensor, value: Tensor, heads: int, scaling: float, level: Level) -> tuple[Tensor, Tensor]:
    """As :func:`.kernels.score`."""
    lines = -(-level.longest // BLOCK)
    dtype = torch.promote_types(query.dtype, torch.float32)
    received = query.new_empty(heads, lines, len(query), dtype=dtype)
    for rows, _ in _texts(level):
        q, k = (part[rows].unflatten(1, (heads, -1)).transpose(0, 1) for part in (query, key))
        probabilities = (q @ k.transpose(1, 2) * scaling).softmax(-1, dtype=dtype)
        for line, block in enumerate(probabilities.split(BLOCK, 1)):
            received[:, line, rows] = block.sum(1)
    return attend(query, key, value, heads, scaling, level, level), received


def weigh(value: Tensor, numbers: Tensor, level: Level) -> Tensor:
    """As :func:`.kernels.weigh`."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    weights = value.new_empty(len(value), dtype=dtype)
    for rows, _ in _texts(level):
        weights[rows] = value[rows].to(dtype) @ numbers.to(dtype)
    return weights


def choose(
    received: Tensor, level: Level, after: Level, fixed: int, package: bool, flags: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As :func:`.kernels.choose`."""
    index, shares = after.kept.new_empty(after.rows), received.new_empty(received.shape[-1]) if package else None
    after_flags = None if flags is None else flags.new_empty(after.rows)
    for text, ((rows, own), (to, left)) in enumerate(zip(_texts(level), _texts(after), strict=True)):
        length = rows.stop - rows.start
        log = received.dim() == 1
        score = received[None, rows] if log else received[:, : -(-length // BLOCK), rows].sum((0, 1))[None]
        protected = None if flags is None else flags[None, rows][:, :own] != 0
        stays, _ = highest(score[:, :own], left, fixed, protected=protected)
        start = to.start
        index[start : start + left] = stays[0] + rows.start
        index[start + left : to.stop] = -1 - text
        if shares is not None:
            shares[rows] = shares_of(score, stays, None, None, log=log)[0]
            if left == own:  # where none is dropped the package goes on as it is
                shares[rows] = torch.arange(length, device=shares.device).ge(own).to(shares.dtype)
        if flags is not None and after_flags is not None:
            after_flags[to] = 0
            after_flags[start : start + left] = flags[rows][stays[0]]
    return index, shares, after_flags


def take(
    values: Tensor, stream: Tensor, index: Tensor, shares: Tensor | None, level: Level, after: Level
) -> tuple[Tensor, Tensor | None]:
    """As :func:`.kernels.take`."""
    taken = values.new_empty(after.rows, values.shape[1])
    packages = None if shares is None else stream.new_empty(level.texts, values.shape[1])
    for text, ((rows, _), (to, left)) in enumerate(zip(_texts(level), _texts(after), strict=True)):
        taken[to.start : to.start + left] = values[index[to.start : to.start + left].long()]
        if shares is not None and packages is not None and to.stop - to.start > left:
            share = shares[rows].to(values.dtype)
            taken[to.stop - 1], packages[text] = share @ values[rows], share @ stream[rows]
    return taken, packages


def attend_kept(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    scaling: float,
    stream: Tensor,
    index: Tensor,
    shares: Tensor | None,
    level: Level,
    after: Level,
) -> tuple[Tensor, Tensor | None]:
    """As :func:`.kernels.attend_kept`."""
    asking, packages = take(query, stream, index, shares, level, after)
    return attend(asking, key, value, heads, scaling, after, level), packages


def add_norm(
    hidden: Tensor,
    stream: Tensor,
    index: Tensor | None,
    packages: Tensor | None,
    norm: tuple[Tensor, Tensor, float],
    level: Level,
) -> Tensor:
    """As :func:`.kernels.add_norm`."""
    out, total = torch.empty_like(hidden), int(level.ends[-1])
    weight, bias, epsilon = norm
    around = stream[:total]
    if index is not None:
        place = index[:total].long()
        around = stream[place.clamp_min(0)]
        if packages is not None:
            around = torch.where((place < 0)[:, None], packages[(-1 - place).clamp_min(0)], around)
    out[:total] = layer_norm(hidden[:total] + around, hidden.shape[1:], weight, bias, epsilon)
    return out


def _texts(level: Level) -> Iterator[tuple[slice, int]]:
    """Rows of each text, and how many of them are its own."""
    ends = level.ends.tolist()
    return ((slice(*at), own) for *at, own in zip(ends, ends[1:], level.kept.tolist(), strict=False))

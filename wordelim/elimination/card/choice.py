"""Which rows stay, in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .level import Level
from .plan import BLOCK

__all__ = ["choice_shape", "choose", "weigh"]

_WEIGHED = 16


@triton.jit(do_not_specialize=["numbers", "end"])  # type: ignore[untyped-decorator]
def _weigh(value, numbers, weights, end, stride, size, some: tl.constexpr, width: tl.constexpr):  # type: ignore[no-untyped-def]
    """A linear map of some rows."""
    row, total = tl.program_id(0) * some + tl.arange(0, some), tl.load(end)
    if tl.program_id(0) * some < total:
        sums = tl.zeros([some], tl.float32)
        for start in range(0, size, width):
            column = start + tl.arange(0, width)
            real = (row < total)[:, None] & (column < size)[None, :]
            found = tl.load(value + row.to(tl.int64)[:, None] * stride + column[None, :], mask=real, other=0.0)
            of = tl.load(numbers + column, mask=column < size, other=0.0)
            sums += tl.sum(found.to(tl.float32) * of[None, :], 1)
        tl.store(weights + row, sums, mask=row < total)


@triton.jit(do_not_specialize=["rows", "lines", "fixed", "ends", "kept", "after_ends", "after_kept"])  # type: ignore[untyped-decorator]
def _choose(  # type: ignore[no-untyped-def]
    received, spare, ends, kept, after_ends, after_kept, index, shares, flags, after_flags, rows, lines, fixed,
    heads: tl.constexpr, block: tl.constexpr, most: tl.constexpr, tile: tl.constexpr,
    package: tl.constexpr, guarded: tl.constexpr, softmax: tl.constexpr,
):  # fmt: skip
    """Which rows of one text stay: those above which fewer stand than are to stay. Then each one's place among them."""
    text = tl.program_id(0)
    first, own = tl.load(ends + text), tl.load(kept + text)
    begin, left = tl.load(after_ends + text), tl.load(after_kept + text)
    number, column = tl.load(ends + text + 1) - first, tl.arange(0, most)
    real = column < number
    if softmax:
        score = tl.load(received + first + column, mask=real, other=float("-inf"))
    else:
        score = tl.zeros([most], tl.float32)
        for line in range(tl.cdiv(number, block)):
            for head in tl.static_range(heads):
                at = (head * lines + line).to(tl.int64) * rows + first
                score += tl.load(received + at + column, mask=real, other=0.0)
    # Of a model that computes NaN too as many stay as there is room for.
    score = tl.where(score == score, score, 0.0)
    never = column < fixed
    if guarded:
        flag = tl.load(flags + first + column, mask=real, other=0)
        never = never | (flag != 0)
    order = tl.where(column < own, tl.where(never, float("inf"), score), float("-inf"))
    tl.store(spare + first + column, order, mask=real)
    tl.debug_barrier()
    rank = tl.zeros([most], tl.int32)
    for start in range(0, own, tile):
        other = start + tl.arange(0, tile)
        theirs = tl.load(spare + first + other, mask=other < own, other=float("-inf"))
        equal = (theirs[:, None] == order[None, :]) & (other[:, None] < column[None, :])
        ahead = ((theirs[:, None] > order[None, :]) | equal) & (other < own)[:, None]
        rank += tl.sum(ahead.to(tl.int32), 0)
    stays = (rank < left) & (column < own)
    place = begin + tl.cumsum(stays.to(tl.int32), 0) - 1
    tl.store(index + place, first + column, mask=stays)
    if guarded:
        tl.store(after_flags + place, flag, mask=stays)
    if package:
        out = real & (stays == 0)
        if softmax:
            rest = tl.where(out, score, float("-inf"))
            rest = tl.where(out, tl.exp(rest - tl.max(rest, 0)), 0.0)
        else:
            rest = tl.where(out, score, 0.0)
        share = rest / tl.maximum(tl.sum(rest, 0), 1.1754943508222875e-38)
        # Where none is dropped the package goes on as it is.
        share = tl.where(left == own, ((column == number - 1) & (number > own)).to(tl.float32), share)
        tl.store(shares + first + column, share, mask=real)
        if tl.load(after_ends + text + 1) - begin > left:
            tl.store(index + begin + left, -1 - text)
            if guarded:
                tl.store(after_flags + begin + left, 0)


def weigh(value: Tensor, numbers: Tensor, level: Level) -> Tensor:
    """A linear map of value vectors [rows, width] by its ``numbers`` [width] fp32: [rows] fp32."""
    (rows, size), weights = value.shape, value.new_empty(len(value), dtype=torch.float32)
    width = min(256, triton.next_power_of_2(size))
    _weigh[(triton.cdiv(rows, _WEIGHED),)](
        value, numbers, weights, level.ends[level.texts :], value.stride(0), size, _WEIGHED, width
    )
    return weights


def choice_shape(most: int) -> tuple[int, dict[str, int]]:
    """Rows that are compared at a time, and options of Triton, for texts of up to so many rows, a power of 2."""
    return 16 if most > 512 else 32, {"num_warps": 8 if most > 256 else 4}


def choose(
    received: Tensor, level: Level, after: Level, fixed: int, package: bool, flags: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Which rows stay: of each text those that receive most, in text order, the earlier of equals.

    Args:
        received: as :func:`.kernels.score` gives it; or as :func:`weigh` does, of which packages take the softmax.
        level, after: in front of the layer and behind it.
        fixed: how many of the first rows always stay.
        package: whether the rest goes on as a row of its own.
        flags: further rows that always stay, [rows] int8.

    Returns:
        The row in ``level`` of each in ``after``, -1 - text for a package, [rows] int32; with packages what each row in
        ``level`` is of its text's, [rows] fp32; and the flags behind the layer.
    """
    softmax, rows = received.dim() == 1, received.shape[-1]
    heads, lines = (1, 1) if softmax else received.shape[:2]
    index = after.kept.new_empty(after.rows)
    spare = received.new_empty(rows)
    shares = torch.empty_like(spare) if package else None
    after_flags = None if flags is None else flags.new_empty(after.rows)
    most = triton.next_power_of_2(level.longest)
    tile, options = choice_shape(most)
    _choose[(level.texts,)](
        received, spare, level.ends, level.kept, after.ends, after.kept, index, shares, flags, after_flags,
        rows, lines, fixed, heads, BLOCK, most, tile, package, flags is not None, softmax, **options,
    )  # fmt: skip
    return index, shares, after_flags

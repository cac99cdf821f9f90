"""The launches of a layer in Triton. :mod:`.plain` has the same functions in plain tensor operations.

No matrix of probabilities is in memory, nothing is sorted, added up atomically or waited for, and a text's results
depend on nothing but the text. This module can only be imported where Triton can.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .choice import choose, weigh
from .level import Level
from .norm import add_norm
from .plan import BLOCK

__all__ = ["add_norm", "attend", "attend_kept", "attention_shape", "choose", "score", "take", "weigh"]

# Triton's interpreter can load and store bf16 but not multiply it. In fp32 the products are the same.
_WIDEN = tl.constexpr(triton.knobs.runtime.interpret)
_LOG2_E = 1.4426950408889634
_TAKEN = 16
# Triton compiles anew for each kind of argument that it specialises on, which doesn't pay for places in the plan.


@triton.jit  # type: ignore[untyped-decorator]
def _load(rows, first, number, row, row_stride, head, size: tl.constexpr, width: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of one text's head, zeros beyond its ``number`` rows and beyond the head's size."""
    column = tl.arange(0, width)
    place = (first + row).to(tl.int64)[:, None] * row_stride + head * size + column[None, :]
    real = (row < number)[:, None] if size == width else (row < number)[:, None] & (column < size)[None, :]
    loaded = tl.load(rows + place, mask=real, other=0.0)
    return loaded.to(tl.float32) if _WIDEN else loaded


@triton.jit  # type: ignore[untyped-decorator]
def _mean(rows, shares, first, number, row_stride, head, size: tl.constexpr, width: tl.constexpr, step: tl.constexpr):  # type: ignore[no-untyped-def]
    """What one text's rows are together in one head, by their shares."""
    mean = tl.zeros([width], tl.float32)
    for begin in range(0, number, step):
        row = begin + tl.arange(0, step)
        share = tl.load(shares + first + row, mask=row < number, other=0.0)[:, None]
        mean += tl.sum(share * _load(rows, first, number, row, row_stride, head, size, width).to(tl.float32), 0)
    return mean


@triton.jit(do_not_specialize=["rows", "asked", "ends"])  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    query, key, value, context, received, stream, index, shares, packages, asked, ends, rows, scaling,
    query_stride, key_stride, stream_stride,
    size: tl.constexpr, width: tl.constexpr, block: tl.constexpr, step: tl.constexpr, score: tl.constexpr,
    gather: tl.constexpr, package: tl.constexpr,
):  # fmt: skip
    """Attention of a block of one text's rows in one head; then, the scores made again, what each row receives of it.

    The second sweep knows each row's denominator from the first, so nothing is added up between programs. With
    ``gather`` the rows are those of ``index``; the program that has the package first makes its query, and the package.
    """
    text, head, place = tl.program_id(2), tl.program_id(1), tl.program_id(0)
    asked_first = tl.load(asked + text)
    asked_number = tl.load(asked + text + 1) - asked_first
    if place * block < asked_number:
        first = tl.load(ends + text)
        number = tl.load(ends + text + 1) - first
        row, column, depth = place * block + tl.arange(0, block), tl.arange(0, step), tl.arange(0, width)
        if gather:
            source = tl.load(index + asked_first + row, mask=row < asked_number, other=0)
            queries = _load(query, 0, rows, tl.maximum(source, 0), query_stride, head, size, width)
            if package:
                here = (tl.load(index + asked_first + asked_number - 1) < 0) & (asked_number <= (place + 1) * block)
                many = tl.where(here, number, 0)
                mean = _mean(query, shares, first, many, query_stride, head, size, width, step)
                mean = mean.to(query.dtype.element_ty).to(queries.dtype)
                queries = tl.where((source < 0)[:, None], mean[None, :], queries)
                around = _mean(stream, shares, first, many, stream_stride, head, size, width, step)
                to = packages + (text * tl.num_programs(1) + head).to(tl.int64) * size + depth
                tl.store(to, around.to(packages.dtype.element_ty), mask=depth < tl.where(here, size, 0))
        else:
            queries = _load(query, asked_first, asked_number, row, query_stride, head, size, width)
        highest = tl.full([block], float("-inf"), tl.float32)
        total = tl.zeros([block], tl.float32)
        mixed = tl.zeros([block, width], tl.float32)
        for begin in range(0, number, step):
            keys = _load(key, first, number, begin + column, key_stride, head, size, width)
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
            scores = tl.where((begin + column < number)[None, :], scores, float("-inf"))
            above = tl.maximum(highest, tl.max(scores, 1))
            shrink = tl.exp2(highest - above)
            weights = tl.exp2(scores - above[:, None])
            total = total * shrink + tl.sum(weights, 1)
            values = _load(value, first, number, begin + column, key_stride, head, size, width)
            mixed = tl.dot(weights.to(values.dtype), values, mixed * shrink[:, None], input_precision="ieee")
            highest = above
        out = (asked_first + row).to(tl.int64)[:, None] * (tl.num_programs(1) * size) + head * size + depth[None, :]
        real = (row < asked_number)[:, None] & (depth < size)[None, :]
        tl.store(context + out, (mixed / total[:, None]).to(context.dtype.element_ty), mask=real)
        if score:
            denominator = tl.where(row < number, highest + tl.log2(total), float("inf"))
            line = received + (head * tl.num_programs(0) + place).to(tl.int64) * rows + first
            for begin in range(0, number, step):
                keys = _load(key, first, number, begin + column, key_stride, head, size, width)
                scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
                sums = tl.sum(tl.exp2(scores - denominator[:, None]), 0)
                tl.store(line + begin + column, sums, mask=begin + column < number)


@triton.jit(do_not_specialize=["blocks", "index", "ends", "after_ends", "after_kept"])  # type: ignore[untyped-decorator]
def _take(  # type: ignore[no-untyped-def]
    values, stream, index, shares, taken, packages, ends, after_ends, after_kept, blocks, size,
    some: tl.constexpr, width: tl.constexpr, package: tl.constexpr,
):  # fmt: skip
    """Some of one text's rows that stay; or some columns of its package, of two tensors."""
    text, part = tl.program_id(1), tl.program_id(0)
    begin, left = tl.load(after_ends + text), tl.load(after_kept + text)
    if part < blocks:
        row = part * some + tl.arange(0, some)
        if part * some < left:
            source = tl.load(index + begin + row, mask=row < left, other=0).to(tl.int64)[:, None] * size
            for start in range(0, size, width):
                column = start + tl.arange(0, width)
                real = (row < left)[:, None] & (column < size)[None, :]
                found = tl.load(values + source + column[None, :], mask=real)
                to = (begin + row).to(tl.int64)[:, None] * size
                tl.store(taken + to + column[None, :], found, mask=real)
    elif package and tl.load(after_ends + text + 1) - begin > left:
        first = tl.load(ends + text)
        number = tl.load(ends + text + 1) - first
        column = (part - blocks) * width + tl.arange(0, width)
        mixed, around = tl.zeros([width], tl.float32), tl.zeros([width], tl.float32)
        for start in range(0, number, some):
            row = start + tl.arange(0, some)
            share = tl.load(shares + first + row, mask=row < number, other=0.0)[:, None]
            real = (row < number)[:, None] & (column < size)[None, :]
            at = (first + row).to(tl.int64)[:, None] * size + column[None, :]
            mixed += tl.sum(share * tl.load(values + at, mask=real, other=0.0).to(tl.float32), 0)
            around += tl.sum(share * tl.load(stream + at, mask=real, other=0.0).to(tl.float32), 0)
        to = (begin + left).to(tl.int64) * size + column
        tl.store(taken + to, mixed.to(taken.dtype.element_ty), mask=column < size)
        to = text.to(tl.int64) * size + column
        tl.store(packages + to, around.to(packages.dtype.element_ty), mask=column < size)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, scaling: float, asked: Level, level: Level) -> Tensor:
    """Attention of ``query`` rows [rows, width] over all rows of their own text: [rows, width].

    Args:
        key, value: [rows, width], one laid out as the other.
        asked: where the texts' queries lie.
        level: where their keys and values do.
    """
    context = query.new_empty(len(query), query.shape[1])
    _launch_attention(query, key, value, context, None, heads, scaling, asked, level)
    return context


def attend_kept(
    query: Tensor, key: Tensor, value: Tensor, heads: int, scaling: float,
    stream: Tensor, index: Tensor, shares: Tensor | None, level: Level, after: Level,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Attention of the rows that stay; a package asks as the mean of what it is made of. And ``stream``'s packages.

    Args:
        query, key, value, stream: of all rows, [rows, width].
        index, shares: as :func:`choose` gives them; no shares, no packages.

    Returns:
        [rows behind the layer, width], and [texts, width] or None.
    """
    context = query.new_empty(after.rows, query.shape[1])
    packages = None if shares is None else stream.new_empty(level.texts, stream.shape[1])
    gathered = (stream, index, shares, packages)
    _launch_attention(query, key, value, context, None, heads, scaling, after, level, gathered)
    return context, packages


def score(query: Tensor, key: Tensor, value: Tensor, heads: int, scaling: float, level: Level) -> tuple[Tensor, Tensor]:
    """Attention of all rows [rows, width], and what each receives, by head and block: [heads, blocks, rows] fp32."""
    context = query.new_empty(len(query), query.shape[1])
    received = query.new_empty(heads, triton.cdiv(level.longest, BLOCK), len(query), dtype=torch.float32)
    _launch_attention(query, key, value, context, received, heads, scaling, level, level)
    return context, received


def take(
    values: Tensor, stream: Tensor, index: Tensor, shares: Tensor | None, level: Level, after: Level
) -> tuple[Tensor, Tensor | None]:
    """Of ``values`` [rows, width] the rows that stay, packages behind those of their text; and ``stream``'s packages.

    Args:
        index, shares: as :func:`choose` gives them; no shares, no packages.

    Returns:
        [rows behind the layer, width], and [texts, width] or None.
    """
    size = values.shape[1]
    taken, width = values.new_empty(after.rows, size), min(256, triton.next_power_of_2(size))
    packages = None if shares is None else stream.new_empty(level.texts, size)
    blocks = triton.cdiv(after.longest, _TAKEN)
    more = 0 if shares is None else triton.cdiv(size, width)
    _take[(blocks + more, level.texts)](
        values, stream, index, shares, taken, packages, level.ends, after.ends, after.kept, blocks, size,
        _TAKEN, width, shares is not None,
    )  # fmt: skip
    return taken, packages


def attention_shape(size: int, single: bool) -> tuple[int, dict[str, int]]:
    """Keys that are attended to at a time, and options of Triton, for heads of this size; ``single`` in fp32.

    With these nothing spills: tests/elimination/card/test_offline.py.
    """
    if not single:
        return BLOCK if size <= 64 else 32, {"num_warps": 4 if size <= 64 else 8, "num_stages": 3}
    if size <= 64:
        return 16, {"num_warps": 8, "num_stages": 2}
    return 16, {"num_warps": 16, "num_stages": 2, "maxnreg": 96}  # ptxas itself takes 64 registers, and spills


def _launch_attention(
    query: Tensor, key: Tensor, value: Tensor, context: Tensor, received: Tensor | None,
    heads: int, scaling: float, asked: Level, level: Level,
    gathered: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None] = (None,) * 4,
) -> None:  # fmt: skip
    size, (stream, _, shares, _) = query.shape[1] // heads, gathered
    step, options = attention_shape(size, query.dtype == torch.float32)
    _attend[(triton.cdiv(asked.longest, BLOCK), heads, level.texts)](
        query, key, value, context, received, *gathered, asked.ends, level.ends, len(key), scaling * _LOG2_E,
        query.stride(0), key.stride(0), 0 if stream is None else stream.stride(0),
        size, max(16, triton.next_power_of_2(size)), BLOCK, step,
        received is not None, stream is not None, shares is not None, **options,
    )  # fmt: skip

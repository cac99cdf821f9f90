"""The packed layout on a GPU, in Triton: no matrix of probabilities is in memory, and no layer waits for the device.

Significance takes two passes over the scores: one for the logarithm of each row's softmax denominator, one that adds up
each column. Context of the kept rows alone is made as in FlashAttention (Dao et al., 2022). Both take texts of any
lengths in one launch. For inference. This module can only be imported where Triton can.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..attention import Attention
from ..keep import highest
from ..packed import Packed
from ..rows import on_device

__all__ = ["Segments", "context_of", "extract", "first", "received_attention"]

_ROWS = 64
# Triton's interpreter can load and store bf16 but not multiply it. In fp32 the products are the same.
_WIDEN = tl.constexpr(triton.knobs.runtime.interpret)


class Segments(NamedTuple):
    """Where each packed text lies, on the device, and what of it the host must know."""

    starts: Tensor
    counts: Tensor
    longest: int
    rows: int

    @classmethod
    def of(cls, tokens: Packed, device: torch.device) -> Segments:
        counts = [run.alive for run in tokens.runs for _ in range(run.examples)]
        ends = list(accumulate(counts))
        starts, numbers = on_device([[0, *ends[:-1]], counts], device).to(torch.int32)
        return cls(starts, numbers, max(counts), ends[-1])


@triton.jit  # type: ignore[untyped-decorator]
def _load(rows, first, number, index, head, row_stride, head_stride, size: tl.constexpr, width: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows ``index`` of one example's head, zeros beyond its ``number`` rows and beyond the head's size."""
    column = tl.arange(0, width)
    place = (first + index).to(tl.int64) * row_stride + head * head_stride
    real = (index < number)[:, None] & (column < size)[None, :]
    loaded = tl.load(rows + place[:, None] + column[None, :], mask=real, other=0.0)
    return loaded.to(tl.float32) if _WIDEN else loaded


@triton.jit  # type: ignore[untyped-decorator]
def _denominators(  # type: ignore[no-untyped-def]
    query, key, found, starts, counts, rows, scaling, row_stride, head_stride,
    size: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Logarithm of the softmax denominator of each row, [heads, rows]."""
    example, head = tl.program_id(2), tl.program_id(1)
    first, number = tl.load(starts + example), tl.load(counts + example)
    if tl.program_id(0) * block < number:
        row = tl.program_id(0) * block + tl.arange(0, block)
        queries = _load(query, first, number, row, head, row_stride, head_stride, size, width)
        highest = tl.full([block], float("-inf"), tl.float32)
        total = tl.zeros([block], tl.float32)
        for begin in range(0, number, block):
            column = begin + tl.arange(0, block)
            keys = _load(key, first, number, column, head, row_stride, head_stride, size, width)
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
            scores = tl.where((column < number)[None, :], scores, float("-inf"))
            above = tl.maximum(highest, tl.max(scores, 1))
            total = total * tl.exp(highest - above) + tl.sum(tl.exp(scores - above[:, None]), 1)
            highest = above
        tl.store(found + head.to(tl.int64) * rows + first + row, highest + tl.log(total), mask=row < number)


@triton.jit  # type: ignore[untyped-decorator]
def _columns(  # type: ignore[no-untyped-def]
    query, key, denominators, found, starts, counts, rows, scaling, row_stride, head_stride,
    size: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Attention that each word vector receives in each head, [heads, rows]."""
    example, head = tl.program_id(2), tl.program_id(1)
    first, number = tl.load(starts + example), tl.load(counts + example)
    if tl.program_id(0) * block < number:
        column = tl.program_id(0) * block + tl.arange(0, block)
        keys = _load(key, first, number, column, head, row_stride, head_stride, size, width)
        received = tl.zeros([block], tl.float32)
        for begin in range(0, number, block):
            row = begin + tl.arange(0, block)
            queries = _load(query, first, number, row, head, row_stride, head_stride, size, width)
            place = denominators + head.to(tl.int64) * rows + first + row
            denominator = tl.load(place, mask=row < number, other=float("inf"))
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
            received += tl.sum(tl.exp(scores - denominator[:, None]), 0)
        tl.store(found + head.to(tl.int64) * rows + first + column, received, mask=column < number)


@triton.jit  # type: ignore[untyped-decorator]
def _contexts(  # type: ignore[no-untyped-def]
    query, key, value, context, asked, asked_starts, asked_counts, starts, counts, scaling,
    query_row, query_head, key_row, key_head, value_row, value_head, context_row, context_head,
    size: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Attention output of the rows that are asked for."""
    example, head = tl.program_id(2), tl.program_id(1)
    asked_first, asked_number = tl.load(asked_starts + example), tl.load(asked_counts + example)
    if tl.program_id(0) * block < asked_number:
        first, number = tl.load(starts + example), tl.load(counts + example)
        row = tl.program_id(0) * block + tl.arange(0, block)
        size_index = tl.arange(0, width)
        real = (row < asked_number)[:, None] & (size_index < size)[None, :]
        place = tl.load(asked + asked_first + row, mask=row < asked_number, other=0).to(tl.int64)
        queries = tl.load(
            query + place[:, None] * query_row + head * query_head + size_index[None, :], mask=real, other=0.0
        )
        queries = queries.to(tl.float32) if _WIDEN else queries
        highest = tl.full([block], float("-inf"), tl.float32)
        total = tl.zeros([block], tl.float32)
        mixed = tl.zeros([block, width], tl.float32)
        for begin in range(0, number, block):
            column = begin + tl.arange(0, block)
            keys = _load(key, first, number, column, head, key_row, key_head, size, width)
            values = _load(value, first, number, column, head, value_row, value_head, size, width)
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
            scores = tl.where((column < number)[None, :], scores, float("-inf"))
            above = tl.maximum(highest, tl.max(scores, 1))
            probabilities = tl.exp(scores - above[:, None])
            shrink = tl.exp(highest - above)
            total = total * shrink + tl.sum(probabilities, 1)
            weighted = tl.dot(probabilities.to(values.dtype), values, input_precision="ieee")
            mixed = mixed * shrink[:, None] + weighted
            highest = above
        out = context + (asked_first + row).to(tl.int64)[:, None] * context_row + head * context_head
        tl.store(out + size_index[None, :], (mixed / total[:, None]).to(context.dtype.element_ty), mask=real)


def received_attention(query: Tensor, key: Tensor, texts: Segments, scaling: float) -> Tensor:
    """Significance of each packed word vector, as :func:`.significance.received_attention` gives it: [rows] fp32.

    Args:
        query, key: [rows, heads, head size], one laid out as the other.
        texts: where each lies.
        scaling: factor of the scores before the softmax.
    """
    query, key = _alike(query, key)
    rows, heads, size = query.shape
    grid = (triton.cdiv(texts.longest, _ROWS), heads, len(texts.starts))
    denominators, received = (query.new_empty(heads, rows, dtype=torch.float32) for _ in range(2))
    rest = (texts.starts, texts.counts, rows, scaling, query.stride(0), query.stride(1), size, _width(size), _ROWS)
    _denominators[grid](query, key, denominators, *rest)
    _columns[grid](query, key, denominators, received, *rest)
    return received.sum(0)


def context_of(
    rows: Tensor, asked: Segments, query: Tensor, key: Tensor, value: Tensor, texts: Segments, scaling: float
) -> Tensor:
    """Attention output of some packed rows over all rows of their own text, [asked rows, heads * head size].

    Args:
        rows: those of ``query`` whose context is wanted, text by text.
        asked: where each text's begin in ``rows``, and how many it has.
        query, key, value: [rows, heads, head size].
        texts: where each lies in ``key`` and ``value``.
        scaling: factor of the scores before the softmax.
    """
    query, key, value = (part if part.stride(2) == 1 else part.contiguous() for part in (query, key, value))
    _, heads, size = query.shape
    context = query.new_empty(len(rows), heads, size)
    strides = [part.stride(axis) for part in (query, key, value, context) for axis in (0, 1)]
    _contexts[triton.cdiv(asked.longest, _ROWS), heads, len(texts.starts)](
        query, key, value, context, rows, asked.starts, asked.counts, texts.starts, texts.counts, scaling, *strides,
        size, _width(size), _ROWS,
    )  # fmt: skip
    return context.flatten(1)


def extract(
    query: Tensor, key: Tensor, value: Tensor, tokens: Packed, left: tuple[int, ...] | None, attention: Attention
) -> tuple[Tensor, Tensor | None, None]:
    """Every text of the batch at once."""
    texts = asked = Segments.of(tokens, query.device)
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    rows = None
    if left is not None:
        asked = Segments.of(tokens.with_counts(left), query.device)
        received = received_attention(query, key, texts, attention.scaling)
        rows = _kept(received, tokens, texts, asked)
    every = torch.arange(texts.rows, device=query.device) if rows is None else rows
    return context_of(every, asked, query, key, value, texts, attention.scaling)[None], rows, None


def first(query: Tensor, key: Tensor, value: Tensor, tokens: Packed, attention: Attention) -> Tensor:
    """The same."""
    asked, texts = (Segments.of(each, query.device) for each in (tokens.cut(), tokens))
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    rows = torch.arange(asked.rows, device=query.device)
    return context_of(rows, asked, query, key, value, texts, attention.scaling)[None]


def _kept(received: Tensor, tokens: Packed, texts: Segments, left: Segments) -> Tensor:
    """Rows of highest significance of each text, [kept]."""
    device = received.device
    column = torch.arange(texts.longest, device=device)
    place = (texts.starts[:, None] + column).clamp_max(texts.rows - 1)
    mask = column < texts.counts[:, None]
    index, _ = highest(
        received[place],
        left.longest,
        tokens.entered.kept.protected_first,
        limit=left.counts,
        mask=mask,
        protected=None if tokens.protected is None else tokens.protected[place] & mask,
    )
    # The size is told, so that nobody waits for it.
    examples = torch.arange(len(left.counts), device=device)
    example = examples.repeat_interleave(left.counts, output_size=left.rows)
    within = torch.arange(left.rows, device=device) - left.starts[example]
    return index[example, within] + texts.starts[example]


def _alike(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    if query.stride() == key.stride() and query.stride(2) == 1:
        return query, key
    return query.contiguous(), key.contiguous()


def _width(size: int) -> int:
    """The head size as Triton can multiply it: a power of two, at least 16."""
    return max(16, int(triton.next_power_of_2(size)))

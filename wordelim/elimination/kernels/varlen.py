"""The packed layout on a GPU: every example of a batch in one launch, and no layer waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..rows import Run, on_device

__all__ = ["attend_first", "extract", "serves"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_LARGEST_HEAD = 128


class _Segments(NamedTuple):
    """Where each packed example lies, on the device, and what of it the host must know."""

    starts: Tensor
    counts: Tensor
    longest: int
    rows: int


def serves(query: Tensor) -> bool:
    """Whether packed rows [1, heads, rows, head size] can be served here: in inference, where Triton is."""
    return (
        query.device.type == "cuda"
        and not torch.is_grad_enabled()
        and query.dtype in _DTYPES
        and query.shape[-1] <= _LARGEST_HEAD
        and find_spec("triton") is not None
    )


def extract(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    before: tuple[Run, ...],
    after: tuple[Run, ...],
    protected_first: int,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """Keep each example's most significant rows, and attend from these.

    Args:
        query, key, value: packed [1, heads, rows, head size].
        before, after: the examples as they lie now, and with what is to be left of them.
        protected_first: how many of the first rows of each are kept whatever their significance.
        scaling: factor of the scores before the softmax.

    Returns:
        Context of the kept rows [1, kept, heads * head size], and which rows these are [kept].
    """
    from . import fused  # here, for it needs Triton

    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    entered, left = (_segments(runs, query.device) for runs in (before, after))
    if left.rows == entered.rows:
        rows = torch.arange(entered.rows, device=query.device)
    else:
        received = fused.received_attention(query, key, entered.starts, entered.counts, entered.longest, scaling)
        rows = _highest(received, entered, left, protected_first)
    context = fused.context_of(
        rows, left.starts, left.counts, left.longest, query, key, value, entered.starts, entered.counts, scaling
    )
    return context[None], rows


def attend_first(query: Tensor, key: Tensor, value: Tensor, runs: tuple[Run, ...], scaling: float) -> Tensor:
    """Context of each example's first row [1, examples, heads * head size].

    Args:
        query: these rows' queries, packed [1, heads, examples, head size].
        key, value: packed [1, heads, rows, head size].
        runs: the examples as they lie.
        scaling: factor of the scores before the softmax.
    """
    from . import fused

    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    entered = _segments(runs, query.device)
    ones = _segments([run._replace(alive=1) for run in runs], query.device)
    asked = torch.arange(ones.rows, device=query.device)
    return fused.context_of(
        asked, ones.starts, ones.counts, 1, query, key, value, entered.starts, entered.counts, scaling
    )[None]


def _segments(runs: Sequence[Run], device: torch.device) -> _Segments:
    counts = [run.alive for run in runs for _ in range(run.examples)]
    ends = list(accumulate(counts))
    starts, numbers = on_device([[0, *ends[:-1]], counts], device).to(torch.int32)
    return _Segments(starts, numbers, max(counts), ends[-1])


def _highest(significance: Tensor, entered: _Segments, left: _Segments, protected_first: int) -> Tensor:
    """Rows of highest significance of each example, in text order, [kept]; of equals the earlier."""
    device = significance.device
    column = torch.arange(entered.longest, device=device)
    place = (entered.starts[:, None] + column).clamp_max(entered.rows - 1)
    order = significance[place].masked_fill(column < protected_first, float("inf"))
    order = order.masked_fill(column >= entered.counts[:, None], float("-inf"))
    ranked = order.sort(dim=1, descending=True, stable=True).indices[:, : left.longest]
    beyond = torch.arange(left.longest, device=device) >= left.counts[:, None]
    index = ranked.masked_fill(beyond, entered.longest).sort(dim=1).values
    # The size is told, so that nobody waits for it.
    examples = torch.arange(len(left.counts), device=device)
    example = examples.repeat_interleave(left.counts, output_size=left.rows)
    within = torch.arange(left.rows, device=device) - left.starts[example]
    return index[example, within] + entered.starts[example]

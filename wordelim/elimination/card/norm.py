"""Residual addition and layer normalisation in one launch, in Triton, which alone can import this."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .level import Level

__all__ = ["add_norm"]


@triton.jit(do_not_specialize=["index", "end"])  # type: ignore[untyped-decorator]
def _add_norm(  # type: ignore[no-untyped-def]
    hidden, stream, index, packages, weight, bias, out, end, epsilon, size,
    width: tl.constexpr, gather: tl.constexpr, package: tl.constexpr,
):  # fmt: skip
    """One row, added to its own in the residual stream, and normalised."""
    row = tl.program_id(0)
    if row < tl.load(end):
        column = tl.arange(0, width)
        real = column < size
        around = stream + row.to(tl.int64) * size
        if gather:
            place = tl.load(index + row).to(tl.int64)
            around = stream + place * size
            if package:
                around = tl.where(place < 0, packages + (-1 - place) * size, around)
        found = tl.load(around + column, mask=real, other=0.0)
        at = row.to(tl.int64) * size + column
        values = found.to(tl.float32) + tl.load(hidden + at, mask=real, other=0.0).to(tl.float32)
        apart = tl.where(real, values - tl.sum(values, 0) / size, 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(apart * apart, 0) / size + epsilon)
        weights = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
        biases = tl.load(bias + column, mask=real, other=0.0).to(tl.float32)
        tl.store(out + at, (apart * scale * weights + biases).to(out.dtype.element_ty), mask=real)


def add_norm(
    hidden: Tensor,
    stream: Tensor,
    index: Tensor | None,
    packages: Tensor | None,
    norm: tuple[Tensor, Tensor, float],
    level: Level,
) -> Tensor:
    """Layer normalisation of ``hidden`` [rows, width] plus the residual stream, at the rows of ``index`` if given.

    Args:
        packages: [texts, width], for rows whose index is negative.
        norm: weight and bias [width], and epsilon.
        level: where the rows of ``hidden`` lie.
    """
    out, size = torch.empty_like(hidden), hidden.shape[1]
    weight, bias, epsilon = norm
    _add_norm[(len(hidden),)](
        hidden, stream, index, packages, weight, bias, out, level.ends[level.texts :], epsilon, size,
        triton.next_power_of_2(size), index is not None, packages is not None,
    )  # fmt: skip
    return out

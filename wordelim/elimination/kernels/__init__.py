"""Attention that scores, chooses and attends: one file a way to compute it.

Each has the same two functions of query, key and value, padded [batch, heads, tokens, head size] or packed [1, heads,
rows, head size]:

``extract(query, key, value, tokens, left, attention, *extras)`` keeps ``left`` word vectors, as ``tokens.left`` says
(None for all), and returns the context of these alone, [batch, kept, heads * head size], which rows they are, as
:func:`.rows.gather` takes them (None for all), and which of them are real, [batch, kept] bool (None for all). Where
the retention asks for packages, these stand behind the rows that are kept.

``first(query, key, value, tokens, attention, *extras)`` returns the context of each text's first row, whose queries
alone are given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from ..attention import Attention
from ..packed import Packed
from ..rows import Kept, Tokens
from ..traced import Traced
from . import packed, padded, positional, traced
from .mapped import Mapped, MappedRuns
from .runs import ByRuns

__all__ = ["Kernel", "kernel_for", "triton_serves"]

_ON_A_CARD = (torch.float32, torch.float16, torch.bfloat16)
_LARGEST_HEAD = 128


class Kernel(Protocol):
    """A way to compute, as said above."""

    @property
    def extract(self) -> Callable[..., tuple[Tensor, Tensor | Kept | None, Tensor | None]]: ...
    @property
    def first(self) -> Callable[..., Tensor]: ...


def kernel_for(query: Tensor, tokens: Tokens, attention: Attention, numbers: Tensor | None = None) -> Kernel:
    """The fastest that serves these.

    Args:
        numbers: of the linear map that decides which rows stay; None where received attention or a selector does.
    """
    if numbers is not None:
        return MappedRuns(Mapped(numbers)) if isinstance(tokens, Packed) else Mapped(numbers)
    if not isinstance(tokens, Packed):
        if attention.position is not None:
            return positional
        return traced if isinstance(tokens, Traced) else padded
    plain = tokens.entered.by_attention and not attention.dropout and not torch.is_grad_enabled()
    if plain and query.device.type == "cpu":
        return ByRuns(packed)
    if attention.position is not None:
        return ByRuns(positional)
    packages = tokens.entered.retention is not None and tokens.entered.retention.package
    if plain and query.device.type == "cuda" and not packages and triton_serves(query.dtype, query.shape[-1]):
        from . import triton  # here, for it needs Triton

        return triton
    return ByRuns(padded)


def triton_serves(dtype: torch.dtype, size: int) -> bool:
    """Whether Triton is there, and its kernels serve heads of this size in this dtype."""
    return dtype in _ON_A_CARD and size <= _LARGEST_HEAD and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None

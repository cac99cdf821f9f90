"""Linear modules on packed rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from .packed import Packed
from .rows import Tokens

__all__ = ["linear"]

_FEW_ROWS: Final = 512
_ARRANGED_FOR: Final = 256  # rows; any number may be multiplied with what was arranged
_WATCHED: Final = 16  # numbers of a weight


def linear(module: nn.Module, rows: Tensor, tokens: Tokens) -> Tensor:
    """What ``module(rows)`` is, made in the way that is fastest for it.

    Elimination leaves few rows. The matrix product behind ``torch.nn.functional.linear`` in fp32 on a CPU rearranges
    the whole weight on every call, which with few rows is much of the work: MKL's is given one that is arranged
    already, a copy that is kept until the weight changes. The results differ by rounding alone.

    Args:
        module: any module; a plain ``nn.Linear`` that nothing is hooked to may be computed so.
        rows: packed [1, rows, width], or padded.
        tokens: what is alive; padded rows always go through the module.
    """
    if type(module) is nn.Linear and not torch.compiler.is_compiling():
        if torch.is_grad_enabled():
            _ARRANGED.pop(module, None)  # training needs the memory, and the weight changes
        elif isinstance(tokens, Packed) and _may_be_arranged(module, rows):
            weight, count = module.weight, rows.numel() // rows.shape[-1]
            arranged = _Arranged.of(module).weight
            return torch.ops.mkl._mkl_linear(rows, arranged, weight, module.bias, count)  # type: ignore[no-any-return]
    return module(rows)  # type: ignore[no-any-return]


def _may_be_arranged(module: nn.Linear, rows: Tensor) -> bool:
    weight = module.weight
    return (
        0 < rows.numel() <= _FEW_ROWS * rows.shape[-1]
        and rows.dtype == weight.dtype == torch.float32
        and rows.device.type == weight.device.type == "cpu"
        and type(weight) is nn.Parameter
        and type(rows) is Tensor
        and weight.is_contiguous()
        and not weight.is_inference()
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in vars(module)
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkl.is_available()
    )


class _Arranged:
    """A weight as MKL's product wants it, and what tells whether the weight is still the one that it was."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = torch.ops.mkl._mkl_reorder_linear_weight(weight, _ARRANGED_FOR)
        self.place, self.version = weight.data_ptr(), weight._version
        # What is written through ``weight.data`` isn't counted as a version.
        numbers = weight.detach().view(-1)
        self.watched = numbers[:: max(1, len(numbers) // _WATCHED)]
        self.seen = self.watched.clone()

    def still(self, weight: Tensor) -> bool:
        return (
            self.place == weight.data_ptr() and self.version == weight._version and torch.equal(self.watched, self.seen)
        )

    @classmethod
    def of(cls, module: nn.Linear) -> _Arranged:
        known = _ARRANGED.get(module)
        if known is None or not known.still(module.weight):
            known = _ARRANGED[module] = cls(module.weight)
        return known


_ARRANGED: WeakKeyDictionary[nn.Linear, _Arranged] = WeakKeyDictionary()


if torch.backends.mkl.is_available():

    @register_flop_formula(torch.ops.mkl._mkl_linear)
    def _flops(rows: Sequence[int], arranged: Any, weight: Sequence[int], *_: Any, **__: Any) -> int:
        """For ``torch.utils.flop_counter``, which knows torch's public operations: shapes are what it is given."""
        return 2 * math.prod(rows) * weight[0]

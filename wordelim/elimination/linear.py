"""Linear modules on packed rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .packed import Packed
from .rows import Tokens

__all__ = ["linear"]

_FEW_ROWS = 256
_WIDE = 512


def linear(module: nn.Module, rows: Tensor, tokens: Tokens) -> Tensor:
    """What ``module(rows)`` is, made in the way that is fastest for it.

    Elimination leaves few rows. The matrix product behind ``torch.nn.functional.linear`` in fp32 on a CPU rearranges
    the whole weight on every call. With few rows, and weights that don't fit into the cache from one call to the next
    (BERT-base's don't, MiniLM's do), that is much of the work; oneDNN's takes the weight as it is, and is the slower
    one otherwise. The results differ by rounding alone.

    Args:
        module: any module; a plain ``nn.Linear`` that nothing is hooked to may be computed by oneDNN.
        rows: packed [1, rows, width], or padded.
        tokens: what is alive; padded rows always go through the module.
    """
    if (
        not isinstance(tokens, Packed)
        or rows.dtype != torch.float32
        or rows.numel() // rows.shape[-1] > _FEW_ROWS
        or rows.device.type != "cpu"
        or torch.is_grad_enabled()
        or type(module) is not nn.Linear
        or module._forward_hooks
        or module._forward_pre_hooks
        or "forward" in vars(module)
        or module.weight.dtype != torch.float32
        or min(module.weight.shape) < _WIDE
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
    ):
        return module(rows)  # type: ignore[no-any-return]
    return torch.ops.mkldnn._linear_pointwise(  # type: ignore[no-any-return]
        rows, module.weight, module.bias, "none", [], ""
    )

"""Several parameters as one, in the memory that they have already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["joined"]


def joined(parameters: Sequence[nn.Parameter]) -> Tensor | None:
    """One tensor whose rows are those of these, of equal width, one parameter behind the other.

    Where they lie apart their data move into one piece of memory, once: they stay the same parameters, nothing is in
    memory twice, and whatever changes their values changes those of the whole; only what has noted where they lay, as
    a CUDA graph made before does, must be made anew. None where they can't move, for another tensor has a share in
    their memory, or they aren't plain.
    """
    first = parameters[0].data
    if not _in_a_row(parameters):
        if not all(map(_movable, parameters)):
            return None
        with torch.inference_mode(False), torch.no_grad():
            whole = torch.cat([each.data for each in parameters])
            for each, part in zip(parameters, whole.split([len(each) for each in parameters]), strict=True):
                each.data = part
        first = parameters[0].data
    return first.as_strided((sum(map(len, parameters)), *first.shape[1:]), first.stride())


def _in_a_row(parameters: Sequence[nn.Parameter]) -> bool:
    storage = parameters[0].untyped_storage().data_ptr()
    place = parameters[0].storage_offset()
    for each in parameters:
        if each.untyped_storage().data_ptr() != storage or each.storage_offset() != place or not each.is_contiguous():
            return False
        place += each.numel()
    return True


def _movable(parameter: nn.Parameter) -> bool:
    plain = type(parameter) is nn.Parameter and type(parameter.data) is Tensor and parameter.is_contiguous()
    return plain and not parameter.is_inference() and parameter.untyped_storage().nbytes() == parameter.nbytes

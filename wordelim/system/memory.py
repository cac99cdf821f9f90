"""Memory that this process holds."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

__all__ = ["give_back_memory", "peak_memory"]


def peak_memory(device: torch.device | str) -> dict[str, float]:
    """The most memory that this process had until now, and its tensors on a card, in GiB; for a report."""
    peak = {}
    if find_spec("resource") is not None:  # there is none on Windows
        import resource

        unit = 2**30 if sys.platform == "darwin" else 2**20
        peak["process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 2)
    if torch.device(device).type == "cuda":
        peak["card"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return peak


def give_back_memory() -> None:
    """Give memory back to the system that was freed but is still held.

    glibc keeps the freed tensors of a training step between those that live on, and where the next step has other
    shapes it takes new ones: a model of BERT-base's size would hold several times what it needs. Where another malloc
    serves, nothing happens.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

"""Where and with what something is computed."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from ._version import __version__

__all__ = ["environment", "has_fast_bf16"]


def environment(device: torch.device | str) -> dict[str, Any]:
    """``machine`` and ``versions`` for a report, as plain data."""
    machine = {"device": str(device), "threads": torch.get_num_threads(), "processor": platform.machine()}
    if torch.device(device).type == "cuda":
        machine["card"] = torch.cuda.get_device_name(device)
    return {
        "machine": machine,
        "versions": {
            "wordelim": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "datasets")},
        },
    }


def has_fast_bf16(device: torch.device | str) -> bool:
    """Whether bf16 matrix products are native to this device."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.device(device).type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False

"""Where and with what something is computed."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch
from transformers import PreTrainedModel

from .._version import __version__
from ..errors import WordelimError
from .processes import local_rank, processes

__all__ = ["environment", "has_fast_bf16", "move", "open_device"]


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


def open_device(name: str | torch.device | None) -> torch.device:
    """The device of this name; None for the accelerator that is there, else the processor.

    Raises:
        WordelimError: there is no such device here.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is not None and processes() > 1:  # each process has a device of its own
        found = torch.device(found.type, local_rank())
        torch.accelerator.set_device_index(found.index)
    if name is None:
        return found or torch.device("cpu")
    usable = "cpu" if found is None else f"cpu or {found.type}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise WordelimError(f"Device {str(name)!r} is unknown: use {usable}.") from error
    if device.type != "cpu" and (found is None or device.type != found.type):
        raise WordelimError(f"Device {str(name)!r} isn't available here: use {usable}.")
    if device.index:
        raise WordelimError(
            f"Device {str(name)!r} can't be chosen by its number: use {device.type}, and make that one visible alone, "
            f"as with CUDA_VISIBLE_DEVICES={device.index}."
        )
    return found if found is not None and device.type == found.type else device


def move(model: PreTrainedModel, to: Any) -> PreTrainedModel:
    """``model.to(to)``, whose types in transformers are too narrow."""
    return model.to(to)  # type: ignore[no-any-return]

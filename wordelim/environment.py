"""Where and with what something was measured."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from ._version import __version__

__all__ = ["environment"]


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

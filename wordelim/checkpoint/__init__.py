"""A model directory: read, written, and what stands in it beside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .directory import REPORT_FILE, is_compressed, load, load_dense, save, write_report

__all__ = ["REPORT_FILE", "is_compressed", "load", "load_dense", "save", "write_report"]

# The hook is imported while transformers itself is: nothing here may ask for more of it at once.
__getattr__ = lazy(__name__, {"directory": __all__})

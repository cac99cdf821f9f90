"""A demonstration that needs no download: a small classifier, and text that every installation has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["MODEL_DIR"]

MODEL_DIR: Final[Path] = Path(__file__).parent / "model"
"""The shipped classifier: six layers, trained by `tests/demo/train.py` on `wordelim.demo.corpus`."""

"""ALBERT: one shared layer called once for each depth, so each depth has a keep count of its own."""

from __future__ import annotations

from .family import Family

__all__ = ["FAMILY"]

FAMILY = Family(model_type="albert", width="embedding_size")

"""RoBERTa."""

from __future__ import annotations

from .family import Family

__all__ = ["FAMILY"]

FAMILY = Family(model_type="roberta")

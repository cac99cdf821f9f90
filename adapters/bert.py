"""BERT, and what is built like it: BioBERT, SciBERT, ClinicalBERT, FinBERT, multilingual BERT."""

from __future__ import annotations

from .family import Family

__all__ = ["FAMILY"]

FAMILY = Family(model_type="bert")

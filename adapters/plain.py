"""Families that need no code: a line of data each.

BERT stands for all that are built like it and say so in their config: BioBERT, SciBERT, ClinicalBERT, FinBERT, BETO,
multilingual BERT. ALBERT calls one shared layer once for each depth, so each depth has a keep count of its own.
"""

from __future__ import annotations

from .family import Family

__all__ = ["FAMILIES"]

FAMILIES = (
    Family("albert", width="embedding_size"),
    Family("bert"),
    Family("camembert", positions_after_padding=True),
    Family("data2vec-text", positions_after_padding=True),
    Family("distilbert", encoder="transformer", width="dim"),
    Family("electra", pooling={"summary_type": {"first": "first"}}),
    Family("ernie"),
    Family("roberta", positions_after_padding=True),
    Family("roberta-prelayernorm", final_norm="LayerNorm", positions_after_padding=True),
    Family("roc_bert"),
    Family("xlm-roberta", positions_after_padding=True),
    Family("xlm-roberta-xl", final_norm="encoder.LayerNorm", positions_after_padding=True),
)

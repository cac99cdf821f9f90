"""Time a compressed model that lies on the disk again."""

from __future__ import annotations

import os
from typing import Any

import datasets
from transformers import AutoTokenizer

import wordelim
from wordelim.checkpoint import load_dense
from wordelim.data import sequences_of
from wordelim.evaluation.latency import measure_speed
from wordelim.tasks import task_for


def time_again(
    dense: str | os.PathLike[str], compressed: str | os.PathLike[str], texts: datasets.Dataset, settings: dict[str, Any]
) -> dict[str, Any]:
    """The speeds of a report, measured anew with the settings of that report."""
    models = [load_dense(dense).float().eval(), wordelim.load(compressed).float().eval()]
    tokenizer = AutoTokenizer.from_pretrained(dense)
    task = task_for(type(models[0]).__name__, models[0].config, tokenizer, texts, metric=settings["metric"])
    encoded = task.encode(texts, task.find_columns(texts), max_length=settings["max_length"])
    return measure_speed(
        *models,
        sequences_of(encoded.dataset),
        tokenizer,
        max_length=settings["max_length"] or max(encoded.lengths),
        batch_size=settings["batch_size"],
    ).to_dict()
